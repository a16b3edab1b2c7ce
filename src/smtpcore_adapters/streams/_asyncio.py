"""The stream of asyncio: connections, the socket in the event loop, and the bridge to handlers in threads."""

# asyncio's own streams (`StreamReader`, `StreamWriter.start_tls`) are not used. With them, a command that the client
# sent together with STARTTLS is executed after the handshake as if it had been encrypted, and a ClientHello that
# arrives early can be lost. The stream below passes everything that arrives after the 220 to TLS.
#
# Transports are not used either: making one takes two iterations of the event loop, and its attributes take more memory
# than the stream. The stream uses its socket directly. The socket stays registered for reading between two waits,
# because each change of the registration costs a system call. Reading is paused when much input waits for the session,
# so a client has to wait for a slow session.

import asyncio
import concurrent.futures
import contextvars
import math
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from functools import partial
from ssl import SSLContext
from time import monotonic
from typing import Any, TypeVar

from ..tls._info import Tls
from ._connector import begin_connecting, check_connected, connect_to_path, interleaved, new_socket, prepare_given
from ._stream import (
    HAPPY_EYEBALLS,
    MAX_LINGER,
    NOT_IN_A_THREAD,
    TURN,
    Address,
    Interrupted,
    Stream,
    family_of,
    is_readable,
    reset_on_close,
    shared_address_of,
    unknown_hosts_as_os_errors,
)
from ._tls_codec import Encryption, read, read_arrived, shake_hands

T = TypeVar("T")

