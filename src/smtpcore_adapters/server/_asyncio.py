"""The parts of a server on asyncio: accepting connections, signals, and the end of the sessions."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from ..streams._asyncio import AsyncioStream
from ..streams._framework import Framework
from ..streams._scoped import ScopedStream
from ..streams._stream import Address
from ..streams._wakeup import LONGEST_WAIT
from ._acceptor import pause_after_accept_error
from ._listeners import accept_from, prepare_accepted
from ._signals import STOP_SIGNALS, check_main_thread, handling_signals

_ACCEPT_AT_ONCE = 64  # maximum connections to accept before the event loop runs other callbacks


class Accepting:
    """Accepts the connections of one listening socket."""

    # asyncio's own server (`create_server`) is not used: it reduces the backlog of the socket to 100. When the file
    # descriptors have run out, it logs a traceback for each place in the backlog.

    def __init__(
        self,
        source: socket.socket,
        new_stream: Callable[[asyncio.AbstractEventLoop, socket.socket, Address | None], AsyncioStream],
        start: Callable[[AsyncioStream], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._new_stream = new_stream
        self._start = start
        self._pause: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None
        try:
            self._resume()
        except NotImplementedError:  # the default loop of Windows has no `add_reader`
            self._waiting = self._loop.create_task(self._accept(), name="SMTP listener")

    def _resume(self) -> None:
        self._loop.add_reader(self._source, self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                self._begin(*accept_from(self._source))
            except BlockingIOError:
                return
            except OSError as exc:
                if seconds := pause_after_accept_error(exc):
                    self._loop.remove_reader(self._source)
                    self._pause = self._loop.call_later(seconds, self._resume)
                    return

    async def _accept(self) -> None:
        while True:
            try:
                self._begin(*prepare_accepted(*await self._loop.sock_accept(self._source)))
            except OSError as exc:
                await asyncio.sleep(pause_after_accept_error(exc))

    def _begin(self, connection: socket.socket, peer: Address | None) -> None:
        try:
            stream = self._new_stream(self._loop, connection, peer)
        except OSError:
            connection.close()
            raise

        self._start(stream)

    async def close(self) -> None:
        """Stop accepting. The caller closes the socket afterwards."""
        if self._waiting:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
            return

        self._loop.remove_reader(self._source)
        if self._pause:
            self._pause.cancel()


async def accept_streams(framework: Framework, source: socket.socket, start: Callable[[AsyncioStream], object]) -> None:
    """Accept connections for a server on anyio, until cancelled. `start` is called in this task."""
    # A task group of anyio can start tasks only in a task: in a callback anyio does not find its event loop.
    accepted: list[AsyncioStream] = []
    arrived = asyncio.Event()

    def keep(stream: AsyncioStream) -> None:
        accepted.append(stream)
        arrived.set()

    accepting = Accepting(source, partial(ScopedStream, framework), keep)
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            while accepted:
                start(accepted.pop(0))
    finally:
        for stream in accepted:
            start(stream)
        await accepting.close()


@contextmanager
def calling_on_signals(function: Callable[[], None]) -> Iterator[None]:
    check_main_thread()
    loop = asyncio.get_running_loop()
    try:
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, function)
    except NotImplementedError:  # the loops of Windows
        with handling_signals(lambda: loop.call_soon_threadsafe(function)), _waking(loop):
            yield
        return

    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let no wait of the loop inside the block take longer than `LONGEST_WAIT`, so that signals are handled."""
    timer: asyncio.TimerHandle | None = None

    def wake() -> None:
        nonlocal timer
        timer = loop.call_later(LONGEST_WAIT, wake)

    wake()
    try:
        yield
    finally:
        assert timer, "wake was called"
        timer.cancel()


async def finish(tasks: set[asyncio.Task[None]], grace: float) -> None:
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while tasks:  # a connection that was already accepted may start its task during the wait
                    await asyncio.wait(tasks)
    finally:
        pending = tuple(tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
