"""XCLIENT: the client that a proxy acts for (Postfix XCLIENT_README)."""

from typing import Any

import pytest

from smtpcore import (
    Attributes,
    LocalProtocolError,
    Reply,
    State,
    Xclient,
)

from ...playbook import READY, accept
from .helpers import gateway


def test_xclient_attributes_are_decoded_and_unavailable_is_none() -> None:
    line = b"xclient Name=mx+2Eexample addr=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[tempunavail] PORT=25\r\n"
    book = gateway(READY).send(line)
    known = {"NAME": "mx.example", "ADDR": "IPV6:2001:db8::1", "HELO": None, "LOGIN": None, "PORT": "25"}
    [event] = book.events
    assert event == Xclient(Attributes(known))
    assert str(event) == "XCLIENT NAME=mx.example ADDR=IPV6:2001:db8::1 HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] PORT=25"
    assert hash(event) == hash(Xclient(Attributes(known)))


@pytest.mark.parametrize(
    "argument", [b"", b" ", b" NAME", b" FOO=x", b" NAME=a  ADDR=b", b" NAME=+0D+0A", b" NAME=+ZZ"]
)
def test_malformed_attribute_is_a_syntax_error(argument: bytes) -> None:
    gateway(READY).send(b"XCLIENT" + argument + b"\r\n").expect(501)


@pytest.mark.parametrize(
    ("attribute", "code"),
    [
        ("ADDR=192.0.2.7", 220),
        ("ADDR=ipv6:2001:db8::1", 220),
        ("DESTADDR=192.0.2.7", 220),
        ("PORT=65535", 220),
        ("PROTO=esmtp", 220),
        ("ADDR=[UNAVAILABLE]", 220),
        ("LOGIN=", 220),
        ("ADDR=", 501),
        ("ADDR=client.example", 501),
        ("ADDR=2001:db8::1", 501),
        ("DESTADDR=IPV6:fe80::1%25lo", 501),
        ("PORT=65536", 501),
        ("DESTPORT=smtp", 501),
        ("PROTO=LMTP", 501),
    ],
)
def test_xclient_values_are_validated(attribute: str, code: int) -> None:
    gateway(READY).send(f"XCLIENT {attribute}\r\n".encode()).expect(code)


def test_attribute_of_a_wrong_type_is_an_error_that_names_it() -> None:
    wrong: Any = {"NAME": "mx.example", "PORT": 25}
    with pytest.raises(TypeError, match=r"^PORT is 25, which is of type int: use str or None$"):
        Attributes(wrong)


def test_xclient_may_have_all_attributes() -> None:
    xclient = Xclient(Attributes(dict.fromkeys(Xclient.names)))
    gateway(READY).send(f"{xclient}\r\n".encode()).expect(xclient, 220)


def test_vrfy_after_xclient_has_no_parameter_before_the_next_ehlo() -> None:
    vrfy = "VRFY \u00e9 SMTPUTF8\r\n".encode()
    book = gateway(READY).send(vrfy).expect(252).send(b"XCLIENT ADDR=192.0.2.7\r\n").expect(220)
    book.send(vrfy).expect(501).send(READY + vrfy).expect(250, 252)


def test_accepted_xclient_returns_to_the_greeting() -> None:
    session = b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<>\r\n" + READY + b"MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.8\r\n"
    gateway(READY).send(session).expect(220, 503, 250, 250, 503)
    # RFC 2034 section 3 (4): a greeting has no status code.
    book = gateway(READY).send(b"XCLIENT ADDR=192.0.2.7\r\n").expect("220 s.example ESMTP")
    assert (book.state, book.connection.helo) == (State.GREETED, None)


def test_malformed_xclient_leaves_the_session_unchanged() -> None:
    gateway(READY, answer=accept).send(b"XCLIENT FOO=x\r\nMAIL FROM:<>\r\n").expect(501, 250)


def test_refused_xclient_allows_only_quit() -> None:
    for before in (b"", READY):
        session = b"XCLIENT ADDR=192.0.2.7\r\n" + READY + b"MAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.7\r\nQUIT\r\n"
        gateway(before, answer=accept).send(session).expect("550 5.7.0 ...", 503, 503, 503, 221)


def test_xclient_login_counts_as_authenticated_until_changed_or_tls_starts() -> None:
    book = gateway(READY, auth_mechanisms=("PLAIN",), starttls=True, require_auth=True, plaintext_auth=True)
    refused = b"MAIL FROM:<>\r\n"
    for attributes, code in (
        (b"ADDR=192.0.2.7", 530),
        (b"LOGIN=tim", 250),
        (b"ADDR=192.0.2.7", 250),
        (b"LOGIN=", 530),
        (b"LOGIN=tim", 250),
        (b"LOGIN=[UNAVAILABLE]", 530),
        (b"LOGIN=tim", 250),
    ):
        book.send(b"RSET\r\nXCLIENT " + attributes + b"\r\n" + READY + refused).expect(250, 220, 250, code)
        assert book.connection.authenticated is (code == 250)

    assert not book.send(b"STARTTLS\r\n").expect(220).start_tls().connection.authenticated
    assert not book.send(READY, b"XCLIENT ADDR=192.0.2.7\r\n").expect(250, 220).connection.authenticated


def test_xclient_can_be_accepted_only_with_220() -> None:
    conn = gateway(READY).connection
    conn.receive_data(b"XCLIENT ADDR=192.0.2.7\r\n")
    conn.next_event()
    with pytest.raises(LocalProtocolError, match="use 220"):
        conn.send(Reply(250, "Fine"))


@pytest.mark.parametrize("attributes", [{}, {"IDENT": "x"}, {"NAME": "x", "name": "x"}])
def test_xclient_without_attributes_or_with_unknown_attributes_is_refused(attributes: dict[str, str | None]) -> None:
    with pytest.raises(LocalProtocolError, match="XCLIENT takes one or more of"):
        Xclient(Attributes(attributes))


# Attributes


def test_attributes_are_an_immutable_copy_of_their_source() -> None:
    values: dict[str, str | None] = {"NAME": "x", "ADDR": None}
    attributes = Attributes(values)
    values["NAME"] = "y"

    assert dict(attributes) == {"NAME": "x", "ADDR": None}
    assert attributes == Attributes({"ADDR": None, "NAME": "x"}) != Attributes({"ADDR": "x", "NAME": None})
    assert hash(attributes) == hash(Attributes({"ADDR": None, "NAME": "x"})) != hash(Attributes({"NAME": "z"}))
    assert repr(attributes) == "Attributes({'NAME': 'x', 'ADDR': None})"
    with pytest.raises(TypeError):
        attributes["NAME"] = "y"  # type: ignore[index]


@pytest.mark.parametrize("value", ["a\r\nb", "[UNAVAILABLE]", "[unavailable]", "[TempUnavail]", "a\nb", "\ud800"])
def test_reserved_attribute_value_is_refused(value: str) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be the value of NAME"):
        Attributes({"NAME": value})
