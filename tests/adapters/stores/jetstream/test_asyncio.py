"""The connection to a cluster: login, TLS, lost servers, streams that do not fit."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from benchmarks.ports import reserved_ports
from smtpcore_adapters.stores import StoreFull, StoreRefusal, StoreUnavailable
from smtpcore_adapters.stores.jetstream import JetStream
from smtpcore_adapters.stores.jetstream._asyncio import Link
from smtpcore_adapters.stores.jetstream._options import cluster_of
from tests.adapters.stores.jetstreams import Streams, put
from tests.adapters.stores.nats_servers import NatsServer, needs_nats

pytestmark = needs_nats

SHORT = 0.3
"""Seconds in which a server on loopback answers or does not."""


def deliver(url: str, **options: Any) -> None:
    """Store a message on asyncio, in a server without a cluster."""
    store = JetStream(url, **{"replicas": 1, "timeout": 10, **options})
    asyncio.run(put(store, b"A: b\r\n"))


def with_link(found: Streams, function: Callable[[Link], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        link = Link(cluster_of(found.url, **{"replicas": 1, "timeout": 10, **options}))
        try:
            await function(link)
        finally:
            await link.close()

    asyncio.run(main())


def create(found: Streams, **config: Any) -> None:
    """Create the stream of the records with a configuration of its own."""
    config = {"name": found.name, "subjects": [f"{found.name}.new.*", f"{found.name}.dead.*"], **config}

    async def add(context: JetStreamContext) -> None:
        await context.add_stream(StreamConfig(**config))

    found.run(add)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[[str], NatsServer]]:
    with ExitStack() as stack:

        def start(more: str) -> NatsServer:
            ports = stack.enter_context(reserved_ports(3))
            server = NatsServer(tmp_path / str(ports[0]), "guarded", ports, more=more)
            stack.callback(server.kill)
            server.start()
            return server

        yield start


# Login and TLS


def test_login_with_a_password(guarded: Callable[[str], NatsServer]) -> None:
    url = f"nats://{guarded('authorization { user: u, password: secret }').address}/MAIL"
    deliver(url, user="u", password="secret")
    for login in ({}, {"user": "u", "password": "wrong-secret"}):
        with pytest.raises(StoreUnavailable, match="Authorization Violation") as info:
            deliver(url, **login)
        assert "wrong-secret" not in str(info.value)


def test_login_with_a_token(guarded: Callable[[str], NatsServer]) -> None:
    deliver(f"nats://{guarded('authorization { token: secret }').address}/MAIL", token="secret")


@pytest.mark.parametrize("first", [False, True])
def test_tls_verifies_the_server(first: bool, guarded: Callable[[str], NatsServer], tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    files = f'cert_file: "{tmp_path}/certificate", key_file: "{tmp_path}/key"'
    more = f"tls {{ {files}{', handshake_first: true' * first} }}"
    url = f"nats://{guarded(more).address}/MAIL"
    context = ssl.create_default_context()
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        deliver(url, tls=context, tls_first=first)
    authority.configure_trust(context)
    deliver(url, tls=context, tls_first=first)


@pytest.mark.parametrize("login", [{}, {"user": "u", "password": "secret"}])
def test_nothing_is_sent_to_a_server_without_tls_if_tls_is_wanted(
    login: dict[str, str], guarded: Callable[[str], NatsServer]
) -> None:
    server = guarded("authorization { user: u, password: secret }" if login else "")
    with pytest.raises(StoreUnavailable, match="secure connection required"):
        deliver(f"nats://{server.address}/MAIL", tls=ssl.create_default_context(), **login)


# Lost servers


def test_server_that_does_not_listen_makes_the_store_unavailable() -> None:
    with reserved_ports(1) as (port,), pytest.raises(StoreUnavailable, match=r"no connection \(.*Connect call failed"):
        deliver(f"nats://127.0.0.1:{port}/MAIL", timeout=1)


def test_server_that_sends_nothing_makes_the_store_unavailable() -> None:
    missing = pytest.raises(StoreUnavailable, match="no connection within")
    with socket.create_server(("127.0.0.1", 0)) as silent, missing:
        deliver(f"nats://127.0.0.1:{silent.getsockname()[1]}/MAIL", timeout=SHORT)


def test_cancellation_that_the_library_loses_does_not_hold_up_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    # In Python 3.11 `asyncio.wait_for` loses a cancellation that comes together with the result.
    lost = list[str]()

    async def connect(self: object, *args: object, **options: object) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append("once")

    monkeypatch.setattr("nats.aio.client.Client.connect", connect)
    with pytest.raises(StoreUnavailable, match="no connection"):
        deliver("nats://127.0.0.1/MAIL", timeout=0.05)
    assert lost == ["once"]


def test_connection_is_opened_again_after_a_restart(guarded: Callable[[str], NatsServer]) -> None:
    server = guarded("")
    found = Streams(server.address, "MAIL")

    async def publish(link: Link) -> None:
        await link.ready()
        server.kill()
        async with asyncio.timeout(10):
            while link._client and link._client.is_connected:  # noqa: ASYNC110 - the library has no event for this
                await asyncio.sleep(0.01)
        pending = asyncio.ensure_future(link.publish("MAIL", "MAIL.new.x", b"", "id"))
        await asyncio.to_thread(server.start)
        await pending

    with_link(found, publish)
    assert found.subjects("MAIL") == ["MAIL.new.x"]


def test_server_that_hangs_makes_the_store_unavailable_and_the_message_comes_once(
    guarded: Callable[[str], NatsServer],
) -> None:
    server = guarded("")
    found = Streams(server.address, "MAIL")

    async def publish(link: Link) -> None:
        await link.ready()
        usual, link.cluster = link.cluster, replace(link.cluster, timeout=SHORT)
        server.suspend()
        with pytest.raises(StoreUnavailable, match="no acknowledgement within"):
            await link.publish("MAIL", "MAIL.new.x", b"", "id")
        server.resume()
        link.cluster = usual
        await link.publish("MAIL", "MAIL.new.x", b"", "id")

    with_link(found, publish)
    assert found.subjects("MAIL") == ["MAIL.new.x"]


def test_connection_that_the_library_has_closed_is_opened_again(found: Streams) -> None:
    async def publish(link: Link) -> None:
        await link.ready()
        assert link._client
        await link._client.close()
        await link.publish(link.cluster.bodies, f"{found.name}.body.x", b"", None)

    with_link(found, publish)
    assert found.chunks() == [f"{found.name}.body.x"]


def test_stream_that_was_deleted_is_created_again(found: Streams) -> None:
    store = JetStream(found.url, replicas=1)

    async def main() -> None:
        await put(store, b"one")
        await asyncio.to_thread(found.delete)
        await put(store, b"two")

    asyncio.run(main())
    assert [record.body for record in found.records()] == [b"two"]


def test_purge_that_fails_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("smtpcore_adapters.stores.jetstream._asyncio._FIRST_WAIT", 0.05)

    async def purge() -> None:
        await Link(replace(cluster_of("nats://127.0.0.1:1/MAIL"), credentials="nowhere")).purge("MAIL.body.x.>")

    asyncio.run(purge())
    assert "are not deleted now, and expire later: no connection" in caplog.text


def test_connection_is_closed_with_the_event_loop(found: Streams, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    deliver(found.url)
    store = JetStream(found.url, replicas=1)
    store.check()
    store.check()
    assert "Traceback" not in caplog.text  # an open socket would also fail the test as a ResourceWarning


# Streams that do not fit


def test_stream_without_space_is_full(found: Streams) -> None:
    create(found, max_msgs=1, discard="new")
    deliver(found.url)
    with pytest.raises(StoreFull, match="maximum messages exceeded"):
        deliver(found.url)


def test_message_that_is_larger_than_the_stream_allows_is_refused(found: Streams) -> None:
    create(found, max_msg_size=100)
    with pytest.raises(StoreRefusal, match=r"552 5\.3\.4 The message is too large"):
        deliver(found.url)


def test_server_without_a_cluster_cannot_keep_three_copies(found: Streams) -> None:
    with pytest.raises(StoreUnavailable, match="replicas > 1 not supported in non-clustered mode"):
        deliver(found.url, replicas=3)


def test_stream_with_too_few_copies_is_not_used(found: Streams) -> None:
    deliver(found.url)
    with pytest.raises(StoreUnavailable, match="has replicas=1, and 2 are required"):
        deliver(found.url, replicas=2)


def test_stream_that_drops_old_messages_when_it_is_full_is_not_used(found: Streams) -> None:
    create(found, max_msgs=10)
    with pytest.raises(StoreUnavailable, match="drops old messages"):
        deliver(found.url)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"retention": RetentionPolicy.INTEREST}, "drops messages without a consumer"),
        ({"max_msgs_per_subject": 1}, "drops the older messages of a domain"),
        ({"max_msgs_per_subject": 1, "discard": DiscardPolicy.NEW}, "drops the older messages of a domain"),
        ({"storage": StorageType.MEMORY}, "is in memory"),
        ({"no_ack": True}, "does not acknowledge messages"),
        ({"duplicate_window": 5}, "finds duplicates for 5 seconds only"),
    ],
)
def test_stream_that_may_lose_or_double_messages_is_not_used(
    config: dict[str, Any], reason: str, found: Streams
) -> None:
    create(found, **config)
    with pytest.raises(StoreUnavailable, match=reason):
        deliver(found.url)


def test_stream_of_bodies_that_may_lose_chunks_is_not_used(found: Streams) -> None:
    create(found, name=f"{found.name}_bodies", subjects=[f"{found.name}.body.>"], retention=RetentionPolicy.INTEREST)
    with pytest.raises(StoreUnavailable, match=r"_bodies drops messages without a consumer"):
        deliver(found.url)


@pytest.mark.parametrize(("records", "bodies"), [(200, 100), (0, 100)])
def test_streams_that_keep_a_message_longer_than_its_body_are_not_used(
    records: int, bodies: int, found: Streams
) -> None:
    create(found, max_age=records)
    create(found, name=f"{found.name}_bodies", subjects=[f"{found.name}.body.>"], max_age=bodies)
    with pytest.raises(StoreUnavailable, match=r"_bodies deletes bodies after 100 seconds, before"):
        deliver(found.url)


@pytest.mark.parametrize(("records", "bodies"), [(100, 100), (100, 200), (100, 0), (0, 0)])
def test_bodies_may_be_kept_longer_than_their_messages(records: int, bodies: int, found: Streams) -> None:
    create(found, max_age=records)
    create(found, name=f"{found.name}_bodies", subjects=[f"{found.name}.body.>"], max_age=bodies)
    deliver(found.url)
    assert found.subjects(found.name)


@pytest.mark.parametrize(("own", "expected"), [(0, 0), (500, 500), (150, 200)])
def test_missing_stream_of_bodies_is_created_for_the_lifetime_of_the_messages(
    own: int, expected: int, found: Streams
) -> None:
    async def max_age(context: JetStreamContext) -> float | None:
        return (await context.stream_info(f"{found.name}_bodies")).config.max_age

    create(found, max_age=own)
    deliver(found.url, max_age=200)
    assert found.run(max_age) == expected


def test_stream_that_refuses_further_messages_of_a_domain_is_full(found: Streams) -> None:
    create(found, max_msgs_per_subject=1, discard=DiscardPolicy.NEW, discard_new_per_subject=True)
    deliver(found.url)
    with pytest.raises(StoreFull, match="maximum messages per subject exceeded"):
        deliver(found.url)


def test_repeated_message_ends_when_it_is_no_longer_wanted(found: Streams) -> None:
    async def repeat(link: Link) -> None:
        await link.ready()
        answers = [True, False]
        asked: list[bool] = []

        def is_wanted() -> bool:
            asked.append(answers[len(asked)])
            return asked[-1]

        await asyncio.wait_for(link.repeat(0.001, "elsewhere", b"x", is_wanted).wait(), 10)
        assert asked == answers

    with_link(found, repeat)
