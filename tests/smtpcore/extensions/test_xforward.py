"""XFORWARD: the client of a filter, for logs (Postfix XFORWARD_README)."""

import pytest

from smtpcore import (
    Attributes,
    LocalProtocolError,
    Xforward,
)

from ...helpers import READY, accept, connect, drive
from .helpers import UNLIMITED_GATEWAY, gateway_codes


def test_xforward_does_not_change_the_session() -> None:
    events, _ = drive(connect(READY, **UNLIMITED_GATEWAY), [b"XFORWARD NAME=x SOURCE=LOCAL\r\n"])
    assert events == [Xforward(Attributes({"NAME": "x", "SOURCE": "LOCAL"}))]
    assert gateway_codes(READY, b"XFORWARD NAME=x\r\nMAIL FROM:<>\r\nXFORWARD NAME=x\r\n", accept) == [250, 250, 503]
    assert gateway_codes(b"", b"XFORWARD NAME=x\r\n", accept) == [250]


@pytest.mark.parametrize(
    "argument", [b"", b" ", b" NAME", b" FOO=x", b" NAME=a  ADDR=b", b" NAME=+0D+0A", b" NAME=+ZZ"]
)
def test_malformed_attribute_is_a_syntax_error(argument: bytes) -> None:
    assert gateway_codes(READY, b"XFORWARD" + argument + b"\r\n") == [501]


def test_xforward_accepts_any_value_because_it_is_only_logged() -> None:
    assert gateway_codes(READY, b"XFORWARD ADDR=not+20an+20address PORT=x PROTO=UUCP\r\n") == [250]


def test_xforward_with_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="XFORWARD takes one or more of"):
        Xforward(Attributes({"LOGIN": "x"}))
