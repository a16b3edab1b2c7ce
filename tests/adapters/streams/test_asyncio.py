"""The stream of asyncio: buffers, timers, threads, lost connections."""

import asyncio
import math
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from smtpcore_adapters import Interrupted
from smtpcore_adapters.asyncio import open_stream
from smtpcore_adapters.streams._asyncio import READ_SIZE, ProtocolStream
from tests.adapters.harness import TIMEOUT


class FakeTransport(asyncio.Transport):
    """A transport that records its calls."""

    def __init__(self) -> None:
        closed = socket.socket()
        closed.close()
        super().__init__({"socket": closed})
        self.calls: list[object] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


def feed(stream: ProtocolStream, data: bytes) -> None:
    stream.get_buffer(-1)[: len(data)] = data
    stream.buffer_updated(len(data))


def with_stream(test: Callable[[ProtocolStream, FakeTransport], Awaitable[None]]) -> None:
    async def main() -> None:
        stream = ProtocolStream(asyncio.get_running_loop(), None)
        transport = FakeTransport()
        stream.connection_made(transport)
        await asyncio.wait_for(test(stream, transport), 10)

    asyncio.run(main())


def test_send_on_a_lost_connection_raises_its_error() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        stream.connection_lost(BrokenPipeError("gone"))
        with pytest.raises(BrokenPipeError, match="gone"):
            await stream.send(b"x", 1)
        assert transport.calls == []

    with_stream(test)


def test_connection_lost_during_a_send_raises_its_error() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        asyncio.get_running_loop().call_soon(stream.connection_lost, BrokenPipeError("gone"))
        with pytest.raises(BrokenPipeError, match="gone"):
            await stream.send(b"x", 1)
        assert transport.calls == [b"x"]

    with_stream(test)


def test_transport_error_other_than_an_os_error_becomes_connection_reset_error() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        stream.connection_lost(ValueError("of the transport"))
        with pytest.raises(ConnectionResetError):
            await stream.receive(1)

    with_stream(test)


def test_data_before_a_lost_connection_is_received_first() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"x")
        stream.connection_lost(BrokenPipeError())
        assert await stream.receive(1) == b"x"
        with pytest.raises(BrokenPipeError):
            await stream.receive(1)

    with_stream(test)


def test_at_most_two_buffers_are_read_ahead() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"x" * (READ_SIZE - 1))
        assert transport.calls == []
        feed(stream, b"y" * READ_SIZE)
        assert transport.calls == ["pause"]
        assert await stream.receive(1) == b"x" * (READ_SIZE - 1) + b"y" * READ_SIZE
        assert transport.calls == ["pause"]  # reading resumes at the next receive

        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        assert transport.calls == ["pause", "resume"]
        feed(stream, b"z" * READ_SIZE)
        assert transport.calls == ["pause", "resume", "pause"]
        assert await receiving == b"z" * READ_SIZE

    with_stream(test)


def test_send_yields_to_other_tasks_after_the_time_of_a_turn() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        turns: list[int] = []
        loop = asyncio.get_running_loop()
        now = monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("smtpcore_adapters.streams._asyncio.monotonic", lambda: now)
            for number, had_their_turn in enumerate(([0], [0], [0, 1, 2], [0, 1, 2])):
                loop.call_soon(turns.append, number)
                await stream.send(b"250 OK\r\n", 1)
                assert turns == had_their_turn
                now += 0.003

    with_stream(test)


def test_interrupt_ends_one_receive() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        stream.interrupt()
        with pytest.raises(Interrupted):
            await receiving

        stream.interrupt()
        feed(stream, b"x")
        with pytest.raises(Interrupted):
            await stream.receive(1)
        assert await stream.receive(1) == b"x"

    with_stream(test)


def test_data_received_before_start_tls_is_never_treated_as_plaintext() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"NOOP\r\n" * 10)
        with pytest.raises(ssl.SSLError):
            await stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 1)
        assert stream.tls is None

    with_stream(test)


def test_one_timer_serves_all_waits() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
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
                feed(stream, b"x")
                assert await receiving == b"x"
            assert len(deadlines) == 1

            # The first timer goes off before the last deadline and is set again; an earlier deadline needs a new timer.
            for timeout in (0.01, 0.02):
                with pytest.raises(TimeoutError):
                    await stream.receive(timeout)
            assert 2 < len(deadlines) <= 4

    with_stream(test)


def test_timer_is_set_again_if_the_deadline_has_moved() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", lambda: now)
            receiving = asyncio.ensure_future(stream.receive(10))
            await asyncio.sleep(0)
            feed(stream, b"x")
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
            feed(stream, b"y")
            assert await receiving == b"y"
        await stream.aclose(0)

    with_stream(test)


def test_timer_that_goes_off_without_a_wait_does_nothing() -> None:
    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        receiving = asyncio.ensure_future(stream.receive(0.01))
        await asyncio.sleep(0)
        feed(stream, b"x")
        assert await receiving == b"x"
        gone_off = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.03, gone_off.set_result, None)
        await gone_off
        receiving = asyncio.ensure_future(stream.receive(1000))
        await asyncio.sleep(0)
        feed(stream, b"y")
        assert await receiving == b"y"
        await stream.aclose(0)

    with_stream(test)


def test_tls_output_is_not_written_to_a_lost_connection() -> None:
    async def main() -> list[object]:
        stream = ProtocolStream(asyncio.get_running_loop(), None)
        stream.connection_made(transport := FakeTransport())
        await stream._write(b"first")
        stream.connection_lost(None)
        await stream._write(b"second")
        return transport.calls

    assert asyncio.run(main()) == [b"first"]


def test_run_async_in_a_thread_of_a_cancelled_session_raises_cancelled_error() -> None:
    started, cancelled = threading.Event(), threading.Event()
    outcomes: list[BaseException] = []

    async def never_called() -> None:
        raise AssertionError("called after the session was cancelled")

    def work(stream: ProtocolStream) -> None:
        started.set()
        assert cancelled.wait(TIMEOUT)
        try:
            stream.run_async(never_called)
        except BaseException as exc:
            outcomes.append(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = ProtocolStream(loop, None)
        task = loop.create_task(stream.run_blocking(work, stream))
        assert await loop.run_in_executor(None, started.wait, TIMEOUT)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]


def test_pending_run_async_is_cancelled_with_its_session() -> None:
    outcomes: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = ProtocolStream(loop, None)
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

    asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]


def test_run_blocking_waiting_for_a_thread_is_cancelled_with_its_session() -> None:
    free = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool := ThreadPoolExecutor(1))
        blocker = loop.run_in_executor(None, free.wait, TIMEOUT)  # occupies the only thread
        task = loop.create_task(ProtocolStream(loop, None).run_blocking(pytest.fail, "no thread is free"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await blocker

    asyncio.run(main())


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


def test_input_arrives_in_two_iterations_of_the_loops_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio._ITERATIONS", 2)
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio.is_readable", lambda descriptor: False)

    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        loop = asyncio.get_running_loop()
        assert await stream.receive_arrived() is None
        loop.call_soon(loop.call_soon, feed, stream, b"x")
        assert await stream.receive_arrived() == b"x"

    with_stream(test)


def test_arrived_input_is_not_awaited_by_a_cancelled_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio._ITERATIONS", 2)
    monkeypatch.setattr("smtpcore_adapters.streams._asyncio.is_readable", lambda descriptor: False)

    async def test(stream: ProtocolStream, transport: FakeTransport) -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        assert await stream.receive_arrived() is None
        task.uncancel()

    with_stream(test)
