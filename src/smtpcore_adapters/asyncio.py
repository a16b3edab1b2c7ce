"""Run servers in asyncio."""

# asyncio's own streams are not used: with them, a command behind STARTTLS is read after the handshake as if it had
# been encrypted, and a ClientHello may be swallowed before it. The protocol below reads while someone waits in
# `receive`, and at no other time; what arrives with the same read is kept, and refuses a TLS handshake.

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, TypeVar, Unpack, cast

from ._app import App
from ._lobby import Lobby, Options, Server
from ._mailer import Client, ConnectOptions, connected
from ._stream import (
    HAPPY_EYEBALLS,
    Address,
    Interrupted,
    Stream,
    Tls,
    address_of,
    describe_tls,
    family_of,
    is_readable,
    unknown_hosts_as_os_errors,
)

T = TypeVar("T")


@asynccontextmanager
async def serving(
    app: App, port: int = 0, *, host: str = "127.0.0.1", grace: float = 30.0, **options: Unpack[Options]
) -> AsyncIterator[Server]:
    """Listen inside of an `async with` block, and yield the `Server`; port 0 picks a free one.

    At the end of the block no more connections are accepted, sessions are ended with a 421 at their next command, and
    those that are not over after `grace` seconds are cancelled. See `Options` for the other parameters.

    Raises `OSError` if the address cannot be listened at.
    """
    lobby = Lobby(app, **options)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def attend(stream: _ProtocolStream) -> None:
        task = loop.create_task(lobby.attend(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await loop.create_server(partial(_ProtocolStream, loop, attend), host, port)
    try:
        yield Server(tuple(Address(*socket.getsockname()[:2]) for socket in listener.sockets))
    finally:
        listener.close()
        lobby.drain()
        await _finish(tasks, grace)


async def serve(
    app: App,
    port: int,
    *,
    host: str = "127.0.0.1",
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
            if on_ready:
                on_ready(server.address)

            await stop.wait()


def run(
    app: App,
    port: int,
    *,
    host: str = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve in an event loop of its own until SIGINT or SIGTERM: the blocking form of `serve`."""
    asyncio.run(serve(app, port, host=host, grace=grace, on_ready=on_ready, handle_signals=True, **options))


async def open_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> Stream:
    """Connect to a server, or with `path` to the Unix socket there.

    A host with several addresses is tried at each of them (RFC 8305). `local_address` is the IP address to connect
    from. Raises `TimeoutError` after `timeout` seconds, and `OSError` if there is no connection to be had.
    """
    loop = asyncio.get_running_loop()
    make = partial(_ProtocolStream, loop, lambda stream: None)
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


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, such as one that sends mail, in an event loop of its own, and return what it returns."""
    return asyncio.run(coroutine)


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


class _ProtocolStream(asyncio.Protocol):
    """A `Stream` over an asyncio transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop, attend: "Callable[[_ProtocolStream], None]") -> None:
        self._loop = loop
        self._attend = attend
        self._input = bytearray()
        self._ended = False
        self._interrupted = False
        self._in_handshake = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._lost = loop.create_future()
        self._error: Exception | None = None

        self.tls: Tls | None = None
        self.peer: Address | None = None
        self.local: Address | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self.peer = address_of(transport.get_extra_info("peername"))
        self.local = address_of(transport.get_extra_info("sockname"))
        self._attend(self)

    def data_received(self, data: bytes) -> None:
        self._input += data
        _wake(self._reader)
        # The last octets of a TLS handshake may come with the first ones behind it: the transport that would be paused
        # then is the one under TLS, for good.
        if not self._in_handshake:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        # The client may still be waiting for replies. Under TLS there is no half of a connection.
        return self.tls is None

    def pause_writing(self) -> None:
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._writer)
        self._writer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        for future in (self._reader, self._writer, self._lost):
            _wake(future)

    # What the session calls

    async def receive(self, timeout: float) -> bytes:
        if not (self._input or self._ended or self._interrupted):
            self._reader = self._loop.create_future()
            self._transport.resume_reading()
            try:
                async with asyncio.timeout(timeout):
                    await self._reader
            finally:
                self._reader = None
                self._transport.pause_reading()

        if self._interrupted:
            raise Interrupted
        if self._error and not self._input:
            raise _lost(self._error)

        data = bytes(self._input)
        self._input.clear()
        return data

    async def send(self, data: bytes, timeout: float) -> None:
        if self._lost.done():
            raise _lost(self._error)

        self._transport.write(data)
        if self._writer:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._writer)
        else:
            await asyncio.sleep(0)  # so that a client who pipelines lets others have their turn

        if self._lost.done():
            raise _lost(self._error)

    def has_input(self) -> bool:
        if self._input or self._ended:
            return True

        return is_readable(self._transport.get_extra_info("socket").fileno())

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        if self._input:
            raise ConnectionAbortedError("plaintext was sent before TLS")

        self._in_handshake = True
        try:
            async with asyncio.timeout(timeout):
                transport = await self._loop.start_tls(
                    self._transport,
                    self,
                    context,
                    server_side=server_name is None,
                    server_hostname=server_name or None,
                    ssl_handshake_timeout=timeout,
                )
        finally:
            self._in_handshake = False

        if transport is None:
            raise ConnectionResetError("the connection was lost during the TLS handshake")

        self._transport = transport
        self._transport.pause_reading()
        self.tls = describe_tls(transport.get_extra_info("ssl_object"))

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout and not self._lost.done():
                await self._linger(timeout)
        finally:
            self._transport.close()
            if timeout and not self._lost.done():
                await asyncio.wait([self._lost], timeout=timeout)

            self._transport.abort()

    async def _linger(self, timeout: float) -> None:
        self._interrupted = False
        self._input.clear()
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()

            async with asyncio.timeout(timeout):
                while await self.receive(timeout):
                    pass
        except OSError:
            pass  # either way the connection is closed now

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
        call = self._loop.run_in_executor(None, partial(function, *args))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so what it uses must not be taken from it.
            while not call.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([call])
            raise


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future and not future.done():
        future.set_result(None)


def _lost(error: Exception | None) -> OSError:
    return error if isinstance(error, OSError) else ConnectionResetError("the connection is lost")
