"""A cluster of three servers: every message that was acknowledged survives the loss of the leader."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from smtpcore_adapters.stores import StoreUnavailable
from smtpcore_adapters.stores.jetstream import JetStream, consume
from tests.adapters.stores.jetstreams import make_envelope, put
from tests.adapters.stores.nats_servers import NatsCluster, nats_cluster, needs_nats
from tests.long import long

pytestmark = needs_nats

LARGE = [b"x" * 262_144, b"y" * 100]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with nats_cluster(tmp_path_factory.mktemp("nats"), 3) as cluster:
        yield cluster


@long  # an election takes about ten seconds
def test_messages_survive_the_loss_of_the_leader(cluster: NatsCluster) -> None:
    url = cluster.url("MAIL")

    async def main() -> None:
        store, accepted, gone = JetStream(url), set[object](), asyncio.Event()

        async def send(number: int) -> None:
            blocks = LARGE if number % 5 == 0 else [b"short"]
            accepted.add(await put(store, *blocks, key=f"key{number:04}"))
            if number == 20:
                gone.set()

        async def kill() -> None:
            await gone.wait()
            leader = await asyncio.to_thread(cluster.leader, "MAIL")
            assert leader
            leader.kill()

        await asyncio.gather(kill(), *(send(number) for number in range(60)))
        assert len(accepted) == 60

        consumed = list[str]()
        async with aclosing(consume(url, durable="test")) as messages:
            async for message in messages:
                body = await message.read()
                assert body in (b"short", b"".join(LARGE))
                consumed.append(message.envelope.key)
                await message.ack()
                if len(consumed) == 60:
                    break
        assert set(consumed) == accepted
        assert len(consumed) == 60

    asyncio.run(main())


def test_without_a_quorum_no_message_is_accepted(cluster: NatsCluster) -> None:
    for server in cluster.servers:
        if sum(each.is_running for each in cluster.servers) > 1:
            server.kill()
    with pytest.raises(StoreUnavailable):
        asyncio.run(put(JetStream(cluster.url("MAIL"), timeout=2.5), b"x", recipients=make_envelope().recipients))
