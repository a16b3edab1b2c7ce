"""Consume messages: acknowledge, give back, fail, and lose the consumer in between."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from smtpcore import Reply
from smtpcore_adapters.stores import StoreUnavailable
from smtpcore_adapters.stores.jetstream import JetStream, QueuedMessage, consume
from smtpcore_adapters.stores.jetstream import _consumer as consumer
from smtpcore_adapters.stores.jetstream._asyncio import Link
from smtpcore_adapters.stores.jetstream._options import cluster_of
from tests.adapters.stores.jetstreams import Streams, make_envelope, put
from tests.adapters.stores.nats_servers import needs_nats

pytestmark = needs_nats

LARGE = [b"x" * 262_144, b"y" * 262_144, b"z"]
NO = Reply(550, "No such user", enhanced="5.1.1")
YES = Reply(250, "OK", enhanced="2.0.0")


def taking(found: Streams, **options: Any) -> "aclosing[AsyncGenerator[QueuedMessage, None]]":
    return aclosing(consume(found.url, durable="test", replicas=1, timeout=10, **options))


def play(
    found: Streams, *bodies: list[bytes], script: Callable[[Any], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Store messages for two recipients, and call `script` with the iterator over the messages."""

    async def main() -> None:
        store = JetStream(found.url, replicas=1)
        for body in bodies:
            await put(store, *body, recipients=make_envelope("u@s.example", "v@s.example").recipients)
        async with taking(found, **options) as messages:
            await script(messages)

    asyncio.run(main())


