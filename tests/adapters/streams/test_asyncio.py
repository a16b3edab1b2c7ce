"""The stream of asyncio: buffers, timers, threads, lost connections."""

import asyncio
import math
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any, Never

import pytest

from smtpcore_adapters import Address, Interrupted
from smtpcore_adapters.asyncio import open_stream
from smtpcore_adapters.streams._asyncio import LARGE_READ_SIZE, AsyncioStream
from smtpcore_adapters.streams._stream import reset_on_close
from tests.adapters.harness import TIMEOUT


class WithoutReadiness(asyncio.SelectorEventLoop):
    """A loop that cannot report when a socket is ready, like the default loop of Windows."""

    def add_reader(self, *args: object) -> Never:
        raise NotImplementedError

    def add_writer(self, *args: object) -> Never:
        raise NotImplementedError


def feed(stream: AsyncioStream, far: socket.socket, data: bytes) -> None:
    """Send `data` to the stream, which reads it as in a callback of the event loop."""
    far.sendall(data)
    stream._on_readable()


def with_stream(
    test: Callable[[AsyncioStream, socket.socket], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Call `test` with a stream and the socket of its peer, which does not block."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, name = listener.accept()
        near.setblocking(False)
        far.setblocking(False)
        stream = AsyncioStream(asyncio.get_running_loop(), near, Address(*name))
        with near, far:
            try:
                await asyncio.wait_for(test(stream, far), 10)
            finally:
                await stream.aclose(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


LOOPS = pytest.mark.parametrize("loop", [None, WithoutReadiness], ids=["default loop", "loop without readiness"])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the event loop reports no such condition
        await asyncio.sleep(0)


def reset(far: socket.socket) -> None:
    reset_on_close(far)
    far.close()


def test_send_on_a_lost_connection_raises_its_error() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        reset(far)
        with pytest.raises(ConnectionError):
            await stream.receive(1)
        with pytest.raises(BrokenPipeError):
            await stream.send(b"x", 1)

    with_stream(test)


@LOOPS
def test_data_before_a_lost_connection_is_received_first(loop: type[asyncio.AbstractEventLoop] | None) -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        far.send(b"x")
        await until(lambda: bool(stream._input))
        reset(far)
        assert await stream.receive(1) == b"x"
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                await stream.receive(1)

    with_stream(test, loop)


@LOOPS
def test_large_data_passes_in_both_directions(loop: type[asyncio.AbstractEventLoop] | None) -> None:
    data = bytes(range(256)) * 20_000

    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        peer = AsyncioStream(asyncio.get_running_loop(), far, None)
        await exchange(stream, peer)
        await exchange(peer, stream)
        await asyncio.gather(stream.aclose(1), peer.aclose(1))

    async def exchange(sender: AsyncioStream, receiver: AsyncioStream) -> None:
        received = bytearray()
        sending = asyncio.ensure_future(sender.send(data, 10))
        while len(received) < len(data):
            received += await receiver.receive(10)
        await sending
        assert received == data

    with_stream(test, loop)


def fill(stream: AsyncioStream) -> None:
    """Send with the stream's socket until the socket accepts no more."""
    with suppress(BlockingIOError):
        while True:
            stream._socket.send(b"x" * 65_536)


def test_send_to_a_peer_that_does_not_read_times_out() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        fill(stream)
        with pytest.raises(TimeoutError):
            await stream.send(b"250 OK\r\n", 0.01)

    with_stream(test)


def test_closing_ends_the_pending_calls_of_other_tasks() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        fill(stream)
        sending = asyncio.ensure_future(stream.send(b"250 OK\r\n", 10))
        receiving = asyncio.ensure_future(stream.receive(10))
        await until(lambda: bool(stream._reading and stream._writing))
        await stream.aclose(0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await sending
        assert await receiving == b""
        await stream.aclose(1)  # closing again does nothing

    with_stream(test)


@LOOPS
def test_at_most_two_large_reads_are_read_ahead(loop: type[asyncio.AbstractEventLoop] | None) -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(far, b"x" * 10_000_000))
        await until(lambda: not stream._is_reading)
        for _ in range(3):
            await asyncio.sleep(0)
        assert LARGE_READ_SIZE <= len(stream._input) < 2 * LARGE_READ_SIZE

        received = 0
        while received < 10_000_000:
            received += len(await stream.receive(1))
        await sending

    with_stream(test, loop)


def test_send_yields_to_other_tasks_after_the_time_of_a_turn() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        turns: list[int] = []
        loop = asyncio.get_running_loop()
        now = monotonic() + 1  # the first turn, which began with the stream, is over
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("smtpcore_adapters.streams._asyncio.monotonic", lambda: now)
            for number, had_their_turn in enumerate(([0], [0], [0, 1, 2], [0, 1, 2])):
                loop.call_soon(turns.append, number)
                await stream.send(b"250 OK\r\n", 1)
                assert turns == had_their_turn
                now += 0.003

    with_stream(test)


def test_interrupt_ends_one_receive() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        stream.interrupt()
        with pytest.raises(Interrupted):
            await receiving

        stream.interrupt()
        feed(stream, far, b"x")
        with pytest.raises(Interrupted):
            await stream.receive(1)
        assert await stream.receive(1) == b"x"

    with_stream(test)


def test_data_received_before_start_tls_is_never_treated_as_plaintext() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        feed(stream, far, b"NOOP\r\n" * 10)
        with pytest.raises(ssl.SSLError):
            await stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 1)
        assert stream.tls is None

    with_stream(test)


def test_one_timer_serves_all_waits() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        deadlines: list[float] = []
        call_at = loop.call_at

        def count(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
            deadlines.append(when)
            return call_at(when, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_at", count)
            for timeout in (1000, 1001, 1002, math.inf):
                receiving = asyncio.ensure_future(stream.receive(timeout))
                await asyncio.sleep(0)
                feed(stream, far, b"x")
                assert await receiving == b"x"
            assert len(deadlines) == 1

            # The first timer goes off before the last deadline and is set again; an earlier deadline needs a new timer.
            for timeout in (0.01, 0.02):
                with pytest.raises(TimeoutError):
                    await stream.receive(timeout)
            assert 2 < len(deadlines) <= 4

    with_stream(test)


def test_timer_is_set_again_if_the_deadline_has_moved() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", lambda: now)
            receiving = asyncio.ensure_future(stream.receive(10))
            await asyncio.sleep(0)
            feed(stream, far, b"x")
            assert await receiving == b"x"
            receiving = asyncio.ensure_future(stream.receive(20))
            await asyncio.sleep(0)
            first = stream._timer
            assert first
            assert first.when() == now + 10
            first.cancel()
            stream._on_timer()  # as the loop does at the deadline of the first receive
            assert stream._timer
            assert stream._timer.when() == now + 20
            feed(stream, far, b"y")
            assert await receiving == b"y"
        await stream.aclose(0)

    with_stream(test)


def test_timer_that_goes_off_without_a_wait_does_nothing() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        receiving = asyncio.ensure_future(stream.receive(0.01))
        await asyncio.sleep(0)
        feed(stream, far, b"x")
        assert await receiving == b"x"
        gone_off = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.03, gone_off.set_result, None)
        await gone_off
        receiving = asyncio.ensure_future(stream.receive(1000))
        await asyncio.sleep(0)
        feed(stream, far, b"y")
        assert await receiving == b"y"
        await stream.aclose(0)

    with_stream(test)


def test_run_async_in_a_thread_of_a_cancelled_session_raises_cancelled_error() -> None:
    started, cancelled = threading.Event(), threading.Event()
    outcomes: list[BaseException] = []

    async def never_called() -> None:
        raise AssertionError("called after the session was cancelled")

    def work(stream: AsyncioStream) -> None:
        started.set()
        assert cancelled.wait(TIMEOUT)
        try:
            stream.run_async(never_called)
        except BaseException as exc:
            outcomes.append(exc)

    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(stream.run_blocking(work, stream))
        assert await loop.run_in_executor(None, started.wait, TIMEOUT)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_stream(test)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]


def test_pending_run_async_is_cancelled_with_its_session() -> None:
    outcomes: list[BaseException] = []

    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reached = asyncio.Event()

        async def wait_forever() -> None:
            reached.set()
            await asyncio.Event().wait()

        def work() -> None:
            try:
                stream.run_async(wait_forever)
            except BaseException as exc:
                outcomes.append(exc)

        task = loop.create_task(stream.run_blocking(work))
        await asyncio.wait_for(reached.wait(), TIMEOUT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_stream(test)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]


def test_run_blocking_waiting_for_a_thread_is_cancelled_with_its_session() -> None:
    free = threading.Event()

    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool := ThreadPoolExecutor(1))
        blocker = loop.run_in_executor(None, free.wait, TIMEOUT)  # occupies the only thread
        task = loop.create_task(stream.run_blocking(pytest.fail, "no thread is free"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await blocker

    with_stream(test)


def test_second_of_two_simultaneous_connections_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []

    async def connect(loop: object, family: int, address: Any, local_address: str | None) -> socket.socket:
        connection = socket.socket()
        sockets.append(connection)
        await both.wait() if len(sockets) == 1 else both.set()
        connection.connect(address)
        return connection

    async def main() -> None:
        stream = await open_stream("localhost", listener.getsockname()[1], 10)
        await stream.aclose(0)
        await asyncio.sleep(0)

    def resolve(host: object, *args: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())] * 2

    both = asyncio.Event()
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio._connect", connect)
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio.HAPPY_EYEBALLS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(main())
    assert [each.fileno() for each in sockets] == [-1, -1]


@LOOPS
def test_input_that_has_arrived_is_received(loop: type[asyncio.AbstractEventLoop] | None) -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        assert await stream.receive_arrived() is None
        far.send(b"x")
        assert await stream.receive_arrived() == b"x"
        far.shutdown(socket.SHUT_WR)
        assert await stream.receive_arrived() == b""

    with_stream(test, loop)


def test_arrived_input_is_not_awaited_by_a_cancelled_task() -> None:
    async def test(stream: AsyncioStream, far: socket.socket) -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        assert await stream.receive_arrived() is None
        task.uncancel()

    with_stream(test, WithoutReadiness)
