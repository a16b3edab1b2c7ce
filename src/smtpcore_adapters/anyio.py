"""Run servers in anyio, and so in asyncio and in trio."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import zip_longest
from ssl import SSLContext
from typing import Any, Literal, TypeVar, Unpack

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ByteStream, SocketAttribute, SocketListener
from anyio.streams.tls import TLSAttribute, TLSStream

from ._app import App
from ._lobby import Lobby, Options, Server, pause_after_accept_error
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

_READ_SIZE = 65_536


@asynccontextmanager
async def serving(
    app: App, port: int = 0, *, host: str = "127.0.0.1", grace: float = 30.0, **options: Unpack[Options]
) -> AsyncIterator[Server]:
    """Listen inside of an `async with` block, and yield the `Server`; port 0 picks a free one.

    At the end of the block no more connections are accepted, sessions are ended with a 421 at their next command, and
    those that are not over after `grace` seconds are cancelled. Where the block itself is cancelled, all sessions are,
    at once. See `Options` for the other parameters.

    Raises `OSError` if the address cannot be listened at.
    """
    lobby = Lobby(app, **options)
    multilistener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    listeners = [each for each in multilistener.listeners if isinstance(each, SocketListener)]
    failure: Exception | None = None

    async def attend(connection: _Socket) -> None:
        await lobby.attend(_AnyioStream(connection))

    async def accept(listener: socket.socket) -> None:
        while True:
            await anyio.wait_readable(listener)
            try:
                sessions.start_soon(attend, _accept(listener))
            except BlockingIOError:
                continue  # the client has given up already
            except OSError as exc:
                await anyio.sleep(pause_after_accept_error(exc))

    async with anyio.create_task_group() as sessions:
        async with multilistener, anyio.create_task_group() as accepting:
            for listener in listeners:
                accepting.start_soon(accept, listener.extra(SocketAttribute.raw_socket))
            try:
                yield Server(tuple(map(_local_address, listeners)))
            except Exception as exc:
                failure = exc  # the task groups would wrap it
            finally:
                accepting.cancel_scope.cancel()

        lobby.drain()
        sessions.cancel_scope.deadline = anyio.current_time() + grace

    if failure:
        raise failure


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
        if not handle_signals:
            _announce(server, on_ready)
            await anyio.sleep_forever()

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            _announce(server, on_ready)
            await anext(signals)


def run(
    app: App,
    port: int,
    *,
    host: str = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **options: Unpack[Options],
) -> None:
    """Serve in an event loop of its own until SIGINT or SIGTERM: the blocking form of `serve`."""
    call = partial(serve, host=host, grace=grace, on_ready=on_ready, handle_signals=True, **options)
    anyio.run(call, app, port, backend=backend)


async def open_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> Stream:
    """Connect to a server, or with `path` to the Unix socket there.

    A host with several addresses is tried at each of them (RFC 8305). `local_address` is the IP address to connect
    from. Raises `TimeoutError` after `timeout` seconds, and `OSError` if there is no connection to be had.
    """
    with anyio.fail_after(timeout):
        if path:
            connection = await _connect(socket.AF_UNIX, path, None)
        else:
            with unknown_hosts_as_os_errors(host):
                found = await anyio.getaddrinfo(host, port, family=family_of(local_address), type=socket.SOCK_STREAM)
            connection = await _connect_to_any([(each[0], each[4]) for each in found], local_address)

    return _AnyioStream(_Socket(connection, address_of(connection.getpeername())))


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


async def _connect_to_any(addresses: list[tuple[int, Any]], local_address: str | None) -> socket.socket:
    connections: list[socket.socket] = []
    failures: list[OSError] = []

    async def attempt(family: int, address: object, failed: anyio.Event) -> None:
        try:
            connections.append(await _connect(family, address, local_address))
            attempts.cancel_scope.cancel()
        except OSError as exc:
            failures.append(exc)
            failed.set()

    try:
        async with anyio.create_task_group() as attempts:
            for family, address in _interleaved(addresses):
                failed = anyio.Event()
                attempts.start_soon(attempt, family, address, failed)
                with anyio.move_on_after(HAPPY_EYEBALLS):
                    await failed.wait()

        if not connections:
            raise failures[0]

        return connections.pop(0)
    finally:
        for unused in connections:
            unused.close()


def _interleaved(addresses: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    # RFC 8305 section 4: the families take turns, so that one that leads nowhere delays the other but once.
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(first, others) for each in pair if each]


async def _connect(family: int, address: Any, local_address: str | None) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        if family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if local_address:
            connection.bind((local_address, 0))

        with suppress(BlockingIOError):
            connection.connect(address)
        await anyio.wait_writable(connection)
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        connection.close()
        raise

    return connection


def _accept(listener: socket.socket) -> "_Socket":
    connection, name = listener.accept()
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Socket(connection, address_of(name))
    except OSError:
        connection.close()
        raise


def _announce(server: Server, on_ready: Callable[[Address], None] | None) -> None:
    if on_ready:
        on_ready(server.address)


def _local_address(listener: SocketListener) -> Address:
    address = address_of(listener.extra(SocketAttribute.local_address))
    assert address, "a TCP listener has an address"
    return address


class _Socket(ByteStream):
    """A TCP connection that is read on demand only: over asyncio, anyio's own streams read ahead without limit."""

    def __init__(self, connection: socket.socket, peer: Address | None) -> None:
        self._socket = connection
        self.peer = peer
        self.local = address_of(connection.getsockname())

    async def receive(self, max_bytes: int = _READ_SIZE) -> bytes:
        while True:
            await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(max_bytes)
            except BlockingIOError:
                continue

            if not data:
                raise anyio.EndOfStream

            return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        view = memoryview(item)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    def fileno(self) -> int:
        return self._socket.fileno()

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._socket.close()


