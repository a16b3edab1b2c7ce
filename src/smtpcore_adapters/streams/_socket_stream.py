"""A stream over a non-blocking socket that needs one function of its event loop: a wait for sockets, like `select`."""

# A stream waits in one place, `_retry`, both for its socket and for a `Wakeup`, with which other threads can interrupt
# or cancel the session. An interruption loses no input that has already arrived.

import math
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from ..tls._info import Tls
from ._connector import Connected, begin_connecting, check_connected, interleaved, new_socket
from ._stream import (
    HAPPY_EYEBALLS,
    MAX_LINGER,
    TURN,
    Address,
    Interrupted,
    address_of,
    check_unix_sockets,
    family_of,
    is_readable,
    reset_on_close,
    send_at_once,
    unknown_hosts_as_os_errors,
)
from ._tls_codec import Encryption, read, read_arrived, shake_hands
from ._wakeup import HasFileno, Wakeup, ready_writers

T = TypeVar("T")

_READ_SIZE = 65_536
_LONGEST_WAIT = 3600.0  # seconds; `poll` limits its timeout, so a longer wait takes several calls
_PAUSE = 0.0001  # seconds
_NO_EVENT_LOOP = (
    "a handler awaits an event loop, but there is none: make the handler a plain function, which may block. "
    "Bodies, signers and logins of a client cannot await an event loop either"
)


class Cancelled(BaseException):
    """The session was cancelled, for example at the end of its grace period.

    Every call that waits for the client raises this exception.
    """


_Select: TypeAlias = Callable[[Sequence[HasFileno], Sequence[HasFileno], float], Awaitable[object]]


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose streams block, and return its result.

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


