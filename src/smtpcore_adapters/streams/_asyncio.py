"""The stream of asyncio: connections, the protocol of the transport, and the bridge to handlers in threads."""

# asyncio's own streams (`StreamReader`, `StreamWriter.start_tls`) are not used. With them, a command that the client
# sent together with STARTTLS is executed after the handshake as if it had been encrypted, and a ClientHello that
# arrives early can be lost. The protocol below passes everything that arrives after the 220 to TLS.
#
# Reading is paused when a full buffer waits for the session, so a client has to wait for a slow session. Pausing after
# every `receive` would cost two system calls for each command.

import asyncio
import concurrent.futures
import contextvars
import math
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from functools import partial
from ssl import SSLContext
from time import monotonic
from typing import Any, TypeVar, cast

from ..tls._info import Tls
from ._connector import begin_connecting, check_connected, interleaved, new_socket, prepare_given
from ._stream import (
    HAPPY_EYEBALLS,
    MAX_LINGER,
    NOT_IN_A_THREAD,
    TURN,
    Address,
    Interrupted,
    Stream,
    address_of,
    check_unix_sockets,
    family_of,
    is_readable,
    reset_on_close,
    socket_of,
    unknown_hosts_as_os_errors,
)
from ._tls_codec import Encryption, read, read_arrived, shake_hands

T = TypeVar("T")

READ_SIZE = 131_072
_ITERATIONS = 0 if os.name == "posix" else 2
_DELIVERY = 1.0  # seconds for the event loop to read input that has arrived; usually one iteration is enough


async def open_stream(
    host: str,
    port: int,
    timeout: float,
    *,
    local_address: str | None = None,
    path: str | None = None,
    sock: socket.socket | None = None,
) -> Stream:
    """Connect to a server on asyncio, and return the byte stream."""
    loop = asyncio.get_running_loop()
    make = partial(ProtocolStream, loop, None)
    if sock:
        prepare_given(sock)
        _, stream = await loop.create_connection(make, sock=sock)
        return stream

    async with asyncio.timeout(timeout):
        if path:
            check_unix_sockets()
            _, stream = await loop.create_unix_connection(make, path)
            return stream

        with unknown_hosts_as_os_errors(host):
            resolve = partial(socket.getaddrinfo, family=family_of(local_address), type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(None, resolve, host, port)
        with ExitStack() as on_error:
            connection = await _connect_to_any(loop, [(each[0], each[4]) for each in found], local_address)
            on_error.callback(connection.close)
            _, stream = await loop.create_connection(make, sock=connection)
            on_error.pop_all()

    return stream


async def _connect_to_any(
    loop: asyncio.AbstractEventLoop, addresses: Sequence[tuple[int, Any]], local_address: str | None
) -> socket.socket:
    """Return the first connection that succeeds, as `connect_to_any` does for the other frameworks.

    On asyncio's own loops `loop.create_connection` would do the same, but on uvloop it tries one address after another.
    """
    waiting = interleaved(addresses)
    failures: list[OSError] = []
    attempts: list[asyncio.Task[socket.socket]] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.append(loop.create_task(_connect(loop, *waiting.pop(0), local_address)))
            limit = HAPPY_EYEBALLS if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                attempts.remove(attempt)
                try:
                    return attempt.result()
                except OSError as exc:
                    failures.append(exc)
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close_result)
            attempt.cancel()

    raise failures[0]


async def _connect(
    loop: asyncio.AbstractEventLoop, family: int, address: Any, local_address: str | None
) -> socket.socket:
    with new_socket(family, local_address) as connection:
        if isinstance(loop, asyncio.BaseEventLoop):
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        else:  # `sock_connect` of uvloop ignores the interface of a link-local address
            begin_connecting(connection, address)
            writable = loop.create_future()
            loop.add_writer(connection, _wake, writable)
            try:
                await writable
            finally:
                loop.remove_writer(connection)
            check_connected(connection)

    return connection


