"""Non-blocking socket streams, driven by the readiness calls of a framework."""

import socket
from collections.abc import Coroutine, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from smtpcore_adapters import Address
from smtpcore_adapters.streams._polled import PolledStream, TimeoutQueue
from smtpcore_adapters.streams._stream import Interrupted
from tests.adapters.streams.frameworks import FRAMEWORKS, TRIO

PEER = Address("192.0.2.1", 25)


class Closing(Exception):
    """The framework's error for a wait on a socket that is being closed."""


class FakeFramework:
    """A fake framework with a manual clock and at most one task."""

    def __init__(self) -> None:
        self.now = 100.0
        self.woken: list[socket.socket] = []
        self.checkpoints = 0
        self.limits: list[float] = []
        self.framework = replace(
            TRIO,
            wait_readable=self._wait,
            wait_writable=self._wait,
            notify_closing=self.woken.append,
            closed_resource_error=Closing,
            checkpoint=self._checkpoint,
            sleep_forever=lambda: _suspend(),
            current_time=lambda: self.now,
            cancel_scope=self._cancel_scope,
        )
        self.timeouts = TimeoutQueue(self.framework)
        self._running = self.timeouts.run()
        self._running.send(None)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)

    async def _wait(self, waiting: socket.socket) -> None:
        await _suspend()

    async def _checkpoint(self) -> None:
        self.checkpoints += 1

    def _cancel_scope(self, *, deadline: float = inf) -> "Scope":
        if deadline < inf:
            self.limits.append(deadline - self.now)
        return Scope(deadline)

    def stream(self, *, shared: bool = True) -> PolledStream:
        return PolledStream(self.framework, self.near, PEER, self.timeouts if shared else None)

    def move_clock(self, now: float) -> None:
        """Move the clock to `now`, and let the queue check its streams if their deadline has come."""
        self.now = now
        if now >= self.timeouts._scope.deadline:
            self._running.send(None)


class Scope:
    """A cancel scope that never cancels."""

    cancelled_caught = False

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def cancel(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> "Scope":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Suspended:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _suspend() -> None:
    await _Suspended()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFramework]:
    made = FakeFramework()
    monkeypatch.setattr("smtpcore_adapters.streams._polled.monotonic", lambda: made.now)
    with made.near, made.far:
        yield made


def waiting(stream: PolledStream, timeout: float) -> Coroutine[Any, Any, bytes]:
    """Return a call of `receive` that is waiting."""
    receiving = stream.receive(timeout)
    receiving.send(None)
    return receiving


def result(running: Coroutine[Any, Any, Any]) -> Any:
    with pytest.raises(StopIteration) as end:
        running.send(None)
    return end.value.value


# Receiving


def test_receive_returns_arriving_data(fake: FakeFramework) -> None:
    receiving = waiting(fake.stream(), 10)
    fake.far.send(b"HELO")
    assert result(receiving) == b"HELO"


def test_receive_waits_again_after_a_spurious_wake_up(fake: FakeFramework) -> None:
    receiving = waiting(fake.stream(), 10)
    receiving.send(None)
    fake.far.send(b"x")
    assert result(receiving) == b"x"


def test_queue_wakes_a_wait_at_its_deadline(fake: FakeFramework) -> None:
    receiving = waiting(fake.stream(), 10)
    fake.move_clock(109.9)
    assert not fake.woken
    fake.move_clock(110.0)
    assert fake.woken == [fake.near]
    with pytest.raises(TimeoutError):
        receiving.throw(Closing())


def test_stream_is_checked_again_if_its_deadline_has_moved(fake: FakeFramework) -> None:
    stream = fake.stream()
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    fake.now = 105.0
    _receiving = waiting(stream, 10)
    fake.move_clock(110.0)
    assert not fake.woken
    fake.move_clock(115.0)
    assert fake.woken == [fake.near]
    _receiving.close()


def test_stream_enters_the_queue_again_with_the_next_wait(fake: FakeFramework) -> None:
    stream = fake.stream()
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    fake.move_clock(110.0)
    fake.move_clock(1000.0)
    _receiving = waiting(stream, 10)
    fake.move_clock(1009.0)
    assert not fake.woken
    fake.move_clock(1010.0)
    assert fake.woken == [fake.near]
    _receiving.close()


def test_shorter_timeout_moves_the_check_forward(fake: FakeFramework) -> None:
    stream = fake.stream()
    fake.far.send(b"x")
    assert result(waiting(stream, 50)) == b"x"
    _receiving = waiting(stream, 10)
    fake.move_clock(110.0)
    assert fake.woken == [fake.near]
    _receiving.close()

    fake.woken.clear()
    _receiving = waiting(stream, 100)
    fake.move_clock(150.0)  # the deadline of the first wait
    assert not fake.woken
    fake.move_clock(210.0)
    assert fake.woken == [fake.near]
    _receiving.close()


