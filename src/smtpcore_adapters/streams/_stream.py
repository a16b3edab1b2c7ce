"""What a session needs of an I/O framework."""

# Each adapter maps its framework to this protocol, and the framework's exceptions to `OSError`, `TimeoutError` and
# `b""`. A stream reads on demand: outside `receive` it takes nothing from the socket, but for what arrives together.
# So a slow handler slows its client down, and nothing is read as plaintext that belongs to a TLS handshake.

import os
import select
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import (
    EAI_NONAME,
    IPPROTO_TCP,
    SO_LINGER,
    SOL_SOCKET,
    TCP_NODELAY,
    AddressFamily,
    gaierror,
    socket,
)
from ssl import SSLContext
from typing import Any, Protocol, TypeVar

from ..tls._info import Tls

T = TypeVar("T")

HAPPY_EYEBALLS = 0.25
"""Seconds until the next address of a host is tried beside the last one (RFC 8305 section 5)."""

TURN = 0.005
"""Seconds for which a client that has sent many commands at once may keep the others waiting."""


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


class Stream(Protocol):
    """A connection: a server's to its client, or a client's to its server."""

    @property
    def peer(self) -> Address | None:
        """The address of the other end, None if there is none."""

    @property
    def local(self) -> Address | None:
        """The address of this end, None if there is none."""

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""

    async def receive(self, timeout: float) -> bytes:
        """Take what has arrived, `b""` at the end of the peer's stream.

        Raises:
            TimeoutError: nothing came within `timeout` seconds.
            OSError: the connection is lost.
            Interrupted: `interrupt` was called.
        """

    async def send(self, data: bytes, timeout: float) -> None:
        """Write `data`.

        Raises:
            TimeoutError: the peer did not take it within `timeout` seconds.
            OSError: the connection is lost.
        """

    def has_input(self) -> bool:
        """Whether `receive` has something to take: octets, the end of the stream, or a part of a TLS record."""

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        """Do a TLS handshake: the server's part of it, or with `server_name` the client's part.

        `server_name` is who the server should prove to be, where `context.check_hostname` is on, and is told to it
        (RFC 6066 section 3); an empty one is not told.

        Raises:
            TimeoutError: it was not done within `timeout` seconds.
            OSError: it failed; `ssl.SSLError` is one.
        """

    async def aclose(self, timeout: float) -> None:
        """Close the connection. Raises nothing.

        For at most `timeout` seconds the peer is given time to take what was sent and to close its end: a socket
        that is closed with unread input discards output that is still on its way (RFC 1122 4.2.2.13).
        """

    def reset_on_close(self) -> None:
        """Make `aclose(0)` reset the connection, so that the peer does not take its end for an orderly one."""

    def interrupt(self) -> None:
        """Make the pending `receive`, or else the next one, raise `Interrupted`."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass. It is never long: the session comes back to see whether it should go on."""

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> "Stream":
        """Connect to another server by the same framework: its `open_stream`."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a function that blocks, without blocking other sessions. Cancellation waits until it returns."""

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function from a function that `run_blocking` has called, and wait until it returns.

        It runs where the session does, and is cancelled with it. Raises `RuntimeError` where waiting would stop the
        session itself, because the caller was not called by `run_blocking`.
        """


def reset_on_close(descriptor: int) -> None:
    """Make closing this socket reset its connection (socket(7): SO_LINGER)."""
    with socket(fileno=os.dup(descriptor)) as connection:
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


def is_readable(descriptor: int) -> bool:
    """Whether a socket has something to read, or has failed."""
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        return bool(select.select([descriptor], [], [], 0)[0])

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def address_of(name: object) -> Address | None:
    """The address in the form in which sockets give it: a tuple, or the path of a Unix socket."""
    if isinstance(name, tuple) and len(name) >= 2:
        return Address(str(name[0]).partition("%")[0], int(name[1]))
    if isinstance(name, bytes):
        name = os.fsdecode(name).replace("\0", "@")  # of an abstract Unix socket, as unix(7) and ss(8) write it

    return Address(str(name)) if name else None


def host_of(address: Address | None) -> str:
    """The host of an address, empty where there is none."""
    return address.host if address else ""


NOT_IN_A_THREAD = "only what runs in a thread can wait here: make the handler `async def`, or give it `blocking=True`"
"""What `Stream.run_async` says where it cannot wait."""


def family_of(local_address: str | None) -> AddressFamily:
    """Of which family the addresses are that can be reached from `local_address`."""
    if not local_address:
        return AddressFamily.AF_UNSPEC

    return AddressFamily.AF_INET6 if ":" in local_address else AddressFamily.AF_INET


def send_at_once(connection: socket) -> None:
    """Let a connection not wait for more to send: replies are small, and someone waits for each."""
    if connection.family in (AddressFamily.AF_INET, AddressFamily.AF_INET6):
        connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


@contextmanager
def unknown_hosts_as_os_errors(host: str) -> Iterator[None]:
    """Let a name that cannot be one, such as one with an overlong label, be as unknown as any other."""
    try:
        yield
    except UnicodeError as exc:
        raise gaierror(EAI_NONAME, f"{host!r} is not the name of a host") from exc
