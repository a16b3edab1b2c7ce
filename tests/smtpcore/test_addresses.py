from ipaddress import IPv4Address, IPv6Address

import pytest

from smtpcore import LocalProtocolError, Mailbox, Path
from smtpcore._addresses import strict_mailbox, strict_path


def test_mailbox_keeps_its_text_and_has_the_parsed_parts() -> None:
    mailbox = Mailbox(r'"Jo\hn Doe"@Example.ORG')

    assert str(mailbox) == mailbox.text == r'"Jo\hn Doe"@Example.ORG'
    assert mailbox.local_part == "John Doe"
    assert mailbox.domain == "example.org"
    assert mailbox.address is None


@pytest.mark.parametrize(
    ("text", "domain", "address"),
    [
        ("a@[192.0.2.1]", "[192.0.2.1]", IPv4Address("192.0.2.1")),
        ("a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]", IPv6Address("2001:db8::1")),
        ('"["@[192.0.2.1]', "[192.0.2.1]", IPv4Address("192.0.2.1")),
    ],
)
def test_domain_that_is_an_address_literal_is_parsed(
    text: str, domain: str, address: IPv4Address | IPv6Address
) -> None:
    assert Mailbox(text).domain == domain
    assert Mailbox(text).address == address
    assert Path(text).domain == domain


def test_last_at_sign_separates_local_part_and_domain() -> None:
    assert Mailbox('"a@b"@c.example').local_part == "a@b"
    assert Mailbox('"a@b"@c.example').domain == "c.example"


def test_equivalent_spellings_of_a_mailbox_are_equal() -> None:
    """R5321-4.1.2-05, R5321-2.4-03, R5321-2.4-04"""
    spellings = {Mailbox(text) for text in ("joe@c.example", '"joe"@C.example', r'"j\oe"@c.EXAMPLE')}
    assert len(spellings) == 1

    assert Mailbox("joe@c.example") != Mailbox("Joe@c.example")
    assert Mailbox("joe@c.example") != Mailbox("joe@d.example")
    assert Mailbox("joe@c.example") != Path("joe@c.example")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@c.example",
        "a@b@c.example",
        "<a@c.example>",
        "a@c.example\r\n",
        "a@c..example",
        "a@c:d",
        "Postmaster",
    ],
)
def test_invalid_mailbox_is_refused(text: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a mailbox"):
        Mailbox(text)


@pytest.mark.parametrize("kind", [Mailbox, Path])
@pytest.mark.parametrize("text", ["a@[256.1.1.1]", "a@[Foo:bar]", "a@[x@y]", "a@[2001:db8::1]"])
def test_malformed_address_literal_is_refused(kind: type[Mailbox] | type[Path], text: str) -> None:
    with pytest.raises(LocalProtocolError, match="malformed address literal"):
        kind(text)


@pytest.mark.parametrize("kind", [Mailbox, Path])
def test_address_that_no_server_accepts_is_refused(kind: type[Mailbox] | type[Path]) -> None:
    with pytest.raises(LocalProtocolError):
        kind("\ud83d@c.example")
    with pytest.raises(LocalProtocolError):
        kind("a\x85@c.example")


def test_null_path_is_falsy_and_has_no_mailbox() -> None:
    null = Path("")

    assert not null
    assert (str(null), null.mailbox, null.local_part, null.domain, null.source_route) == ("", None, "", "", ())
    assert not null.is_postmaster


def test_path_keeps_its_text_and_has_the_parsed_parts() -> None:
    path = Path("SmItH@S.example")

    assert path
    assert str(path) == path.address == "SmItH@S.example"
    assert path.mailbox == Mailbox("SmItH@s.example")
    assert (path.local_part, path.domain) == ("SmItH", "s.example")
    assert path.source_route == ()


def test_source_route_is_kept_and_ignored_in_comparisons() -> None:
    """R5321-4.1.1.3-01, R5321-4.1.1.3-02, R5321-6.1-02"""
    path = Path("@a.example,@b.example:user@d.example")

    assert str(path) == "@a.example,@b.example:user@d.example"
    assert path.source_route == ("a.example", "b.example")
    assert path.address == "user@d.example"
    assert path.mailbox == Mailbox("user@d.example")
    assert path == Path("user@d.example")
    assert hash(path) == hash(Path("user@d.example"))


def test_colons_of_an_ipv6_literal_are_not_a_source_route() -> None:
    assert Path("a@[IPv6:::1]").address == "a@[IPv6:::1]"
    assert Path("@b.example:a@[IPv6:::1]").address == "a@[IPv6:::1]"


@pytest.mark.parametrize(
    ("text", "is_postmaster"),
    [
        ("Postmaster", True),
        ("POSTMASTER", True),
        ("postMASTER@s.example", True),
        ('"postmaster"@s.example', True),
        ("post@s.example", False),
    ],
)
def test_is_postmaster_ignores_case_and_domain(text: str, is_postmaster: bool) -> None:
    """R5321-4.1.1.3-06"""
    assert Path(text).is_postmaster is is_postmaster


def test_postmaster_without_domain_equals_only_itself_in_any_letter_case() -> None:
    assert Path("Postmaster") == Path("postmaster")
    assert Path("Postmaster").mailbox is None
    assert Path("Postmaster").local_part == "Postmaster"
    assert Path("Postmaster") != Path("Postmaster@s.example")


@pytest.mark.parametrize(
    ("text", "normal_form"),
    [
        ("Joe@C.Example", "Joe@c.example"),
        (r'"J\oe"@c.example', "Joe@c.example"),
        ("@a.example:Joe@C.example", "Joe@c.example"),
        ('"a b"@c.example', '"a b"@c.example'),
        (r'"a@\b"@c.example', '"a@b"@c.example'),
        (r'"\"a\""@c.example', r'"\"a\""@c.example'),
        (r'"a\\b"@c.example', r'"a\\b"@c.example'),
        ('""@c.example', '""@c.example'),
        ('"a.."@c.example', "a..@c.example"),
        ("a@[IPv6:::1]", "a@[ipv6:::1]"),
        ("POSTMASTER", "postmaster"),
        ("Root", "Root"),
        ("", ""),
    ],
)
def test_path_equals_the_string_that_is_its_normal_form(text: str, normal_form: str) -> None:
    path = Path(text)

    assert path == normal_form
    assert normal_form == path
    assert path == Path(normal_form)
    assert path in {normal_form}
    assert normal_form in {path}
    assert path != "other@c.example"
    assert path != "joe@c.example"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("joe@C.example", r"use 'joe@c\.example', or Path\('joe@C\.example'\)"),
        ('"joe"@c.example', r"use 'joe@c\.example'"),
        ("Postmaster", "use 'postmaster'"),
        ("<joe@c.example>", "is not a path"),
        ("joe@", "is not a path"),
    ],
)
def test_comparison_of_a_path_with_another_spelling_is_a_type_error(text: str, advice: str) -> None:
    for path in (Path("joe@c.example"), Path("")):
        with pytest.raises(TypeError, match=advice):
            _ = path == text
        with pytest.raises(TypeError, match=advice):
            _ = path in ["other@c.example", text]


