"""The byte stream of a session or a client, as each I/O framework provides it."""

# Each adapter implements this protocol, and maps the exceptions of its framework to `OSError`, `TimeoutError` and
# `b""`. A stream reads at most a bounded number of bytes ahead of `receive`, so a client has to wait for a slow
# handler. When a TLS handshake begins, bytes that were read ahead go to TLS: they are never returned as plaintext.

import errno
import os
import select
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
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
from typing import Any, NamedTuple, Protocol, Self, TypedDict, TypeVar, runtime_checkable

from ..tls._info import Tls

T = TypeVar("T")

HAPPY_EYEBALLS = 0.25
"""Seconds until the next address of a host is tried, in parallel with the pending attempts (RFC 8305 section 5)."""

TURN = 0.005
"""Seconds for which a client that pipelines commands may keep the event loop busy before other sessions continue."""


_MAPPED = "::ffff:"


class Interrupted(Exception):
    """`Stream.interrupt` was called, so `Stream.receive` ends without input, or `Stream.start_tls` without TLS."""


class _HostAndPort(NamedTuple):
    host: str
    """The IP address as text, or the path of a Unix socket. `::ffff:192.0.2.1` is written `192.0.2.1`."""
    port: int = 0
    """The TCP port; 0 for a Unix socket."""


class Address(_HostAndPort):
    """One end of a connection: a named tuple of host and port.

    A comparison with a string raises `TypeError`: compare `address.host`, or `str(address)`.
    """

    __slots__ = ()

    def __new__(cls, host: str, port: int = 0) -> Self:
        """Return the address, with an IPv4 address in its own form."""
        # A socket for both IPv6 and IPv4 has `::ffff:192.0.2.1` for 192.0.2.1 (RFC 4291 2.5.5.2). If both spellings
        # were kept, a client could be missed in a list that has its address in the other spelling.
        if host.startswith(_MAPPED):
            with suppress(ValueError):  # the host is not an IP address
                host = str(IPv6Address(host).ipv4_mapped or host)
        return super().__new__(cls, host, port)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            raise TypeError(f"an Address cannot be compared with {other!r}: compare its host, or str(address)")

        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()

    def __str__(self) -> str:
        if not self.port:
            return self.host

        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@runtime_checkable
class Stream(Protocol):
    """One end of a connection: the server's or the client's."""

    @property
    def peer(self) -> Address | None:
        """The address of the other end; None for an unnamed Unix socket."""

    @property
    def local(self) -> Address | None:
        """The address of this end; None for an unnamed Unix socket."""

    @property
    def tls(self) -> Tls | None:
        """The results of the TLS handshake; None without TLS."""

    async def receive(self, timeout: float) -> bytes:
        """Return the next input, `b""` at the end of the peer's stream.

        Raises:
            TimeoutError: No input came within `timeout` seconds.
            OSError: The connection is lost.
            Interrupted: `interrupt` was called.
        """

    async def send(self, data: bytes, timeout: float) -> None:
        """Write `data`.

        Raises:
            TimeoutError: The peer reads too slowly: the data was not written within `timeout` seconds.
            OSError: The connection is lost.
        """

    def has_input(self) -> bool:
        """Return whether input is waiting: bytes, the end of the stream, or a part of a TLS record."""

    async def receive_arrived(self) -> bytes | None:
        """Return input that has already arrived, `b""` at the end of the peer's stream, or None without input.

        Messages of TLS itself, such as session tickets, do not count as input. Raises `OSError` if the connection is
        lost.
        """

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        """Do a TLS handshake: as the server, or with a `server_name` as the client.

        The client sends `server_name` to the server (RFC 6066 section 3) unless it is empty. If
        `context.check_hostname` is set, the server's certificate has to be valid for this name. `received` is the
        beginning of the peer's handshake, if `receive` has already returned these octets.

        Raises:
            TimeoutError: The handshake took longer than `timeout` seconds.
            OSError: The handshake failed; `ssl.SSLError` is an `OSError`.
            Interrupted: `interrupt` was called.
        """

    async def aclose(self, timeout: float) -> None:
        """Close the connection. Raises nothing.

        First the peer gets up to `timeout` seconds to read the output and to close its end. A socket that is closed
        with unread input discards output that is still on its way (RFC 1122 4.2.2.13), so input is read and dropped in
        this time, up to `MAX_LINGER` octets.
        """

    def reset_on_close(self) -> None:
        """Make `aclose(0)` reset the connection, so that the peer sees an error instead of an orderly end of stream."""

    def interrupt(self) -> None:
        """Make the pending `receive` or `start_tls`, or else the next of these calls, raise `Interrupted`."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`. Sessions sleep for short times only, and check in between whether to continue."""

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> "Stream":
        """Connect to another server with the same framework: the `open_stream` of the adapter."""

    async def check_cancelled(self) -> None:
        """Raise the exception that cancels this session, if the session is being cancelled."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a blocking function without blocking other sessions. A cancellation waits until the function returns."""

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function from inside a function that `run_blocking` called, and wait until it returns.

        The coroutine runs in the session's event loop, and is cancelled with the session. Raises `RuntimeError` outside
        of `run_blocking`, where waiting would block the session itself.
        """


@runtime_checkable
class Shielding(Protocol):
    """A stream of a framework that cancels every further wait of a cancelled task."""

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        """Return a block in which a cancelled task may still wait, for at most `seconds`."""


def shielded(stream: Stream, seconds: float) -> AbstractContextManager[object]:
    """Return a block in which a cancelled task may still wait, for at most `seconds`."""
    return stream.shield(seconds) if isinstance(stream, Shielding) else nullcontext()


class HowToConnect(TypedDict, total=False):
    """The options of an adapter's `open_stream`."""

    local_address: str | None
    """The IP address to connect from; by default the system chooses."""
    path: str | None
    """The path of a Unix socket to connect to, in place of host and port."""
    sock: socket | None
    """A connected socket, in place of host and port. The stream closes this socket."""


