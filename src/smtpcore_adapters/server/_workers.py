"""Run several worker processes, and replace those that die."""

# The parent process only waits: it serves no clients, runs no event loop and starts no thread, so that it can fork at
# any time. The parent process waits in one place, `Supervisor._wait`, for the death of a worker, for a worker that
# reports that it is ready, and for signals, each of which arrives as a byte on a socket (`signal.set_wakeup_fd`).

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from typing import TypeAlias

from ._listeners import Listener, listening

Work: TypeAlias = Callable[[Callable[[], None]], None]
"""The function of a worker, which runs in its main thread until SIGTERM, and calls its argument when it is ready.

SIGHUP, a request to read files again, is ignored unless the function installs a handler for it.
"""

MIN_DELAY = 0.1  # seconds until a dead worker is replaced
MAX_DELAY = 30.0  # the delay doubles with each further death, up to this maximum
SETTLED = 1.0  # after this many seconds of running, the delay is MIN_DELAY again

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

logger = logging.getLogger("smtpcore")

_context = get_context("fork")


@dataclass(slots=True)
class _Slot:
    """A worker: the process that runs, or the time at which its next process starts."""

    work: Work
    process: ForkProcess | None = None
    started: float = 0.0
    delay: float = 0.0
    due: float = 0.0
    is_reader: bool = False
    """Whether the worker stops only after all other workers have ended."""


class Supervisor:
    """Forks a worker process for each of `works`, and replaces workers that die.

    After SIGTERM or SIGINT, all workers get a SIGTERM, and `run` returns when they have ended; a second signal kills
    them. SIGHUP is passed on to the workers. If this process is killed, the workers get a SIGTERM.

    If a worker fails before it was ready for the first time, its successor would fail too. Then all workers are
    stopped, and `run` raises `ChildProcessError`.

    Args:
        works: One function for each worker.
        readers: Functions of further workers, which stop after all others have ended, such as a server of metrics.
        on_ready: Called when every worker has been ready once, unless they are stopping already.
        on_death: Called with the number and the process id of each worker that has ended. The number is the place in
            `works`, and then in `readers`.
        on_stop: Called before the workers are stopped, or after `drain_delay`.
        drain_delay: Seconds for which workers that were ready continue after a signal to stop; a further signal ends
            this time. The workers get the signal at once, and wait by themselves.
        on_drain: Called before the workers get the signal, if there is a `drain_delay`.
        reloading: Returns a context in which SIGHUP is passed on to the workers.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        works: Sequence[Work],
        *,
        readers: Sequence[Work] = (),
        on_ready: Callable[[], None] = lambda: None,
        on_death: Callable[[int, int], None] = lambda number, pid: None,
        on_stop: Callable[[], None] = lambda: None,
        drain_delay: float = 0.0,
        on_drain: Callable[[], None] = lambda: None,
        reloading: Callable[[], AbstractContextManager[None]] = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = [_Slot(work) for work in works] + [_Slot(work, is_reader=True) for work in readers]
        self._on_ready = on_ready
        self._on_death = on_death
        self._on_stop = on_stop
        self._drain_delay = drain_delay
        self._on_drain = on_drain
        self._reloading = reloading
        self._clock = clock
        self._starting = set(range(len(self._slots)))
        """Numbers of the slots whose process has not been ready yet."""
        self._stopping = False
        self._stop_at: float | None = None
        """The end of the delay after a signal to stop; None before and after the delay."""
        self._failed = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. Has to be called in the main thread, before any other thread is started."""
        with _signals() as signals, _pair() as (ready, ready_sender), _pipe() as (life, life_end):
            try:
                while self._slots and not (self._stopping and not self._living):
                    self._start_due(ready_sender, life, life_end)
                    self._wait(signals, ready)
            finally:
                for process in self._living:
                    process.kill()
                    process.join()

        if self._failed:
            raise ChildProcessError("a worker failed before it was ready")

    @property
    def _living(self) -> list[ForkProcess]:
        return [slot.process for slot in self._slots if slot.process]

    # Starting

    def _start_due(self, ready: socket.socket, life: int, life_end: int) -> None:
        now = self._clock()
        for number, slot in enumerate(self._slots):
            if not (self._stopping or slot.process) and slot.due <= now:
                slot.process = _context.Process(target=_run_worker, args=(slot.work, number, ready, life, life_end))
                slot.started = now
                with _signals_blocked():
                    slot.process.start()

    # Waiting

    def _wait(self, signals: socket.socket, ready: socket.socket) -> None:
        sentinels = [process.sentinel for process in self._living]
        for each in wait([signals, ready, *sentinels], self._until_due()):
            if each is signals:
                for number in signals.recv(64):
                    self._handle_signal(signal.Signals(number))
            elif each is ready:
                self._note_ready(set(ready.recv(64)))

        self._reap()
        if self._stop_at is not None and self._clock() >= self._stop_at:
            self._end_delay()
        if self._stopping:
            self._stop_readers()

    def _until_due(self) -> float | None:
        dues = [slot.due for slot in self._slots if not (self._stopping or slot.process)]
        if self._stop_at is not None:
            dues.append(self._stop_at)
        return max(0.0, min(dues) - self._clock()) if dues else None

    def _note_ready(self, numbers: set[int]) -> None:
        if self._starting:
            self._starting -= numbers
            if not (self._starting or self._stopping):
                self._on_ready()

    def _handle_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            with self._reloading():
                self._send(signal.SIGHUP)
        elif self._stop_at is not None:
            self._end_delay()
            self._send(signal.SIGTERM, to_readers=False)
        elif self._stopping:
            self._send(signal.SIGKILL)
        else:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        if self._drain_delay and not self._starting:
            self._on_drain()
            self._stop_at = self._clock() + self._drain_delay
        else:
            self._on_stop()
        self._send(signal.SIGTERM, to_readers=False)

    def _end_delay(self) -> None:
        self._stop_at = None
        self._on_stop()

    def _stop_readers(self) -> None:
        if all(slot.is_reader for slot in self._slots if slot.process):
            self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals, *, to_readers: bool = True) -> None:
        for process in [slot.process for slot in self._slots if slot.process and (to_readers or not slot.is_reader)]:
            if process.exitcode is None:  # the process id of a dead worker may belong to another process by now
                assert process.pid, "the process was started"
                os.kill(process.pid, number)

    def _reap(self) -> None:
        for number, slot in enumerate(self._slots):
            process = slot.process
            if process is None or process.exitcode is None:
                continue

            slot.process = None
            self._on_death(number, process.pid or 0)
            if not self._stopping:
                self._replace(number, slot, process.pid, process.exitcode)
            process.close()

    def _replace(self, number: int, slot: _Slot, pid: int | None, exitcode: int) -> None:
        logger.error("worker %s ended with %s", pid, _cause(exitcode))
        if exitcode > 0 and number in self._starting:
            self._failed = True
            self._stop()
            return

        now = self._clock()
        settled = now - slot.started >= SETTLED
        slot.delay = MIN_DELAY if settled else min(max(2 * slot.delay, MIN_DELAY), MAX_DELAY)
        slot.due = now + slot.delay


