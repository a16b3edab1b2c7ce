"""Run servers in asyncio."""

# asyncio's own streams are not used: with them, a command behind STARTTLS is read after the handshake as if it had
# been encrypted, and a ClientHello may be swallowed before it. The protocol below reads two buffers ahead at most,
# so that a client waits for a slow handler. To stop reading whenever no one waits would cost two system calls for each
# command. What arrives behind the 220 to STARTTLS is read as TLS, whenever it arrives.

import asyncio
import concurrent.futures
import contextvars
import math
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, TypeVar, Unpack, cast

from .client._client import Client
from .client._connecting import connected
from .client._options import ConnectOptions
from .server._acceptor import Acceptor, Server, announce
from .server._app import App
from .server._config import Options
from .server._listeners import Listener, addresses_of, listening
from .streams._stream import (
    HAPPY_EYEBALLS,
    NOT_IN_A_THREAD,
    TURN,
    Address,
    Interrupted,
    Stream,
    address_of,
    family_of,
    is_readable,
    reset_on_close,
    unknown_hosts_as_os_errors,
)
from .streams._tls_codec import Encryption, read, shake_hands
from .tls._info import Tls

T = TypeVar("T")

_READ_SIZE = 131_072
_TASK = "SMTP session"


@asynccontextmanager
async def serving(
    app: App, port: int = 0, *, host: str | None = "127.0.0.1", grace: float = 30.0, **options: Unpack[Options]
) -> AsyncIterator[Server]:
    """Listen inside of an `async with` block, and yield the `Server`; port 0 picks a free one.

    At the end of the block no more connections are accepted, sessions are ended with a 421 at their next command, and
    those that are not over after `grace` seconds are cancelled. See `Options` for the other parameters.

    Raises `OSError` if the address cannot be listened at.
    """
    acceptor = Acceptor(app, port, host, **options)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    # Where data is read at once when there is some, one buffer will do for all; elsewhere it is read meanwhile.
    buffer = memoryview(bytearray(_READ_SIZE)) if os.name == "posix" else None
    discard = tasks.discard

    def session_for(listener: Listener, stream: _ProtocolStream) -> None:
        task = loop.create_task(acceptor.session_for(stream, listener), name=_TASK)
        tasks.add(task)
        task.add_done_callback(discard)

    try:
        with listening(acceptor.listeners) as sockets, ExitStack() as servers:
            for each, listener in sockets:
                make = partial(_ProtocolStream, loop, buffer, partial(session_for, listener))
                server = await _accept(each, make)
                servers.callback(server.close)

            yield Server(addresses_of(sockets))
    finally:
        acceptor.drain()
        await _finish(tasks, grace)


async def serve(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    handle_signals: bool = False,
    **options: Unpack[Options],
) -> None:
    """Serve until cancelled, or with `handle_signals` until SIGINT or SIGTERM, and shut down as `serving` does.

    `on_ready` is called with the address once the server listens there. Raises `OSError` if it cannot.
    """
    async with serving(app, port, host=host, grace=grace, **options) as server:
        stop = asyncio.Event()
        with _calling(stop.set) if handle_signals else nullcontext():
            announce(server, on_ready)
            await stop.wait()


