"""Counts in memory that several processes share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpcore_adapters import Limits
from smtpcore_adapters.server._counts import RateLimit
from smtpcore_adapters.server._peers import PeerTable
from tests.long import long

if not hasattr(os, "fork"):  # pragma: no cover
    pytest.skip("this system cannot fork", allow_module_level=True)

from smtpcore_adapters.server._shared_counts import SharedCounts

TIMEOUT = 30.0
RATE = RateLimit("auth_failures_per_hour", 60, 3600)


@pytest.fixture
def shared() -> Iterator[SharedCounts]:
    with SharedCounts(3, 8) as counts:
        yield counts


def in_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"": 0}
    new = count(1)

    def digest(self: SharedCounts, key: str) -> bytes:
        return bytes(14) + numbers.setdefault(key, next(new)).to_bytes(2)

    monkeypatch.setattr(SharedCounts, "digest", digest)


# Connections


def test_limit_holds_for_all_workers_together(shared: SharedCounts) -> None:
    workers = [shared.of_worker(number) for number in range(3)]
    assert [worker.take("a", 3) for worker in (*workers, *workers)] == [True] * 3 + [False] * 3
    assert [worker.count("a") for worker in workers] == [3] * 3
    assert workers[0].count("b") == 0
    workers[1].give_back("a")
    assert workers[0].take("a", 3)
    assert [worker.count("a") for worker in workers] == [3] * 3


def test_connections_of_a_dead_worker_are_forgotten(shared: SharedCounts) -> None:
    one, other = shared.of_worker(0), shared.of_worker(1)
    for _ in range(2):
        assert one.take("a", 4)
        assert other.take("a", 4)
    shared.forget(0)
    assert other.count("a") == 2
    successor = shared.of_worker(0)
    assert [successor.take("a", 4) for _ in range(3)] == [True, True, False]


def test_slot_with_connections_is_never_replaced(shared: SharedCounts) -> None:
    worker, other = shared.of_worker(0), shared.of_worker(1)
    for number in range(shared.slots):  # eight connections have 64 slots, in a single group
        assert (worker, other)[number % 2].take(str(number), 1)
    assert not worker.take("new", 1)
    assert [worker.count(str(number)) for number in range(shared.slots)] == [1] * shared.slots
    other.give_back("7")
    assert worker.take("new", 1)
    assert (worker.count("7"), worker.count("new")) == (0, 1)


def test_key_without_connections_may_get_its_slot_again(shared: SharedCounts) -> None:
    worker, other = shared.of_worker(0), shared.of_worker(1)
    for _ in range(2 * shared.slots):
        assert worker.take("a", 1)
        assert not other.take("a", 1)
        worker.give_back("a")
    assert not any(shared.columns)


# Rates


def test_events_of_all_workers_are_counted(shared: SharedCounts) -> None:
    one, other = shared.of_worker(0), shared.of_worker(1)
    assert [worker.add(RATE, "a", 100) for worker in (one, other, one)] == [1, 2, 3]
    assert (one.level(RATE, "a", 160), other.level(RATE, "a", 100), one.level(RATE, "b", 100)) == (2, 3, 0)
    assert max(one.add(RATE, "c", 100) for _ in range(200)) == 120


def test_time_that_another_worker_has_passed_already_counts_once(shared: SharedCounts) -> None:
    one, other = shared.of_worker(0), shared.of_worker(1)
    one.add(RATE, "a", 160)
    assert other.add(RATE, "a", 100) == 2
    assert one.level(RATE, "a", 160) == 2


def test_new_key_replaces_the_key_with_the_oldest_event(shared: SharedCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_group(monkeypatch)
    worker = shared.of_worker(0)
    for number in range(32):
        worker.add(RATE, str(number), 100 + number)
    worker.add(RATE, "0", 132)
    assert worker.add(RATE, "new", 133) == 1
    assert [number for number in range(32) if not worker.level(RATE, str(number), 133)] == [1]


def test_shared_memory_contains_no_key(shared: SharedCounts) -> None:
    worker = shared.of_worker(0)
    for key in ("tim.example", "192.0.2.1", "/run/\udcff"):
        worker.take(key, 1)
        worker.add(RATE, key, 100)
        assert shared.memory.find(key.encode("utf-8", "surrogateescape")) == -1


# Both implementations agree

HOSTS = ("192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "2001:db8::2", "", "/run/smtp")
LIMITS = Limits(
    connections=10,
    connections_per_address=2,
    connections_per_prefix=3,
    connections_per_minute=5,
    auth_failures_per_hour=4,
    account_failures_per_hour=4,
    log_records_per_minute=3,
)
CALLS: dict[str, Callable[[PeerTable, str, float], object]] = {
    "enter": PeerTable.enter,
    "may_authenticate": PeerTable.may_authenticate,
    "auth_failed": PeerTable.auth_failed,
    "login_failed": lambda table, host, now: table.auth_failed(host, now, "tim"),
    "may_log_in_as": lambda table, host, now: table.may_log_in_as("tim", host, now),
    "logged_in": lambda table, host, now: table.logged_in("tim", host, now),
    "may_log": PeerTable.may_log,
}
STEP = st.tuples(
    st.sampled_from(("enter", "enter", "leave", *CALLS)),
    st.sampled_from(HOSTS),
    st.integers(0, 2),
    st.sampled_from((0.0, 0.0, 1.0, 30.0, 1000.0)),
)


@given(st.lists(STEP, max_size=80))
@settings(max_examples=60)
def test_workers_with_shared_counts_decide_as_one_process(steps: list[tuple[str, str, int, float]]) -> None:
    now = 1.0
    alone = PeerTable(LIMITS)
    admitted: list[tuple[str, int]] = []
    with SharedCounts(3, LIMITS.connections) as shared:
        workers = [PeerTable(LIMITS, shared.of_worker(number)) for number in range(3)]
        for name, host, number, seconds in steps:
            now += seconds
            if name == "leave":
                if admitted:
                    host, number = admitted.pop()
                    alone.leave(host)
                    workers[number].leave(host)
                    assert workers[number].are_many == alone.are_many
            else:
                decided = CALLS[name](alone, host, now)
                assert CALLS[name](workers[number], host, now) == decided
                if name == "enter" and decided is None:
                    admitted.append((host, number))
                    assert workers[number].are_many == alone.are_many


def test_process_admits_no_more_connections_than_it_has_descriptors_for(shared: SharedCounts) -> None:
    limits = Limits(connections=8)
    one, other = (PeerTable(limits, shared.of_worker(number), 3) for number in range(2))
    assert [one.enter("", 1) for _ in range(4)] == [None, None, None, "connections"]
    assert [other.enter("", 1) for _ in range(4)] == [None, None, None, "connections"]


# Processes

PROGRAM = """
import os, random, signal, sys, time, traceback
from smtpcore_adapters import Limits
from smtpcore_adapters.server._counts import RateLimit
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.server._shared_counts import SharedCounts

