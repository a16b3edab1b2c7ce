"""Streams that block; the tests of all streams are in `tests/adapters/test_contract.py`."""

import socket

from smtpcore_adapters.streams._blocking import BlockingStream
from smtpcore_adapters.streams._socket_stream import complete


def test_coroutines_of_a_blocking_stream_end_in_one_step() -> None:
    one, other = socket.socketpair()
    with other:
        stream = BlockingStream(one)
        complete(stream.send(b"hello", 1))
        assert other.recv(10) == b"hello"
        other.sendall(b"x")
        assert complete(stream.receive(1)) == b"x"
        complete(stream.aclose(0))
        assert other.recv(10) == b""
