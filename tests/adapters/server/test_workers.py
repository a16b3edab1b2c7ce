"""Supervision of worker processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest

from smtpcore import Budgets
from smtpcore_adapters.server._listeners import Listener, listening
from tests.adapters.harness import has_ipv6
from tests.forking import start_python

if not hasattr(os, "fork"):  # pragma: no cover
    pytest.skip("this system cannot fork", allow_module_level=True)

from smtpcore_adapters.server._workers import (
    MAX_DELAY,
    MIN_DELAY,
    SETTLED,
    Supervisor,
    _end_with_parent,
    sockets_for_many,
)

TIMEOUT = 30.0

PROGRAM = """
import faulthandler, os, signal, sys, time
faulthandler.enable()
from smtpcore_adapters.server._workers import Supervisor

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # one write per line: several processes share the pipe

def handle_signals():
    # After signal.pause(), a handler would not run if its signal arrived just before the call.
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender)
    while True:
        os.read(receiver, 64)

def work(ready):
    say("up", os.getpid())
    ready()
    handle_signals()

{}
"""


def no_work(ready: Callable[[], None]) -> None: ...


@dataclass
class Parent:
    """A supervisor process."""

    process: subprocess.Popen[str]

    def words(self) -> list[str]:
        """Return the words of the next line that the supervisor or a worker prints."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the supervisor has ended: {self.errors()}"
        return line.split()

    def lines(self, count: int) -> list[list[str]]:
        return [self.words() for _ in range(count)]

    def rest(self) -> str:
        """Return all output up to the end of the last process."""
        assert self.process.stdout
        return self.process.stdout.read()

    def errors(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read()


@contextmanager
def running(program: str) -> Iterator[Parent]:
    process = start_python(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # SIGABRT lets a supervisor that hangs print its stack.
    watchdog = threading.Timer(TIMEOUT, process.send_signal, [signal.SIGABRT])
    watchdog.start()
    try:
        yield Parent(process)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def test_readers_end_after_all_other_workers() -> None:
    program = """
def until_sigterm(name, seconds):
    def exit_on_sigterm(number, frame):
        time.sleep(seconds)
        say("end", name)
        sys.exit()

    def work_until_sigterm(ready):
        signal.signal(signal.SIGTERM, exit_on_sigterm)
        ready()
        handle_signals()

    return work_until_sigterm

works = [until_sigterm("worker", 0.2), until_sigterm("worker", 0.4)]
Supervisor(works, readers=[until_sigterm("reader", 0)], on_ready=lambda: say("ready")).run()
say("done")
"""
    with running(program) as parent:
        assert parent.words() == ["ready"]
        parent.process.send_signal(signal.SIGTERM)
        assert parent.lines(4) == [["end", "worker"], ["end", "worker"], ["end", "reader"], ["done"]]
        assert parent.process.wait(TIMEOUT) == 0
        assert parent.errors() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_terminates_all_workers_and_waits_for_them(number: signal.Signals) -> None:
    program = """
def exit_on_sigterm(number, frame):
    say("end", os.getpid())
    sys.exit()

def work_until_sigterm(ready):
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    work(ready)

Supervisor([work_until_sigterm] * 3, on_ready=lambda: say("ready"), on_stop=lambda: say("stop")).run()
say("done")
"""
    with running(program) as parent:
        lines = parent.lines(4)
        pids = {pid for word, *rest in lines if word == "up" for pid in rest}
        assert len(pids) == 3
        assert ["ready"] in lines
        os.killpg(parent.process.pid, number)  # as a terminal does: the workers are in other process groups
        assert parent.words() == ["stop"]
        assert {pid for _, pid in parent.lines(3)} == pids
        assert parent.words() == ["done"]
        assert parent.process.wait(TIMEOUT) == 0
        assert parent.errors() == ""


def test_killed_worker_is_replaced() -> None:
    program = """
Supervisor([work] * 2, on_ready=lambda: say("ready"), on_death=lambda number, pid: say("dead", pid)).run()
"""
    with running(program) as parent:
        lines = parent.lines(3)
        (first, *_) = [pid for word, *rest in lines if word == "up" for pid in rest]
        for _ in range(3):
            os.kill(int(first), signal.SIGKILL)
            assert parent.words() == ["dead", first]
            word, second = parent.words()
            assert word == "up"
            assert second != first
            first = second
        parent.process.terminate()
        assert len(parent.rest().splitlines()) == 2  # the deaths of both, without a second "ready"
        assert parent.process.wait(TIMEOUT) == 0
        assert "ended with SIGKILL" in parent.errors()


def test_worker_that_exits_is_replaced() -> None:
    program = """
def exit_at_once(ready):
    say("up", os.getpid())
    ready()
    sys.exit(3)

Supervisor([exit_at_once], on_death=lambda number, pid: say("dead")).run()
"""
    with running(program) as parent:
        assert [word for word, *_ in parent.lines(4)] == ["up", "dead", "up", "dead"]
        parent.process.terminate()
        parent.rest()
        assert "ended with status 3" in parent.errors()


def test_worker_that_fails_before_it_is_ready_ends_all_workers() -> None:
    program = """
def fail(ready):
    raise ValueError("cannot work")

try:
    Supervisor([work, fail]).run()
except ChildProcessError as exc:
    say("failed", exc)
"""
    with running(program) as parent:
        lines = [line for line in parent.rest().splitlines() if not line.startswith("up")]
        assert lines == ["failed a worker failed before it was ready"]
        assert "ValueError: cannot work" in parent.errors()


def test_workers_that_get_ready_after_a_signal_to_stop_are_not_reported_as_ready() -> None:
    program = """
def ready_on_sigterm(ready):
    def end(number, frame):
        ready()
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    say("up", os.getpid())
    handle_signals()

Supervisor([ready_on_sigterm] * 2, on_ready=lambda: say("ready"), on_stop=lambda: say("stop")).run()
say("done")
"""
    with running(program) as parent:
        assert [word for word, _ in parent.lines(2)] == ["up", "up"]
        parent.process.terminate()
        assert parent.rest().splitlines() == ["stop", "done"]
        assert parent.process.wait(TIMEOUT) == 0


def test_second_signal_kills_all_workers() -> None:
    program = """
def ignore_sigterm(ready):
    signal.signal(signal.SIGTERM, lambda number, frame: say("no"))
    work(ready)

Supervisor([ignore_sigterm] * 2, on_ready=lambda: say("ready")).run()
say("done")
"""
    with running(program) as parent:
        assert ["ready"] in parent.lines(3)
        parent.process.terminate()
        assert parent.lines(2) == [["no"], ["no"]]
        parent.process.terminate()
        assert parent.words() == ["done"]
        assert parent.process.wait(TIMEOUT) == 0


DRAINING = """
def drain(ready):
    # As a server with `on_stop`: the first signal is noted, and the second ends the worker.
    def end(number, frame):
        say("end")
        sys.exit()

    def note(number, frame):
        signal.signal(signal.SIGTERM, end)
        say("noted")

    signal.signal(signal.SIGTERM, note)
    work(ready)

calls = {"on_ready": lambda: say("ready"), "on_drain": lambda: say("drain"), "on_stop": lambda: say("stop")}
Supervisor([drain], drain_delay=DELAY, **calls).run()
say("done")
"""


def test_second_signal_ends_the_delay_of_the_workers() -> None:
    with running(DRAINING.replace("DELAY", "60")) as parent:
        assert [word for word, *_ in parent.lines(2)] == ["up", "ready"]
        parent.process.terminate()
        assert parent.lines(2) == [["drain"], ["noted"]]
        parent.process.terminate()
        assert parent.lines(3) == [["stop"], ["end"], ["done"]]
        assert parent.process.wait(TIMEOUT) == 0


def test_delay_ends_by_itself_and_the_next_signal_kills_the_workers() -> None:
    with running(DRAINING.replace("DELAY", "0.01")) as parent:
        assert [word for word, *_ in parent.lines(2)] == ["up", "ready"]
        parent.process.terminate()
        assert [word for (word,) in parent.lines(3)].index("drain") == 0
        parent.process.terminate()
        assert parent.words() == ["done"]
        assert parent.process.wait(TIMEOUT) == 0


def test_workers_that_are_not_ready_stop_without_a_delay() -> None:
    program = """
def start(ready):
    say("up")
    handle_signals()

Supervisor([start], drain_delay=60, on_drain=lambda: say("drain"), on_stop=lambda: say("stop")).run()
say("done")
"""
    with running(program) as parent:
        assert parent.words() == ["up"]
        parent.process.terminate()
        assert parent.lines(2) == [["stop"], ["done"]]


def test_sighup_is_passed_to_the_workers_and_ends_no_worker() -> None:
    program = """
def reading(ready):
    signal.signal(signal.SIGHUP, lambda number, frame: say("again", os.getpid()))
    work(ready)

Supervisor([reading, work, reading], on_ready=lambda: say("ready")).run()
"""
    with running(program) as parent:
        assert ["ready"] in parent.lines(4)
        for _ in range(2):
            parent.process.send_signal(signal.SIGHUP)
            assert len({pid for word, pid in parent.lines(2) if word == "again"}) == 2
        parent.process.terminate()
        assert parent.process.wait(TIMEOUT) == 0
        assert parent.errors() == ""


def test_workers_do_not_outlive_their_parent() -> None:
    with running("Supervisor([work] * 2, on_ready=lambda: say('ready')).run()") as parent:
        assert ["ready"] in parent.lines(3)
        parent.process.kill()
        assert parent.rest() == ""  # the pipe is closed by the end of the last worker


def test_exception_in_the_parent_leaves_no_worker_behind() -> None:
    with running("Supervisor([work] * 2, on_ready=lambda: 1 / 0).run()") as parent:
        assert [word for word, *_ in parent.lines(2)] == ["up", "up"]
        assert parent.rest() == ""
        assert "ZeroDivisionError" in parent.errors()


def test_signal_handlers_are_restored_after_the_run() -> None:
    program = """
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
Supervisor([]).run()
Supervisor([work], on_ready=lambda: os.kill(os.getpid(), signal.SIGTERM)).run()
say(before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)])
"""
    with running(program) as parent:
        assert [line[0] for line in parent.lines(2)] == ["up", "True"]


def test_end_of_the_parent_closes_a_pipe_and_terminates_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    life, end = os.pipe()
    os.close(end)
    try:
        _end_with_parent(life)
    finally:
        os.close(life)
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_no_signal_is_sent_to_an_ended_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its process ID may belong to another process by now.
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("a signal was sent"))
    supervisor = Supervisor([no_work])
    process = get_context("fork").Process()
    monkeypatch.setattr(type(process), "exitcode", 0)
    supervisor._slots[0].process = process
    supervisor._send(signal.SIGTERM)


# Delay of a replacement


def test_delay_doubles_for_a_worker_that_keeps_dying() -> None:
    now = 100.0
    supervisor = Supervisor([no_work], clock=lambda: now)
    [slot] = supervisor._slots
    supervisor._note_ready({0})
    delays = []
    for _ in range(12):
        slot.started = now
        supervisor._replace(0, slot, 1, -9)
        delays.append(slot.delay)
        assert supervisor._until_due() == pytest.approx(slot.delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == MAX_DELAY

    slot.started = now
    now += SETTLED
    supervisor._replace(0, slot, 1, -9)
    assert slot.delay == MIN_DELAY
    now += 5
    assert supervisor._until_due() == 0


# Listening


def test_shared_socket_keeps_the_settings_of_its_listener(tmp_path: Path) -> None:
    listener = Listener(path=str(tmp_path / "smtp"), mode=0o660, name="lmtp", budgets=Budgets(greeting=5))
    with sockets_for_many([listener]) as [shared]:
        assert shared.bound
        assert (shared.name, shared.budgets, shared.path, shared.mode) == ("lmtp", Budgets(greeting=5), None, 0o600)


def test_each_worker_has_its_own_socket_at_one_port() -> None:
    with sockets_for_many([Listener()]) as listeners:
        [listener] = listeners
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", listener.port), timeout=TIMEOUT)
        with listening(listeners) as one, listening(listeners) as other:
            assert one[0][0].getsockname() == other[0][0].getsockname() == ("127.0.0.1", listener.port)
            for _ in range(20):
                socket.create_connection(("127.0.0.1", listener.port), timeout=TIMEOUT).close()


def test_host_with_several_addresses_has_one_port() -> None:
    with sockets_for_many([Listener(host="localhost")]) as listeners:
        assert len({listener.port for listener in listeners}) == 1
        assert {listener.host for listener in listeners} <= {"127.0.0.1", "::1"}
        with listening(listeners) as one, listening(listeners) as other:
            assert len(one) == len(other) == len(listeners)


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_socket_is_shared_on_demand() -> None:
    with sockets_for_many([Listener()], shared=True) as [listener]:
        assert listener.bound
        assert not listener.reuse_port


def test_workers_share_an_ipv6_port() -> None:
    with (
        sockets_for_many([Listener(host="::1")]) as listeners,
        listening(listeners) as one,
        listening(listeners) as other,
    ):
        assert one[0][0].getsockname()[:2] == other[0][0].getsockname()[:2] == ("::1", listeners[0].port)


def test_workers_share_one_socket_without_so_reuseport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with sockets_for_many([Listener()]) as listeners:
        [listener] = listeners
        assert listener.bound
        socket.create_connection(listener.bound.getsockname(), timeout=TIMEOUT).close()
    assert listener.bound.fileno() == -1


def test_workers_share_one_socket_where_so_reuseport_spreads_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with sockets_for_many([Listener()]) as listeners:
        [listener] = listeners
        assert listener.bound


def test_port_in_use_is_an_error() -> None:
    with (
        sockets_for_many([Listener()]) as listeners,
        listening(listeners),
        pytest.raises(OSError, match="in use"),
        sockets_for_many([Listener(listeners[0].port)]),
    ):
        raise AssertionError
