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
    match_wide_mailbox,
    match_wide_path,
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
def test_domain_consists_of_labels_of_letters_digits_and_inner_hyphens(text: str) -> None:
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
def test_invalid_domain_does_not_match(text: str) -> None:
    """R5321-4.1.2-09, R5321-F.4-01"""
    assert not match_domain(text)
    assert not is_domain(text)


LITERALS = [
    pytest.param("[123.255.37.2]", IPv4Address("123.255.37.2"), id="R5321-4.1.3-01"),
    pytest.param("[001.002.003.009]", IPv4Address("1.2.3.9"), id="leading zeros"),
    pytest.param("[IPv6:2001:db8::1]", IPv6Address("2001:db8::1"), id="R5321-4.1.3-02"),
    pytest.param("[ipV6:2001:DB8::1]", IPv6Address("2001:db8::1"), id="tag in mixed case"),
    pytest.param("[IPv6:::]", IPv6Address("::"), id="only the double colon"),
    pytest.param("[IPv6:::ffff:192.0.2.1]", IPv6Address("::ffff:192.0.2.1"), id="R5321-4.1.3-03"),
    pytest.param("[IPv6:1:2:3:4:5:6:7:8]", IPv6Address("1:2:3:4:5:6:7:8"), id="eight groups"),
    pytest.param("[IPv6:1:2:3:4:5:6::]", IPv6Address("1:2:3:4:5:6::"), id="six groups and a double colon"),
    pytest.param("[IPv6:1:2:3:4:5:6:1.2.3.4]", IPv6Address("1:2:3:4:5:6:1.2.3.4"), id="six groups and IPv4"),
    pytest.param("[IPv6:1:2:3:4::1.2.3.4]", IPv6Address("1:2:3:4::1.2.3.4"), id="four groups, a double colon and IPv4"),
]


@pytest.mark.parametrize(("text", "address"), LITERALS)
def test_address_literal_is_parsed_and_accepted_as_a_domain(text: str, address: IPv4Address | IPv6Address) -> None:
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
def test_invalid_address_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_literal(text)
    assert not is_domain(text)


@pytest.mark.parametrize("text", ["[1.2.3.4", "[1.2.3.4x", "1.2.3.4]", "[1.2.3.4] x"])
def test_address_literal_needs_both_brackets(text: str) -> None:
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

INVALID_LOCAL_PARTS = [
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
def test_local_part_is_a_dot_string_or_a_quoted_string(local_part: str) -> None:
    """R5321-4.1.2-03, R5321-4.1.2-04, R6531-3.2-02"""
    assert match_mailbox(f"{local_part}@c.example")
    assert match_mailbox(f"{local_part}@[1.2.3.4]")
    assert match_path(f"{local_part}@c.example")
    assert match_path(f"@a.example,@b.example:{local_part}@c.example")


@pytest.mark.parametrize("local_part", INVALID_LOCAL_PARTS)
def test_invalid_local_part_does_not_match(local_part: str) -> None:
    """R5321-4.1.2-10"""
    assert not match_mailbox(f"{local_part}@c.example")
    assert not match_path(f"{local_part}@c.example")


@pytest.mark.parametrize("path", ["", "postmaster", "PoStMaStEr", "@a.example:b@c.example"])
def test_null_path_postmaster_and_source_route_are_paths_but_not_mailboxes(path: str) -> None:
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
def test_invalid_path_does_not_match(path: str) -> None:
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
def test_keyword_is_letters_digits_and_hyphens_after_the_first(text: str, is_keyword: bool) -> None:
    """R5321-4.1.2-01"""
    assert bool(match_keyword(text)) is is_keyword


@pytest.mark.parametrize(
    ("text", "is_value"),
    [("1", True), ("<a@b>", True), ("\u00e9", True), ("", False), ("1=2", False), ("a b", False), ("a\x00", False)],
)
def test_parameter_value_excludes_spaces_controls_and_equals_signs(text: str, is_value: bool) -> None:
    """R5321-4.1.2-02"""
    assert bool(match_param_value(text)) is is_value


def test_find_control_finds_every_ascii_control_except_tab() -> None:
    assert {chr(code) for code in range(256) if find_control(f"a{chr(code)}b")} == (
        {chr(code) for code in range(32) if chr(code) != "\t"} | {"\x7f"}
    )


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_unquote_changes_only_quoted_strings(text: str, expected: str) -> None:
    assert unquote(text) == expected


def test_lone_surrogate_and_controls_of_latin_1_are_not_encodable() -> None:
    assert is_encodable("\U0001f600 \u00e9")
    assert not is_encodable("\ud83d")
    assert not is_encodable("\x80")
    assert not is_encodable("\x9f")


def test_crafted_address_is_matched_in_linear_time() -> None:
    # If the patterns could match a text in two ways, matching one of these texts would take forever.
    for text in ("a." * 50_000 + "@", '"' + "\\a" * 50_000, "a-" * 50_000 + ".", "@a," * 50_000, "[" * 100_000):
        assert not match_mailbox(text)
        assert not match_path(text)
        assert not match_domain(text)
        assert not match_wide_mailbox(text)
        assert not match_wide_path(text + ">")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_ip_address_survives_formatting_and_parsing(address: str) -> None:
    tag = "IPv6:" if ":" in address else ""
    assert parse_literal(f"[{tag}{address}]") == ip_address(address)
