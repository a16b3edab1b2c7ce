"""A clock that a test moves forward, for servers and clients over real sockets: no test waits until a timeout expires.

    clock = Clock()
    with running(backend, App(), clock=clock) as server, server.connect() as client:
        client.expect(220)
        clock.advance(301)
        client.expect(421)

    with clock.skipping_waits(), pytest.raises(TimeoutError):
        run_in(backend, connect_to_a_silent_host, clock=clock)

The clock runs as fast as the real clock, and `advance` lets it jump. `Clock` replaces the clock of the event loop and
of the sessions. In threads, `Clock` replaces the clock of the streams.
"""

import asyncio
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeVarTuple
from unittest import mock
from weakref import WeakKeyDictionary

import trio
import trio.testing
from anyio.from_thread import BlockingPortal

import smtpcore_adapters.asyncio
import smtpcore_adapters.client._connecting
import smtpcore_adapters.server._serving
import smtpcore_adapters.socket
import smtpcore_adapters.streams._blocking
import smtpcore_adapters.streams._socket_stream
from smtpcore_adapters import Address, App, Listener, Stream
from smtpcore_adapters.client._driver import ClientDriver
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.streams._blocking import BlockingStream

Ts = TypeVarTuple("Ts")

_PATIENCE: Final = 10.0
"""Seconds of real time after which sessions count as hanging."""
_MOST: Final = 100
"""Jumps of a clock that skips waits."""
_ITERATIONS: Final = 10
"""Iterations of an event loop in which no task runs before the loop counts as idle: callbacks may follow each other."""


class Clock(trio.abc.Clock):
    """A clock that a test moves forward, to be given to one server, or to one client."""

    def __init__(self) -> None:
        self._jumped = 0.0
        self._portal: BlockingPortal | None = None
        self._is_over = False
        """Whether the event loop is ending. A jump would let its wait for threads time out."""
        self._threads: dict[threading.Thread, BlockingStream] = {}
        """The threads of sessions and clients, with their streams."""
        self._begun = 0
        self.expected = 0
        """The number of connections that the server or client has to begin before the clock may jump."""
        self.calls = 0
        """The number of pending calls of an event loop."""
        self._lock = threading.Lock()
        self.after_jump: Callable[[], None] = lambda: None
        """Called in the event loop after a jump."""

    def __call__(self) -> float:
        return time.monotonic() + self._jumped

    # The clock of trio

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self()

    # Jumps

    def advance(self, seconds: float) -> None:
        """Wait until all sessions wait for their peers or for a time, and move the clock forward."""
        end = time.monotonic() + _PATIENCE
        while self._begun < self.expected or not self._jump_if_idle(seconds):
            assert time.monotonic() < end, "the sessions neither begin nor wait"
            time.sleep(0.001)

    def advance_until(self, over: threading.Event, seconds: float) -> None:
        """Move the clock forward by `seconds`, repeatedly, until `over` is set: for clients that send a large body.

        One jump may not suffice. The buffers of the system may grow after it, and each piece of the body that they then
        take has a timeout of its own.
        """
        self.advance(seconds)
        end = time.monotonic() + _PATIENCE
        while not over.wait(0.01):
            assert time.monotonic() < end, "the session does not end"
            self._jump_if_idle(seconds)

    @contextmanager
    def skipping_waits(self, seconds: float = 0.05) -> Iterator[None]:
        """Let the clock jump as often as everything waits, inside the block: for peers that never send anything.

        The clock jumps `_MOST` times at most, so that a wait for the system, such as for a name, does not time out.
        """
        over = threading.Event()

        def jump() -> None:
            jumps = 0
            while not over.wait(0.001) and jumps < _MOST:
                jumps += self._portal is not None and self._jump_if_idle(seconds)

        def wait_or_jump(readers: Sequence[Any], writers: Sequence[Any], timeout: float) -> None:
            if not any(select.select(readers, writers, [], 0)):
                self._jumped += timeout

        jumping = threading.Thread(target=jump)
        jumping.start()
        streams = smtpcore_adapters.streams
        with (
            mock.patch.object(streams._blocking, "wait_for_any", wait_or_jump),
            mock.patch.object(streams._socket_stream, "time", SimpleNamespace(monotonic=self)),
        ):
            self.expected = self._begun - 1  # a client that does not connect never begins
            yield
        over.set()
        jumping.join()

    def _jump_if_idle(self, seconds: float) -> bool:
        with self._lock:
            if self._is_over:
                return True
            portal = self._portal
            self.calls += 1
        try:
            if portal:
                return portal.call(self._jump_if_blocked, seconds)
        finally:
            self.calls -= 1
        if not all(_is_idle(thread, stream) for thread, stream in tuple(self._threads.items())):
            return False

        self._jumped += seconds
        for stream in tuple(self._threads.values()):
            stream._wakeup.set()
        return True

    async def _jump_if_blocked(self, seconds: float) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with trio.move_on_after(_PATIENCE) as scope:
                await trio.testing.wait_all_tasks_blocked()
            if scope.cancelled_caught:
                return False
            self._jumped += seconds
            return True

        for _ in range(_ITERATIONS):
            await asyncio.sleep(0)
            if not all(map(_is_blocked, asyncio.all_tasks() - {asyncio.current_task()})):
                return False

        self._jumped += seconds
        self.after_jump()
        return True

    # Event loops

    def backend_options(self, backend: str) -> dict[str, Any]:
        """Return the options with which anyio runs an event loop that uses this clock."""
        if backend.endswith("trio"):
            return {"clock": self}
        if backend == "asyncio-uvloop":
            return {"loop_factory": partial(_uv_loop, self)}
        return {"loop_factory": partial(_Loop, self)}

    @contextmanager
    def attached_to(self, portal: BlockingPortal) -> Iterator[None]:
        """Move the clock in the event loop of `portal` inside the block."""
        self._portal, self._is_over = portal, False
        try:
            yield
        finally:
            with self._lock:
                self._portal, self._is_over = None, True

    # Servers and clients

    async def run_session(self, stream: Stream, session: Coroutine[Any, Any, None]) -> None:
        """Run a session of a server with this clock."""
        self._begun += 1
        with self.used_by(stream):
            await session

    @contextmanager
    def used_by(self, stream: Stream) -> Iterator[None]:
        """Let the calling thread take part in jumps inside the block, if it waits with a `BlockingStream`."""
        thread = threading.current_thread()
        if isinstance(stream, BlockingStream):
            self._threads[thread] = stream
        try:
            yield
        finally:
            self._threads.pop(thread, None)

    @contextmanager
    def of_clients(self) -> Iterator[None]:
        """Give this clock to all clients that the calling thread opens inside the block."""

        def new_stream(connection: socket.socket, peer: Address | None) -> BlockingStream:
            stream = BlockingStream(connection, peer, self)
            self._threads[threading.current_thread()] = stream
            return stream

        def new_driver(*args: Any, **options: Any) -> ClientDriver:
            self._begun += 1
            return ClientDriver(*args, clock=self, **options)

        self.expected += 1
        blocking, connecting = smtpcore_adapters.streams._blocking, smtpcore_adapters.client._connecting
        with (
            mock.patch.object(blocking, "BlockingStream", new_stream),
            mock.patch.object(connecting, "ClientDriver", new_driver),
        ):
            yield
        self._threads.clear()


