"""Servers and clients on asyncio, with any event loop for asyncio, such as uvloop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Unpack

from ._adapter import Adapter, documented_as
from .client import _pool
from .client._client import Client
from .client._connecting import connected
from .client._options import ConnectOptions
from .client._results import SendResult
from .client._sending import OneCallOptions, send_over
from .client._sources import Body
from .server._acceptor import Acceptor, OnReady, OnStop, Server, announce, seconds_to_drain
from .server._app import App
from .server._asyncio import Accepting, calling_on_signals, finish
from .server._background import BackgroundThread, RunningServer
from .server._config import Options
from .server._listeners import Listener, addresses_of, listening
from .streams._asyncio import AsyncioStream
from .streams._asyncio import open_stream as _open_stream
from .streams._stream import HowToConnect, Stream

__all__ = ["BackgroundServer", "Pool", "connect", "open_stream", "run", "send", "serve", "serving", "start"]

_TASK_NAME = "SMTP session"


@asynccontextmanager
@documented_as(Adapter.serving)
async def serving(app: App[Any], port: int = 0, **options: Unpack[Options]) -> AsyncIterator[Server]:
    """Serve on asyncio inside an `async with` block."""
    acceptor = Acceptor(app, port, **options)
    loop = asyncio.get_running_loop()
    host = asyncio.current_task()
    assert host, "a coroutine runs in a task"
    tasks: set[asyncio.Task[None]] = set()
    discard = tasks.discard
    context = copy_context()  # without it, each task would copy the context for `discard`

    def start_session(listener: Listener, stream: AsyncioStream) -> None:
        task = loop.create_task(acceptor.session_for(stream, listener), name=_TASK_NAME)
        tasks.add(task)
        task.add_done_callback(discard, context=context)

    try:
        async with AsyncExitStack() as accepting:
            sockets = accepting.enter_context(listening(acceptor.listeners))
            for each, listener in sockets:
                accepting.push_async_callback(Accepting(each, AsyncioStream, partial(start_session, listener)).close)

            acceptor.on_exit = host.cancel
            try:
                yield Server(addresses_of(sockets))
            finally:
                acceptor.on_exit = lambda: None
                if acceptor.exit:
                    host.uncancel()
    finally:
        acceptor.drain()
        await finish(tasks, acceptor.grace)
        if acceptor.exit:
            raise acceptor.exit


@documented_as(Adapter.serve)
async def serve(
    app: App[Any],
    port: int = 0,
    *,
    on_ready: OnReady = None,
    on_stop: OnStop = None,
    handle_signals: bool = False,
    **options: Unpack[Options],
) -> None:
    """Serve on asyncio until cancelled or, with `handle_signals`, until SIGINT or SIGTERM."""
    async with serving(app, port, **options) as server:
        signalled = asyncio.Event()
        with calling_on_signals(signalled.set) if handle_signals else nullcontext():
            announce(server, on_ready)
            await signalled.wait()
            signalled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds_to_drain(on_stop)):
                    await signalled.wait()


@documented_as(Adapter.serve, without="handle_signals")
def run(
    app: App[Any],
    port: int = 0,
    *,
    on_ready: OnReady = None,
    on_stop: OnStop = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve until SIGINT or SIGTERM, in a new event loop of `loop_factory`, for example uvloop.new_event_loop."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(app, port, on_ready=on_ready, on_stop=on_stop, handle_signals=True, **options))


@documented_as(Adapter.start, without="tasks")
async def start(app: App[Any], port: int = 0, **options: Unpack[Options]) -> RunningServer:
    """Start a server as a task of the running event loop, and return when the server listens.

    `server = await start(app, port)` starts it, and `await server.stop()` stops it, from any task.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[RunningServer] = loop.create_future()

    async def run_until_stopped() -> None:
        stop, stopped = asyncio.Event(), asyncio.Event()
        try:
            async with serving(app, port, **options) as server:
                ready.set_result(RunningServer(server, stop, stopped))
                await stop.wait()
        finally:
            stopped.set()

    task = loop.create_task(run_until_stopped(), name="SMTP server")
    _servers.add(task)
    task.add_done_callback(_servers.discard)
    waiting: list[asyncio.Future[Any]] = [task, ready]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        task.result()

    return ready.result()


_servers: set[asyncio.Task[None]] = set()  # the event loop itself has only weak references to tasks


class BackgroundServer(BackgroundThread):
    """A server in an event loop and a thread of its own: `with BackgroundServer(app, 2525) as server:`.

    All handlers are called in this one thread, except those with `blocking=True`. `loop_factory` makes the event loop,
    for example `uvloop.new_event_loop`. The other arguments are those of `serving`.
    """

    def __init__(
        self,
        app: App[Any],
        port: int = 0,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(app, port, **options)
        self._loop_factory = loop_factory

    def _serve(self, on_ready: Callable[[Server, Callable[[], object]], None]) -> None:
        async def main() -> None:
            async with serving(self._app, self._port, **self._options) as server:
                stop = asyncio.Event()
                on_ready(server, partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set))
                await stop.wait()

        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(main())


@documented_as(Adapter.open_stream)
async def open_stream(host: str, port: int, timeout: float, **how: Unpack[HowToConnect]) -> Stream:
    """Connect to a server on asyncio, and return the byte stream."""
    return await _open_stream(host, port, timeout, **how)


@documented_as(Adapter.connect)
def connect(host: str, port: int, **options: Unpack[ConnectOptions]) -> AbstractAsyncContextManager[Client]:
    """Connect to a server on asyncio for an `async with` block, which gets the `Client` that sends mail."""
    return connected(open_stream, host, port, **options)


@documented_as(Adapter.send)
async def send(message: Body, *, host: str, port: int = 25, **options: Unpack[OneCallOptions]) -> SendResult:
    """Connect to a server on asyncio, send one message, and disconnect. Return the reply for each recipient."""
    return await send_over(open_stream, message, host, port, options)


class Pool(_pool.Pool):
    """A pool of connections on asyncio."""

    _open_stream = staticmethod(open_stream)
    _new_event = staticmethod(asyncio.Event)
    _current_loop = staticmethod(asyncio.get_running_loop)
