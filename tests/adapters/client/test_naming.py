"""Errors name the server, the missing reply and the slow side."""

import ssl
from socket import gaierror

import pytest

from smtpcore import ProtocolError, RemoteProtocolError, Reply
from smtpcore_adapters import Disconnected, Refused
from smtpcore_adapters.client._naming import name, naming

RESET = ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RESET, "[Errno 104] Connection reset by peer before the reply to MAIL; this side was slow: 's.example:25'"),
        (ConnectionResetError("lost"), "s.example:25: lost before the reply to MAIL; this side was slow"),
        (Disconnected("closed", Reply(421, "bye")), "s.example:25: closed: 421 bye; this side was slow"),
        (TimeoutError("too slow"), "s.example:25: too slow; this side was slow"),
        (RemoteProtocolError("no reply"), "s.example:25: no reply; this side was slow"),
        (ssl.SSLError(1, "[SSL] wrong version"), "s.example:25: [SSL] wrong version; this side was slow"),
    ],
)
def test_error_names_the_server_once(error: OSError | ProtocolError, text: str) -> None:
    for _ in range(2):
        name(error, "s.example:25", "the reply to MAIL", "; this side was slow")
        assert str(error) == text


def test_named_error_keeps_its_attributes() -> None:
    error = Refused("no TLS", Reply(454, "later"))
    name(error, "s.example:25")
    assert str(error) == "s.example:25: no TLS: 454 later"
    assert error.reply == Reply(454, "later")


def test_errors_of_a_block_name_the_server() -> None:
    with pytest.raises(gaierror, match=r"unknown: 'host\.invalid:25'"), naming("host.invalid:25"):
        raise gaierror(-2, "unknown")
    with pytest.raises(LookupError, match=r"^x$"), naming("host.invalid:25"):
        raise LookupError("x")
