r"""Servers over a socket that a test plays itself, to misbehave.

    def serve(peer: Peer) -> None:
        peer.send(GREETING).until(b"\r\n")
        peer.send(b"421 bye\r\n")

    with serving(serve) as address:
        ...

A server that only sends replies needs no socket: see `ScriptedServer` in `tests/adapters/playbook.py`.
"""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from smtpcore_adapters import Address
from tests.adapters.harness import TIMEOUT


class Peer:
    """The server's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.input = b""

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def until(self, end: bytes | re.Pattern[bytes], most: int = 1_000_000) -> bytes:
        """Return the octets before the first match of `end`, at most `most`. Raises `EOFError`."""
        pattern = re.compile(re.escape(end)) if isinstance(end, bytes) else end
        while not (match := pattern.search(self.input)) and len(self.input) < most:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self.input += data

        cut, rest = (match.start(), match.end()) if match and match.start() < most else (most, most)
        taken, self.input = self.input[:cut], self.input[rest:]
        return taken

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.socket = context.wrap_socket(self.socket, server_side=True)


Serve = Callable[[Peer], None]


@contextmanager
def serving(serve: Serve) -> Iterator[Address]:
    """Call `serve` for each client, in a new thread, and wait for its end. It may raise `OSError` and `EOFError`."""
    threads: list[threading.Thread] = []

    def session_for(connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        peer = Peer(connection)
        with suppress(OSError, EOFError):
            serve(peer)
        peer.socket.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=session_for, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield Address(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
