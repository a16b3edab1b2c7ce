"""The client that sends any octets and reads any replies."""

import threading

import pytest

from smtpcore_adapters.check._raw_client import RawClient, ServerClosed, ServerSilent, printable
from tests.adapters.check.helpers import target_of
from tests.adapters.peers import Peer, serving


def test_raw_client_reports_a_server_that_neither_replies_nor_reads() -> None:
    def stops_after_greeting(peer: Peer) -> None:
        peer.send(b"220 hello\r\n")
        greeted.set()
        finish.wait(10)

    greeted, finish = threading.Event(), threading.Event()
    with serving(stops_after_greeting) as address:
        client = RawClient(target_of(address, timeout=0.2))
        assert greeted.wait(10)
        assert client.reply().code == 220
        with pytest.raises(ServerSilent, match="no reply within"):
            client.reply()
        with pytest.raises(ServerSilent, match="read nothing"):
            client.send(b"x" * 50_000_000)
        client.close()
        finish.set()


def test_raw_client_reports_a_broken_connection() -> None:
    def send_much() -> None:
        for _ in range(100):
            client.send(b"x" * 100_000)

    with serving(lambda peer: None) as address:
        client = RawClient(target_of(address, timeout=1))
        assert client.has_ended()
        with pytest.raises(ServerClosed, match="broke"):
            send_much()
        client.close()


def test_printable_escapes_control_characters_and_shortens_long_input() -> None:
    assert printable(b"a\r\n\t\\\x00\xff") == "a\\r\\n\\t\\\\\\x00\\xff"
    assert printable(b"x" * 1000).count("x") == 240
    assert "...1000 octets..." in printable(b"x" * 1000)
