"""The store that writes messages into JetStream: what is stored after a success and after each failure."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from nats.js.client import JetStreamContext

from smtpcore_adapters.stores import StoreHandler, StoreRefusal, StoreUnavailable
from smtpcore_adapters.stores.jetstream import JetStream
from smtpcore_adapters.stores.jetstream._asyncio import Link
from tests.adapters.fakes import CONFIG, ENVELOPE, accepting
from tests.adapters.harness import running
from tests.adapters.stores.jetstreams import AsyncioRuntime, Streams, make_envelope, put
from tests.adapters.stores.nats_servers import needs_nats

pytestmark = needs_nats

LARGE = [b"x" * 262_144, b"y" * 262_144, b"z"]


@pytest.fixture
def store(found: Streams) -> JetStream:
    return JetStream(found.url, replicas=1, timeout=10)


def test_short_message_is_one_record_under_the_first_domain(store: JetStream, found: Streams) -> None:
    recipients = make_envelope("u@Sub.Example.org", "v@example.net").recipients
    key = asyncio.run(put(store, b"A: b\r\n", recipients=recipients))
    assert found.subjects(found.name) == [f"{found.name}.new.sub_example_org"]
    (record,) = found.records()
    assert (record.envelope.key, record.envelope.recipients, record.envelope.received) == (key, recipients, b"")
    assert (record.chunks, record.body, found.chunks()) == (0, b"A: b\r\n", [])


def test_long_message_has_its_chunks_in_the_other_stream(store: JetStream, found: Streams) -> None:
    key = asyncio.run(put(store, *LARGE))
    (record,) = found.records()
    assert record.body == b"".join(LARGE)
    assert found.chunks() == [f"{found.name}.body.{key}.{number}" for number in range(3)]


def test_message_without_octets_is_stored(store: JetStream, found: Streams) -> None:
    asyncio.run(put(store))
    assert [record.body for record in found.records()] == [b""]


def test_block_that_the_server_does_not_accept_at_once_is_divided(
    store: JetStream, found: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpcore_adapters.stores.jetstream._asyncio._OVERHEAD", 1_048_576 - 1000)
    asyncio.run(put(store, b"x" * 2500))
    (record,) = found.records()
    assert record.body == b"x" * 2500
    assert len(found.chunks()) == 3


def test_envelope_that_is_too_large_is_refused(store: JetStream, found: Streams) -> None:
    recipients = make_envelope(*(f"{'u' * 60}{number}@{'x' * 60}.example" for number in range(8000))).recipients
    with pytest.raises(StoreRefusal, match=r"452 4\.5\.3 Too many recipients"):
        asyncio.run(put(store, b"A: b\r\n", recipients=recipients))
    assert found.records() == []


def test_message_that_is_aborted_leaves_nothing(store: JetStream, found: Streams) -> None:
    async def main() -> None:
        writer = await store.open(make_envelope(), AsyncioRuntime())
        await writer.abort()
        await writer.write(LARGE[0])
        await writer.write(LARGE[1])
        await writer.write(LARGE[2])
        await writer.abort()

    asyncio.run(main())
    assert (found.chunks(), found.records()) == ([], [])


def failing_after(count: int) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a `publish` of a cluster that is lost after `count` messages."""
    original, published = Link.publish, list[str]()

    async def publish(self: Link, stream: str, subject: str, data: bytes, id: str | None) -> None:
        if len(published) == count:
            raise StoreUnavailable("no leader")
        published.append(subject)
        await original(self, stream, subject, data, id)

    return publish


def test_chunks_of_a_message_whose_body_fails_are_deleted(
    store: JetStream, found: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "publish", failing_after(2))

    async def main() -> None:
        writer = await store.open(make_envelope(), AsyncioRuntime())
        for _ in range(3):
            await writer.write(LARGE[0])
        with pytest.raises(StoreUnavailable, match="no leader"):
            await writer.commit()
        await writer.abort()

    asyncio.run(main())
    assert (found.chunks(), found.records()) == ([], [])


def test_chunks_are_kept_if_the_record_may_have_been_stored(
    store: JetStream, found: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The record may be in the cluster although its acknowledgement was lost. Without its chunks it would be broken.
    monkeypatch.setattr(Link, "publish", failing_after(3))

    async def main() -> None:
        writer = await store.open(make_envelope(), AsyncioRuntime())
        for block in LARGE:
            await writer.write(block)
        with pytest.raises(StoreUnavailable):
            await writer.commit()
        await writer.abort()

    asyncio.run(main())
    assert len(found.chunks()) == 3


def test_message_that_is_published_again_is_stored_once(
    store: JetStream, found: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = JetStreamContext.publish, list[str]()

    async def publish(self: JetStreamContext, subject: str, *args: Any, **options: Any) -> Any:
        acknowledgement = await original(self, subject, *args, **options)
        calls.append(subject)
        if calls.count(subject) == 1:
            raise TimeoutError  # the acknowledgement is lost
        return acknowledgement

    monkeypatch.setattr(JetStreamContext, "publish", publish)
    asyncio.run(put(store, *LARGE))
    assert len(calls) == 8
    assert [record.body for record in found.records()] == [b"".join(LARGE)]
    assert len(found.chunks()) == 3


def make_careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the store: it does not wait for the acknowledgements of the cluster."""
    original, tasks = Link.publish, set[asyncio.Task[None]]()

    async def publish_beside(*args: Any) -> None:
        with suppress(StoreUnavailable):
            await original(*args)

    async def publish(*args: Any) -> None:
        tasks.add(asyncio.get_running_loop().create_task(publish_beside(*args)))

    monkeypatch.setattr(Link, "publish", publish)


@pytest.mark.parametrize("careless", [False, True])
def test_message_is_accepted_only_after_the_acknowledgement(
    careless: bool, found: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 250 without an acknowledgement would be a lost message: this test notices a store that does not wait."""
    if careless:
        make_careless(monkeypatch)

    async def refuse(self: JetStreamContext, *args: Any, **options: Any) -> None:
        raise TimeoutError  # the cluster has no leader

    monkeypatch.setattr(JetStreamContext, "publish", refuse)
    handler = StoreHandler(JetStream(found.url, replicas=1, timeout=0.2))
    with running("asyncio", accepting(handler), config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"A: b\r\n.\r\n")
        answer = client.read()
    is_lost = answer.startswith("250") and not found.records()
    assert is_lost is careless
    assert ("no acknowledgement within 0.2 seconds" in caplog.text) is not careless


def test_client_gets_a_451_if_there_is_no_cluster(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    store = JetStream("nats://127.0.0.1:1/MAIL", timeout=0.1)
    with running(backend, accepting(StoreHandler(store)), config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"A: b\r\n.\r\n").expect(451)
        client.send(b"NOOP\r\n").expect(250)
    store.close()
    assert "no connection" in caplog.text


def test_check_reports_a_cluster_that_cannot_be_used(store: JetStream) -> None:
    store.check()
    with pytest.raises(StoreUnavailable, match="no connection"):
        JetStream("nats://127.0.0.1:1/MAIL", timeout=0.1).check()