def test_queue_wakes_several_streams_each_at_its_deadline(fake: FakeFramework) -> None:
    streams = [fake.stream() for _ in range(3)]
    receiving = [waiting(stream, timeout) for stream, timeout in zip(streams, (30, 10, 20), strict=True)]
    for now, count in ((109, 0), (110, 1), (120, 2), (129, 2), (130, 3)):
        fake.move_clock(now)
        assert len(fake.woken) == count
    for each in receiving:
        each.close()


def test_deadline_between_two_waits_is_not_lost(fake: FakeFramework) -> None:
    receiving = waiting(fake.stream(), 10)
    fake.move_clock(110.0)  # before the task runs again
    with pytest.raises(TimeoutError):
        receiving.send(None)


def test_interrupt_between_two_waits_is_not_lost(fake: FakeFramework) -> None:
    stream = fake.stream()
    receiving = waiting(stream, 10)
    stream.interrupt()
    with pytest.raises(Interrupted):
        receiving.send(None)
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"


def test_queue_does_not_keep_closed_streams(fake: FakeFramework) -> None:
    kept = fake.stream()
    _receiving = waiting(kept, 1000)
    for _ in range(500):
        stream = PolledStream(fake.framework, fake.near.dup(), PEER, fake.timeouts)
        waiting(stream, 300).close()
        with pytest.raises(StopIteration):
            stream.aclose(0).send(None)
    assert len(fake.timeouts._streams) < 200
    fake.move_clock(400.0)
    assert not fake.woken
    fake.move_clock(1100.0)
    assert fake.woken == [fake.near]
    _receiving.close()


def test_each_wait_has_a_timeout_scope_without_a_queue(fake: FakeFramework) -> None:
    receiving = waiting(fake.stream(shared=False), 10)
    assert fake.limits == [10]
    fake.far.send(b"x")
    assert result(receiving) == b"x"


def test_interrupt_wakes_a_wait(fake: FakeFramework) -> None:
    stream = fake.stream()
    receiving = waiting(stream, 10)
    stream.interrupt()
    assert fake.woken == [fake.near]
    with pytest.raises(Interrupted):
        receiving.throw(Closing())


def test_interrupt_without_a_wait_applies_to_the_next_receive(fake: FakeFramework) -> None:
    stream = fake.stream()
    stream.interrupt()
    assert not fake.woken
    with pytest.raises(Interrupted):
        stream.receive(10).send(None)
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"


# Sending


def test_send_to_a_writable_socket_does_not_wait(fake: FakeFramework) -> None:
    stream = fake.stream()
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    assert result(stream.send(b"250 OK", 10)) is None
    assert fake.far.recv(100) == b"250 OK"
    assert (fake.checkpoints, fake.limits) == (0, [])


def test_send_yields_after_a_long_time_without_a_checkpoint(fake: FakeFramework) -> None:
    stream = fake.stream()
    fake.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    fake.now += 0.006
    for checkpoints in (1, 1):
        assert result(stream.send(b"250 OK", 10)) is None
        assert fake.checkpoints == checkpoints


def test_send_to_a_full_socket_waits_between_parts(fake: FakeFramework) -> None:
    stream = fake.stream()
    data = b"x" * 1_000_000
    sending = stream.send(data, 10)
    sending.send(None)
    received = fake.far.recv(len(data))
    with suppress(StopIteration):
        while True:
            sending.send(None)
            received += fake.far.recv(len(data))
    while len(received) < len(data):
        received += fake.far.recv(len(data))
    assert received == data
    assert fake.limits == [10]


# Over the frameworks


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_receive_in_a_cancelled_scope_is_cancelled_even_with_data(name: str, fake: FakeFramework) -> None:
    framework, run = FRAMEWORKS[name]
    scope = trio.CancelScope if name == "trio" else anyio.CancelScope

    async def main() -> None:
        fake.far.send(b"x")
        with scope() as cancelled:
            cancelled.cancel()
            await PolledStream(framework, fake.near, PEER).receive(10)
        assert cancelled.cancelled_caught

    run(main)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_queue_wakes_a_wait_in_each_framework(name: str, fake: FakeFramework) -> None:
    framework, run = FRAMEWORKS[name]

    async def main() -> None:
        timeouts = TimeoutQueue(framework)
        stream = PolledStream(framework, fake.near, PEER, timeouts)
        async with trio.open_nursery() if name == "trio" else anyio.create_task_group() as tasks:
            tasks.start_soon(timeouts.run)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await stream.receive(0.01)
            tasks.start_soon(_interrupt, stream)
            with pytest.raises(Interrupted):
                await stream.receive(10)
            tasks.cancel_scope.cancel()

    run(main)


async def _interrupt(stream: PolledStream) -> None:
    stream.interrupt()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_wait_without_a_queue_times_out_in_each_framework(name: str, fake: FakeFramework) -> None:
    framework, run = FRAMEWORKS[name]

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await PolledStream(framework, fake.near, PEER).receive(0.01)

    run(main)