RATE = RateLimit("auth_failures_per_hour", 10**6, 3600)
WORKERS = 4

def fork(function, *arguments):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            function(*arguments)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid

def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""

HAMMER = """
LIMITS = Limits(connections=12, connections_per_address=3, connections_per_prefix=5)
HOSTS = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"]

def count(shared, counts, key):
    # Without the lock, a connection that another worker gives back and a third takes could be counted twice.
    group = counts._group(shared.digest(key))
    shared.lock(group)
    try:
        return counts.count(key)
    finally:
        shared.unlock(group)

def hammer(shared, number, steps):
    table, random_ = PeerTable(LIMITS, shared.of_worker(number)), random.Random()
    admitted = []
    parent = os.getppid()
    for _ in range(steps):
        if os.getppid() != parent:
            return
        host = random_.choice(HOSTS)
        if admitted and random_.random() < 0.5:
            table.leave(admitted.pop(random_.randrange(len(admitted))))
        elif table.enter(host, 1.0) is None:
            admitted.append(host)
        table.auth_failed(host, 1.0)
        assert count(shared, table._counts, host) <= 3, "an address"
        assert count(shared, table._counts, "192.0.2.0/24") <= 5, "a network"
        assert count(shared, table._counts, "") <= 12, "all"
    for host in admitted:
        table.leave(host)

kills = int(sys.argv[1])
with SharedCounts(WORKERS, LIMITS.connections) as shared:
    workers = [fork(hammer, shared, number, 10**9) for number in range(WORKERS)]
    for _ in range(kills):
        number = random.randrange(WORKERS)
        time.sleep(random.random() * 0.02)
        os.kill(workers[number], signal.SIGKILL)
        assert status_of(workers[number]) == -9, "an assertion of a worker failed"
        shared.forget(number)
        workers[number] = fork(hammer, shared, number, 10**9)
    for number, pid in enumerate(workers):
        os.kill(pid, signal.SIGKILL)
        assert status_of(pid) == -9, "an assertion of a worker failed"
        shared.forget(number)
    assert not any(shared.columns), "a dead worker is still counted"
    assert {status_of(fork(hammer, shared, number, 20)) for number in range(WORKERS)} == {0}
    assert not any(shared.columns), "a connection is still counted"
print("done")
"""

LOCKED = """
def hold(shared, sender):
    for place in range(shared.groups):
        shared.lock(place)
    os.write(sender, b"x")
    signal.pause()

with SharedCounts(2, 1) as shared:
    receiver, sender = os.pipe()
    pid = fork(hold, shared, sender)
    os.read(receiver, 1)
    os.kill(pid, signal.SIGKILL)
    assert shared.of_worker(1).take("a", 1)
    assert status_of(pid) == -9
print("done")
"""

EXACT = """
def add(shared, number):
    os.close(sender)
    os.read(receiver, 1)  # until all processes exist
    counts = shared.of_worker(number)
    for _ in range(1500):
        counts.add(RATE, "a", 1.0)
        assert counts.take("b", 10**6)
        assert counts.count("b") <= 6000

with SharedCounts(WORKERS, 1) as shared:
    receiver, sender = os.pipe()
    workers = [fork(add, shared, number) for number in range(WORKERS)]
    os.close(sender)
    assert {status_of(pid) for pid in workers} == {0}
    assert shared.of_worker(0).level(RATE, "a", 1.0) == 6000
    assert shared.of_worker(0).count("b") == 6000
print("done")
"""


def run(program: str, *arguments: str, timeout: float = TIMEOUT) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_lock_of_a_killed_process_is_released() -> None:
    run(LOCKED)


def test_no_event_is_lost_when_processes_count_at_the_same_time() -> None:
    run(EXACT)


@pytest.mark.parametrize("kills", [10, pytest.param(1000, marks=long)])
def test_limits_hold_while_processes_are_killed_at_any_point(kills: int) -> None:
    run(HAMMER, str(kills), timeout=TIMEOUT + kills / 10)


def test_file_of_the_locks_has_no_name_and_is_closed() -> None:
    with SharedCounts(1, 1) as shared:
        assert os.fstat(shared._file).st_nlink == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        shared.lock(0)
