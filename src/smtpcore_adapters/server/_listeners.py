"""The sockets at which a server listens."""

# All adapters listen at the sockets that are made here, so a port, a path or a socket of systemd means the same to each
# of them. Making them may look up a host name, which blocks; that is before anyone is served.

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ssl import SSLContext

from smtpcore import Config

from ..streams._stream import Address, address_of, send_at_once

_BACKLOG = 1024  # connections that wait to be accepted; the system may have a lower limit of its own
_ATTEMPTS = 10  # to find a port that is free for both IPv4 and IPv6
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens, and what is different there. What is None is as for the server as a whole."""

    port: int = 0
    """The TCP port; 0 picks a free one."""
    host: str | None = "127.0.0.1"
    """The address, or the name of a host, all of whose addresses are listened at; with None, `""` or `"::"` the
    machine can be reached at each of its addresses, IPv6 and IPv4."""
    path: str | None = None
    """Of a Unix socket to listen at instead. One that a server has left behind is replaced, and it is removed at the
    end."""
    mode: int = 0o600
    """The permissions of the Unix socket: who may write to it can connect."""
    bound: socket.socket | None = None
    """To listen at instead: a stream socket that is bound already. It is closed at the end."""
    reuse_port: bool = False
    """Whether several processes may listen at the port, which then share its connections (`SO_REUSEPORT`)."""
    config: Config | None = None
    """How the protocol is spoken."""
    tls: SSLContext | None = None
    """With which context TLS is offered."""
    implicit_tls: bool | None = None
    """Whether TLS comes before the greeting (RFC 8314 section 3.3)."""
    proxies: tuple[str, ...] | None = None
    """Addresses and networks of the proxies that begin each connection with a PROXY header."""


def inherited_sockets(name: str | None = None) -> tuple[socket.socket, ...]:
    """The sockets that systemd, or whoever speaks its protocol, has opened for this process (sd_listen_fds(3)).

    With `name` only those whose `FileDescriptorName=` it is. Each can be given to one `Listener`. There are none where
    the environment names no process, or another one. Raises `ValueError` if one is no stream socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return ()

    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":") if "LISTEN_FDNAMES" in os.environ else []
    names += ["unknown"] * (count - len(names))  # as sd_listen_fds_with_names(3) calls what has no name
    numbers = [_FIRST_INHERITED + number for number in range(count) if name in (None, names[number])]
    return tuple(_inherit(number) for number in numbers)


def _inherit(descriptor: int) -> socket.socket:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise ValueError(f"the inherited file descriptor {descriptor} is no socket")

    inherited = socket.socket(fileno=descriptor)
    if inherited.type != socket.SOCK_STREAM:
        inherited.detach()
        raise ValueError(f"the inherited file descriptor {descriptor} is no stream socket")

    inherited.set_inheritable(False)
    return inherited


@contextmanager
def listening(listeners: Iterable[Listener]) -> Iterator[tuple[tuple[socket.socket, Listener], ...]]:
    """Listen, and yield each socket with its listener; a listener may have several. At the end nothing is left.

    The sockets do not block. Raises `OSError` if one cannot be listened at, and then all are closed.
    """
    with ExitStack() as stack:
        opened = [(each, listener) for listener in listeners for each in _open(listener, stack)]
        for each, _ in opened:
            each.setblocking(False)
            send_at_once(each)  # so do the connections: asyncio sees to that only where it is told that this is TCP

        yield tuple(opened)


def addresses_of(opened: Iterable[tuple[socket.socket, Listener]]) -> tuple[Address, ...]:
    """Where these sockets listen."""
    return tuple(address_of(each.getsockname()) or Address("") for each, _ in opened)


def accept_from(source: socket.socket) -> tuple[socket.socket, Address | None]:
    """Accept a connection at a socket of `listening`, and tell whose it is.

    Raises `BlockingIOError` if there is none (any more), and `OSError` if it cannot be accepted.
    """
    connection, name = source.accept()
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
        taken.listen(_BACKLOG)
        return [taken]

    if listener.path:
        return [stack.enter_context(_unix_socket(listener.path, listener.mode))]

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
            # Where the system has picked the port of the first socket, it may be taken for the second one.
            if listener.port or exc.errno != errno.EADDRINUSE:
                raise

    return _bind_all(places, listener)


def _places(listener: Listener) -> list[tuple[int, str]]:
    host = listener.host if listener.host not in ("", "::") else None
    found = socket.getaddrinfo(host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_all(places: list[tuple[int, str]], listener: Listener) -> list[socket.socket]:
    bound: list[socket.socket] = []
    missing: list[OSError] = []
    port = listener.port
    for family, host in places:
        try:
            bound.append(_bind(family, host, port, reuse_port=listener.reuse_port))
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


# A name such as localhost may have an IPv6 address where the machine has none.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def _bind(family: int, host: str, port: int, *, reuse_port: bool) -> socket.socket:
    made: socket.socket | None = None
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # pragma: no branch - on Windows it would let others take the port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, so that its addresses are not written as IPv6 ones (RFC 4291 2.5.5.2).
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as exc:
        if made:
            made.close()
        raise _named(exc, str(Address(host, port))) from exc

    return made


# Unix sockets


@contextmanager
def _unix_socket(path: str, mode: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            _remove_stale(path)
            made.bind(path)
        except OSError as exc:
            raise _named(exc, path) from exc

        inode = _inode(path)
        try:
            os.chmod(path, mode)  # before `listen`, and until then no one can connect
            made.listen(_BACKLOG)
            yield made
        finally:
            if _inode(path) == inode:  # not that of a server that has taken the place
                with suppress(OSError):
                    os.unlink(path)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
        return status.st_dev, status.st_ino
    except OSError:
        return None


def _remove_stale(path: str) -> None:
    """Remove a Unix socket at which no one listens. What is anything else is left for `bind` to complain of."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        os.unlink(path)
    except BlockingIOError:
        pass  # someone listens there who is very busy
