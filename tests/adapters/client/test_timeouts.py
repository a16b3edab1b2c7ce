"""Timeouts of the client."""

import pytest

from smtpcore_adapters import ClientTimeouts
from tests.adapters.playbook import ACCEPTED, client
from tests.playbook import GO_AHEAD, OK


def test_each_reply_has_the_timeout_of_its_command() -> None:
    timeouts = ClientTimeouts(greeting=1, mail=2, rcpt=3, data=4, end=5, command=6)
    book = client(timeouts=timeouts).send(OK, OK, GO_AHEAD, ACCEPTED)
    book.deliver(b"hi\r\n")

    assert [round(limit) for limit in book.stream.receive_timeouts] == [1, 6, 2, 3, 4, 5]


def test_timeout_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="timeout block is 0"):
        ClientTimeouts(block=0)