def _run_worker(work: Work, number: int, ready: socket.socket, life: int, life_end: int) -> None:
    # In a process group of its own, the worker gets no SIGINT of a Ctrl-C: the parent stops the workers.
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN if each is signal.SIGHUP else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    os.close(life_end)
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()

    def report_ready() -> None:
        ready.send(bytes([number]))

    work(report_ready)


def _cause(exitcode: int) -> str:
    return f"status {exitcode}" if exitcode >= 0 else signal.Signals(-exitcode).name


def _end_with_parent(life: int) -> None:
    # Nothing is written to this pipe. The read returns when the parent has ended, for any reason.
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Handle signals, and yield a socket that receives their numbers."""
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
    # A new child still has the parent's handlers, and would write a signal for itself to the parent's socket.
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
def sockets_for_many(listeners: Iterable[Listener], *, shared: bool = False) -> Iterator[tuple[Listener, ...]]:
    """Reserve the ports and paths of `listeners` in this process, and yield the listeners for each of several workers.

    With SO_REUSEPORT of Linux, each worker opens a socket of its own for a port. This spreads the connections evenly,
    and no connection waits in the queue of a dead worker. Unix sockets and bound sockets, and every socket of another
    system, are shared by the workers, and are also open in this process until the block ends. With `shared`, every
    socket is shared, so that workers need no right to listen. Raises `OSError` if a port or path cannot be listened on.
    """
    with ExitStack() as stack:
        yield tuple(each for listener in listeners for each in _for_many(listener, stack, shared=shared))


def spreads_connections() -> bool:
    """Return whether the system spreads the connections to a port over the sockets that listen on the port.

    macOS has SO_REUSEPORT too, but gives all connections to one of the sockets.
    """
    return sys.platform in _SPREADING and hasattr(socket, "SO_REUSEPORT")


_SPREADING = frozenset({"linux", "android"})


def _for_many(listener: Listener, stack: ExitStack, *, shared: bool) -> Iterator[Listener]:
    if shared or listener.path or listener.bound or not spreads_connections():
        for each, _ in stack.enter_context(listening([listener])):
            yield listener.at(each)
        return

    with listening([listener]) as opened:  # this fails if another program uses the port
        names = [(each.family, each.getsockname()) for each, _ in opened]
    for family, name in names:
        # This socket is bound, but does not listen: it reserves the port, and gets no connections.
        keeper = stack.enter_context(socket.socket(family))
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        keeper.bind(name)
        yield replace(listener, host=name[0], port=name[1], reuse_port=True)
