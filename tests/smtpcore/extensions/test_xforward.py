"""XFORWARD: the original client, which a filter names for the logs (Postfix XFORWARD_README)."""

import pytest

from smtpcore import (
    Attributes,
    LocalProtocolError,
    Xforward,
)

from ...playbook import READY, accept
from .helpers import gateway


def test_xforward_does_not_change_the_session() -> None:
    book = gateway(READY).send(b"XFORWARD NAME=x SOURCE=LOCAL\r\n")
    assert book.events == [Xforward(Attributes({"NAME": "x", "SOURCE": "LOCAL"}))]
    gateway(READY, answer=accept).send(b"XFORWARD NAME=x\r\nMAIL FROM:<>\r\nXFORWARD NAME=x\r\n").expect(250, 250, 503)
    gateway(answer=accept).send(b"XFORWARD NAME=x\r\n").expect(250)


@pytest.mark.parametrize(
    "argument", [b"", b" ", b" NAME", b" FOO=x", b" NAME=a  ADDR=b", b" NAME=+0D+0A", b" NAME=+ZZ"]
)
def test_malformed_attribute_is_a_syntax_error(argument: bytes) -> None:
    gateway(READY).send(b"XFORWARD" + argument + b"\r\n").expect(501)


def test_xforward_accepts_any_value_because_it_is_only_logged() -> None:
    gateway(READY).send(b"XFORWARD ADDR=not+20an+20address PORT=x PROTO=UUCP\r\n").expect(250)


def test_xforward_with_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="XFORWARD takes one or more of"):
        Xforward(Attributes({"LOGIN": "x"}))
