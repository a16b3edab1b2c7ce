"""Run several processes, and keep them running."""

# The parent only waits: it serves no one, runs no event loop and starts no thread, so that it can fork at any time. A
# signal is an octet that arrives, like the death of a process, at the one place where it waits.

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from typing import TypeAlias

from ._listeners import Listener, listening

Work: TypeAlias = Callable[[Callable[[], None]], None]
"""What a process does until SIGTERM, in its main thread; it calls its argument when it is ready.

SIGHUP, which asks it to read its files again, is ignored unless it handles it.
"""

MIN_DELAY = 0.1
MAX_DELAY = 30.0  # seconds until one that died is replaced; twice as many each time
SETTLED = 1.0  # seconds after which a process has proved that it can live

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

logger = logging.getLogger("smtpcore")

_context = get_context("fork")


@dataclass(slots=True)
class _Place:
    """What a process is there for. There is always one, or one is due."""

    work: Work
    process: ForkProcess | None = None
    started: float = 0.0
    delay: float = 0.0
    due: float = 0.0


class Supervisor:
    """Forks a process for each of `works`, and forks another where one dies.

    SIGTERM and SIGINT are passed on as SIGTERM, and when all have ended, `run` returns; the second one kills them at
    once. SIGHUP is passed on. Should this process be killed, the others get a SIGTERM. `on_ready` is called when each
    has been ready once, `on_death` with the process id of each that has died, and `on_stop` before they are told to
    end.

    A process that fails before it is ready for the first time would fail again: then all are ended, and `run` raises
    `ChildProcessError`.
    """

    def __init__(
        self,
        works: Sequence[Work],
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_death: Callable[[int], None] = lambda pid: None,
        on_stop: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = [_Place(work) for work in works]
        self._on_ready = on_ready
        self._on_death = on_death
        self._on_stop = on_stop
        self._clock = clock
        self._waiting_for = set(range(len(works)))
        """Places whose process has not been ready yet."""
        self._stopping = False
        self._failed = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. To be called in the main thread, before any other is started."""
        with _signals() as signals, _pair() as (ready, self._tell_ready), _pipe() as (self._life, self._life_end):
            try:
                while self._places and not (self._stopping and not self._living):
                    self._start_due()
                    self._wait(signals, ready)
            finally:
                for process in self._living:
                    process.kill()
                    process.join()

        if self._failed:
            raise ChildProcessError("a worker failed before it was ready")

    @property
    def _living(self) -> list[ForkProcess]:
        return [place.process for place in self._places if place.process]

    # Starting

    def _start_due(self) -> None:
        now = self._clock()
        for number, place in enumerate(self._places):
            if not (self._stopping or place.process) and place.due <= now:
                place.process = _context.Process(target=self._child, args=(number, place.work))
                place.started = now
                with _signals_blocked():
                    place.process.start()

    def _child(self, number: int, work: Work) -> None:
        # Not in the group of the terminal: a Ctrl-C there is for the parent to pass on.
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN if each is signal.SIGHUP else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

        os.close(self._life_end)
        threading.Thread(target=_end_with_parent, args=(self._life,), daemon=True).start()

        def ready() -> None:
            self._tell_ready.send(bytes([number]))

        work(ready)

    # Waiting

    def _wait(self, signals: socket.socket, ready: socket.socket) -> None:
        sentinels = [process.sentinel for process in self._living]
        for each in wait([signals, ready, *sentinels], self._until_due()):
            if each is signals:
                for number in signals.recv(64):
                    self._hear(signal.Signals(number))
            elif each is ready:
                self._note_ready(set(ready.recv(64)))

        self._bury()

    def _until_due(self) -> float | None:
        dues = [place.due for place in self._places if not (self._stopping or place.process)]
        return max(0.0, min(dues) - self._clock()) if dues else None

    def _note_ready(self, numbers: set[int]) -> None:
        if self._waiting_for:
            self._waiting_for -= numbers
            if not self._waiting_for:
                self._on_ready()

    def _hear(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            self._send(signal.SIGHUP)
        elif self._stopping:
            self._send(signal.SIGKILL)
        else:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._on_stop()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._living:
            if process.exitcode is None:  # else its number may be that of another by now
                assert process.pid, "it was started"
                os.kill(process.pid, number)

    def _bury(self) -> None:
        for number, place in enumerate(self._places):
            process = place.process
            if process is None or process.exitcode is None:
                continue

            place.process = None
            self._on_death(process.pid or 0)
            if not self._stopping:
                self._replace(number, place, process.pid, process.exitcode)
            process.close()

    def _replace(self, number: int, place: _Place, pid: int | None, exitcode: int) -> None:
        logger.error("worker %s ended with %s", pid, _cause(exitcode))
        if exitcode > 0 and number in self._waiting_for:
            self._failed = True
            self._stop()
            return

        now = self._clock()
        settled = now - place.started >= SETTLED
        place.delay = MIN_DELAY if settled else min(max(2 * place.delay, MIN_DELAY), MAX_DELAY)
        place.due = now + place.delay


def _cause(exitcode: int) -> str:
    return f"status {exitcode}" if exitcode >= 0 else signal.Signals(-exitcode).name


def _end_with_parent(life: int) -> None:
    # No one ever writes to this pipe. Its end comes when the parent is gone, however that happened.
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket at which the numbers of signals arrive."""
    with _pair() as (receiver, sender):
        sender.setblocking(False)
        before = {number: signal.signal(number, lambda number, frame: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(sender.fileno())
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    # Else one that is for the child could be written to the parent's socket, which the child has inherited.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def port_for_many(listener: Listener) -> Iterator[tuple[Listener, ...]]:
    """Take a port in this process, and yield where each of several others has to listen.

    Where the system can share a port, each opens a socket of its own there, which spreads the connections evenly, and
    is gone with its process: no connection waits for one that died. Else they share a socket, which is open here too
    until the block ends. Raises `OSError` if no one can listen there.
    """
    with ExitStack() as stack:
        if not hasattr(socket, "SO_REUSEPORT"):
            opened = stack.enter_context(listening([listener]))
            yield tuple(Listener(bound=each) for each, _ in opened)
            return

        with listening([listener]) as opened:  # so that a port that is taken is an error
            names = [(each.family, each.getsockname()) for each, _ in opened]
        for family, name in names:
            # Bound, but not listening: it keeps the port, and gets no connections.
            keeper = stack.enter_context(socket.socket(family))
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            keeper.bind(name)

        yield tuple(replace(listener, host=name[0], port=name[1], reuse_port=True) for _, name in names)
