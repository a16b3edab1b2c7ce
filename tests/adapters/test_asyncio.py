"""What only asyncio's transports can do to a session; all else is in the contract that the adapters share."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from smtpcore_adapters import Interrupted
from smtpcore_adapters.asyncio import _ProtocolStream


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


def with_stream(test: Callable[[_ProtocolStream, FakeTransport], Awaitable[None]]) -> None:
    async def main() -> None:
        stream = _ProtocolStream(asyncio.get_running_loop(), lambda stream: None)
        transport = FakeTransport()
        stream.connection_made(transport)
        assert transport.calls == ["pause"]
        transport.calls.clear()
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
        stream.data_received(b"x")
        stream.connection_lost(BrokenPipeError())
        assert await stream.receive(1) == b"x"
        with pytest.raises(BrokenPipeError):
            await stream.receive(1)

    with_stream(test)


def test_it_is_read_while_someone_waits_and_at_no_other_time() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        assert transport.calls == ["resume"]
        stream.data_received(b"x")
        assert transport.calls == ["resume", "pause"]
        assert await receiving == b"x"

        transport.calls.clear()
        with pytest.raises(TimeoutError):
            await stream.receive(0)
        assert transport.calls == ["resume", "pause"]

    with_stream(test)


def test_what_comes_when_no_one_waits_is_the_last_for_now() -> None:
    # uvloop reads behind connection_made, though it was told not to.
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        stream.data_received(b"x")
        assert transport.calls == ["pause"]
        assert await stream.receive(1) == b"x"
        assert transport.calls == ["pause"]

    with_stream(test)


def test_an_interrupted_stream_stays_so() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        receiving = asyncio.ensure_future(stream.receive(1))
        await asyncio.sleep(0)
        stream.interrupt()
        for each in (receiving, stream.receive(1)):
            with pytest.raises(Interrupted):
                await each

    with_stream(test)


def test_what_was_read_as_plaintext_refuses_the_handshake() -> None:
    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        stream.data_received(b"NOOP\r\n")
        with pytest.raises(ConnectionAbortedError, match="plaintext was sent before TLS"):
            await stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 1)

    with_stream(test)


def test_a_handshake_without_outcome_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_transport(*args: Any, **options: Any) -> None:
        return None

    async def test(stream: _ProtocolStream, transport: FakeTransport) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", no_transport)
        with pytest.raises(ConnectionResetError):
            await stream.start_tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 1)
        assert stream.tls is None

    with_stream(test)