@pytest.mark.parametrize("body", [[b"A: b\r\n"], LARGE])
def test_message_has_its_envelope_and_body_and_is_deleted_once_acknowledged(body: list[bytes], found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        assert await message.read() == b"".join(body)
        assert b"".join([piece async for piece in message]) == b"".join(body)
        assert [rcpt.forward_path.address for rcpt in message.recipients] == ["u@s.example", "v@s.example"]
        assert (message.envelope.sender, message.size, message.attempts) == ("a@c.example", len(b"".join(body)), 0)
        assert 0 <= message.age < 60
        assert message.envelope.key in repr(message)
        await message.ack()
        with pytest.raises(RuntimeError, match="acknowledged or given back already"):
            await message.ack()

    play(found, body, script=script)
    assert (found.records(), found.chunks()) == ([], [])


def test_message_comes_again_with_the_results_of_the_first_attempt(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        message.replies["u@s.example"] = YES
        await message.retry(0.1)
        again = await anext(messages)
        assert (again.attempts, again.replies) == (1, {"u@s.example": YES})
        assert [rcpt.forward_path.address for rcpt in again.recipients] == ["v@s.example"]
        assert await again.read() == b"A: b\r\n"
        await again.ack()

    play(found, [b"A: b\r\n"], script=script)
    assert (found.records(), found.chunks()) == ([], [])


def test_message_is_given_back_without_its_results_if_there_is_no_space(
    found: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def add(context: JetStreamContext) -> None:
        name, subjects = f"{found.name}_bodies", [f"{found.name}.body.>"]
        await context.add_stream(StreamConfig(name=name, subjects=subjects, max_bytes=10, discard=DiscardPolicy.NEW))

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        message.replies["u@s.example"] = YES
        await message.retry(0.1)
        again = await anext(messages)
        assert (again.attempts, again.replies) == (0, {})

    found.run(add)
    play(found, [b"A: b\r\n"], script=script)
    assert "are not stored: " in caplog.text


def test_message_that_comes_too_early_is_given_back(found: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    # A new leader may have forgotten the delay.
    original = consumer._later
    monkeypatch.setattr(consumer, "_later", lambda seconds: original(0.05))

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        await (await anext(messages)).retry(1.5)
        start = time.monotonic()
        message = await anext(messages)
        assert time.monotonic() - start > 0.3
        assert message.attempts == 1

    play(found, [b"A: b\r\n"], script=script)


def test_message_that_fails_is_a_dead_letter(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        with pytest.raises(ValueError, match="needs a negative reply"):
            await message.fail()
        message.replies["u@s.example"] = YES
        await message.fail(NO)

    play(found, LARGE, script=script)
    assert found.subjects(found.name) == [f"{found.name}.dead.s_example"]

    async def read_dead(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        assert message.failures == {"v@s.example": NO}
        assert [rcpt.forward_path.address for rcpt in message.recipients] == ["v@s.example"]
        assert await message.read() == b"".join(LARGE)
        await message.retry(0.1)
        message = await anext(messages)
        assert (message.attempts, message.failures) == (1, {"v@s.example": NO})
        await message.fail(NO)
        message = await anext(messages)
        assert (message.attempts, message.failures) == (0, {"v@s.example": NO})
        await message.ack()

    play(found, script=read_dead, dead=True)
    assert (found.records(), found.chunks()) == ([], [])


def test_consumer_gets_the_messages_of_its_domain(found: Streams) -> None:
    async def main() -> None:
        store = JetStream(found.url, replicas=1)
        for domain in ("one.example", "two.example"):
            await put(store, b"", recipients=make_envelope(f"u@{domain}").recipients)
        async with taking(found, domain="Two.Example") as messages:
            message = await anext(messages)
            assert message.envelope.addresses == ("u@two.example",)
            await message.ack()

    asyncio.run(main())
    assert found.subjects(found.name) == [f"{found.name}.new.one_example"]


def test_message_of_a_program_that_ended_comes_again(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        key = message.envelope.key
        del message  # the program has forgotten the message: it gets no further time
        gc.collect()
        again = await anext(messages)
        assert (again.envelope.key, again.attempts) == (key, 0)
        await again.ack()

    play(found, [b"A: b\r\n"], script=script, ack_wait=1)


def test_slow_program_keeps_its_message(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        await asyncio.sleep(1.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(messages)
        await message.ack()

    play(found, [b"A: b\r\n"], script=script, ack_wait=1)


def test_message_that_arrives_later_is_consumed(found: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_FETCH", 0.05)

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.2)
        await put(JetStream(found.url, replicas=1), b"A: b\r\n")
        await (await waiting).ack()

    play(found, script=script)


def test_messages_of_a_queue_are_shared(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        async with taking(found) as others:
            keys = {(await anext(each)).envelope.key for each in (messages, others, messages)}
        assert len(keys) == 3

    play(found, *([b"A: b\r\n"] for _ in range(3)), script=script)


def test_record_that_cannot_be_read_stays_in_the_stream(found: Streams, caplog: pytest.LogCaptureFixture) -> None:
    async def publish(context: JetStreamContext) -> None:
        await context.publish(f"{found.name}.new.x", b"other")

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        await asyncio.to_thread(found.run, publish)
        store = JetStream(found.url, replicas=1)
        await put(store, b"A: b\r\n")
        await (await anext(messages)).ack()

    JetStream(found.url, replicas=1).check()
    play(found, script=script)
    assert found.subjects(found.name) == [f"{found.name}.new.x"]
    assert "record 1: Expecting value" in caplog.text


def test_message_whose_results_cannot_be_read_stays_in_the_stream(
    found: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        store = JetStream(found.url, replicas=1)
        key = await put(store, b"A: b\r\n")

        async def publish(context: JetStreamContext) -> None:
            await context.publish(f"{found.name}.body.{key}.state", b"garbage")

        await asyncio.to_thread(found.run, publish)
        await put(store, b"C: d\r\n")
        message = await anext(messages)
        assert await message.read() == b"C: d\r\n"
        await message.ack()

    play(found, script=script)
    assert found.subjects(found.name) == [f"{found.name}.new.s_example"]
    assert "record 1: Expecting value" in caplog.text


def test_message_whose_next_attempt_has_an_impossible_time_is_due_now(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        key = await put(JetStream(found.url, replicas=1), b"A: b\r\n")

        async def publish(context: JetStreamContext) -> None:
            state = b'{"attempts":1,"due":Infinity,"replies":{},"record":1}'
            await context.publish(f"{found.name}.body.{key}.state", state)

        await asyncio.to_thread(found.run, publish)
        message = await anext(messages)
        assert (message.attempts, message.envelope.key) == (1, key)

    play(found, script=script)


@pytest.mark.parametrize("after", [float("nan"), float("inf"), float("-inf"), 1e10])
def test_impossible_delay_is_refused_before_anything_is_stored(after: float, found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        with pytest.raises(ValueError, match="it must be at most 1000000000 seconds"):
            await message.retry(after)
        await message.ack()

    play(found, [b"A: b\r\n"], script=script)
    assert (found.records(), found.chunks()) == ([], [])


def test_queue_that_reads_another_domain_is_not_changed(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        await (await anext(messages)).ack()
        link = Link(cluster_of(found.url, replicas=1))
        config = ConsumerConfig(durable_name="test", filter_subject=f"{found.name}.new.other_example")
        with pytest.raises(StoreUnavailable, match=rf"the queue test reads {found.name}\.new\.\*, not"):
            await link.subscribe(config)
        await link.close()

    play(found, [b"A: b\r\n"], script=script)


def test_results_survive_the_loss_of_the_queue(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        message.replies["u@s.example"] = YES
        await message.retry(0.1)

    async def delete(context: JetStreamContext) -> None:
        await context.delete_consumer(found.name, "test")

    async def script_again(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        assert (message.attempts, message.replies) == (1, {"u@s.example": YES})
        await message.ack()

    play(found, [b"A: b\r\n"], script=script)
    found.run(delete)
    play(found, script=script_again)


def test_message_that_is_newer_than_the_subscription_has_no_results_yet(
    found: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **options: object) -> None:
        raise AssertionError("the results were read")

    monkeypatch.setattr(consumer, "_SKEW", -3600.0)
    monkeypatch.setattr(Link, "get", fail)

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        await (await anext(messages)).ack()

    play(found, [b"A: b\r\n"], script=script)


def test_each_queue_of_a_stream_has_its_own_results(found: Streams) -> None:
    async def add(context: JetStreamContext) -> None:
        subjects = [f"{found.name}.new.*", f"{found.name}.dead.*"]
        await context.add_stream(StreamConfig(name=found.name, subjects=subjects, retention=RetentionPolicy.LIMITS))

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)
        message.replies["u@s.example"] = YES
        await message.retry(0.1)
        async with aclosing(consume(found.url, durable="other", replicas=1)) as others:
            assert (await anext(others)).replies == {}
        assert (await anext(messages)).replies == {"u@s.example": YES}

    found.run(add)
    play(found, [b"A: b\r\n"], script=script)


def test_body_without_one_of_its_chunks_is_an_error(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)

        async def purge(context: JetStreamContext) -> None:
            await context.purge_stream(f"{found.name}_bodies", subject=f"{found.name}.body.*.1")

        await asyncio.to_thread(found.run, purge)
        with pytest.raises(StoreUnavailable, match="lacks its chunk 1"):
            await message.read()

    play(found, LARGE, script=script)


def test_body_with_another_size_than_its_record_says_is_an_error(found: Streams) -> None:
    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        message = await anext(messages)

        async def publish(context: JetStreamContext) -> None:
            await context.publish(f"{found.name}.body.{message.envelope.key}.2", b"zz")

        await asyncio.to_thread(found.run, publish)
        with pytest.raises(StoreUnavailable, match="has 524290 of 524289 octets"):
            await message.read()

    play(found, LARGE, script=script)


def test_queue_that_was_deleted_is_created_again(
    found: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer, "_FETCH", 0.2)

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.to_thread(found.run, delete)
        await put(JetStream(found.url, replicas=1), b"A: b\r\n")
        await (await waiting).ack()

    async def delete(context: JetStreamContext) -> None:
        while True:
            with suppress(NotFoundError):
                if await context.delete_consumer(found.name, "test"):
                    return

    play(found, script=script)
    assert "the queue is lost" in caplog.text


def test_consumer_waits_for_a_cluster_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer, "_LONGEST_PAUSE", 0.15)

    async def main() -> None:
        cluster = cluster_of("nats://127.0.0.1:1/MAIL", timeout=0.05)
        queue = consumer._Queue(Link(cluster), ConsumerConfig(durable_name="test"), 60.0)
        assert await queue.next() is None
        assert queue._pause == 0.15
        assert await queue.next() is None
        await queue.link.close()

    caplog.set_level(logging.WARNING)
    asyncio.run(main())
    assert caplog.text.count("no message can be consumed now") == 2


def test_chunks_are_kept_in_a_stream_with_several_queues(found: Streams) -> None:
    async def add(context: JetStreamContext) -> None:
        subjects = [f"{found.name}.new.*", f"{found.name}.dead.*"]
        await context.add_stream(StreamConfig(name=found.name, subjects=subjects, retention=RetentionPolicy.LIMITS))

    async def script(messages: AsyncGenerator[QueuedMessage, None]) -> None:
        await (await anext(messages)).ack()

    found.run(add)
    play(found, LARGE, script=script)
    assert len(found.chunks()) == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"durable": "a.b"}, "durable is 'a.b'"),
        ({"durable": "a", "ack_wait": 0.5}, "ack_wait is 0.5"),
        ({"durable": "a", "ack_wait": float("nan")}, "ack_wait is nan"),
        ({"durable": "a", "ack_wait": float("inf")}, "ack_wait is inf"),
        ({"durable": "a", "domain": ""}, "domain is ''"),
        ({"durable": "a", "domain": "b..c"}, "domain is 'b..c'"),
    ],
)
def test_impossible_queue_is_refused(options: dict[str, Any], reason: str) -> None:
    async def main() -> None:
        await anext(consume("nats://a/MAIL", **options))

    with pytest.raises(ValueError, match=reason):
        asyncio.run(main())


def test_consumer_needs_asyncio() -> None:
    async def main() -> None:
        await anext(consume("nats://a/MAIL", durable="a"))

    with pytest.raises(RuntimeError, match="in an event loop of asyncio"):
        anyio.run(main, backend="trio")
