"""A store can call coroutine functions of asyncio from sessions of every adapter."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

from smtpcore import Reply
from smtpcore_adapters import Message, Session
from smtpcore_adapters.stores.asyncio import AsyncioThread
from tests.adapters.fakes import CONFIG, EHLO, ENVELOPE, accepting
from tests.adapters.harness import run_in, running
from tests.adapters.playbook import session


@pytest.fixture
def thread() -> Iterator[AsyncioThread]:
    thread = AsyncioThread()
    yield thread
    thread.close()
    thread.close()


async def add(one: int, two: int) -> tuple[int, str]:
    await asyncio.sleep(0)
    return one + two, threading.current_thread().name


def test_coroutine_runs_in_the_thread(backend: str, thread: AsyncioThread) -> None:
    app = accepting()

    @app.on("message")
    async def store(runtime: Session, message: Message) -> Reply:
        results = [await thread.call(runtime, add, 2, number) for number in range(2)]
        with pytest.raises(ValueError, match="invalid literal"):
            await thread.call(runtime, fail)
        return Reply(250, str(results))

    async def fail() -> int:
        return int("x")

    with running(backend, app, config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b".\r\n")
        assert "[(2, 'asyncio of stores'), (3, 'asyncio of stores')]" in client.read()


def hanging() -> tuple[Callable[[], Coroutine[Any, Any, None]], threading.Event, threading.Event]:
    """Return a coroutine function that never returns, and the events of its begin and of its cancellation."""
    begun, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    return hang, begun, cancelled


def test_cancellation_on_asyncio_cancels_the_coroutine(thread: AsyncioThread) -> None:
    hang, begun, cancelled = hanging()
    runtime = session(accepting()).send(EHLO).session

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(thread.call, runtime, hang)
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()

    run_in("asyncio", main)
    assert cancelled.wait(10)


def test_closed_thread_starts_again(thread: AsyncioThread) -> None:
    hang, begun, cancelled = hanging()
    waiting = threading.Thread(target=pytest.raises, args=(BaseException, thread.call_blocking, hang))
    waiting.start()
    assert begun.wait(10)
    thread.close()
    assert cancelled.is_set()
    waiting.join(10)
    assert thread.call_blocking(add, 1, 2)[0] == 3
