from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from smtpcore._grammar import (
    find_control,
    is_domain,
    is_encodable,
    match_domain,
    match_keyword,
    match_mailbox,
    match_param_value,
    match_path,
    parse_literal,
    unquote,
)

LABEL = "a" * 63


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "1",
        "example.org",
        "a-b.c--d.e1",
        "xn--bcher-kva.example",
        "1.2.3.4",
        pytest.param("b\u00fccher.example", id="R6531-3.3-02"),
        pytest.param(".".join([LABEL] * 4)[:255], id="R5321-4.5.3.1.2-01"),
    ],
)
def test_a_domain_is_labels_of_letters_digits_and_inner_hyphens(text: str) -> None:
    assert match_domain(text)
    assert is_domain(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a.-b",
        "a-.b",
        "a_b",
        "a b",
        "a/b",
        "a@b",
        "a\tb",
        "a\n",
        "#12345",
        "a:b",
    ],
)
def test_what_is_no_domain(text: str) -> None:
    """R5321-4.1.2-09, R5321-F.4-01"""
    assert not match_domain(text)
    assert not is_domain(text)


LITERALS = [
    pytest.param("[123.255.37.2]", IPv4Address("123.255.37.2"), id="R5321-4.1.3-01"),
    pytest.param("[001.002.003.009]", IPv4Address("1.2.3.9"), id="leading zeros are decimal"),
    pytest.param("[IPv6:2001:db8::1]", IPv6Address("2001:db8::1"), id="R5321-4.1.3-02"),
    pytest.param("[ipV6:2001:DB8::1]", IPv6Address("2001:db8::1"), id="in any letter case"),
    pytest.param("[IPv6:::]", IPv6Address("::"), id="nothing but the double colon"),
    pytest.param("[IPv6:::ffff:192.0.2.1]", IPv6Address("::ffff:192.0.2.1"), id="R5321-4.1.3-03"),
    pytest.param("[IPv6:1:2:3:4:5:6:7:8]", IPv6Address("1:2:3:4:5:6:7:8"), id="all groups"),
    pytest.param("[IPv6:1:2:3:4:5:6::]", IPv6Address("1:2:3:4:5:6::"), id="six groups and two colons"),
    pytest.param("[IPv6:1:2:3:4:5:6:1.2.3.4]", IPv6Address("1:2:3:4:5:6:1.2.3.4"), id="all groups and IPv4"),
    pytest.param("[IPv6:1:2:3:4::1.2.3.4]", IPv6Address("1:2:3:4::1.2.3.4"), id="four groups, two colons and IPv4"),
]


