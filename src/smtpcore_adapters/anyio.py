"""Run servers in anyio, and so in asyncio and in trio."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import zip_longest
from typing import Any, Literal, TypeVar, Unpack

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from .client._client import Client
from .client._connecting import connected
from .client._options import ConnectOptions
from .server._acceptor import Acceptor, Server, announce, pause_after_accept_error
from .server._app import App
from .server._config import Options
from .server._listeners import Listener, accept_from, addresses_of, listening
from .streams._polled import Alarm, Framework, PolledStream
from .streams._stream import (
    HAPPY_EYEBALLS,
    NOT_IN_A_THREAD,
    Address,
    Stream,
    address_of,
    family_of,
    send_at_once,
    unknown_hosts_as_os_errors,
)

T = TypeVar("T")


@asynccontextmanager
async def serving(
    app: App, port: int = 0, *, host: str | None = "127.0.0.1", grace: float = 30.0, **options: Unpack[Options]
) -> AsyncIterator[Server]:
    """Listen inside of an `async with` block, and yield the `Server`; port 0 picks a free one.

    At the end of the block no more connections are accepted, sessions are ended with a 421 at their next command, and
    those that are not over after `grace` seconds are cancelled. Where the block itself is cancelled, all sessions are,
    at once. See `Options` for the other parameters.

    Raises `OSError` if the address cannot be listened at.
    """
    acceptor = Acceptor(app, port, host, **options)
    failure: Exception | None = None

    async def accept(source: socket.socket, listener: Listener) -> None:
        while True:
            await anyio.wait_readable(source)
            try:
                stream = _AnyioStream(_FRAMEWORK, *accept_from(source), alarm)
                sessions.start_soon(acceptor.session_for, stream, listener)
            except BlockingIOError:
                continue  # the client has given up already
            except OSError as exc:
                await anyio.sleep(pause_after_accept_error(exc))

    with ExitStack() as doors:
        sockets = doors.enter_context(listening(acceptor.listeners))
        async with _ringing() as alarm, anyio.create_task_group() as sessions:
            async with anyio.create_task_group() as accepting:
                for each, listener in sockets:
                    accepting.start_soon(accept, each, listener)
                try:
                    yield Server(addresses_of(sockets))
                except Exception as exc:
                    failure = exc  # the task groups would wrap it
                finally:
                    accepting.cancel_scope.cancel()

            doors.close()
            acceptor.drain()
            sessions.cancel_scope.deadline = anyio.current_time() + grace

    if failure:
        raise failure


@asynccontextmanager
async def _ringing() -> AsyncIterator[Alarm]:
    alarm = Alarm(_FRAMEWORK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarm.run)
        yield alarm
        tasks.cancel_scope.cancel()


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
        if not handle_signals:
            announce(server, on_ready)
            await anyio.sleep_forever()

        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            announce(server, on_ready)
            await anext(signals)


def run(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
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

    return _AnyioStream(_FRAMEWORK, connection, address_of(connection.getpeername()))


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
        send_at_once(connection)
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


class _AnyioStream(PolledStream):
    # Not over anyio's own streams: over asyncio, these read ahead without limit.
    __slots__ = ()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        result = await anyio.to_thread.run_sync(partial(function, *args))
        await anyio.lowlevel.checkpoint_if_cancelled()  # now, and not after what the session still does at once
        return result

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        try:
            anyio.from_thread.check_cancelled()
        except RuntimeError as exc:
            raise RuntimeError(NOT_IN_A_THREAD) from exc

        return anyio.from_thread.run(partial(function, *args))


_FRAMEWORK = Framework(
    wait_readable=anyio.wait_readable,
    wait_writable=anyio.wait_writable,
    notify_closing=anyio.notify_closing,
    closed_resource_error=anyio.ClosedResourceError,
    checkpoint=anyio.lowlevel.checkpoint,
    sleep_forever=anyio.sleep_forever,
    current_time=anyio.current_time,
    cancel_scope=anyio.CancelScope,
    fail_after=anyio.fail_after,
)
