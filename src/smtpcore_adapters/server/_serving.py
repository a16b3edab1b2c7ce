"""The servers of anyio and trio: accept connections, and run each session in a task of its own."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Unpack

from ..streams._framework import Framework
from ..streams._polled import PolledStream, TimeoutQueue
from ..streams._stream import Stream
from ..streams._wakeup import LONGEST_WAIT
from ._acceptor import Acceptor, OnReady, OnStop, Server, announce, pause_after_accept_error, seconds_to_drain
from ._app import App
from ._config import Options
from ._listeners import Listener, accept_from, addresses_of, listening
from ._signals import STOP_SIGNALS, check_main_thread, handling_signals


@asynccontextmanager
async def serving_on(
    framework: Framework, app: App[Any], port: int = 0, **options: Unpack[Options]
) -> AsyncIterator[Server]:
    """Serve inside an `async with` block: the `serving` of an adapter."""
    acceptor = Acceptor(app, port, **options)
    failure: BaseException | None = None

    def start_session(listener: Listener, stream: Stream) -> None:
        sessions.start_soon(acceptor.session_for, stream, listener)

    async def accept(source: socket.socket, start: Callable[[Stream], object]) -> None:
        while True:
            await framework.wait_readable(source)
            try:
                start(PolledStream(framework, *accept_from(source), timeouts))
            except BlockingIOError:
                continue  # the client has closed the connection already
            except OSError as exc:
                await framework.sleep(pause_after_accept_error(exc))

    with ExitStack() as stack:
        sockets = stack.enter_context(listening(acceptor.listeners))
        async with _running_timeouts(framework) as timeouts, framework.task_group() as sessions:
            async with framework.task_group() as accepting:
                acceptor.on_exit = accepting.cancel_scope.cancel  # this cancel also ends the caller's block
                for each, listener in sockets:
                    accepting.start_soon(
                        framework.own_accept(framework) or accept, each, partial(start_session, listener)
                    )
                try:
                    yield Server(addresses_of(sockets))
                except Exception as exc:
                    failure = exc  # raised below: a task group would wrap the exception in a group
                finally:
                    accepting.cancel_scope.cancel()

            stack.close()  # new connections are refused from here on
            acceptor.drain()
            sessions.cancel_scope.deadline = framework.current_time() + acceptor.grace

    failure = acceptor.exit or failure
    if failure:
        raise failure


@asynccontextmanager
async def _running_timeouts(framework: Framework) -> AsyncIterator[TimeoutQueue]:
    timeouts = TimeoutQueue(framework)
    async with framework.task_group() as tasks:
        tasks.start_soon(timeouts.run)
        yield timeouts
        tasks.cancel_scope.cancel()


async def serve_on(
    framework: Framework,
    app: App[Any],
    port: int = 0,
    *,
    on_ready: OnReady = None,
    on_stop: OnStop = None,
    handle_signals: bool = False,
    **options: Unpack[Options],
) -> None:
    """Serve until cancelled or, with `handle_signals`, until a signal: the `serve` of an adapter."""
    async with serving_on(framework, app, port, **options) as server:
        if not handle_signals:
            announce(server, on_ready)
            await framework.sleep_forever()

        with ExitStack() as stack:
            wait_for_signal = _receive_signals(framework, stack)
            announce(server, on_ready)
            await wait_for_signal()
            with framework.cancel_scope(deadline=framework.current_time() + seconds_to_drain(on_stop)):
                await wait_for_signal()


def _receive_signals(framework: Framework, stack: ExitStack) -> Callable[[], Awaitable[object]]:
    """Handle signals until `stack` is closed, and return a function that waits for one of them."""
    check_main_thread()
    try:
        signals = stack.enter_context(framework.open_signal_receiver(*STOP_SIGNALS))
        return partial(anext, signals)
    except NotImplementedError:  # the loops of asyncio on Windows
        received: list[None] = []
        stack.enter_context(handling_signals(partial(received.append, None)))

    async def wait() -> None:
        while not received:
            await framework.sleep(LONGEST_WAIT)  # a signal does not end the wait of such a loop
        received.clear()

    return wait
