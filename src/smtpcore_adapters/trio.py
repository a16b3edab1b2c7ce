"""Run servers in trio."""

import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar, Unpack

import trio

from .client._client import Client
from .client._connecting import connected
from .client._options import ConnectOptions
from .server._acceptor import Acceptor, Server, announce, pause_after_accept_error
from .server._app import App
from .server._config import Options
from .server._listeners import Listener, accept_from, addresses_of, listening
from .streams._polled import Alarm, Framework, PolledStream
from .streams._stream import HAPPY_EYEBALLS, NOT_IN_A_THREAD, Address, Stream, address_of, unknown_hosts_as_os_errors

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
            await trio.lowlevel.wait_readable(source)
            try:
                stream = _TrioStream(_FRAMEWORK, *accept_from(source), alarm)
                sessions.start_soon(acceptor.session_for, stream, listener)
            except BlockingIOError:
                continue  # the client has given up already
            except OSError as exc:
                await trio.sleep(pause_after_accept_error(exc))

    with ExitStack() as doors:
        sockets = doors.enter_context(listening(acceptor.listeners))
        async with _ringing() as alarm, trio.open_nursery() as sessions:
            async with trio.open_nursery() as accepting:
                for each, listener in sockets:
                    accepting.start_soon(accept, each, listener)
                try:
                    yield Server(addresses_of(sockets))
                except Exception as exc:
                    failure = exc  # the nurseries would wrap it
                finally:
                    accepting.cancel_scope.cancel()

            doors.close()
            acceptor.drain()
            sessions.cancel_scope.deadline = trio.current_time() + grace

    if failure:
        raise failure


@asynccontextmanager
async def _ringing() -> AsyncIterator[Alarm]:
    alarm = Alarm(_FRAMEWORK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run)
        yield alarm
        nursery.cancel_scope.cancel()


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
            await trio.sleep_forever()

        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            announce(server, on_ready)
            await anext(signals)


def run(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve in an event loop of its own until SIGINT or SIGTERM: the blocking form of `serve`."""
    call = partial(serve, host=host, grace=grace, on_ready=on_ready, handle_signals=True, **options)
    trio.run(call, app, port)


async def open_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> Stream:
    """Connect to a server, or with `path` to the Unix socket there.

    A host with several addresses is tried at each of them (RFC 8305). `local_address` is the IP address to connect
    from. Raises `TimeoutError` after `timeout` seconds, and `OSError` if there is no connection to be had.
    """
    with _fail_after(timeout), unknown_hosts_as_os_errors(host):
        try:
            if path:
                stream = await trio.open_unix_socket(path)
            else:
                stream = await trio.open_tcp_stream(
                    host, port, happy_eyeballs_delay=HAPPY_EYEBALLS, local_address=local_address
                )
        except OSError as exc:
            if isinstance(exc.__cause__, ExceptionGroup):  # one for each address
                raise exc.__cause__.exceptions[0] from exc
            raise

    peer = address_of(stream.socket.getpeername())
    connection = socket.socket(fileno=stream.socket.detach())
    connection.setblocking(False)
    return _TrioStream(_FRAMEWORK, connection, peer)


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


class _TrioStream(PolledStream):
    __slots__ = ()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        result = await trio.to_thread.run_sync(partial(function, *args))
        await trio.lowlevel.checkpoint_if_cancelled()  # now, and not after what the session still does at once
        return result

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        try:
            trio.from_thread.check_cancelled()
        except RuntimeError as exc:
            raise RuntimeError(NOT_IN_A_THREAD) from exc

        return trio.from_thread.run(partial(function, *args))


@contextmanager
def _fail_after(timeout: float) -> Iterator[None]:
    with trio.move_on_after(timeout) as scope:
        yield

    if scope.cancelled_caught:
        raise TimeoutError


_FRAMEWORK = Framework(
    wait_readable=trio.lowlevel.wait_readable,
    wait_writable=trio.lowlevel.wait_writable,
    notify_closing=trio.lowlevel.notify_closing,
    closed_resource_error=trio.ClosedResourceError,
    checkpoint=trio.lowlevel.checkpoint,
    sleep_forever=trio.sleep_forever,
    current_time=trio.current_time,
    cancel_scope=trio.CancelScope,
    fail_after=_fail_after,
)
