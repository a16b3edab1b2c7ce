"""A-labels, and the name of the client in EHLO."""

import sys
from email.message import EmailMessage

import pytest

from smtpcore import LocalProtocolError, Path, Reply
from smtpcore_adapters import Address, Unsendable
from smtpcore_adapters.client._domains import ehlo_name, host_in_ascii, in_ascii, path_in_ascii
from tests.adapters.fakes import step
from tests.adapters.playbook import ACCEPTED, BYE, ONE, client, new_client
from tests.playbook import GO_AHEAD, GREETING, OK, offer


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # IDNA 2003 would make it strasse.example
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_domain_has_a_labels(domain: str, expected: str) -> None:
    assert in_ascii(domain) == expected
    assert host_in_ascii(domain) == expected


def test_invalid_international_domain_is_an_error() -> None:
    with pytest.raises(LocalProtocolError, match="is not a domain"):
        in_ascii("-ü-.example")
    assert host_in_ascii("-ü-.example") == "-ü-.example"


def test_error_without_idna_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(LocalProtocolError, match=r"pip install 'smtpcore\[idna\]'"):
        in_ascii("bücher.example")
    assert in_ascii("example.org") == "example.org"
    assert host_in_ascii("bücher.example") == "bücher.example"  # the resolver decides


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ('"a@b"@bücher.example', '"a@b"@xn--bcher-kva.example'),
        ("ä@bücher.example", "ä@bücher.example"),
        ("a@example.org", "a@example.org"),
        ("Postmaster", "Postmaster"),
        ("", ""),
    ],
)
def test_path_with_an_ascii_local_part_has_a_labels(path: str, expected: str) -> None:
    assert path_in_ascii(Path(path)).text == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org.", "mx.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "[192.0.2.1]"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("[IPv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
        ("localhost", "localhost"),
    ],
)
def test_hostname_has_the_form_of_ehlo(given: str, expected: str) -> None:
    assert ehlo_name(given, None) == expected
    book = new_client(hostname=given).send(GREETING, offer()).connect()
    assert book.sent[0] == f"EHLO {expected}\r\n".encode()


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (Address("192.0.2.1", 1), "[192.0.2.1]"),
        (Address("fe80::1%eth0", 1), "[IPv6:fe80::1]"),
        (Address("/run/client"), "localhost"),
        (None, "localhost"),
    ],
)
def test_client_without_a_domain_uses_its_address(
    local: Address | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "box")
    assert ehlo_name(None, local) == expected


# Messages


def test_envelope_has_a_labels_for_a_server_without_smtputf8() -> None:
    book = client("PIPELINING").send(OK * 3 + GO_AHEAD, ACCEPTED)
    result = book.deliver(to=["b@bücher.example", "b@xn--bcher-kva.example", "c@s.example"])
    assert book.sent[0] == (
        b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@xn--bcher-kva.example>\r\nRCPT TO:<c@s.example>\r\nDATA\r\n"
    )
    assert [path.text for path in result.accepted] == ["b@bücher.example", "b@xn--bcher-kva.example", "c@s.example"]
    assert result["b@bücher.example"].is_positive


def test_refusal_belongs_to_the_recipient_as_given() -> None:
    book = client().send(OK, b"550 no\r\n", OK, GO_AHEAD, ACCEPTED, BYE)
    assert book.deliver(to=["b@bücher.example", ONE]).refused == {Path("b@bücher.example"): Reply(550, "no")}


def test_sender_has_a_labels_for_a_server_without_smtputf8() -> None:
    book = client("PIPELINING").send(OK * 2 + GO_AHEAD, ACCEPTED)
    assert step(book.client.send("a@bücher.example", ONE, b"hi\r\n")).accepted
    assert book.sent[0].startswith(b"MAIL FROM:<a@xn--bcher-kva.example>\r\n")


def test_domain_is_not_converted_for_a_server_with_smtputf8() -> None:
    book = client("PIPELINING", "SMTPUTF8", "8BITMIME").send(OK * 2 + GO_AHEAD, ACCEPTED)
    assert book.deliver(to="b@bücher.example").accepted
    assert "RCPT TO:<b@bücher.example>".encode() in book.sent[0]


@pytest.mark.parametrize("to", ["ü@bücher.example", "b@-ü-.example"])
def test_address_without_a_form_in_ascii_is_unsendable(to: str) -> None:
    book = client()
    with pytest.raises(Unsendable) as caught:
        book.deliver(to=to)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (553, "5.6.7")
    book.wire()


def test_missing_package_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    book = client()
    message = EmailMessage()
    message["To"] = "b@bücher.example"
    for body, to in ((b"hi\r\n", "b@bücher.example"), (message, ONE)):
        with pytest.raises(Unsendable, match=r"pip install 'smtpcore\[idna\]'"):
            book.deliver(body, to=to)
    book.wire()
