"""ETRN: starting the queue of a host (RFC 1985)."""

import pytest

from smtpcore import (
    Etrn,
    LocalProtocolError,
    Reply,
)

from ...playbook import MAIL, READY, accept, answer_with
from .helpers import gateway


@pytest.mark.parametrize("argument", ["example.org", "@example.org", "@com", "#queue"])
def test_etrn_accepts_a_domain_its_subdomains_or_a_queue(argument: str) -> None:
    """R1985-5-01, R1985-5.3-01, R1985-5.1-04"""
    gateway(READY).send(f"ETRN {argument}\r\netrn {argument}\r\n".encode()).expect(Etrn(argument), 253, Etrn, 253)
    assert str(Etrn(argument)) == f"ETRN {argument}"


@pytest.mark.parametrize(
    ("argument", "code"),
    [("", 500), (" localname", 501), (" a.b c", 501), (" @", 501), (" #", 501), (" #a b", 501), (" -a.b", 501)],
)
def test_etrn_with_an_invalid_node_is_a_syntax_error(argument: str, code: int) -> None:
    """R1985-5-03, R1985-5.1-03, R1985-8-01"""
    gateway(READY).send(f"ETRN{argument}\r\n".encode()).expect(code)


@pytest.mark.parametrize(("before", "after"), [(b"", b""), (MAIL, b"RCPT TO:<u@s.example>\r\n")])
def test_etrn_is_allowed_only_between_ehlo_and_mail(before: bytes, after: bytes) -> None:
    """R1985-5-02"""
    assert gateway(before).send(b"ETRN example.org\r\n" + after).codes == [503, 250][: 1 + bool(after)]


@pytest.mark.parametrize("code", [250, 251, 252, 253, 458, 459])
def test_etrn_reply_codes_of_the_application_are_sent(code: int) -> None:
    """R1985-5.1-01, R1985-5.1-02"""
    gateway(READY, answer=answer_with(Etrn, Reply(code, "so"))).send(b"ETRN example.org\r\n").expect(code)


def test_etrn_without_a_handler_is_answered_458() -> None:
    gateway(READY, answer=accept).send(b"ETRN example.org\r\n").expect(458)


@pytest.mark.parametrize("node", ["s.example", "@s.example", "@example", "#queue", "#queue_1", "#a!b"])
def test_etrn_node_is_a_domain_or_a_queue(node: str) -> None:
    assert Etrn(node).argument == node


@pytest.mark.parametrize(
    "node", ["localname", "example", "queue_1", "@queue_1", "#", "@", "##a.b", "#a.b", "\u00e9.example"]
)
def test_invalid_etrn_node_is_refused(node: str) -> None:
    with pytest.raises(LocalProtocolError, match="nor # and a queue"):
        Etrn(node)
