"""A stream over a socket of which the framework tells when it is ready."""

import socket
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from smtpcore_adapters import Address
from smtpcore_adapters import anyio as anyio_adapter
from smtpcore_adapters import trio as trio_adapter
from smtpcore_adapters.streams._polled import Alarm, Framework, PolledStream
from smtpcore_adapters.streams._stream import Interrupted, Stream

PEER = Address("192.0.2.1", 25)


class Closing(Exception):
    """Someone was woken."""


class Bench:
    """A framework with a clock that is moved by hand, and at most one task."""

    def __init__(self) -> None:
        self.now = 100.0
        self.woken: list[socket.socket] = []
        self.checkpoints = 0
        self.limits: list[float] = []
        self.framework = Framework(
            wait_readable=self._wait,
            wait_writable=self._wait,
            notify_closing=self.woken.append,
            closed_resource_error=Closing,
            checkpoint=self._checkpoint,
            sleep_forever=lambda: _suspend(),
            current_time=lambda: self.now,
            cancel_scope=Scope,
            fail_after=self._fail_after,
        )
        self.alarm = Alarm(self.framework)
        self._bell = self.alarm.run()
        self._bell.send(None)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)

    async def _wait(self, waiting: socket.socket) -> None:
        await _suspend()

    async def _checkpoint(self) -> None:
        self.checkpoints += 1

    def _fail_after(self, timeout: float) -> AbstractContextManager[object]:
        self.limits.append(timeout)
        return nullcontext()

    def stream(self, *, alarm: bool = True) -> "Polled":
        return Polled(self.framework, self.near, PEER, self.alarm if alarm else None)

    def ring(self, now: float) -> None:
        """Let the alarm's time come, if it has one by then."""
        self.now = now
        if now >= self.alarm._scope.deadline:
            self._bell.send(None)


class Scope:
    def __init__(self, *, deadline: float = inf) -> None:
        self.deadline = deadline

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


class _Suspended:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _suspend() -> None:
    await _Suspended()


