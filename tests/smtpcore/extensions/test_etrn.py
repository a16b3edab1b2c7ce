"""ETRN: starting the queue of a host (RFC 1985)."""

import pytest

from smtpcore import (
    Etrn,
    LocalProtocolError,
    Reply,
)

from ...helpers import MAIL, READY, accept, connect, drive
from .helpers import UNLIMITED_GATEWAY, gateway_codes


@pytest.mark.parametrize("argument", ["example.org", "@example.org", "@com", "#queue"])
def test_etrn_accepts_a_domain_its_subdomains_or_a_queue(argument: str) -> None:
    """R1985-5-01, R1985-5.3-01, R1985-5.1-04"""
    events, _ = drive(connect(READY, **UNLIMITED_GATEWAY), [f"ETRN {argument}\r\n".encode()])
    assert events == [Etrn(argument)]
    assert str(events[0]) == f"ETRN {argument}"
    assert gateway_codes(READY, f"etrn {argument}\r\n".encode()) == [253]


@pytest.mark.parametrize(
    ("argument", "code"),
    [("", 500), (" localname", 501), (" a.b c", 501), (" @", 501), (" #", 501), (" #a b", 501), (" -a.b", 501)],
)
def test_etrn_with_an_invalid_node_is_a_syntax_error(argument: str, code: int) -> None:
    """R1985-5-03, R1985-5.1-03, R1985-8-01"""
    assert gateway_codes(READY, f"ETRN{argument}\r\n".encode()) == [code]


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (MAIL, b"RCPT TO:<u@s.example>\r\n")])
def test_etrn_is_allowed_only_between_ehlo_and_mail(before: bytes, after: bytes) -> None:
    """R1985-5-02"""
    assert gateway_codes(before, b"ETRN example.org\r\n" + after) == [503, 250][: 1 + bool(after)]


@pytest.mark.parametrize("code", [250, 251, 252, 253, 458, 459])
def test_etrn_reply_codes_of_the_program_are_sent(code: int) -> None:
    """R1985-5.1-01, R1985-5.1-02"""
    assert gateway_codes(READY, b"ETRN example.org\r\n", lambda conn, event: Reply(code, "so")) == [code]


def test_etrn_without_a_handler_is_answered_458() -> None:
    assert gateway_codes(READY, b"ETRN example.org\r\n", accept) == [458]


@pytest.mark.parametrize("node", ["s.example", "@s.example", "@example", "#queue", "#queue_1", "#a!b"])
def test_etrn_node_is_a_domain_or_a_queue(node: str) -> None:
    assert Etrn(node).argument == node


@pytest.mark.parametrize(
    "node", ["localname", "example", "queue_1", "@queue_1", "#", "@", "##a.b", "#a.b", "\u00e9.example"]
)
def test_invalid_etrn_node_is_refused(node: str) -> None:
    with pytest.raises(LocalProtocolError, match="nor # and a queue"):
        Etrn(node)
