"""The stream of anyio on the event loop of asyncio."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

import anyio
import pytest

from smtpcore import ConnectionOpened
from smtpcore_adapters import Address, App, Session
from smtpcore_adapters.anyio import Backend, serving
from smtpcore_adapters.streams._polled import PolledStream
from smtpcore_adapters.streams._scoped import ScopedStream
from tests.adapters.fakes import CONFIG
from tests.adapters.harness import Client
from tests.adapters.streams.frameworks import ANYIO


def with_stream(test: Callable[[ScopedStream, socket.socket], Awaitable[None]]) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            stream = ScopedStream(ANYIO, asyncio.get_running_loop(), near, None)
            await test(stream, far)
            await stream.aclose(0)

    anyio.run(main)


def test_cancel_scope_ends_a_receive() -> None:
    async def test(stream: ScopedStream, far: socket.socket) -> None:
        with anyio.move_on_after(0) as scope:
            await stream.receive(10)
        assert scope.cancelled_caught

        far.send(b"x")
        with anyio.fail_after(10):
            assert await stream.receive(10) == b"x"

    with_stream(test)


def test_cancel_scope_ends_a_send() -> None:
    async def test(stream: ScopedStream, far: socket.socket) -> None:
        with anyio.move_on_after(0) as scope:
            await stream.send(b"x" * 10_000_000, 10)
        assert scope.cancelled_caught

    with_stream(test)


def test_timeout_of_a_send_is_not_a_cancellation() -> None:
    async def test(stream: ScopedStream, far: socket.socket) -> None:
        with anyio.fail_after(10), pytest.raises(TimeoutError, match=r"^$"):
            await stream.send(b"x" * 10_000_000, 0)

    with_stream(test)


def test_cancelled_task_may_wait_in_a_shield() -> None:
    async def test(stream: ScopedStream, far: socket.socket) -> None:
        far.send(b"x")
        with anyio.CancelScope() as scope:
            scope.cancel()
            with stream.shield(10):
                assert await stream.receive(10) == b"x"
            await stream.check_cancelled()
        assert scope.cancelled_caught

    with_stream(test)


@pytest.mark.parametrize(("backend", "stream"), [("asyncio", ScopedStream), ("trio", PolledStream)])
def test_server_uses_the_stream_of_the_backend(backend: Backend, stream: type, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []
    app = App()

    @app.on("connect")
    async def note(session: Session, opened: ConnectionOpened) -> None:
        used.append(type(session._stream))

    async def main() -> None:
        async with serving(app, config=CONFIG) as server:
            await anyio.to_thread.run_sync(greet, server.address)

    def greet(address: Address) -> None:
        with Client(address) as client:
            client.expect(220)

    anyio.run(main, backend=backend)
    assert used == [stream]


def test_server_runs_in_an_event_loop_that_anyio_did_not_start() -> None:
    async def main() -> None:
        async with serving(App(), config=CONFIG) as server:
            await asyncio.to_thread(greet, server.address)

    def greet(address: Address) -> None:
        with Client(address) as client:
            client.expect(220)

    asyncio.run(main())


def test_adapter_of_anyio_on_trio_does_not_load_asyncio() -> None:
    script = """
import anyio, sys
from smtpcore_adapters import App
from smtpcore_adapters.anyio import serving

async def main():
    async with serving(App()):
        print("asyncio" in sys.modules)

anyio.run(main, backend="trio")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
