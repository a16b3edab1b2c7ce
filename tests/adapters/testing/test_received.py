"""The messages that a test server has received."""

import threading

import pytest

from smtpcore_adapters.testing import SmtpPair, SmtpServer
from tests.adapters.testing.test_server import send


def test_received_messages_are_kept_in_order() -> None:
    pair = SmtpPair()
    for number in range(3):
        pair.deliver("", ["b@s.example"], b"%d\r\n" % number)

    assert [received.content for received in pair.messages] == [b"0\r\n", b"1\r\n", b"2\r\n"]
    assert [received.content for received in pair.messages[1:]] == [b"1\r\n", b"2\r\n"]
    assert repr(pair.messages) == repr(list(pair.messages))
    pair.messages.clear()
    assert len(pair.messages) == 0


def test_wait_for_blocks_until_the_messages_arrive() -> None:
    def send_both() -> None:
        send(server)
        send(server)

    with SmtpServer() as server:
        thread = threading.Thread(target=send_both)
        thread.start()
        assert len(server.wait_for(2, timeout=10)) == 2
        thread.join()
        with pytest.raises(TimeoutError, match="2 of 3 messages arrived within"):
            server.wait_for(3, timeout=0.01)

        server.reset()
        assert list(server.messages) == []
