"""Take messages from a queue, deliver each, and decide what becomes of it."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters.drain import Schedule, _asyncio, drain, run
from smtpcore_adapters.stores import Runtime
from smtpcore_adapters.stores.jetstream import JetStream, QueuedMessage
from tests.adapters.fakes import CONFIG, accepting
from tests.adapters.harness import running
from tests.adapters.stores.jetstreams import make_envelope, put, streams
from tests.adapters.stores.nats_servers import needs_nats

from .queues import FakeMessage

YES, NO, LATER = Reply(250, "OK"), Reply(550, "No"), Reply(450, "Later")
BUSY = Reply(452, "Too many", enhanced="4.5.3")


class Answers:
    """A delivery that gives the same answers each time."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = replies

    async def __call__(self, message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        addresses = [rcpt.forward_path.address for rcpt in message.recipients]
        return dict(zip(addresses, self._replies, strict=True))


def play(monkeypatch: pytest.MonkeyPatch, *messages: FakeMessage, deliver: Any, **options: Any) -> None:
    """Drain a queue that has these messages."""
    given = list(messages)

    async def consume(url: str, **options: object) -> AsyncGenerator[FakeMessage, None]:
        while given:
            yield given.pop(0)
        await asyncio.Event().wait()

    async def main() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await drain("nats://a/MAIL", deliver, concurrency=1, **options)

    monkeypatch.setattr(_asyncio, "consume", consume)
    asyncio.run(main())


@pytest.mark.parametrize(
    ("replies", "age", "decision", "kept"),
    [
        ((YES, YES), 0, ("ack",), (YES, YES)),
        ((YES, NO), 0, ("fail", 451), (YES, NO)),
        ((YES, LATER), 0, ("retry", 2), (YES,)),
        ((NO, LATER), 0, ("retry", 2), (NO,)),
        ((YES, BUSY), 0, ("retry", 0), (YES,)),
        ((NO, BUSY), 0, ("retry", 2), (NO,)),
        ((YES, BUSY, LATER), 0, ("retry", 2), (YES,)),
        ((LATER, LATER), 5 * 86400, ("fail", 450), (LATER, LATER)),
        ((YES, LATER), 5 * 86400, ("fail", 450), (YES, LATER)),
        ((LATER, BUSY), 5 * 86400, ("fail", 452), (LATER, BUSY)),
    ],
)
def test_replies_decide_about_the_message(
    replies: tuple[Reply, ...], age: float, decision: object, kept: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = FakeMessage(*("u@s.example", "v@s.example", "w@s.example")[: len(replies)], age=age)
    play(monkeypatch, message, deliver=Answers(*replies))
    assert message.decisions == [decision]
    assert tuple(message.replies.values()) == kept


async def read(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
    async for _ in message:
        pass
    return {}


async def break_down(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
    raise ZeroDivisionError


async def return_none(message: QueuedMessage, runtime: Runtime) -> None:
    return None


async def return_texts(message: QueuedMessage, runtime: Runtime) -> Mapping[str, str]:
    return {"u@s.example": "250 OK"}


async def return_354(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
    return {"u@s.example": Reply(354, "Go ahead")}


@pytest.mark.parametrize(
    ("deliver", "reason"),
    [
        (return_354, "deliver returned {'u@s.example': Reply(354"),
        (read, "lacks its chunk 0"),
        (break_down, "ZeroDivisionError"),
        (return_none, "deliver returned None"),
        (return_texts, "deliver returned {'u@s.example': '250 OK'}"),
    ],
)
def test_message_that_cannot_be_read_or_delivered_is_tried_again(
    deliver: object, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    message, other = FakeMessage(), FakeMessage()
    message.is_broken = deliver is read
    play(monkeypatch, message, other, deliver=deliver)
    assert message.decisions == other.decisions == [("retry", 2)]
    assert reason in caplog.text


def test_decision_that_the_cluster_does_not_take_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    message, other = FakeMessage(), FakeMessage()
    message.is_lost = True
    play(monkeypatch, message, other, deliver=Answers(YES))
    assert (message.decisions, other.decisions) == ([], [("ack",)])
    assert "comes again later: no leader" in caplog.text


def test_dead_letter_waits_for_space(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    message = FakeMessage()
    message.is_full = True
    play(monkeypatch, message, deliver=Answers(NO))
    assert message.decisions == [("retry", 7)]
    assert "cannot be a dead letter yet: maximum bytes exceeded" in caplog.text


def test_message_without_recipients_is_not_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    message = FakeMessage("u@s.example")
    message.replies["u@s.example"] = NO
    play(monkeypatch, message, deliver=break_down)
    assert message.decisions == [("fail", 451)]


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="concurrency is 0"):
        run("nats://a/MAIL", Answers(), concurrency=0)
    with pytest.raises(ValueError, match=r"'nats://a' does not have the form"):
        run("nats://a", Answers(), concurrency=2)


def stop_by_signal(
    monkeypatch: pytest.MonkeyPatch, message: FakeMessage, deliver: Callable[..., Any], grace: float
) -> None:
    async def consume(url: str, **options: object) -> AsyncGenerator[FakeMessage, None]:
        if options["durable"] == "busy" and not message.attempts:
            message.attempts += 1
            yield message
        await asyncio.Event().wait()

    monkeypatch.setattr(_asyncio, "consume", consume)
    run("nats://a/MAIL", deliver, durable="busy", concurrency=2, grace=grace)


def test_delivery_is_completed_after_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    message = FakeMessage()

    async def deliver(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        return dict.fromkeys(message.envelope.addresses, YES)

    stop_by_signal(monkeypatch, message, deliver, 10)
    assert message.decisions == [("ack",)]


def test_delivery_that_takes_longer_than_the_grace_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    message = FakeMessage()

    async def deliver(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        return {}

    stop_by_signal(monkeypatch, message, deliver, 0.01)
    assert message.decisions == []


def test_cancellation_that_is_lost_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asyncio, "_PAUSE", 0.01)
    lost = list[str]()

    async def consume(url: str, **options: object) -> AsyncGenerator[FakeMessage, None]:
        yield FakeMessage()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append("once")

    async def deliver(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        return dict.fromkeys(message.envelope.addresses, YES)

    monkeypatch.setattr(_asyncio, "consume", consume)
    run("nats://a/MAIL", deliver, concurrency=1, grace=0.01)
    assert lost == ["once"]


def test_stores_have_their_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[object]()

    async def deliver(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        seen.append(await runtime.run_blocking(lambda: 42))
        with runtime.shield(1):
            stream = await runtime.open_stream("127.0.0.1", port, 5)
            await stream.aclose(0)
        entered, leave = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def block() -> None:
            loop.call_soon_threadsafe(entered.set)
            leave.wait(5)
            seen.append("left")

        task = asyncio.ensure_future(runtime.run_blocking(block))
        await entered.wait()
        task.cancel()
        leave.set()
        with suppress(asyncio.CancelledError):
            await task
        seen.append("cancelled")
        return dict.fromkeys(message.envelope.addresses, YES)

    message = FakeMessage()
    with running("threads", accepting(), config=CONFIG) as server:
        port = server.server.address.port
        server.clock.expected += 1
        play(monkeypatch, message, deliver=deliver)
    assert seen == [42, "left", "cancelled"]
    assert message.decisions == [("ack",)]


@needs_nats
def test_recipient_that_has_the_message_does_not_get_it_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen = list[list[str]]()

    async def deliver(message: QueuedMessage, runtime: Runtime) -> Mapping[str, Reply]:
        addresses = [rcpt.forward_path.address for rcpt in message.recipients]
        seen.append(addresses)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return {address: YES if address.startswith("u") or len(seen) == 2 else LATER for address in addresses}

    with streams() as found:
        recipients = make_envelope("u@s.example", "v@s.example").recipients
        asyncio.run(put(JetStream(found.url, replicas=1), b"A: b\r\n", recipients=recipients))
        run(found.url, deliver, schedule=Schedule(delays=(0.05,)), concurrency=2, replicas=1)
        assert seen == [["u@s.example", "v@s.example"], ["v@s.example"]]
        assert (found.records(), found.chunks()) == ([], [])
    assert "waits 0 seconds for its next attempt: 450 Later" in caplog.text
