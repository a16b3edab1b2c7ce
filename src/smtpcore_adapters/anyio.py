"""Run servers in anyio, and so in asyncio and in trio."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext
from typing import Any, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from ._app import App
from ._lobby import Lobby, Options, Server, pause_after_accept_error
from ._stream import Address, Interrupted, Tls, address_of, describe_tls

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
    listeners = multilistener.listeners
    emptied = anyio.Event()

    async def attend(stream: SocketStream) -> None:
        await lobby.attend(_AnyioStream(stream))
        if lobby.draining and not len(lobby):
            emptied.set()

    async def accept(listener: Listener[SocketStream]) -> None:
        while True:
            try:
                sessions.start_soon(attend, await listener.accept())
            except (OSError, anyio.BrokenResourceError) as exc:
                await anyio.sleep(pause_after_accept_error(exc))

    async with anyio.create_task_group() as sessions:
        try:
            async with multilistener, anyio.create_task_group() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept, listener)

                yield Server(tuple(map(_local_address, listeners)))
                accepting.cancel_scope.cancel()
        finally:
            lobby.drain()
            with anyio.move_on_after(grace, shield=True):
                if len(lobby):
                    await emptied.wait()

            sessions.cancel_scope.cancel()


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
            async for _ in signals:
                break


def _announce(server: Server, on_ready: Callable[[Address], None] | None) -> None:
    if on_ready:
        on_ready(server.address)


def _local_address(listener: Listener[SocketStream]) -> Address:
    address = address_of(listener.extra(SocketAttribute.local_address))
    assert address, "a TCP listener has an address"
    return address


class _AnyioStream:
    """A `Stream` over an anyio socket stream."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream: ByteStream = stream
        self._interrupted = False
        self._receiving: anyio.CancelScope | None = None

        self.tls: Tls | None = None
        self.peer = address_of(stream.extra(SocketAttribute.remote_address, None))
        self.local = address_of(stream.extra(SocketAttribute.local_address, None))

    async def receive(self, timeout: float) -> bytes:
        if self._interrupted:
            raise Interrupted

        with anyio.move_on_after(timeout) as self._receiving:
            return await self._receive()

        if self._interrupted:
            raise Interrupted

        raise TimeoutError("the client was silent for too long")

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive(_READ_SIZE)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise ConnectionResetError("the connection is lost") from exc

    async def send(self, data: bytes, timeout: float) -> None:
        try:
            with anyio.fail_after(timeout):
                await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise ConnectionResetError("the connection is lost") from exc

    async def start_tls(self, context: SSLContext, timeout: float) -> None:
        try:
            with anyio.fail_after(timeout):
                stream = await TLSStream.wrap(self._stream, server_side=True, ssl_context=context)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise ConnectionResetError("the connection was lost during the TLS handshake") from exc

        self._stream = stream
        self.tls = describe_tls(stream.extra(TLSAttribute.ssl_object))

    async def aclose(self, timeout: float) -> None:
        try:
            with anyio.move_on_after(timeout):
                await self._linger()
        finally:
            await anyio.aclose_forcefully(self._stream)

    async def _linger(self) -> None:
        try:
            if isinstance(self._stream, TLSStream):
                await self._stream.unwrap()
            else:
                await self._stream.send_eof()
                while await self._stream.receive(_READ_SIZE):
                    pass
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # either way the connection is closed now

    def interrupt(self) -> None:
        self._interrupted = True
        if self._receiving:
            self._receiving.cancel()

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return await anyio.to_thread.run_sync(partial(function, *args))