@pytest.mark.parametrize(("text", "address"), LITERALS)
def test_an_address_literal_is_an_address_and_may_stand_for_a_domain(
    text: str, address: IPv4Address | IPv6Address
) -> None:
    assert parse_literal(text) == address
    assert is_domain(text)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[256.1.1.1]",
        "[1.2.3]",
        "[1.2.3.4.5]",
        "[1.2.3.4a]",
        "[1.2.3.1234]",
        "[2001:db8::1]",
        "[IPv6:]",
        "[IPv6:2001:db8::zz]",
        "[IPv6:1.2.3.4]",
        "[IPv6:1:2:3:4:5:6:7]",
        "[IPv6:1:2:3:4:5:6:7::]",
        "[IPv6:1:2:3:4:5::1.2.3.4]",
        "[IPv6:fe80::1%eth0]",
        "[IPv6:1::2::3]",
        pytest.param("[Foo:bar]", id="R5321-4.1.3-04"),
        "[\u0661.2.3.4]",
        "[",
    ],
)
def test_what_is_no_address_literal(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_literal(text)
    assert not is_domain(text)


@pytest.mark.parametrize("text", ["[1.2.3.4", "[1.2.3.4x", "1.2.3.4]", "[1.2.3.4] x"])
def test_an_address_literal_has_both_brackets(text: str) -> None:
    assert not is_domain(text)


LOCAL_PARTS = [
    "a",
    "a.b.c",
    "!#$%&'*+-/=?^_`{|}~",
    "a%b!c",
    '""',
    '"a b"',
    r'"a\"b"',
    r'"a\\"',
    '"a>b"',
    '"a@b"',
    '"..a"',
    "a" * 64,
    "\u7528\u6237",
    '"\u00e9 x"',
]

NO_LOCAL_PARTS = [
    "",
    ".",
    ".a",
    "a.",
    "a..b",
    "a b",
    '"a"b"',
    '"a',
    'a"',
    '"a"b',
    r'"a\"',
    "a@b",
    "(a)",
    "<a>",
    "a,b",
    "a;b",
    "a:b",
    "[a]",
    "a\\b",
    "a\x07",
    "a\x7f",
    '"a\x07"',
    '"a\\\x07"',
    "\u00e9..\u00e9",
]


@pytest.mark.parametrize("local_part", LOCAL_PARTS)
def test_a_local_part_is_atoms_between_single_dots_or_a_quoted_string(local_part: str) -> None:
    """R5321-4.1.2-03, R5321-4.1.2-04, R6531-3.2-02"""
    assert match_mailbox(f"{local_part}@c.example")
    assert match_mailbox(f"{local_part}@[1.2.3.4]")
    assert match_path(f"{local_part}@c.example")
    assert match_path(f"@a.example,@b.example:{local_part}@c.example")


@pytest.mark.parametrize("local_part", NO_LOCAL_PARTS)
def test_what_is_no_local_part(local_part: str) -> None:
    """R5321-4.1.2-10"""
    assert not match_mailbox(f"{local_part}@c.example")
    assert not match_path(f"{local_part}@c.example")


@pytest.mark.parametrize("path", ["", "postmaster", "PoStMaStEr", "@a.example:b@c.example"])
def test_a_path_may_be_more_than_a_mailbox(path: str) -> None:
    assert match_path(path)
    assert not match_mailbox(path)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "root",
        "postmasters",
        "@a.example:",
        "@a.example",
        ":a@c",
        "@:a@c",
        "@a:",
        "@a@b:c@d",
        "@a,b:c@d",
        "@a,:c@d",
    ],
)
def test_what_is_no_path(path: str) -> None:
    assert not match_path(path)


@pytest.mark.parametrize(
    ("text", "is_keyword"),
    [
        ("SIZE", True),
        ("8BITMIME", True),
        ("a-b", True),
        ("a-", True),
        ("", False),
        ("-A", False),
        ("A_B", False),
        ("\u017fIZE", False),
    ],
)
def test_a_keyword_is_letters_digits_and_hyphens_behind_the_first(text: str, is_keyword: bool) -> None:
    """R5321-4.1.2-01"""
    assert bool(match_keyword(text)) is is_keyword


@pytest.mark.parametrize(
    ("text", "is_value"),
    [("1", True), ("<a@b>", True), ("\u00e9", True), ("", False), ("1=2", False), ("a b", False), ("a\x00", False)],
)
def test_a_value_is_anything_but_spaces_controls_and_equals_signs(text: str, is_value: bool) -> None:
    """R5321-4.1.2-02"""
    assert bool(match_param_value(text)) is is_value


def test_all_ASCII_controls_but_the_tab_are_found() -> None:
    assert {chr(code) for code in range(256) if find_control(f"a{chr(code)}b")} == (
        {chr(code) for code in range(32) if chr(code) != "\t"} | {"\x7f"}
    )


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("joe", "joe"),
        ('"joe"', "joe"),
        (r'"j\oe"', "joe"),
        (r'"a\"b\\"', 'a"b\\'),
        ('""', ""),
        ('"open', '"open'),
        ('"a" "b"', '"a" "b"'),
        (r"j\oe", r"j\oe"),
    ],
)
def test_only_a_quoted_string_is_unquoted(text: str, meant: str) -> None:
    assert unquote(text) == meant


def test_half_of_a_surrogate_pair_cannot_be_encoded() -> None:
    assert is_encodable("\U0001f600 \u00e9")
    assert not is_encodable("\ud83d")


def test_a_crafted_address_cannot_make_matching_slow() -> None:
    # Each of these would never end if the patterns had two ways to match one text.
    for text in ("a." * 50_000 + "@", '"' + "\\a" * 50_000, "a-" * 50_000 + ".", "@a," * 50_000, "[" * 100_000):
        assert not match_mailbox(text)
        assert not match_path(text)
        assert not match_domain(text)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_a_literal_means_the_address_that_it_was_made_of(address: str) -> None:
    tag = "IPv6:" if ":" in address else ""
    assert parse_literal(f"[{tag}{address}]") == ip_address(address)