def test_comparison_of_a_mailbox_with_a_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"compare it with Mailbox\('joe@c\.example'\)"):
        _ = Mailbox("joe@c.example") == "joe@c.example"


@pytest.mark.parametrize("text", ["a b", "a@", "@c.example", "@a.example:", "a@b@c", "a@c.example ", "<>"])
def test_invalid_path_is_refused(text: str) -> None:
    with pytest.raises(LocalProtocolError, match="is not a path"):
        Path(text)


WIDE = ["first..last@c.example", ".a@c.example", "a.@c.example", "a@my_host", "a@-c.example", "a@c-.example", "..@_"]


@pytest.mark.parametrize("text", WIDE)
def test_mailbox_may_break_the_grammar_in_ways_that_are_in_use(text: str) -> None:
    local_part, _, domain = text.rpartition("@")

    assert (Mailbox(text).local_part, Mailbox(text).domain) == (local_part, domain)
    assert Path(text).mailbox == Mailbox(text)
    with pytest.raises(LocalProtocolError, match="by RFC 5321"):
        strict_mailbox(text)
    with pytest.raises(LocalProtocolError, match="by RFC 5321"):
        strict_path(text)


def test_path_may_lack_a_domain() -> None:
    path = Path("root")

    assert (path.mailbox, path.local_part, path.domain, path.is_postmaster) == (None, "root", "", False)
    assert path != Path("Root")
    with pytest.raises(LocalProtocolError, match="by RFC 5321"):
        strict_path("root")


@pytest.mark.parametrize(
    "text", ["", "Postmaster", "a@c.example", "a@[192.0.2.1]", "\u00e9@c.example", '"a b"@c.example']
)
def test_strict_path_is_equal_to_the_path_of_the_constructor(text: str) -> None:
    assert strict_path(text) == Path(text)
    assert strict_path(text).text == text


def test_strict_path_checks_address_literals_and_surrogates() -> None:
    for text in ("a@[256.1.1.1]", "\ud83d@c.example"):
        with pytest.raises(LocalProtocolError):
            strict_path(text)
