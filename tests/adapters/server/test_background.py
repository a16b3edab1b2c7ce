"""Servers that are started and stopped by calls."""

import asyncio
import smtplib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

import smtpcore_adapters.anyio
import smtpcore_adapters.asyncio
import smtpcore_adapters.trio
from smtpcore import Quit, Reply
from smtpcore_adapters import App, Listener, RunningServer, Session
from smtpcore_adapters.asyncio import BackgroundServer
from tests.adapters.fakes import MessageStore, accepting
from tests.adapters.harness import LOOPS, TIMEOUT, Client, run_in


def deliver(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, "c.example", timeout=TIMEOUT) as smtp:
        smtp.sendmail("a@c.example", ["u@s.example"], b"Subject: x\r\n\r\nbody\r\n")


def refuses_connections(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) != 0


# In a thread


def test_background_server_serves_inside_its_block() -> None:
    store = MessageStore()
    with BackgroundServer(accepting(store)) as server:
        was_serving = server.is_serving
        assert server.addresses == (server.address,)
        deliver(server.address.port)

    assert was_serving
    assert not server.is_serving
    assert refuses_connections(server.address.port)
    assert store.bodies == [b"Subject: x\r\n\r\nbody\r\n"]


def test_background_server_can_be_started_again_on_its_port() -> None:
    store = MessageStore()
    server = BackgroundServer(accepting(store), host="127.0.0.1", grace=1.0)
    port = server.start().address.port
    assert server.start() is server
    deliver(port)
    server.stop()
    server.stop()
    server.start()
    try:
        assert server.address.port == port
        deliver(port)
    finally:
        server.stop()

    assert len(store.bodies) == 2


def test_background_server_reports_a_port_that_is_in_use() -> None:
    with BackgroundServer(App()) as server:
        other = BackgroundServer(App(), server.address.port)
        with pytest.raises(OSError, match="in use"):
            other.start()

    assert not other.is_serving
    other.stop()
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        _ = other.address


def test_background_server_reports_wrong_options() -> None:
    with pytest.raises(TypeError, match="grace"):
        BackgroundServer(App(), grase=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'prot' is not an option of the server. The nearest is 'port'"):
        BackgroundServer(App(), prot=2525)  # type: ignore[call-arg]


def test_background_server_can_be_started_again_with_listeners() -> None:
    server = BackgroundServer(App(), listeners=[Listener(), Listener()])
    for _ in range(2):
        with server:
            assert len(server.addresses) == 2
            with Client(server.address) as client:
                client.expect(220)


def test_handlers_of_a_background_server_run_in_its_thread() -> None:
    threads: set[str] = set()
    app = App()

    @app.on("NOOP")
    async def note(session: Session, event: object) -> None:
        threads.add(threading.current_thread().name)

    with BackgroundServer(app) as server, Client(server.address) as client:
        client.send(b"NOOP\r\nNOOP\r\n").expect(220, 250, 250)

    assert threads == {"smtpcore server"}


def test_background_server_takes_another_event_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.new_event_loop())
        return loops[0]

    with BackgroundServer(App(), loop_factory=make):
        assert len(loops) == 1
    assert loops[0].is_closed()


def test_handler_that_ends_the_server_is_reported_by_stop() -> None:
    app = App()

    @app.on("NOOP")
    def end(session: Session, event: object) -> None:
        raise SystemExit(3)

    server = BackgroundServer(app).start()
    with Client(server.address) as client:
        client.send(b"NOOP\r\n").expect(220, 421)
        assert client.is_closed()
    with pytest.raises(SystemExit):
        server.stop()
    assert not server.is_serving
    server.stop()


def test_handler_cannot_stop_its_own_background_server() -> None:
    app = App()
    errors: list[str] = []

    @app.on("NOOP")
    def stop(session: Session, event: object) -> None:
        with pytest.raises(RuntimeError) as error:
            server.stop()
        errors.append(str(error.value))

    with BackgroundServer(app) as server, Client(server.address) as client:
        client.send(b"NOOP\r\n").expect(220, 250)

    assert errors == ["a handler cannot stop its own server, because stop() waits for the handlers"]


def test_client_that_has_sent_a_message_may_quit_while_the_server_stops() -> None:
    app = accepting(MessageStore())
    quits: list[Quit] = []

    @app.on("QUIT")
    def note(session: Session, quit: Quit) -> Reply:
        quits.append(quit)
        return Reply(221, "bye")

    with BackgroundServer(app) as server:
        client = smtplib.SMTP("127.0.0.1", server.address.port, "c.example", timeout=TIMEOUT)
        client.sendmail("a@c.example", ["u@s.example"], b"Subject: x\r\n\r\nbody\r\n")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        client.quit()
        stopping.join(TIMEOUT)

    assert len(quits) == 1


# In a task

Start = Callable[..., Awaitable[RunningServer]]


@asynccontextmanager
async def starting(backend: str) -> AsyncIterator[Start]:
    """Return the `start` of an adapter, with a task group or a nursery where it needs one."""
    if backend.startswith("asyncio"):
        yield smtpcore_adapters.asyncio.start
    elif backend == "trio":
        import trio

        async with trio.open_nursery() as nursery:

            def start(app: App, port: int = 0, **options: Any) -> Awaitable[RunningServer]:
                return smtpcore_adapters.trio.start(nursery, app, port, **options)

            yield start
    else:
        async with anyio.create_task_group() as tasks:

            def start_in_group(app: App, port: int = 0, **options: Any) -> Awaitable[RunningServer]:
                return smtpcore_adapters.anyio.start(tasks, app, port, **options)

            yield start_in_group


@pytest.mark.parametrize("backend", LOOPS)
def test_server_in_a_task_is_stopped_by_a_call(backend: str) -> None:
    store = MessageStore()

    async def main() -> None:
        async with starting(backend) as start:
            server = await start(accepting(store))
            was_serving = server.is_serving
            assert server.addresses == (server.address,)
            await anyio.to_thread.run_sync(deliver, server.address.port)
            await server.stop()
            await server.stop()
            assert was_serving
            assert not server.is_serving
            assert refuses_connections(server.address.port)

    run_in(backend, main)
    assert len(store.bodies) == 1


@pytest.mark.parametrize("backend", LOOPS)
def test_server_in_a_task_reports_a_port_that_is_in_use(backend: str) -> None:
    async def main() -> None:
        async with starting(backend) as start:
            server = await start(App())
            with pytest.raises(OSError, match="in use"):
                await start(App(), server.address.port)
            await server.stop()

    run_in(backend, main)


def test_cancelled_start_leaves_no_server() -> None:
    async def main() -> None:
        starting = asyncio.create_task(smtpcore_adapters.asyncio.start(App()))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        for _ in range(100):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
