"""A stream that blocks, for sessions and clients without an event loop."""

# The coroutines of this stream block instead of being suspended, so that a single step (`complete`) runs a whole
# coroutine that uses the stream.
#
# The socket itself does not block. A thread waits in one place, `_retry`, both for the socket and for a `Wakeup`, with
# which other threads can interrupt or cancel the session. An interruption loses no input that has already arrived.

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, Protocol, TypeVar

from ..tls._info import Tls
from ._connector import begin_connecting, check_connected, interleaved, new_socket
from ._stream import (
    HAPPY_EYEBALLS,
    MAX_LINGER,
    Address,
    Interrupted,
    address_of,
    family_of,
    is_readable,
    reset_on_close,
    unknown_hosts_as_os_errors,
)
from ._tls_codec import Encryption, read, read_arrived, shake_hands

T = TypeVar("T")

_READ_SIZE = 65_536
_LONGEST_WAIT = 3600.0  # seconds; `poll` limits its timeout, so a longer wait takes several calls
_NO_EVENT_LOOP = "a handler awaits an event loop, but there is none: make the handler a plain function, which may block"


class Cancelled(BaseException):
    """The grace period of a session is over. Every call that waits for the client raises this exception."""


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that uses streams of `open_stream`, and return its result.

    Raises the exceptions of the coroutine. If the coroutine awaits an event loop, a `RuntimeError` is raised inside the
    coroutine.
    """
    try:
        coroutine.send(None)
        while True:
            coroutine.throw(RuntimeError(_NO_EVENT_LOOP))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def open_blocking_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> "BlockingStream":
    """Connect to a server: the `open_stream` of the adapter, without an event loop."""
    if path:
        with new_socket(socket.AF_UNIX, None) as connection:
            connection.settimeout(min(timeout, _LONGEST_WAIT))
            connection.connect(path)
        return BlockingStream(connection, Address(path))

    deadline = time.monotonic() + timeout
    with unknown_hosts_as_os_errors(host):
        found = socket.getaddrinfo(host, port, family=family_of(local_address), type=socket.SOCK_STREAM)

    return BlockingStream(*_connect_to_any([(each[0], each[4]) for each in found], deadline, local_address))


def _connect_to_any(
    addresses: Sequence[tuple[int, Any]], deadline: float, local_address: str | None
) -> tuple[socket.socket, Address | None]:
    """Return the first connection that succeeds, as `connect_to_any` does for event loops."""
    waiting = interleaved(addresses)
    failures: list[OSError] = []
    start = 0.0
    with Selector() as selector, ExitStack() as unused:
        while waiting or selector.get_map():
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError("no address of the host answers")

            if waiting and (now >= start or not selector.get_map()):
                family, address = waiting.pop(0)
                start = now + HAPPY_EYEBALLS
                try:
                    with new_socket(family, local_address) as connection:
                        begin_connecting(connection, address)
                except OSError as exc:
                    failures.append(exc)
                    continue

                unused.callback(connection.close)
                selector.register(connection, selectors.EVENT_WRITE, (connection, address))

            end = min(start, deadline) if waiting else deadline
            for key, _ in selector.select(min(max(end - now, 0), _LONGEST_WAIT)):
                connection, address = key.data
                selector.unregister(connection)
                try:
                    check_connected(connection)
                except OSError as exc:
                    failures.append(exc)
                    start = now
                else:
                    kept = connection.dup()
                    return kept, address_of(address)

    raise failures[0]


class BlockingStream:
    """A `Stream` that blocks: its coroutines are never suspended."""

    def __init__(
        self, connection: socket.socket, peer: Address | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._socket = connection
        self._clock = clock
        try:
            connection.setblocking(False)
            self.peer: Address | None = peer
            self.local: Address | None = address_of(connection.getsockname())
            self._wakeup = Wakeup()
        except OSError:
            connection.close()
            raise

        self.tls: Tls | None = None
        self._encryption: Encryption | None = None
        self._interrupted = False
        self._cancelled = False
        self._selector = Selector()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._selector.register(connection, selectors.EVENT_READ)

    # Calls of the session, in its thread

    async def receive(self, timeout: float) -> bytes:
        receive = partial(self._receive, self._clock() + timeout, self._recv_unless_interrupted)
        return await read(self._encryption, receive) if self._encryption else await receive()

    def _recv_unless_interrupted(self) -> bytes:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

        return self._recv()

    def _recv(self) -> bytes:
        return self._socket.recv(_READ_SIZE)

    async def _receive(self, deadline: float, recv: Callable[[], bytes]) -> bytes:
        return self._retry(recv, selectors.EVENT_READ, deadline)

    async def send(self, data: bytes, timeout: float) -> None:
        output = self._encryption.encrypt(data) if self._encryption else data
        await self._send(self._clock() + timeout, output)

    async def _send(self, deadline: float, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._retry(partial(self._socket.send, view), selectors.EVENT_WRITE, deadline) :]

    def has_input(self) -> bool:
        return bool(self._encryption and self._encryption.has_input) or is_readable(self._socket.fileno())

    async def receive_arrived(self) -> bytes | None:
        return await read_arrived(self._encryption, self._recv_arrived)

    async def _recv_arrived(self) -> bytes | None:
        try:
            return self._recv()
        except BlockingIOError:
            return None

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        deadline = self._clock() + timeout
        self._encryption = Encryption(context, server_name, received)
        receive, send = partial(self._receive, deadline, self._recv_unless_interrupted), partial(self._send, deadline)
        self.tls = await shake_hands(self._encryption, receive, send)

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout:
                with suppress(OSError):  # an error here needs no report: the connection is closed in any case
                    await self._linger(self._clock() + timeout)
        finally:
            self._selector.close()
            self._socket.close()
            self._wakeup.close()

    async def _linger(self, deadline: float) -> None:
        if self._encryption:
            await self._send(deadline, self._encryption.close())

        self._socket.shutdown(socket.SHUT_WR)
        left = MAX_LINGER
        while left > 0 and (data := await self._receive(deadline, self._recv)):
            left -= len(data)

    async def sleep(self, seconds: float) -> None:
        self._check_cancelled()
        self._wakeup.wait(seconds)
        self._check_cancelled()

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> "BlockingStream":
        return await open_blocking_stream(host, port, timeout, local_address=local_address, path=path)

    async def check_cancelled(self) -> None:
        self._check_cancelled()

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return complete(function(*args))

    # Calls of other threads

    def reset_on_close(self) -> None:
        reset_on_close(self._socket.fileno())

    def interrupt(self) -> None:
        self._interrupted = True
        self._wakeup.set()

    def cancel(self) -> None:
        """Make every wait raise `Cancelled`: the current wait and all later waits."""
        self._cancelled = True
        self._wakeup.set()

    # Waiting

    def _retry(self, operation: Callable[[], T], event: int, deadline: float) -> T:
        """Call `operation` until it does not raise `BlockingIOError`, and wait for `event` between the calls."""
        while True:
            self._check_cancelled()
            try:
                return operation()
            except BlockingIOError:
                left = deadline - self._clock()
                if left <= 0:
                    raise TimeoutError("the peer took too long") from None

            self._selector.modify(self._socket, event)
            self._selector.select(min(left, _LONGEST_WAIT))

    def _check_cancelled(self) -> None:
        self._wakeup.clear()  # clear first: a `cancel` or `interrupt` after the check has to end the next wait
        if self._cancelled:
            raise Cancelled


class Wakeup:
    """Wakes a thread that waits with a selector. Any thread and any signal handler may call `set`."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt `set` and call it again
        self._bell: _Bell = _EventFd() if hasattr(os, "eventfd") else _SocketPair()
        self._is_open = True

    def fileno(self) -> int:
        return self._bell.fileno()

    def set(self) -> None:
        with self._lock:
            if not self.is_set and self._is_open:
                self.is_set = True
                self._bell.ring()

    def clear(self) -> None:
        if self.is_set:
            with self._lock:
                self.is_set = False
                self._bell.silence()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until `set` is called, at most `timeout` seconds; by default without a limit."""
        with Selector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.select(timeout)

    def close(self) -> None:
        with self._lock:  # `set` must not write to a closed descriptor, which may already belong to another file
            self._is_open = False
            self._bell.close()

    def __enter__(self) -> "Wakeup":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Bell(Protocol):
    """A descriptor that a selector finds readable between `ring` and `silence`."""

    def fileno(self) -> int: ...
    def ring(self) -> None: ...
    def silence(self) -> None: ...
    def close(self) -> None: ...


class _EventFd:
    """eventfd(2) of Linux: a single descriptor."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def ring(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def silence(self) -> None:
        os.eventfd_read(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class _SocketPair:
    """Two sockets, for systems without eventfd(2). A pipe would not do: `select` of Windows takes only sockets."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        return self._reader.fileno()

    def ring(self) -> None:
        self._writer.send(b"1")

    def silence(self) -> None:
        self._reader.recv(1)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


# These selectors need no file descriptor of their own, unlike epoll.
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
