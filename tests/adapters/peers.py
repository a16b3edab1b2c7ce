r"""Servers over a socket whose behaviour, usually a misbehaviour, is a function of the test.

    def serve(peer: Peer) -> None:
        peer.send(GREETING).until(b"\r\n")
        peer.send(b"421 bye\r\n")

    with serving(serve) as address:
        ...

`Answering` is such a server that accepts everything, with exceptions:

    refusing = Answering("PIPELINING", RCPT=closing(b"550 5.7.1 listed\r\n"))
    with serving(refusing) as address:
        ...
    assert refusing.heard == ["EHLO c.example", "MAIL FROM:<a@c.example>", ...]

A server that only sends replies needs no socket: see `ScriptedServer` in `tests/adapters/playbook.py`.
"""

import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, Self
from weakref import WeakValueDictionary

from smtpcore_adapters import Address
from tests.adapters.harness import TIMEOUT
from tests.adapters.playbook import BYE
from tests.playbook import GO_AHEAD, GREETING, OK, offer


class Peer:
    """The server's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.input = b""
        self._waits = 0
        """Twice the number of waits for input; odd during a wait."""

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def until(self, end: bytes | re.Pattern[bytes], most: int = 1_000_000) -> bytes:
        """Return the octets before the first match of `end`, at most `most`. Raises `EOFError`."""
        pattern = re.compile(re.escape(end)) if isinstance(end, bytes) else end
        while not (match := pattern.search(self.input)) and len(self.input) < most:
            data = self.receive()
            if not data:
                raise EOFError
            self.input += data

        cut, rest = (match.start(), match.end()) if match and match.start() < most else (most, most)
        taken, self.input = self.input[:cut], self.input[rest:]
        return taken

    def receive(self) -> bytes:
        """Return the next octets; `b""` at the end of the stream."""
        if not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
            self._await_input()
        return self.socket.recv(65_536)

    def _await_input(self) -> None:
        self._waits += 1
        select.select([self.socket], [], [], TIMEOUT)
        self._waits += 1

    def is_idle(self) -> bool:
        """Return whether the peer has read all input and waits for more, so that it sends nothing by itself."""
        waits = self._waits
        # The input is read after the end of the wait. So a peer that still waits has not read a part of the input.
        return waits % 2 == 1 and not is_readable(self.socket) and self._waits == waits

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._await_input()
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def close(self) -> NoReturn:
        """Close the connection, but first read all that the client sends, so that no reset discards sent octets."""
        self.socket.shutdown(socket.SHUT_WR)
        while self.socket.recv(65_536):
            pass
        raise EOFError

    def reset(self) -> NoReturn:
        """Reset the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        raise EOFError


def is_readable(connection: socket.socket) -> bool:
    """Return whether a connection has input, or has ended."""
    return bool(select.select([connection], [], [], 0)[0])


Serve = Callable[[Peer], None]
Answer = Callable[[Peer], object]
"""Plays a part of a session of `Answering`; the result is ignored."""


def closing(reply: bytes) -> Answer:
    """Return an answer of `Answering`: this reply, and the end of the connection."""
    return lambda peer: peer.send(reply).close()


def resetting(reply: bytes) -> Answer:
    """Return an answer of `Answering`: this reply, and a reset of the connection."""
    return lambda peer: peer.send(reply).reset()


class Answering:
    """A server that accepts everything, except for `answers`: replies, or functions that play a part of the session.

    The keys are verbs, `GREETING`, `BODY` after a 354, and `END` for the end of a body.
    """

    def __init__(self, *offers: str, **answers: bytes | Answer) -> None:
        self.heard: list[str] = []
        """The command lines of all clients, without the octets of bodies."""
        self.bodies: list[bytes] = []
        """The bodies as sent, with doubled dots and the line that ends them."""
        hello = offer(*offers)
        self.answers: dict[str, bytes | Answer] = {"GREETING": GREETING, "EHLO": hello, "LHLO": hello}
        self.answers |= {"DATA": GO_AHEAD, "QUIT": closing(BYE)}
        self.answers |= answers

    def __call__(self, peer: Peer) -> None:
        self._answer(peer, "GREETING")
        recipients = 0
        while True:
            line = peer.until(b"\r\n").decode(errors="replace")  # the client may have begun a TLS handshake
            self.heard.append(line)
            verb, *words = line.upper().split() or [""]
            recipients = 0 if verb == "MAIL" else recipients + (verb == "RCPT")
            ends = OK * (recipients if "LHLO" in self.heard[0] else 1)
            if verb == "BDAT":
                self.bodies.append(peer.until(_never, most=int(words[0])))
                self._answer(peer, *(("END", ends) if words[-1] == "LAST" else ("BDAT",)))
            elif self._answer(peer, verb) == GO_AHEAD:
                self._answer(peer, "BODY", b"")
                self.bodies.append(peer.until(_end_of_body))
                self._answer(peer, "END", ends)

    def _answer(self, peer: Peer, step: str, usual: bytes = OK) -> bytes:
        answer = self.answers.get(step, usual)
        if not isinstance(answer, bytes):
            answer(peer)
            return b""
        peer.send(answer)
        return answer


PEERS: WeakValueDictionary[object, Peer] = WeakValueDictionary()
"""The peers by the addresses of their clients."""

_never = re.compile(b"(?!)")
_end_of_body = re.compile(rb"(?<![^\n])\.\r\n")


@contextmanager
def serving(serve: Serve) -> Iterator[Address]:
    """Call `serve` in a new thread for each client, and wait for its end. `serve` may raise `OSError` and
    `EOFError`."""
    threads: list[threading.Thread] = []

    def session_for(connection: socket.socket, address: object) -> None:
        connection.settimeout(TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset discards octets that wait to be sent
        peer = PEERS[address] = Peer(connection)
        try:
            with suppress(OSError, EOFError):
                serve(peer)
        finally:
            peer.socket.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=session_for, args=listener.accept(), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield Address(*listener.getsockname())
        finally:
            # A thread that is about to accept when its socket is closed accepts from the next socket with the same
            # number: the listener of another test.
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