def _is_idle(thread: threading.Thread, stream: BlockingStream) -> bool:
    """Return whether a session in a thread has read all input, can send no more, and waits."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None or frame.f_code.co_name != "wait_for_any":
        return stream._socket.fileno() < 0
    try:
        readers, writers = ([stream._socket] * (stream._socket in frame.f_locals[of]) for of in ("readers", "writers"))
        if any(select.select(readers, writers, [], 0)):
            return False
    except ValueError:
        return True  # the stream is closed
    # This check comes last: a thread that still waits could neither receive nor send before.
    return sys._current_frames()[thread.ident or 0] is frame


def _is_blocked(task: "asyncio.Task[Any]") -> bool:
    waiter = task._fut_waiter  # type: ignore[attr-defined]
    return waiter is not None and not waiter.done()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def time(self) -> float:
        return self._clock()


def _uv_loop(clock: Clock) -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop with timers of its own: the clock of uvloop cannot be replaced."""
    import uvloop

    class UvLoop(uvloop.Loop):
        def __init__(self) -> None:
            super().__init__()
            self.timers: dict[asyncio.TimerHandle, asyncio.TimerHandle] = {}

        def time(self) -> float:
            return clock()

        def call_later(
            self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> asyncio.TimerHandle:
            return self.call_at(self.time() + delay, callback, *args, context=context)

        def call_at(
            self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
        ) -> asyncio.TimerHandle:
            handle = asyncio.TimerHandle(when, callback, args, self, context)
            self.timers[handle] = super().call_later(max(when - self.time(), 0), self._fire, handle)
            return handle

        def _fire(self, handle: asyncio.TimerHandle) -> None:
            if self.timers.pop(handle, None):
                handle._run()

        def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
            if timer := self.timers.pop(handle, None):
                timer.cancel()

        def fire_due_timers(self) -> None:
            for handle in sorted(self.timers):
                if handle.when() <= self.time():
                    self.call_soon(self._fire, handle)

    loop = UvLoop()
    clock.after_jump = loop.fire_due_timers
    return loop


CLOCKS: Final[WeakKeyDictionary[App, Clock]] = WeakKeyDictionary()
"""The clocks of servers, by their `App`."""


class _TimedAcceptor(Acceptor):
    """An acceptor whose server may have a clock of its own."""

    def __init__(self, app: App, port: int = 0, *, descriptors: int = 1, **options: Any) -> None:
        super().__init__(app, port, descriptors=descriptors, **options)
        self._own_clock = CLOCKS.get(app)
        if self._own_clock:
            self.clock = self._own_clock

    def session_for(self, stream: Stream, listener: Listener | None = None) -> Coroutine[Any, Any, None]:
        session = super().session_for(stream, listener)
        return self._own_clock.run_session(stream, session) if self._own_clock else session


for _module in (smtpcore_adapters.asyncio, smtpcore_adapters.server._serving, smtpcore_adapters.socket):
    setattr(_module, "Acceptor", _TimedAcceptor)  # noqa: B010 - no module offers `Acceptor`