_READ_SIZE = 16_384
LARGE_READ_SIZE = 131_072
"""Maximum octets of input that wait, and of the next read if a read of `_READ_SIZE` has filled its buffer."""
_ITERATIONS = 3
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
    if sock:
        return AsyncioStream(loop, sock, prepare_given(sock))

    async with asyncio.timeout(timeout):
        if path:
            return AsyncioStream(loop, *connect_to_path(path))

        with unknown_hosts_as_os_errors(host):
            resolve = partial(socket.getaddrinfo, family=family_of(local_address), type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(None, resolve, host, port)
        with ExitStack() as on_error:
            connection = await _connect_to_any(loop, [(each[0], each[4]) for each in found], local_address)
            on_error.callback(connection.close)
            stream = AsyncioStream(loop, connection, prepare_given(connection))
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


class AsyncioStream:
    """A `Stream` over a non-blocking socket that stays registered with the event loop."""

    __slots__ = (
        "_deadline",
        "_encryption",
        "_ended",
        "_error",
        "_input",
        "_interrupted",
        "_is_reading",
        "_loop",
        "_read_size",
        "_reader",
        "_reading",
        "_socket",
        "_timer",
        "_turn_ends",
        "_writing",
        "local",
        "peer",
        "tls",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, peer: Address | None) -> None:
        self._loop = loop
        self._socket = connection
        self._input = b""
        self._read_size = _READ_SIZE
        self._ended = False
        self._error: OSError | None = None
        self._interrupted = False
        self._encryption: Encryption | None = None
        self._reading: asyncio.Future[None] | None = None
        """Done when the pending `receive` has to continue."""
        self._writing: asyncio.Future[None] | None = None
        """Done when the socket accepts more output; None if no task waits for this."""
        self._reader: asyncio.Task[None] | None = None
        """The task that reads, on a loop that cannot report when a socket is readable."""
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._turn_ends = monotonic() + TURN

        self.tls: Tls | None = None
        self.peer = peer
        self.local = shared_address_of(connection.getsockname())
        self._resume_reading()

    # Callbacks of the event loop

    def _on_readable(self) -> bool:
        """Take input from the socket, and return whether there was any."""
        size = min(self._read_size, LARGE_READ_SIZE - len(self._input))
        try:
            data = self._socket.recv(size)
        except BlockingIOError:
            return False
        except OSError as exc:
            self._lose(exc)
            return False

        self._read_size = LARGE_READ_SIZE if len(data) == size else _READ_SIZE
        self._take(data)
        return True

    def _on_readable_once(self) -> None:
        # After an error of the socket, uvloop calls this method once, even if data came before the error.
        while self._is_reading and self._on_readable():
            pass

    def _take(self, data: bytes) -> None:
        if data:
            self._input = self._input + data if self._input else data
        else:
            self._ended = True
        if not data or len(self._input) >= LARGE_READ_SIZE:
            self._pause_reading()
        _wake(self._reading)

    def _lose(self, error: OSError) -> None:
        self._error = error.with_traceback(None)  # the traceback would keep the frame with this stream
        self._take(b"")

    def _resume_reading(self) -> None:
        self._is_reading = True
        try:
            on_readable = self._on_readable if isinstance(self._loop, asyncio.BaseEventLoop) else self._on_readable_once
            self._loop.add_reader(self._socket.fileno(), on_readable)
        except NotImplementedError:  # the default loop of Windows has no `add_reader`
            self._reader = self._loop.create_task(self._read(), name="SMTP input")

    def _pause_reading(self) -> None:
        self._is_reading = False
        if self._reader is None:
            self._loop.remove_reader(self._socket.fileno())

    async def _read(self) -> None:
        while self._is_reading:
            try:
                self._take(await self._loop.sock_recv(self._socket, LARGE_READ_SIZE - len(self._input)))
            except OSError as exc:
                self._lose(exc)

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
            if not self._is_reading:
                self._resume_reading()

            self._reading = self._loop.create_future()
            try:
                await self._reading
            finally:
                self._reading = None
                self._turn_ends = monotonic() + TURN

        if self._error and not self._input:
            raise copy(self._error)  # a traceback in `_error` would keep the frames of the session

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
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0

        if sent < len(data):
            await self._send(timeout, memoryview(data)[sent:])
        elif monotonic() > self._turn_ends:
            # Let the event loop run, so that a client that pipelines cannot block other sessions.
            await asyncio.sleep(0)
            self._turn_ends = monotonic() + TURN

    async def _send(self, timeout: float, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if not (view := view[self._send_some(view) :]):
            return

        async with asyncio.timeout(timeout):
            while view:
                try:
                    await self._wait_until_writable()
                except NotImplementedError:  # the default loop of Windows has no `add_writer`
                    await self._loop.sock_sendall(self._socket, view)
                    return
                view = view[self._send_some(view) :]

    def _send_some(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def _wait_until_writable(self) -> None:
        writing = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _wake, writing)
        self._writing = writing
        try:
            await writing
        finally:
            self._writing = None
            if self._socket.fileno() >= 0:  # otherwise `aclose` has removed the writer
                self._loop.remove_writer(self._socket.fileno())

    def has_input(self) -> bool:
        return bool(self._encryption and self._encryption.has_input) or self._has_arrived()

    def _has_arrived(self) -> bool:
        return bool(self._input) or self._ended or is_readable(self._socket.fileno())

    async def receive_arrived(self) -> bytes | None:
        return await read_arrived(self._encryption, self._receive_arrived)

    async def _receive_arrived(self) -> bytes | None:
        if self._reader:
            # The pending `sock_recv` takes input from the socket as it arrives. The loop has to run up to three times:
            # to find the input, to end the call, and to continue the task.
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
        self.tls = await shake_hands(self._encryption, receive, partial(self._send, timeout))

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout:
                # An error here needs no report: the connection is closed in any case.
                with suppress(OSError):
                    await self._linger(timeout)
        finally:
            self._close()

    async def _linger(self, timeout: float) -> None:
        deadline = self._loop.time() + timeout
        if self._encryption:
            await self._send(timeout, self._encryption.close())

        self._interrupted = False
        self._input = b""
        self._socket.shutdown(socket.SHUT_WR)
        left = MAX_LINGER
        while left > 0 and (data := await self._receive(deadline)):
            left -= len(data)

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._is_reading:
            self._pause_reading()
        if self._reader:
            self._reader.cancel()
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())

        self._socket.close()
        self._ended = True
        _wake(self._reading)
        _wake(self._writing)

    def reset_on_close(self) -> None:
        reset_on_close(self._socket)

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
