"""Accepting connections on asyncio."""

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Never
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import pytest

from smtpcore_adapters import Address, App
from smtpcore_adapters.asyncio import serving
from smtpcore_adapters.server._asyncio import accept_streams, calling_on_signals
from smtpcore_adapters.streams._asyncio import AsyncioStream
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import TIMEOUT, Client, running
from tests.adapters.streams.frameworks import ANYIO


class WithoutReaders(asyncio.SelectorEventLoop):
    """A loop without `add_reader`, like the default loop of Windows."""

    def add_reader(self, *args: object) -> Never:
        raise NotImplementedError


def test_server_accepts_connections_on_a_loop_without_readers() -> None:
    async def main() -> None:
        async with serving(App(), config=CONFIG) as server:
            await asyncio.to_thread(check, server.address)

    def check(address: Address) -> None:
        with Client(address) as client:
            client.expect(220).send(b"QUIT\r\n").expect(221)

    with asyncio.Runner(loop_factory=WithoutReaders) as runner:
        runner.run(main())


class WithoutSignals(asyncio.SelectorEventLoop):
    """A loop without signal handlers, like the loops of Windows."""

    def add_signal_handler(self, *args: object) -> Never:
        raise NotImplementedError


def test_signals_are_handled_on_a_loop_without_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._asyncio.LONGEST_WAIT", 0.001)
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        stop = asyncio.Event()
        with calling_on_signals(stop.set):
            await asyncio.sleep(0.005)  # the loop wakes several times
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), TIMEOUT)

    with asyncio.Runner(loop_factory=WithoutSignals) as runner:
        runner.run(main())
    assert signal.getsignal(signal.SIGTERM) is before


def test_server_without_readers_continues_after_a_failed_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = WithoutReaders.sock_accept
    failures = [OSError(errno.EMFILE, "Too many open files")]

    async def fail_once(loop: WithoutReaders, source: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return await accept(loop, source)

    monkeypatch.setattr("smtpcore_adapters.server._acceptor._PAUSE", 0.001)
    monkeypatch.setattr(WithoutReaders, "sock_accept", fail_once)
    test_server_accepts_connections_on_a_loop_without_readers()
    assert not failures


def test_burst_of_connections_is_accepted_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._asyncio._ACCEPT_AT_ONCE", 1)
    with running("asyncio", App(), config=CONFIG) as server, ExitStack() as stack:
        for client in [stack.enter_context(server.connect()) for _ in range(5)]:
            client.expect(220)


def test_connection_that_cannot_be_registered_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stream: AsyncioStream) -> Never:
        raise OSError(errno.EMFILE, "Too many open files")

    with running("asyncio", App(), config=CONFIG) as server:
        with monkeypatch.context() as patch:
            patch.setattr(AsyncioStream, "_resume_reading", fail)
            patch.setattr("smtpcore_adapters.server._acceptor._PAUSE", 0.001)
            with server.connect() as unlucky:
                assert unlucky.is_closed()
        with server.connect() as client:
            client.expect(220)
    assert "Too many open files" in caplog.text


def test_server_may_stop_during_the_pause_after_an_accept_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(error: OSError) -> float:
        failed.set()
        return 60.0

    monkeypatch.setattr("smtpcore_adapters.server._asyncio.pause_after_accept_error", fail)
    with running("asyncio", App(), config=CONFIG) as server:
        monkeypatch.setattr(
            "smtpcore_adapters.server._asyncio.accept_from", Mock(side_effect=OSError(errno.EMFILE, ""))
        )
        with server.connect():
            assert failed.wait(TIMEOUT)
            server.leave().result(TIMEOUT)


def test_connection_accepted_just_before_the_end_has_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeAccepting:
        def __init__(self, source: object, new_stream: object, keep: Callable[[object], None]) -> None:
            self.keep = keep
            made.append(self)

        async def close(self) -> None:
            pass

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept_streams, ANYIO, Mock(), started.append)
            while not made:
                await anyio.lowlevel.checkpoint()
            made[0].keep("first")
            while not started:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
            made[0].keep("second")

    made: list[FakeAccepting] = []
    started: list[object] = []
    monkeypatch.setattr("smtpcore_adapters.server._asyncio.Accepting", FakeAccepting)
    anyio.run(main)
    assert started == ["first", "second"]
