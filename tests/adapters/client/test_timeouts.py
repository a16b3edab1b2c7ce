"""Timeouts of the client."""

from typing import Any

import pytest

from smtpcore_adapters import ClientTimeouts, TlsMode
from smtpcore_adapters.client._connecting import open_client
from tests.adapters.client.scripted import ACCEPTED, CONTINUE, GREETING, OK, ONE, SENDER, ehlo, opener
from tests.adapters.fakes import FakeStream, step


def test_each_reply_has_the_timeout_of_its_command() -> None:
    timeouts = ClientTimeouts(greeting=1, mail=2, rcpt=3, data=4, end=5, command=6)
    stream = FakeStream(GREETING, ehlo(), OK, OK, CONTINUE, ACCEPTED)
    options: dict[str, Any] = {"hostname": "c.example", "tls": TlsMode.NONE, "timeouts": timeouts}
    client = step(open_client(opener(stream), "s.example", 25, **options))
    step(client.send(SENDER, ONE, b"hi\r\n"))

    assert [round(limit) for limit in stream.receive_timeouts] == [1, 6, 2, 3, 4, 5]


def test_timeout_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="timeout block is 0"):
        ClientTimeouts(block=0)
