"""The ANONYMOUS mechanism (RFC 4505)."""

import pytest

from smtpcore import LocalProtocolError
from smtpcore.sasl import (
    Accepted,
    Challenge,
    CheckAnonymous,
    Credentials,
    Reason,
    Rejected,
    make_client,
    make_server,
)


@pytest.mark.parametrize("trace", ["sirhc", "u@c.example", "", "\u00e9" * 255, "two words"])
def test_trace_is_the_message_of_an_anonymous_client(trace: str) -> None:
    client = make_client("ANONYMOUS", Credentials(trace=trace))
    message = client.initial()
    assert message == trace.encode()

    server = make_server("ANONYMOUS")
    assert server.start() == Challenge(b"")
    assert server.respond(message) == CheckAnonymous(trace)
    assert server.answer(True) == Accepted("anonymous", "anonymous")


def test_server_can_reject_an_anonymous_client() -> None:
    server = make_server("ANONYMOUS")
    server.start(b"sirhc")

    assert server.answer(False) == Rejected(Reason.INVALID_CREDENTIALS)


@pytest.mark.parametrize("trace", ["x" * 256, "\x07", "\u202e", "a\0", "\u0627a"])
def test_invalid_trace_is_rejected_by_both_ends(trace: str) -> None:
    assert make_server("ANONYMOUS").start(trace.encode()) == Rejected(Reason.MALFORMED)
    with pytest.raises(LocalProtocolError):
        make_client("ANONYMOUS", Credentials(trace=trace))


def test_trace_must_be_utf_8() -> None:
    assert make_server("ANONYMOUS").start(b"\xff") == Rejected(Reason.MALFORMED)