MAX_LINGER = 524_288
"""Maximum octets that `aclose` reads, and drops, while it waits for the peer to close its end."""


def reset_on_close(connection: socket) -> None:
    """Make a connection end with a reset when its socket is closed (socket(7): SO_LINGER)."""
    connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack(_LINGER, 1, 0))


_LINGER = "ii" if os.name == "posix" else "HH"  # `struct linger` of Windows has fields of 16 bits


def is_readable(descriptor: int) -> bool:
    """Return whether a socket has input, its end of stream, or an error."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def address_of(name: object) -> Address | None:
    """Return the address that a socket function returned: a tuple, or the path of a Unix socket."""
    if isinstance(name, tuple) and len(name) >= 2:
        return Address(str(name[0]).partition("%")[0], int(name[1]))
    if isinstance(name, bytes):
        name = os.fsdecode(name).replace("\0", "@")  # an abstract Unix socket, written as in unix(7) and ss(8)

    return Address(str(name)) if name else None


@lru_cache(maxsize=64)
def shared_address_of(name: object) -> Address | None:
    """Return the address that `getsockname` returned. All connections of a listener share one object."""
    return address_of(name)


def host_of(address: Address | None) -> str:
    """Return the host of an address, `""` without an address."""
    return address.host if address else ""


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or an address of this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


NOT_IN_A_THREAD = "a plain function cannot wait in the event loop: use `async def`, or register it with `blocking=True`"
"""The error of `Stream.run_async` outside of `Stream.run_blocking`."""


def family_of(local_address: str | None) -> AddressFamily:
    """Return the family of the addresses that can be reached from `local_address`."""
    if not local_address:
        return AddressFamily.AF_UNSPEC

    return AddressFamily.AF_INET6 if ":" in local_address else AddressFamily.AF_INET


def check_unix_sockets() -> None:
    """Raise `OSError` if this system, such as Windows, has no Unix sockets."""
    if not hasattr(AddressFamily, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets: connect to a host and a port")


def send_at_once(connection: socket) -> None:
    """Disable Nagle's algorithm: replies are small, and the client waits for each of them."""
    if connection.family in (AddressFamily.AF_INET, AddressFamily.AF_INET6):
        connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


@contextmanager
def unknown_hosts_as_os_errors(host: str) -> Iterator[None]:
    """Raise `socket.gaierror`, as for an unknown host, if `host` is not a valid name, for example for a long label."""
    try:
        yield
    except UnicodeError as exc:
        raise gaierror(EAI_NONAME, f"{host!r} is not a valid host name") from exc