class Polled(PolledStream):
    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        raise NotImplementedError

    async def run_blocking(self, function: Callable[..., Any], /, *args: Any) -> Any:
        raise NotImplementedError

    def run_async(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.near, made.far:
        yield made


def waiting(stream: Polled, timeout: float) -> Coroutine[Any, Any, bytes]:
    """A receive that has begun."""
    receiving = stream.receive(timeout)
    receiving.send(None)
    return receiving


def result(running: Coroutine[Any, Any, Any]) -> Any:
    with pytest.raises(StopIteration) as end:
        running.send(None)
    return end.value.value


# Receiving


def test_what_arrives_is_received(bench: Bench) -> None:
    receiving = waiting(bench.stream(), 10)
    bench.far.send(b"HELO")
    assert result(receiving) == b"HELO"


def test_a_socket_that_is_readable_may_have_nothing_to_read(bench: Bench) -> None:
    receiving = waiting(bench.stream(), 10)
    receiving.send(None)
    bench.far.send(b"x")
    assert result(receiving) == b"x"


def test_who_waits_too_long_is_woken(bench: Bench) -> None:
    receiving = waiting(bench.stream(), 10)
    bench.ring(109.9)
    assert not bench.woken
    bench.ring(110.0)
    assert bench.woken == [bench.near]
    with pytest.raises(TimeoutError):
        receiving.throw(Closing())


def test_an_alarm_that_comes_too_early_is_set_again(bench: Bench) -> None:
    stream = bench.stream()
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    bench.now = 105.0
    _receiving = waiting(stream, 10)
    bench.ring(110.0)
    assert not bench.woken
    bench.ring(115.0)
    assert bench.woken == [bench.near]
    _receiving.close()


def test_an_alarm_that_finds_no_one_waiting_is_set_by_the_next_who_does(bench: Bench) -> None:
    stream = bench.stream()
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    bench.ring(110.0)
    bench.ring(1000.0)
    _receiving = waiting(stream, 10)
    bench.ring(1009.0)
    assert not bench.woken
    bench.ring(1010.0)
    assert bench.woken == [bench.near]
    _receiving.close()


def test_who_will_wait_less_is_woken_earlier(bench: Bench) -> None:
    stream = bench.stream()
    bench.far.send(b"x")
    assert result(waiting(stream, 50)) == b"x"
    _receiving = waiting(stream, 10)
    bench.ring(110.0)
    assert bench.woken == [bench.near]
    _receiving.close()

    bench.woken.clear()
    _receiving = waiting(stream, 100)
    bench.ring(150.0)  # which was that of the first
    assert not bench.woken
    bench.ring(210.0)
    assert bench.woken == [bench.near]
    _receiving.close()


def test_of_several_streams_each_is_woken_in_its_turn(bench: Bench) -> None:
    streams = [bench.stream() for _ in range(3)]
    receiving = [waiting(stream, timeout) for stream, timeout in zip(streams, (30, 10, 20), strict=True)]
    for now, count in ((109, 0), (110, 1), (120, 2), (129, 2), (130, 3)):
        bench.ring(now)
        assert len(bench.woken) == count
    for each in receiving:
        each.close()


def test_who_is_between_two_waits_when_the_time_is_over_does_not_wait_again(bench: Bench) -> None:
    receiving = waiting(bench.stream(), 10)
    bench.ring(110.0)  # while what has arrived is no more than a part
    with pytest.raises(TimeoutError):
        receiving.send(None)


def test_who_is_between_two_waits_when_interrupted_does_not_wait_again(bench: Bench) -> None:
    stream = bench.stream()
    receiving = waiting(stream, 10)
    stream.interrupt()
    with pytest.raises(Interrupted):
        receiving.send(None)
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"


def test_streams_that_are_closed_are_not_kept(bench: Bench) -> None:
    kept = bench.stream()
    _receiving = waiting(kept, 1000)
    for _ in range(500):
        stream = Polled(bench.framework, bench.near.dup(), PEER, bench.alarm)
        waiting(stream, 300).close()
        with pytest.raises(StopIteration):
            stream.aclose(0).send(None)
    assert len(bench.alarm._streams) < 200
    bench.ring(400.0)
    assert not bench.woken
    bench.ring(1100.0)
    assert bench.woken == [bench.near]
    _receiving.close()


def test_without_an_alarm_there_is_a_limit_around_each_wait(bench: Bench) -> None:
    receiving = waiting(bench.stream(alarm=False), 10)
    assert bench.limits == [10]
    bench.far.send(b"x")
    assert result(receiving) == b"x"


def test_an_interruption_wakes_who_waits(bench: Bench) -> None:
    stream = bench.stream()
    receiving = waiting(stream, 10)
    stream.interrupt()
    assert bench.woken == [bench.near]
    with pytest.raises(Interrupted):
        receiving.throw(Closing())


def test_an_interruption_waits_for_the_next_who_waits(bench: Bench) -> None:
    stream = bench.stream()
    stream.interrupt()
    assert not bench.woken
    with pytest.raises(Interrupted):
        stream.receive(10).send(None)
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"


# Sending


def test_what_is_taken_at_once_is_sent_without_waiting(bench: Bench) -> None:
    stream = bench.stream()
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    assert result(stream.send(b"250 OK", 10)) is None
    assert bench.far.recv(100) == b"250 OK"
    assert (bench.checkpoints, bench.limits) == (0, [])


def test_who_has_sent_for_long_gives_others_their_turn(bench: Bench) -> None:
    stream = bench.stream()
    bench.far.send(b"x")
    assert result(waiting(stream, 10)) == b"x"
    bench.now += 0.006
    for checkpoints in (1, 1):
        assert result(stream.send(b"250 OK", 10)) is None
        assert bench.checkpoints == checkpoints


def test_what_is_not_taken_at_once_is_sent_in_parts(bench: Bench) -> None:
    stream = bench.stream()
    data = b"x" * 1_000_000
    sending = stream.send(data, 10)
    sending.send(None)
    received = bench.far.recv(len(data))
    with suppress(StopIteration):
        while True:
            sending.send(None)
            received += bench.far.recv(len(data))
    while len(received) < len(data):
        received += bench.far.recv(len(data))
    assert received == data
    assert bench.limits == [10]


# Over the frameworks


FRAMEWORKS: dict[str, tuple[Framework, Callable[[Any], object]]] = {
    "trio": (trio_adapter._FRAMEWORK, trio.run),
    "anyio-asyncio": (anyio_adapter._FRAMEWORK, anyio.run),
    "anyio-trio": (anyio_adapter._FRAMEWORK, lambda main: anyio.run(main, backend="trio")),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_receiving_can_be_cancelled_though_there_is_something(name: str, bench: Bench) -> None:
    framework, run = FRAMEWORKS[name]
    scope = trio.CancelScope if name == "trio" else anyio.CancelScope

    async def main() -> None:
        bench.far.send(b"x")
        with scope() as cancelled:
            cancelled.cancel()
            await Polled(framework, bench.near, PEER).receive(10)
        assert cancelled.cancelled_caught

    run(main)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_alarm_wakes_in_each_framework(name: str, bench: Bench) -> None:
    framework, run = FRAMEWORKS[name]

    async def main() -> None:
        alarm = Alarm(framework)
        stream = Polled(framework, bench.near, PEER, alarm)
        async with trio.open_nursery() if name == "trio" else anyio.create_task_group() as tasks:
            tasks.start_soon(alarm.run)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await stream.receive(0.01)
            tasks.start_soon(_interrupt, stream)
            with pytest.raises(Interrupted):
                await stream.receive(10)
            tasks.cancel_scope.cancel()

    run(main)


async def _interrupt(stream: Polled) -> None:
    stream.interrupt()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_limit_that_is_over_is_a_timeout_in_each_framework(name: str, bench: Bench) -> None:
    framework, run = FRAMEWORKS[name]

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await Polled(framework, bench.near, PEER).receive(0.01)

    run(main)
