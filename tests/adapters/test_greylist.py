"""Greylisting in the memory of one process, and of several machines with a real server of Redis."""

import logging
from collections.abc import Iterator

import pytest

from smtpcore_adapters import Address, App
from smtpcore_adapters.greylist import Greylist
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.server._counts import Counts, MemoryCounts
from smtpcore_adapters.shared_limits import RedisCounts
from smtpcore_adapters.testing import Clock, SmtpPair
from tests.adapters.redis_server import RedisServer, redis_server

TIMEOUT = 20.0
DAY = 86_400


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def app_with(greylist: Greylist) -> App:
    app: App = App()
    app.include(greylist)
    app.include(AnyRecipient())
    return app


class Client:
    """Clients of a server with a greylist in memory."""

    def __init__(self, delay: float = 300.0) -> None:
        self.clock = Clock()
        self._app = app_with(Greylist(delay, clock=self.clock))

    def attempt(self, recipient: str = "b@s.example", sender: str = "a@c.example", peer: str = "192.0.2.1") -> int:
        """Send to a recipient in a new session, and return the code of the reply to RCPT."""
        pair = SmtpPair(self._app, clock=self.clock, peer=peer)
        return pair.deliver(sender, [recipient], b"Subject: x\r\n\r\nbody\r\n")[1].code


def test_repetition_after_the_delay_is_accepted() -> None:
    client = Client()
    assert client.attempt() == 451
    client.clock.advance(299)
    assert client.attempt() == 451
    client.clock.advance(2)
    assert client.attempt() == 250
    assert client.attempt() == 250


def test_reply_says_when_to_try_again() -> None:
    pair = SmtpPair(app_with(Greylist(120)))
    assert str(pair.deliver("a@c.example", ["b@s.example"], b"x\r\n")[1]) == (
        "451 4.7.1 Greylisted, try again in 120 seconds"
    )


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"recipient": "c@s.example"}, 451),
        ({"sender": "b@c.example"}, 451),
        ({"sender": ""}, 451),
        ({"peer": "192.0.3.1"}, 451),
        ({"peer": "192.0.2.250"}, 250),
        ({"sender": "A@C.EXAMPLE", "recipient": "B@s.example"}, 250),
    ],
)
def test_triple_is_a_network_a_sender_and_a_recipient(changed: dict[str, str], code: int) -> None:
    client = Client()
    client.attempt()
    client.clock.advance(301)
    assert client.attempt(**changed) == code


def test_repetition_after_four_hours_is_a_first_attempt() -> None:
    client = Client()
    client.attempt()
    client.clock.advance(14_401)
    assert client.attempt() == 451
    client.clock.advance(301)
    assert client.attempt() == 250


def test_accepted_triple_is_forgotten_35_days_after_its_last_use() -> None:
    client = Client()
    client.attempt()
    client.clock.advance(301)
    assert client.attempt() == 250
    for _ in range(4):
        client.clock.advance(20 * DAY)
        assert client.attempt() == 250
    client.clock.advance(71 * DAY)
    assert client.attempt() == 451


def test_two_first_attempts_at_the_same_moment_count_as_one() -> None:
    client = Client()
    greylist = Greylist(clock=client.clock)
    first, second = (_Forgetting(greylist.counts) for _ in range(2))
    for counts in (first, second):  # neither has seen the event of the other
        greylist.counts = counts
        assert greylist._wait("key") == 300
    greylist.counts = first.counts
    client.clock.advance(100)
    assert greylist._wait("key") == pytest.approx(200)
    client.clock.advance(201)
    assert greylist._wait("key") == 0


class _Forgetting(MemoryCounts):
    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def add(self, rate, key, now):  # type: ignore[no-untyped-def]
        return self.counts.add(rate, key, now)


@pytest.mark.parametrize(
    ("peer", "identity"), [("192.0.2.1", "tim"), (None, None), (Address("/run/smtp"), None)], ids=str
)
def test_users_and_clients_without_an_address_are_not_deferred(
    peer: str | Address | None, identity: str | None
) -> None:
    pair = SmtpPair(app_with(Greylist()), peer=peer, identity=identity)
    assert pair.deliver("a@c.example", ["b@s.example"], b"x\r\n")[1].code == 250


@pytest.mark.parametrize("delay", [-1, 14_400, float("nan")])
def test_delay_is_limited(delay: float) -> None:
    with pytest.raises(ValueError, match=f"delay is {delay}: it must be at least 0 and less than 14400 seconds"):
        Greylist(delay)


def test_repetition_at_another_machine_is_accepted(redis: RedisServer) -> None:
    with (
        RedisCounts(redis.url, timeout=TIMEOUT) as one,
        RedisCounts(redis.url, timeout=TIMEOUT) as other,
        redis.client as client,
    ):
        client.flushall()
        pairs = [SmtpPair(app_with(Greylist(counts=counts))) for counts in (one, other)]

        def attempt(number: int) -> int:
            return pairs[number].deliver("a@c.example", ["b@s.example"], b"x\r\n")[1].code

        assert [attempt(0), attempt(1)] == [451, 451]
        (key,) = client.keys("smtpcore:greylist:*")
        client.hincrbyfloat(key, "time", -301)  # as after 301 seconds
        assert attempt(1) == 250
        assert attempt(0) == 250


def test_no_client_is_deferred_while_the_store_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), RedisCounts("redis://127.0.0.1:1") as counts:
        pair = SmtpPair(app_with(Greylist(counts=counts)))
        assert pair.deliver("a@c.example", ["b@s.example"], b"x\r\n")[1].code == 250
