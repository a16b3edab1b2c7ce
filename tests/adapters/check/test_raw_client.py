"""The client that sends any octets and reads any replies."""

import socket

import pytest

from smtpcore_adapters import Address
from smtpcore_adapters.check._raw_client import NoReply, RawClient, ServerClosed, ServerSilent, printable
from tests.adapters.check.helpers import target_of
from tests.adapters.peers import Peer, serving


def test_raw_client_reports_a_server_that_neither_replies_nor_reads() -> None:
    # The only test of the checks that waits for a timeout: in the others no timeout of a socket has to expire.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = RawClient(target_of(Address(*listener.getsockname()), timeout=0.05))
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 hello\r\n")
            assert client.reply().code == 220
            with pytest.raises(ServerSilent, match=r"no reply within 0\.05 seconds"):
                client.reply()
            with pytest.raises(ServerSilent, match="read nothing"):
                client.send(b"x" * 50_000_000)
        client.close()


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


def test_raw_client_reports_replies_without_end() -> None:
    def flood(peer: Peer) -> None:
        peer.socket.sendall(b"250 OK\r\n" * 1000)
        while peer.socket.recv(100):
            pass

    with serving(flood) as address:
        client = RawClient(target_of(address, timeout=5))
        with pytest.raises(NoReply, match="the server sent more than 100 replies"):
            client.replies_before_goodbye()
        client.close()


def test_printable_escapes_control_characters_and_shortens_long_input() -> None:
    assert printable(b"a\r\n\t\\\x00\xff") == "a\\r\\n\\t\\\\\\x00\\xff"
    assert printable(b"x" * 1000).count("x") == 240
    assert "...1000 octets..." in printable(b"x" * 1000)
