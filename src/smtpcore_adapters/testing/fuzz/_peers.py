"""The connections of the fuzzer: over a socket, or to a server in memory."""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import ip_address
from typing import Literal, Protocol

from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader

from ...check import Target

_READ_SIZE = 65_536
_PAUSE = 0.001
"""Seconds between two segments, so that they arrive separately."""


class CannotFuzz(Exception):
    """No session can be tested; the text gives the reason."""


class Peer(Protocol):
    """One connection to a server."""

    def send(self, segments: Sequence[bytes], timeout: float) -> None:
        """Send each segment. Raise `OSError` if that fails."""

    def receive(self, timeout: float) -> bytes:
        """Return the next octets; `b""` at the end of the stream. Raise `TimeoutError` or `OSError`."""
        ...

    def start_tls(self, timeout: float) -> None:
        """Do the client's part of a TLS handshake. Raise `OSError` if it fails."""

    def close(self) -> None:
        """Close the connection."""


Connect = Callable[[], Peer]
"""Opens a connection, or raises `OSError`."""
ConnectWith = Callable[[bytes], Peer]
"""Opens a connection that begins with other octets than a valid PROXY header, or raises `OSError`."""


class SocketPeer:
    """A connection over a socket. The constructor raises `OSError` if connecting fails.

    Args:
        target: The server.
        proxy: Version of the PROXY header to send first, with the addresses of the socket. Default: no header.
        header: Octets in place of the PROXY header. Default: none.
    """

    def __init__(self, target: Target, *, proxy: Literal[1, 2] | None = None, header: bytes | None = None) -> None:
        self._target = target
        self._socket = socket.create_connection((target.host, target.port), timeout=target.timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if proxy and header is None:
                header = _proxy_header(self._socket, proxy)
            if header:
                self._socket.sendall(header)
            if target.tls == "implicit":
                self.start_tls(target.timeout)
        except OSError:
            self._socket.close()
            raise

    def send(self, segments: Sequence[bytes], timeout: float) -> None:
        """Send each segment, with a short pause between two of them. Raise `OSError` if that fails."""
        self._socket.settimeout(timeout)
        for number, segment in enumerate(segments):
            if number:
                time.sleep(_PAUSE)
            self._socket.sendall(segment)

    def receive(self, timeout: float) -> bytes:
        """Return the next octets; `b""` at the end of the stream. Raise `TimeoutError` or `OSError`."""
        self._socket.settimeout(max(timeout, 0))
        try:
            return self._socket.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            raise TimeoutError from None

    def start_tls(self, timeout: float) -> None:
        """Do the client's part of a TLS handshake. Raise `OSError` if it fails."""
        # Without --tls the handshake is part of a test, and nothing secret follows.
        context = _context(insecure=self._target.insecure or self._target.tls == "none")
        self._socket.settimeout(timeout)
        self._socket = context.wrap_socket(self._socket, server_hostname=self._target.host)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _proxy_header(connection: socket.socket, version: int) -> bytes:
    here, there = connection.getsockname(), connection.getpeername()
    source, destination = (Endpoint(ip_address(name[0].partition("%")[0]), name[1]) for name in (here, there))
    return ProxyHeader(ProxyCommand.PROXY, source, destination).encode(version=version)


@cache  # reading the certificates of the system takes longer than a session
def _context(*, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    return context
