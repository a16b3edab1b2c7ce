"""What a session needs of an I/O framework."""

# Each adapter maps its framework to this protocol, and the framework's exceptions to `OSError`, `TimeoutError` and
# `b""`. A stream reads on demand: outside `receive` it takes nothing from the socket, but for what arrives together.
# So a slow handler slows its client down, and nothing is read as plaintext that belongs to a TLS handshake.

from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext, SSLObject, SSLSocket
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """`Stream.interrupt` was called."""


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a connection."""

    host: str
    """The IP address as text; the path of a Unix socket."""
    port: int = 0
    """The TCP port; 0 for a Unix socket."""

    def __str__(self) -> str:
        if not self.port:
            return self.host

        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """What was agreed upon in a TLS handshake."""

    version: str
    """Such as `"TLSv1.3"`."""
    cipher: str
    """Such as `"TLS_AES_256_GCM_SHA384"`."""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


class Stream(Protocol):
    """A connection to a client."""

    @property
    def peer(self) -> Address | None:
        """The client's address, None if there is none."""

    @property
    def local(self) -> Address | None:
        """The address that the client connected to, None if there is none."""

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""

    async def receive(self, timeout: float) -> bytes:
        """Take what has arrived, `b""` at the end of the client's stream.

        Raises:
            TimeoutError: nothing came within `timeout` seconds.
            OSError: the connection is lost.
            Interrupted: `interrupt` was called.
        """

    async def send(self, data: bytes, timeout: float) -> None:
        """Write `data`.

        Raises:
            TimeoutError: the client did not take it within `timeout` seconds.
            OSError: the connection is lost.
        """

    async def start_tls(self, context: SSLContext, timeout: float) -> None:
        """Do the server's part of a TLS handshake.

        Raises:
            TimeoutError: it was not done within `timeout` seconds.
            OSError: it failed; `ssl.SSLError` is one.
        """

    async def aclose(self, timeout: float) -> None:
        """Close the connection. Raises nothing.

        For at most `timeout` seconds the client is given time to take what was sent and to close its end: a socket
        that is closed with unread input discards output that is still on its way (RFC 1122 4.2.2.13).
        """

    def interrupt(self) -> None:
        """Make the pending `receive`, and each one after it, raise `Interrupted`."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a function that blocks, without blocking other sessions. Cancellation waits until it returns."""


def describe_tls(connection: SSLObject | SSLSocket) -> Tls:
    """What was agreed upon in the handshake of `connection`."""
    cipher = connection.cipher()
    return Tls(version=connection.version() or "TLS", cipher=cipher[0] if cipher else "unknown")


def address_of(name: object) -> Address | None:
    """The address in the form in which sockets give it: a tuple, or the path of a Unix socket."""
    if isinstance(name, tuple) and len(name) >= 2:
        return Address(str(name[0]).partition("%")[0], int(name[1]))

    return Address(str(name)) if name else None