def _close_result(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.cancelled() and not attempt.exception():
        attempt.result().close()


class ProtocolStream(asyncio.BufferedProtocol):
    """A `Stream` over an asyncio transport."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_deadline",
        "_encryption",
        "_ended",
        "_error",
        "_input",
        "_interrupted",
        "_is_lost",
        "_loop",
        "_paused",
        "_reading",
        "_start_session",
        "_timer",
        "_transport",
        "_turn_ends",
        "_writing",
        "local",
        "peer",
        "tls",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview | None,
        start_session: "Callable[[ProtocolStream], object] | None" = None,
    ) -> None:
        self._loop = loop
        self._buffer = buffer or memoryview(bytearray(READ_SIZE))
        self._start_session = start_session
        self._input = b""
        self._paused = False
        """Whether reading is paused, because the session has not taken the input yet."""
        self._turn_ends = 0.0
        self._ended = False
        self._interrupted = False
        self._encryption: Encryption | None = None
        self._reading: asyncio.Future[None] | None = None
        """Done when the pending `receive` has to continue."""
        self._writing: asyncio.Future[None] | None = None
        """Done when the transport accepts more output; None while the transport accepts output."""
        self._closing: asyncio.Future[None] | None = None
        """Done when the connection of the pending `aclose` is closed."""
        self._is_lost = False
        self._error: Exception | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

        self.tls: Tls | None = None
        self.peer: Address | None = None
        self.local: Address | None = None

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = address_of(transport.get_extra_info("peername"))
        self.local = address_of(transport.get_extra_info("sockname"))
        if self._start_session:
            self._start_session(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        data = bytes(self._buffer[:count])
        self._input = self._input + data if self._input else data
        _wake(self._reading)
        if len(self._input) >= READ_SIZE:
            self._transport.pause_reading()  # pause at once: uvloop keeps reading as long as there is data
            self._paused = True

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reading)
        return True  # the transport stays open: the client may still wait for replies

    def pause_writing(self) -> None:
        self._writing = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writing)
        self._writing = None

    def connection_lost(self, exc: Exception | None) -> None:
        if exc and not self._start_session:
            # After a failed write asyncio reads no more. But the server may have sent the reason before it closed the
            # connection.
            with suppress(OSError), socket_of(self._transport.get_extra_info("socket").fileno()) as connection:
                self._input += connection.recv(READ_SIZE)
        self._ended = True
        self._error = exc
        self._is_lost = True
        for future in (self._reading, self._writing, self._closing):
            _wake(future)

    # Calls of the session

    def receive(self, timeout: float) -> Coroutine[Any, Any, bytes]:
        # Returns the inner coroutine instead of awaiting it: each coroutine frame costs memory in every idle session.
        deadline = self._loop.time() + timeout
        if self._encryption:
            return read(self._encryption, partial(self._receive, deadline))

        return self._receive(deadline)

    async def _receive(self, deadline: float) -> bytes:
        while not (self._input or self._ended) or self._interrupted:
            if self._interrupted:
                self._interrupted = False
                raise Interrupted

            self._set_deadline(deadline)
            if self._paused:
                self._transport.resume_reading()
                self._paused = False

            self._reading = self._loop.create_future()
            try:
                await self._reading
            finally:
                self._reading = None
                self._turn_ends = monotonic() + TURN

        if self._error and not self._input:
            raise _lost(self._error)

        data, self._input = self._input, b""
        return data

    def _set_deadline(self, deadline: float) -> None:
        # Most waits start no timer of their own: a timer with an earlier deadline keeps running. When this timer fires
        # before the current deadline, `_on_timer` starts a timer for the current deadline.
        self._deadline = deadline
        if self._timer and self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = None
        if not self._timer and deadline < math.inf:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._reading or self._reading.done():
            return
        if self._loop.time() < self._deadline:
            self._set_deadline(self._deadline)
        else:
            self._reading.set_exception(TimeoutError("the peer was silent for too long"))

    async def send(self, data: bytes, timeout: float) -> None:
        if self._encryption:
            data = self._encryption.encrypt(data)
        if self._is_lost:
            raise _lost(self._error)

        self._transport.write(data)
        if self._writing:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._writing)
        elif self._transport.is_closing() or monotonic() > self._turn_ends:
            # Let the event loop run: the transport can then report a failed write, and a client that pipelines cannot
            # block other sessions.
            await asyncio.sleep(0)
            self._turn_ends = monotonic() + TURN

        if self._is_lost:
            raise _lost(self._error)

    async def _write(self, data: bytes) -> None:
        if not self._is_lost:
            self._transport.write(data)

    def has_input(self) -> bool:
        return bool(self._encryption and self._encryption.has_input) or self._has_arrived()

    def _has_arrived(self) -> bool:
        if self._input or self._ended:
            return True

        return is_readable(self._transport.get_extra_info("socket").fileno())

    async def receive_arrived(self) -> bytes | None:
        return await read_arrived(self._encryption, self._receive_arrived)

    async def _receive_arrived(self) -> bytes | None:
        if not self._has_arrived():
            # The default loop of Windows always has a pending read, which takes input from the socket as it arrives.
            # The loop has to run twice: to find that the read is complete, and to call the protocol.
            for _ in range(_ITERATIONS):
                if not _is_being_cancelled():
                    await asyncio.sleep(0)
            if not self._has_arrived():
                return None

        return await self._receive(self._loop.time() + _DELIVERY)

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        self._encryption = Encryption(context, server_name, received)
        receive = partial(self._receive, self._loop.time() + timeout)
        self.tls = await shake_hands(self._encryption, receive, self._write)

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout and not self._is_lost:
                await self._linger(timeout)
        finally:
            if self._timer:
                self._timer.cancel()

            self._transport.close()
            if timeout and not self._is_lost:
                await self._wait_until_lost(timeout)

            self._transport.abort()

    async def _linger(self, timeout: float) -> None:
        if self._encryption:
            self._transport.write(self._encryption.close())
            self._encryption = None

        self._interrupted = False
        self._input = b""
        # An error here needs no report: the connection is closed in any case.
        with suppress(OSError):
            self._transport.write_eof()
            deadline, left = self._loop.time() + timeout, MAX_LINGER
            while left > 0 and (data := await self._receive(deadline)):
                left -= len(data)

    async def _wait_until_lost(self, timeout: float) -> None:
        # `asyncio.wait` would do the same with a second future, and with a further iteration of the loop.
        self._closing = self._loop.create_future()
        timer = self._loop.call_later(timeout, _wake, self._closing)
        try:
            await self._closing
        finally:
            timer.cancel()

    def reset_on_close(self) -> None:
        if self._is_lost:
            return  # the closed descriptor may already belong to another file

        reset_on_close(self._transport.get_extra_info("socket").fileno())

    def interrupt(self) -> None:
        self._interrupted = True
        _wake(self._reading)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def check_cancelled(self) -> None:
        if _is_being_cancelled():
            raise asyncio.CancelledError

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        call = _BlockingCall(self._loop)
        context = contextvars.copy_context()
        done = self._loop.run_in_executor(None, partial(context.run, call.run, function, *args))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so the session waits: the thread may still use the session's objects.
            call.cancel()
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # this retrieves the exception, which asyncio would log otherwise
            raise

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        call: _BlockingCall | None = getattr(_thread, "call", None)
        if call is None:
            raise RuntimeError(NOT_IN_A_THREAD)

        return call.run_async(function, *args)


_thread = threading.local()
"""`call` is the `_BlockingCall` of the current thread."""


class _BlockingCall:
    """A function that runs in a thread for a session, and may call coroutine functions in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled = False

    # In the thread

    def run(self, function: Callable[..., T], /, *args: Any) -> T:
        _thread.call = self
        try:
            return function(*args)
        finally:
            del _thread.call

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(self._run_in_loop(function, *args), self._loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None  # not an Exception, so a handler does not treat it as a failure

    # In the event loop

    async def _run_in_loop(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        if self._cancelled:
            raise asyncio.CancelledError

        task = asyncio.current_task()
        assert task, "a coroutine runs in a task"
        self._tasks.add(task)
        try:
            return await function(*args)
        finally:
            self._tasks.discard(task)

    def cancel(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return bool(task and task.cancelling())


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future and not future.done():
        future.set_result(None)


def _lost(error: Exception | None) -> OSError:
    # A copy is raised, because the stream keeps `error`: a traceback in `error` would keep the frames of the session.
    return copy(error) if isinstance(error, OSError) else ConnectionResetError("the connection was lost")