class _AnyioStream:
    """A `Stream` over a socket."""

    def __init__(self, connection: _Socket) -> None:
        self._socket = connection
        self._encrypted: TLSStream | None = None
        self._interrupted = False
        self._receiving = anyio.CancelScope()

        self.tls: Tls | None = None
        self.peer = connection.peer
        self.local = connection.local

    @property
    def _stream(self) -> ByteStream:
        return self._encrypted or self._socket

    async def receive(self, timeout: float) -> bytes:
        if self._interrupted:
            raise Interrupted

        with _losses_as_os_errors(), anyio.move_on_after(timeout) as self._receiving:
            try:
                return await self._stream.receive(_READ_SIZE)
            except anyio.EndOfStream:
                return b""

        if self._interrupted:
            raise Interrupted

        raise TimeoutError("the client was silent for too long")

    async def send(self, data: bytes, timeout: float) -> None:
        with _losses_as_os_errors(), anyio.fail_after(timeout):
            await self._stream.send(data)

    def has_input(self) -> bool:
        return is_readable(self._socket.fileno())

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        with _losses_as_os_errors(), anyio.fail_after(timeout):
            self._encrypted = await TLSStream.wrap(
                self._socket,
                server_side=server_name is None,
                hostname=server_name or None,
                ssl_context=context,
                standard_compatible=False,  # the end of data is marked by SMTP itself: TLS need not
            )

        self.tls = describe_tls(self._encrypted.extra(TLSAttribute.ssl_object))

    async def aclose(self, timeout: float) -> None:
        try:
            with anyio.move_on_after(timeout):
                await self._linger()
        finally:
            await anyio.aclose_forcefully(self._socket)

    async def _linger(self) -> None:
        # What fails here fails on a connection that is closed either way.
        if self._encrypted:
            with suppress(OSError), _losses_as_os_errors():
                await self._encrypted.unwrap()

        with suppress(OSError), _losses_as_os_errors():
            await self._socket.send_eof()
            while True:
                await self._socket.receive()

    def interrupt(self) -> None:
        self._interrupted = True
        self._receiving.cancel()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return await anyio.to_thread.run_sync(partial(function, *args))


@contextmanager
def _losses_as_os_errors() -> Iterator[None]:
    try:
        yield
    except (anyio.EndOfStream, anyio.BrokenResourceError) as exc:
        raise ConnectionResetError("the connection is lost") from exc
