"""What only asyncio's transports can do to a session; all else is in the contract that the adapters share."""

import asyncio
import math
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from smtpcore_adapters import Interrupted
from smtpcore_adapters.asyncio import _READ_SIZE, _ProtocolStream
from tests.adapters.command import TIMEOUT


class FakeTransport(asyncio.Transport):
    """Writes down what is done to it."""

    def __init__(self) -> None:
        super().__init__()
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


def feed(stream: _ProtocolStream, data: bytes) -> None:
    stream.get_buffer(-1)[: len(data)] = data
    stream.buffer_updated(len(data))


def with_stream(test: Callable[[_ProtocolStream, FakeTransport], Awaitable[None]]) -> None:
    async def main() -> None:
        stream = _ProtocolStream(asyncio.get_running_loop(), None)
        transport = FakeTransport()
        stream.connection_made(transport)
        await asyncio.wait_for(test(stream, transport), 10)

    asyncio.run(main())


def test_nothing_is_written_to_a_connection_that_is_lost() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        stream.connection_lost(BrokenPipeError("gone"))
        with pytest.raises(BrokenPipeError, match="gone"):
            await stream.send(b"x", 1)
        assert transport.calls == []

    with_stream(test)


def test_a_failure_that_is_no_oserror_becomes_one() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        stream.connection_lost(ValueError("of the transport"))
        with pytest.raises(ConnectionResetError):
            await stream.receive(1)

    with_stream(test)


def test_what_came_before_the_loss_is_received_before_it() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"x")
        stream.connection_lost(BrokenPipeError())
        assert await stream.receive(1) == b"x"
        with pytest.raises(BrokenPipeError):
            await stream.receive(1)

    with_stream(test)


def test_two_buffers_are_read_ahead_at_most() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"x" * (_READ_SIZE - 1))
        assert transport.calls == []
        feed(stream, b"y" * _READ_SIZE)
        assert transport.calls == ["pause"]
        assert await stream.receive(1) == b"x" * (_READ_SIZE - 1) + b"y" * _READ_SIZE
        assert transport.calls == ["pause"]  # until someone wants more

        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        assert transport.calls == ["pause", "resume"]
        feed(stream, b"z" * _READ_SIZE)
        assert transport.calls == ["pause", "resume", "pause"]
        assert await receiving == b"z" * _READ_SIZE

    with_stream(test)


def test_a_client_who_pipelines_lets_others_have_their_turn() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        turns: list[int] = []
        loop = asyncio.get_running_loop()
        now = loop.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "time", lambda: now)
            for number, had_their_turn in enumerate(([0], [0], [0, 1, 2], [0, 1, 2])):
                loop.call_soon(turns.append, number)
                await stream.send(b"250 OK\r\n", 1)
                assert turns == had_their_turn
                now += 0.003

    with_stream(test)


def test_an_interruption_ends_one_receive() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
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


def test_what_was_read_before_the_handshake_is_no_plaintext_behind_it() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        feed(stream, b"NOOP\r\n" * 10)
        with pytest.raises(ssl.SSLError):
            await stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 1)
        assert stream.tls is None

    with_stream(test)


def test_one_timer_serves_all_waits() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        loop = asyncio.get_running_loop()
        made: list[float] = []
        call_at = loop.call_at

        def count(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
            made.append(when)
            return call_at(when, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "call_at", count)
            for timeout in (1000, 1001, 1002, math.inf):
                receiving = asyncio.ensure_future(stream.receive(timeout))
                await asyncio.sleep(0)
                feed(stream, b"x")
                assert await receiving == b"x"
            assert len(made) == 1

            # It goes off too early for the last wait, and is made anew; an earlier deadline needs a new one.
            for timeout in (0.01, 0.02):
                with pytest.raises(TimeoutError):
                    await stream.receive(timeout)
            assert 2 < len(made) <= 4

    with_stream(test)


def test_a_timer_that_goes_off_when_no_one_waits_does_nothing() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
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


def test_what_is_left_of_a_handshake_is_not_written_to_a_lost_connection() -> None:
    async def main() -> list[object]:
        stream = _ProtocolStream(asyncio.get_running_loop(), None)
        stream.connection_made(transport := FakeTransport())
        await stream._write(b"first")
        stream.connection_lost(None)
        await stream._write(b"second")
        return transport.calls

    assert asyncio.run(main()) == [b"first"]


def test_a_thread_whose_session_is_cancelled_gets_nothing_more_of_the_loop() -> None:
    started, cancelled = threading.Event(), threading.Event()
    outcomes: list[BaseException] = []

    async def wanted() -> None:
        raise AssertionError("the session is over")

    def work(stream: _ProtocolStream) -> None:
        started.set()
        assert cancelled.wait(TIMEOUT)
        try:
            stream.run_async(wanted)
        except BaseException as exc:
            outcomes.append(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = _ProtocolStream(loop, None)
        task = loop.create_task(stream.run_blocking(work, stream))
        assert await loop.run_in_executor(None, started.wait, TIMEOUT)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError]


def test_a_call_that_no_thread_has_begun_may_be_cancelled_with_its_session() -> None:
    free = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool := ThreadPoolExecutor(1))
        blocker = loop.run_in_executor(None, free.wait, TIMEOUT)  # the only thread takes this at once
        task = loop.create_task(_ProtocolStream(loop, None).run_blocking(pytest.fail, "no thread is free"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await blocker

    asyncio.run(main())