class SocketStream(ABC):
    """A `Stream` over a connected socket, for an event loop of your own.

    A subclass has to define the static method `select`, and may replace the static method `run_blocking`.

    Args:
        connection: The socket. The stream makes it non-blocking, and closes it.
        peer: The address of the other end, by default the address to which the socket is connected.
        clock: The clock for timeouts, in seconds.

    Raises:
        OSError: The connection is lost already, or file descriptors have run out: each stream needs one of its own,
            in addition to that of the socket.
    """

    _turn: ClassVar[float] = TURN
    """Seconds after which a stream that never had to wait lets other sessions continue."""

    def __init__(
        self, connection: socket.socket, peer: Address | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._socket = connection
        self._clock = clock
        try:
            connection.setblocking(False)
            send_at_once(connection)
            peer = peer or address_of(connection.getpeername())
            local = address_of(connection.getsockname())
            self._wakeup = Wakeup()
        except OSError:
            connection.close()
            raise

        self.peer: Address | None = peer
        """The address of the other end; None for an unnamed Unix socket."""
        self.local: Address | None = local
        """The address of this end; None for an unnamed Unix socket."""
        self.tls: Tls | None = None
        """The results of the TLS handshake; None without TLS."""
        self._encryption: Encryption | None = None
        self._interrupted = False
        self._cancelled = False
        self._turn_ends = math.inf

    # The functions of the event loop

    @staticmethod
    @abstractmethod
    async def select(readers: Sequence[HasFileno], writers: Sequence[HasFileno], timeout: float) -> None:
        """Wait until a reader has input or a writer accepts output, at most `timeout` seconds; let other sessions run.

        The function may return early. In an event loop with blocking functions, such as that of gevent, the coroutine
        may block instead of being suspended; run such sessions with `complete`.
        """

    @staticmethod
    async def run_blocking(function: Callable[..., T], /, *args: Any) -> T:
        """Call a blocking function: by default in the event loop, which then blocks, or in a subclass in a thread."""
        return function(*args)

    # Calls of the session

    # Some methods return a coroutine instead of awaiting it: most waits then need a single coroutine.

    def receive(self, timeout: float) -> Coroutine[Any, Any, bytes]:
        deadline = self._clock() + timeout
        if self._encryption:
            return read(self._encryption, partial(self._receive, deadline, self._recv_unless_interrupted))

        return self._receive(deadline, self._recv_unless_interrupted)

    def _recv_unless_interrupted(self) -> bytes:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

        return self._recv()

    def _recv(self) -> bytes:
        return self._socket.recv(_READ_SIZE)

    def _receive(self, deadline: float, recv: Callable[[], bytes]) -> Coroutine[Any, Any, bytes]:
        return self._retry(recv, deadline, readers=(self._socket,))

    def send(self, data: bytes, timeout: float) -> Coroutine[Any, Any, None]:
        output = self._encryption.encrypt(data) if self._encryption else data
        return self._send(self._clock() + timeout, output)

    async def _send(self, deadline: float, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self._retry(partial(self._socket.send, view), deadline, writers=(self._socket,)) :]

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
        await self.select((self._wakeup,), (), seconds)
        self._check_cancelled()

    @classmethod
    async def open(
        cls, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Self:
        """Connect to a server, and return a stream of this class: the `open_stream` of a client."""
        return cls(*await open_socket(cls.select, cls.run_blocking, host, port, timeout, local_address, path))

    async def check_cancelled(self) -> None:
        self._check_cancelled()

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return complete(function(*args))

    def reset_on_close(self) -> None:
        reset_on_close(self._socket)

    # Calls of the server, in any thread

    def interrupt(self) -> None:
        self._interrupted = True
        self._wakeup.set()

    def cancel(self) -> None:
        """Make every wait of the session raise `Cancelled`: the current wait and all later waits."""
        self._cancelled = True
        self._wakeup.set()

    # Waiting

    async def _retry(
        self,
        operation: Callable[[], T],
        deadline: float,
        *,
        readers: Sequence[HasFileno] = (),
        writers: Sequence[HasFileno] = (),
    ) -> T:
        """Call `operation` until it does not raise `BlockingIOError`, and wait for the socket between the calls."""
        if self._clock() > self._turn_ends:
            await self.select((self._wakeup,), (), _PAUSE)
            self._turn_ends = self._clock() + self._turn

        while True:
            self._check_cancelled()
            try:
                return operation()
            except BlockingIOError:
                left = deadline - self._clock()
                if left <= 0:
                    raise TimeoutError("the peer took too long") from None

            await self.select((self._wakeup, *readers), writers, min(left, _LONGEST_WAIT))
            self._turn_ends = self._clock() + self._turn

    def _check_cancelled(self) -> None:
        self._wakeup.clear()  # cleared before the check: a later `cancel` or `interrupt` has to end the next wait
        if self._cancelled:
            raise Cancelled


# Connecting


async def open_socket(
    select: _Select,
    run_blocking: Callable[..., Awaitable[Any]],
    host: str,
    port: int,
    timeout: float,
    local_address: str | None,
    path: str | None,
) -> Connected:
    """Connect to a server. An adapter's `open_stream` documents the parameters and the errors."""
    if path:
        check_unix_sockets()
        with new_socket(socket.AF_UNIX, None) as connection:
            connection.settimeout(min(timeout, _LONGEST_WAIT))
            await run_blocking(connection.connect, path)
        return connection, Address(path)

    deadline = time.monotonic() + timeout
    resolve = partial(socket.getaddrinfo, host, port, family=family_of(local_address), type=socket.SOCK_STREAM)
    with unknown_hosts_as_os_errors(host):
        found = await run_blocking(resolve)

    return await _connect_to_any(select, [(each[0], each[4]) for each in found], deadline, local_address)


async def _connect_to_any(
    select: _Select, addresses: Sequence[tuple[int, Any]], deadline: float, local_address: str | None
) -> Connected:
    """Return the first connection that succeeds, as `connect_to_any` does for anyio and trio."""
    waiting = interleaved(addresses)
    failures: list[OSError] = []
    attempts: dict[socket.socket, Any] = {}
    start = 0.0
    with ExitStack() as unused:
        while waiting or attempts:
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError("no address of the host answers")

            if waiting and (now >= start or not attempts):
                family, address = waiting.pop(0)
                start = now + HAPPY_EYEBALLS
                try:
                    with new_socket(family, local_address) as connection:
                        begin_connecting(connection, address)
                except OSError as exc:
                    failures.append(exc)
                    continue

                unused.callback(connection.close)
                attempts[connection] = address

            end = min(start, deadline) if waiting else deadline
            await select((), tuple(attempts), min(max(end - now, 0), _LONGEST_WAIT))
            for connection in ready_writers(attempts):
                address = attempts.pop(connection)
                try:
                    check_connected(connection)
                except OSError as exc:
                    failures.append(exc)
                    start = now
                else:
                    return connection.dup(), address_of(address)

    raise failures[0]