def run(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve in an event loop of its own until SIGINT or SIGTERM: the blocking form of `serve`.

    `loop_factory` makes another loop than asyncio's own, such as `uvloop.new_event_loop`.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(app, port, host=host, grace=grace, on_ready=on_ready, handle_signals=True, **options))


async def open_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> Stream:
    """Connect to a server, or with `path` to the Unix socket there.

    A host with several addresses is tried at each of them (RFC 8305). `local_address` is the IP address to connect
    from. Raises `TimeoutError` after `timeout` seconds, and `OSError` if there is no connection to be had.
    """
    loop = asyncio.get_running_loop()
    make = partial(_ProtocolStream, loop, None)
    options: dict[str, Any] = {"family": family_of(local_address)}
    if local_address:
        options["local_addr"] = (local_address, 0)
    if isinstance(loop, asyncio.BaseEventLoop):  # others, such as uvloop, try one address after the other
        options["happy_eyeballs_delay"] = HAPPY_EYEBALLS

    with unknown_hosts_as_os_errors(host):
        async with asyncio.timeout(timeout):
            if path:
                _, stream = await loop.create_unix_connection(make, path)
            else:
                _, stream = await loop.create_connection(make, host, port, **options)

    return stream


@asynccontextmanager
async def connect(host: str, port: int, **options: Unpack[ConnectOptions]) -> AsyncIterator[Client]:
    """Connect to a server for the time of an `async with` block, and yield the `Client` that sends mail.

    See `ConnectOptions` for the other parameters. Raises:
        OSError: there is no connection, or it is lost; `ssl.SSLError` for a certificate that is not valid.
        TimeoutError: the server is too slow.
        Refused: it denies its service, TLS where that is required, or, as `AuthenticationRefused`, the authentication.
        smtpcore.RemoteProtocolError: what it says is no SMTP.
    """
    async with connected(open_stream, host, port, **options) as client:
        yield client


async def _accept(listener: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop) or listener.family != socket.AF_UNIX:
        return await loop.create_server(make, sock=listener)

    return await loop.create_unix_server(make, sock=listener)


@contextmanager
def _calling(function: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, function)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _finish(tasks: set[asyncio.Task[None]], grace: float) -> None:
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while tasks:  # those included that had been accepted, but not begun
                    await asyncio.wait(tasks)
    finally:
        pending = tuple(tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


class _ProtocolStream(asyncio.BufferedProtocol):
    """A `Stream` over an asyncio transport."""

    __slots__ = (
        "_attend",
        "_buffer",
        "_closer",
        "_deadline",
        "_encryption",
        "_ended",
        "_error",
        "_input",
        "_interrupted",
        "_is_lost",
        "_loop",
        "_paused",
        "_reader",
        "_timer",
        "_transport",
        "_turn_ends",
        "_writer",
        "local",
        "peer",
        "tls",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview | None,
        session_for: "Callable[[_ProtocolStream], object] | None" = None,
    ) -> None:
        self._loop = loop
        self._buffer = buffer or memoryview(bytearray(_READ_SIZE))
        self._attend = session_for
        self._input = b""
        self._paused = False
        """Whether more has arrived than anyone wants."""
        self._turn_ends = 0.0
        self._ended = False
        self._interrupted = False
        self._encryption: Encryption | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_lost = False
        self._closer: asyncio.Future[None] | None = None
        """Whoever waits for the loss."""
        self._error: Exception | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

        self.tls: Tls | None = None
        self.peer: Address | None = None
        self.local: Address | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = address_of(transport.get_extra_info("peername"))
        self.local = address_of(transport.get_extra_info("sockname"))
        if self._attend:
            self._attend(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        data = self._buffer[:count]
        self._input = self._input + bytes(data) if self._input else bytes(data)
        _wake(self._reader)
        if len(self._input) >= _READ_SIZE:
            self._transport.pause_reading()  # at once, for uvloop reads on as long as there is something
            self._paused = True

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return True  # the client may still be waiting for replies

    def pause_writing(self) -> None:
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writer)
        self._writer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._is_lost = True
        for future in (self._reader, self._writer, self._closer):
            _wake(future)

    # What the session calls

    def receive(self, timeout: float) -> Coroutine[Any, Any, bytes]:
        # No coroutine around a coroutine: an idle session costs what its frames do.
        receive = partial(self._receive, self._loop.time() + timeout)
        return read(self._encryption, receive) if self._encryption else receive()

    async def _receive(self, deadline: float, *, interruptible: bool = True) -> bytes:
        while not (self._input or self._ended) or (interruptible and self._interrupted):
            if interruptible and self._interrupted:
                self._interrupted = False
                raise Interrupted

            self._reader = self._wait_for_input(deadline)
            try:
                await self._reader
            finally:
                self._reader = None
                self._turn_ends = self._loop.time() + TURN

        return self._take()

    def _take(self) -> bytes:
        if self._error and not self._input:
            raise _lost(self._error)

        data, self._input = self._input, b""
        return data

    def _wait_for_input(self, deadline: float) -> "asyncio.Future[None]":
        self._set_deadline(deadline)
        if self._paused:
            self._transport.resume_reading()
            self._paused = False

        return self._loop.create_future()

    def _set_deadline(self, deadline: float) -> None:
        # There is one timer, and it is made anew when it has gone off: most deadlines are moved before that.
        self._deadline = deadline
        if self._timer and self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = None
        if not self._timer and deadline < math.inf:
            self._timer = self._loop.call_at(deadline, self._go_off)

    def _go_off(self) -> None:
        self._timer = None
        if not self._reader or self._reader.done():
            return
        if self._loop.time() < self._deadline:
            self._set_deadline(self._deadline)
        else:
            self._reader.set_exception(TimeoutError("the client was silent for too long"))

    async def send(self, data: bytes, timeout: float) -> None:
        if self._encryption:
            self._encryption.write(data)
            data = self._encryption.data_to_send()
        if self._is_lost:
            raise _lost(self._error)

        self._transport.write(data)
        if self._writer:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._writer)
        elif self._transport.is_closing() or self._loop.time() > self._turn_ends:
            # The transport tells of a failure later; and a client who pipelines lets others have their turn.
            await asyncio.sleep(0)
            self._turn_ends = self._loop.time() + TURN

        if self._is_lost:
            raise _lost(self._error)

    async def _write(self, data: bytes) -> None:
        if not self._is_lost:
            self._transport.write(data)

    def has_input(self) -> bool:
        if self._input or self._ended or (self._encryption and self._encryption.has_input):
            return True

        return is_readable(self._transport.get_extra_info("socket").fileno())

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        self._encryption = encryption = Encryption(context, server_name)
        receive = partial(self._receive, self._loop.time() + timeout, interruptible=False)
        await shake_hands(encryption, receive, self._write)
        self.tls = encryption.describe()

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout and not self._is_lost:
                await self._linger(timeout)
        finally:
            if self._timer:
                self._timer.cancel()

            self._transport.close()
            if timeout and not self._is_lost:
                self._closer = self._loop.create_future()
                await asyncio.wait([self._closer], timeout=timeout)

            self._transport.abort()

    async def _linger(self, timeout: float) -> None:
        if self._encryption:
            self._encryption.close()
            self._transport.write(self._encryption.data_to_send())
            self._encryption = None

        self._interrupted = False
        self._input = b""
        try:
            self._transport.write_eof()
            async with asyncio.timeout(timeout):
                while await self.receive(timeout):
                    pass
        except OSError:
            pass  # either way the connection is closed now

    def reset_on_close(self) -> None:
        reset_on_close(self._transport.get_extra_info("socket").fileno())

    def interrupt(self) -> None:
        self._interrupted = True
        _wake(self._reader)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        call = _BlockingCall(self._loop)
        context = contextvars.copy_context()
        done = self._loop.run_in_executor(None, partial(context.run, call.run, function, *args))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so what it uses must not be taken from it.
            call.cancel()
            while not done.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # which else would be logged as one that no one has asked for
            raise

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        call: _BlockingCall | None = getattr(_thread, "call", None)
        if call is None:
            raise RuntimeError(NOT_IN_A_THREAD)

        return call.run_async(function, *args)


_thread = threading.local()


class _BlockingCall:
    """What runs in a thread for a session, and may want something of the event loop."""

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
            return asyncio.run_coroutine_threadsafe(self._attend(function, *args), self._loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None  # which a handler does not take for a failure

    # In the event loop

    async def _attend(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        if self._cancelled:
            raise asyncio.CancelledError

        task = asyncio.current_task()
        assert task, "a coroutine is run by a task"
        self._tasks.add(task)
        try:
            return await function(*args)
        finally:
            self._tasks.discard(task)

    def cancel(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel()


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future and not future.done():
        future.set_result(None)


def _lost(error: Exception | None) -> OSError:
    return error if isinstance(error, OSError) else ConnectionResetError("the connection is lost")
