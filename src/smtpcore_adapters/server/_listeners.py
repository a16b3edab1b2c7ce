"""The listening sockets of a server."""

# All adapters use the sockets made here, so that ports, paths and sockets of systemd work the same in each adapter.
# Looking up a host name blocks; that is acceptable because the server has no clients yet.

import errno
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ssl import SSLContext
from typing import Any

from smtpcore import Budgets, Config, check_fields

from .._names import check_options
from ..streams._stream import Address, address_of, send_at_once
from ._limits import Timeouts

BACKLOG = 1024  # connections that wait to be accepted; the system may have a lower limit
_ATTEMPTS = 10  # attempts to find a port that is free for both IPv4 and IPv6
LOOPBACK = "127.0.0.1"
_MODE = 0o600
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Listener:
    """An address where a server listens: a port, the path of a Unix socket, or a socket that is already bound.

    The fields from `config` on override the options of the server with the same names, unless they are None. Raises
    `ValueError` if fields exclude each other.
    """

    port: int = 0
    """The TCP port. With 0, the default, the system picks a free port."""
    host: str | None = LOOPBACK
    """The address, `"127.0.0.1"` by default. A host name stands for all of its addresses; None, `""` and `"::"` stand
    for every address of the machine, IPv6 and IPv4."""
    path: str | None = None
    """The path of a Unix socket, in place of a port. A socket file that no server uses any more is replaced, and the
    file is removed when the server stops."""
    mode: int = _MODE
    """The permissions of the Unix socket, by default for its owner only. A client needs the permission to write."""
    owner: str | None = None
    """The user who owns the Unix socket: a name or a number. By default the user of this process."""
    group: str | None = None
    """The group of the Unix socket: a name or a number. By default the group of this process."""
    bound: socket.socket | None = None
    """A stream socket that is already bound, in place of a port. The socket is closed when the server stops."""
    reuse_port: bool = False
    """Whether several processes may listen on the port, and share its connections (`SO_REUSEPORT`)."""
    name: str = ""
    """A name for handlers, which read it as `session.listener.name`."""
    config: Config | None = None
    """The configuration of the protocol."""
    tls: SSLContext | None = None
    """The context for STARTTLS and implicit TLS."""
    implicit_tls: bool | None = None
    """Whether TLS starts before the greeting (RFC 8314 section 3.3)."""
    budgets: Budgets | None = None
    """The time limits of a session."""
    timeouts: Timeouts | None = None
    """The delays of a session, and the time for its end."""
    proxies: tuple[str, ...] | None = None
    """Addresses and networks of proxies, which begin each connection with a PROXY header; `"unix"` for a `path`."""
    trusted: tuple[str, ...] | None = None
    """Addresses and networks of peers to which XCLIENT and XFORWARD are offered."""

    def __new__(cls, *args: object, **fields: object) -> "Listener":
        """Make a listener. Raise `TypeError` for an unknown field before `__init__` does, to suggest a known field."""
        check_options("a field of Listener", fields, cls.__slots__)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        check_fields(self, ValueError)
        if not 0 <= self.port < 65_536:
            raise ValueError(f"port is {self.port}: it must be at most 65535")
        if self.path == "":
            raise ValueError("the path of a listener is empty: leave it out to listen on a port")
        if self.path is not None and self.bound is not None:
            raise ValueError("path and bound exclude each other: give one of them")
        is_tcp = self.path is None and self.bound is None
        if not is_tcp and (self.port, self.host, self.reuse_port) != (0, LOOPBACK, False):
            raise ValueError("port, host and reuse_port have no effect with path or bound: leave them out")
        if self.path is None and (self.mode, self.owner, self.group) != (_MODE, None, None):
            raise ValueError("mode, owner and group have no effect without path: leave them out")
        if self.path is not None and not hasattr(socket, "AF_UNIX"):
            raise ValueError("this system has no Unix sockets: leave path out to listen on a port")
        if self.reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("this system has no SO_REUSEPORT: leave reuse_port out")

    def at(self, bound: socket.socket) -> "Listener":
        """Return a listener with the same settings for a socket that is already bound."""
        return replace(
            self, port=0, host=LOOPBACK, reuse_port=False, path=None, mode=_MODE, owner=None, group=None, bound=bound
        )


