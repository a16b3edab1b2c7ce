"""The parts of a server on asyncio: accepting connections, signals, and the end of the sessions."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ._acceptor import pause_after_accept_error
from ._listeners import BACKLOG, accept_from

_ACCEPT_AT_ONCE = 64  # maximum connections to accept before the event loop runs other callbacks


class _Accepting:
    """Accepts the connections of one listening socket."""

    # asyncio's own server (`create_server`) is not used: it reduces the backlog of the socket to 100. When the file
    # descriptors have run out, it logs a traceback for each place in the backlog.

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], asyncio.BaseProtocol],
        source: socket.socket,
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._loop = loop
        self._make = make
        self._source = source
        self._start = start
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def _resume(self) -> None:
        self._loop.add_reader(self._source, self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _ = accept_from(self._source)
            except BlockingIOError:
                return
            except OSError as exc:
                if seconds := pause_after_accept_error(exc):
                    self._loop.remove_reader(self._source)
                    self._pause = self._loop.call_later(seconds, self._resume)
                    return
            else:
                self._start(self._connect(connection))

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError as exc:
            connection.close()
            pause_after_accept_error(exc)

    def close(self) -> None:
        self._loop.remove_reader(self._source)
        if self._pause:
            self._pause.cancel()


async def start_accepting(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], asyncio.BaseProtocol],
    source: socket.socket,
    start: Callable[[Coroutine[Any, Any, None]], None],
) -> "_Accepting | asyncio.AbstractServer":
    try:
        return _Accepting(loop, make, source, start)
    except NotImplementedError:  # the default loop of Windows has no `add_reader`
        return await loop.create_server(make, sock=source, backlog=BACKLOG)


@contextmanager
def calling_on_signals(function: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, function)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


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