def inherited_sockets(name: str | None = None) -> tuple[socket.socket, ...]:
    """Return the sockets that systemd, or a similar program, has opened for this process (sd_listen_fds(3)).

    With `name`, only the sockets with this `FileDescriptorName=` are returned. Each socket can be the `bound` of one
    `Listener`. The result is empty if the environment variable LISTEN_PID is not set for this process. Raises
    `ValueError` if a file descriptor is not a stream socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()

    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":") if "LISTEN_FDNAMES" in os.environ else []
    names += ["unknown"] * (count - len(names))  # the name that sd_listen_fds_with_names(3) gives to unnamed sockets
    numbers = [_FIRST_INHERITED + number for number in range(count) if name in (None, names[number])]
    return tuple(inherit_socket(number) for number in numbers)


def inherit_socket(descriptor: int) -> socket.socket:
    """Return the stream socket with this number, which another program has opened for this process.

    Raises `ValueError` if the number does not belong to a stream socket, and `OSError` if it is not open.
    """
    try:
        status = os.fstat(descriptor)
    except OverflowError:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    if not stat.S_ISSOCK(status.st_mode):
        raise ValueError(f"the inherited file descriptor {descriptor} is not a socket")

    inherited = socket.socket(fileno=descriptor)
    if inherited.type != socket.SOCK_STREAM:
        inherited.detach()
        raise ValueError(f"the inherited file descriptor {descriptor} is not a stream socket")
    if _is_connected(inherited):
        inherited.detach()
        raise ValueError(f"the inherited file descriptor {descriptor} is a connection: a listening socket is needed")

    inherited.set_inheritable(False)
    return inherited


def _is_connected(inherited: socket.socket) -> bool:
    try:
        inherited.getpeername()
    except OSError:
        return False
    return True


@contextmanager
def listening(listeners: Iterable[Listener]) -> Iterator[tuple[tuple[socket.socket, Listener], ...]]:
    """Listen, and yield each socket with its listener; a listener may have several sockets. Then close all sockets.

    The sockets do not block. Raises `OSError` if the process cannot listen on one of them.
    """
    with ExitStack() as stack:
        opened = [(each, listener) for listener in listeners for each in _open(listener, stack)]
        for each, _ in opened:
            each.setblocking(False)
            send_at_once(each)  # connections inherit this option; asyncio sets it only if `socket.proto` is TCP

        yield tuple(opened)


def addresses_of(opened: Iterable[tuple[socket.socket, Listener]]) -> tuple[Address, ...]:
    """Return the addresses of listening sockets."""
    return tuple(address_of(each.getsockname()) or Address("") for each, _ in opened)


def accept_from(source: socket.socket) -> tuple[socket.socket, Address | None]:
    """Accept a connection on a socket of `listening`, and return the connection and the client's address.

    Raises `BlockingIOError` if no connection is pending, and `OSError` if the connection cannot be accepted.
    """
    return prepare_accepted(*source.accept())


def prepare_accepted(connection: socket.socket, name: object) -> tuple[socket.socket, Address | None]:
    """Prepare a connection that was accepted. Return the connection, and the client's address from its `name`."""
    try:
        connection.setblocking(False)
        send_at_once(connection)
        return connection, address_of(name)
    except OSError:
        connection.close()
        raise


def _open(listener: Listener, stack: ExitStack) -> list[socket.socket]:
    if listener.bound:
        taken = stack.enter_context(listener.bound)
        if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            taken.listen(BACKLOG)  # a socket that listens already keeps the backlog that its owner chose
        return [taken]

    if listener.path:
        return [stack.enter_context(_unix_socket(listener.path, listener))]

    return [stack.enter_context(each) for each in _tcp_sockets(listener)]


def _named(error: OSError, place: str) -> OSError:
    return OSError(error.errno, error.strerror or str(error), place)


# TCP


def _tcp_sockets(listener: Listener) -> list[socket.socket]:
    places = _places(listener)
    for _ in range(_ATTEMPTS - 1):
        try:
            return _bind_all(places, listener)
        except OSError as exc:
            # The port that the system picked for the first socket may be in use for the family of the second socket.
            if listener.port or exc.errno not in _TAKEN:
                raise

    return _bind_all(places, listener)


_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})  # EACCES: Windows has reserved the port


def _places(listener: Listener) -> list[tuple[int, tuple[Any, ...]]]:
    host = listener.host if listener.host not in ("", "::") else None
    try:
        found = socket.getaddrinfo(host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as exc:
        exc.filename = listener.host  # the place, as in the errors of `_named`
        raise
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_all(places: list[tuple[int, tuple[Any, ...]]], listener: Listener) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: list[OSError] = []
    port = listener.port
    for family, (host, _, *scope) in places:  # `scope`: interface of a link-local address (RFC 4007)
        try:
            bound.append(_bind(family, (host, port, *scope), reuse_port=listener.reuse_port))
            port = bound[0].getsockname()[1]
        except OSError as exc:
            if exc.errno in _NOT_HERE:
                missing.append(exc)
                continue
            for each in bound:
                each.close()
            raise

    if not bound:
        raise missing[0]

    return bound


# A name such as localhost may have an IPv6 address on a machine without IPv6.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def _bind(family: int, address: tuple[Any, ...], *, reuse_port: bool) -> socket.socket:
    made: socket.socket | None = None
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
        # On Windows, SO_REUSEADDR would let other programs take the port.
        option: int = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that no IPv4 client appears with a mapped address (RFC 4291 2.5.5.2).
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

        made.bind(address)
        made.listen(BACKLOG)
    except OSError as exc:
        if made:
            made.close()
        raise _named(exc, str(address_of(address))) from exc

    return made


# Unix sockets


@contextmanager
def _unix_socket(path: str, listener: Listener) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            _remove_stale(path)
            made.bind(path)
        except OSError as exc:
            raise _named(exc, path) from exc

        inode = _inode(path)
        try:
            # Before `listen`: until then clients cannot connect.
            _give(path, listener.owner, listener.group)
            os.chmod(path, listener.mode)
            made.listen(BACKLOG)
            yield made
        finally:
            if _inode(path) == inode:  # another server may have replaced the file meanwhile
                with suppress(OSError):
                    os.unlink(path)


def _give(path: str, owner: str | None, group: str | None) -> None:
    try:
        if owner is not None:
            shutil.chown(path, user=int(owner) if owner.isdecimal() else owner)
        if group is not None:
            shutil.chown(path, group=int(group) if group.isdecimal() else group)
    except (LookupError, OverflowError) as exc:
        raise OSError(errno.EINVAL, str(exc), path) from exc
    except OSError as exc:
        raise _named(exc, path) from exc


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
        return status.st_dev, status.st_ino
    except OSError:
        return None


def _remove_stale(path: str) -> None:
    """Remove the file of a Unix socket without a listener. Raise `OSError` if the path is another kind of file."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "this file exists, and is not a socket: remove it, or choose another path")

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        os.unlink(path)
    except BlockingIOError:
        pass  # a server listens there, with a full queue
