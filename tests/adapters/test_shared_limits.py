"""Limits of several servers together, with a real server of Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from smtpcore import Reply
from smtpcore_adapters import App, Limits, Timeouts, shared_limits
from smtpcore_adapters.server._counts import RATES, Counts, MemoryCounts, RateLimit, RemoteCounts
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.shared_limits import RedisCounts
from tests.adapters.harness import running
from tests.adapters.peers import is_readable
from tests.adapters.redis_server import PASSWORD, RedisServer, redis_server

RATE = RateLimit("auth_failures_per_hour", 3, 3600.0)
LIMITS = Limits(connections_per_address=2, connections_per_prefix=3)
TIMEOUT = 20.0
DEAD = "redis://127.0.0.1:1"
"""An address at which nothing listens."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setattr(shared_limits, "_RETRY", 0.02)
    monkeypatch.setattr(shared_limits, "_MAX_RETRY", 0.04)
    with server.client as client:
        client.flushall()
    return server


@pytest.fixture
def nodes(redis: RedisServer) -> Iterator[Callable[..., RedisCounts]]:
    opened: list[RedisCounts] = []

    def open_one(**options: Any) -> RedisCounts:
        opened.append(RedisCounts(redis.url, **{"timeout": TIMEOUT, **options}))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "a condition was not met in time"
        time.sleep(0.002)


def is_full(counts: RedisCounts, key: str, most: int) -> bool:
    is_free = counts.take(key, most)
    if is_free:
        counts.give_back(key)
    return not is_free


def connections(client: Redis) -> int:
    info: Any = client.info("stats")
    return int(info["total_connections_received"])


def records(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "shared limits" in record.getMessage()]


# Counts


def test_connections_of_all_nodes_are_limited_together(nodes: Callable[..., RedisCounts]) -> None:
    tables = [PeerTable(LIMITS, nodes()) for _ in range(2)]
    assert [tables[number].enter("192.0.2.1", 0) for number in (0, 1, 0, 1)] == [
        *(None, None, "connections_per_address", "connections_per_address")
    ]
    assert tables[0].enter("192.0.2.2", 0) is None
    assert tables[1].enter("192.0.2.3", 0) == "connections_per_prefix"
    tables[0].leave("192.0.2.1")
    until(lambda: tables[1].enter("192.0.2.1", 0) is None)


def test_refused_connection_is_counted_nowhere(nodes: Callable[..., RedisCounts]) -> None:
    one, other = nodes(), nodes()
    assert one.take_all({"a": 1, "b": 1}) is None
    assert other.take_all({"c": 1, "b": 1}) == "b"
    assert other.take("c", 1)
    assert (other.local.count("b"), other.count("c"), one.count("c")) == (0, 1, 0)
    assert one.take_all({"a": 1}) == "a", "the local limit holds too"


def test_number_of_all_connections_is_that_of_each_server(nodes: Callable[..., RedisCounts]) -> None:
    tables = [PeerTable(Limits(connections=1), nodes()) for _ in range(2)]
    assert [table.enter(host, 0) for table in tables for host in ("192.0.2.1", "192.0.2.2")] == [
        *(None, "connections", None, "connections")
    ]


def test_clients_without_an_address_are_counted_by_their_own_server(nodes: Callable[..., RedisCounts]) -> None:
    tables = [PeerTable(Limits(auth_failures_per_hour=1), nodes()) for _ in range(2)]
    for table in tables:
        assert table.enter("/run/smtp", 0) is None
        assert table.auth_failed("/run/smtp", 0) == 1
        assert not table.may_authenticate("/run/smtp", 0)


def test_rates_and_failed_logins_of_all_nodes_are_counted_together(nodes: Callable[..., RedisCounts]) -> None:
    limits = Limits(connections_per_minute=2, auth_failures_per_hour=4, account_failures_per_hour=2)
    one, other = (PeerTable(limits, nodes()) for _ in range(2))
    assert [table.enter("192.0.2.1", 0) for table in (one, other, one)] == [None, None, "connections_per_minute"]
    one.logged_in("tim", "198.51.100.1", 0)
    assert [table.auth_failed("192.0.2.1", 0, "tim") for table in (one, other, one)] == [1, 2, 3]
    assert other.may_authenticate("192.0.2.1", 0)
    assert not other.may_log_in_as("Tim", "192.0.2.1", 0)
    assert other.may_log_in_as("tim", "198.51.100.1", 0), "the user has logged in from here, at another node"
    other.auth_failed("192.0.2.1", 0)
    assert not one.may_authenticate("192.0.2.1", 0)


def test_shared_rate_rises_and_falls_as_the_local_rate(redis: RedisServer, nodes: Callable[..., RedisCounts]) -> None:
    one, other = nodes(), nodes()
    assert [round(one.add(RATE, "a", 0), 2) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 6, 6]
    with redis.client as client:
        key = "smtpcore:auth_failures_per_hour:a"
        earlier = float(client.hget(key, "time") or 0) - 1200
        client.hset(key, "time", str(earlier))
        assert round(other.level(RATE, "a", 0), 2) == 5
        assert 7_100_000 < int(client.pttl(key)) <= 7_200_000
        client.hset(key, "time", str(earlier + 10_000))  # the clock of the store was put back
        assert round(other.level(RATE, "a", 0), 2) == 6
    assert other.level(RATE, "b", 0) == 0


def test_log_quota_is_that_of_each_server(nodes: Callable[..., RedisCounts]) -> None:
    tables = [PeerTable(Limits(log_records_per_minute=1), nodes()) for _ in range(2)]
    assert [table.may_log("192.0.2.1", 0) for table in tables for _ in range(2)] == [True, False, True, False]
    assert [table.take_left_out(0) for table in tables] == [1, 1]


def test_counts_have_the_interface_of_remote_counts(nodes: Callable[..., RedisCounts]) -> None:
    counts = nodes()
    assert isinstance(counts, RemoteCounts)
    assert isinstance(counts, Counts)
    assert not isinstance(MemoryCounts(), RemoteCounts)
    assert PeerTable(LIMITS, counts).waits
    assert not PeerTable(LIMITS).waits


def test_threads_count_exactly(nodes: Callable[..., RedisCounts]) -> None:
    one, other = nodes(), nodes()
    taken: list[bool] = []

    def work(counts: RedisCounts) -> None:
        taken.extend(counts.take("a", 50) for _ in range(20))

    threads = [threading.Thread(target=work, args=(each,)) for each in (one, other) * 2]
    for each in threads:
        each.start()
    for each in threads:
        each.join(TIMEOUT)
    assert taken.count(True) == 50


# Nodes that end


def test_node_that_is_killed_frees_its_share_when_its_lease_expires(nodes: Callable[..., RedisCounts]) -> None:
    dead, living = nodes(lease=0.2), nodes()
    assert dead.take("a", 1)
    assert not living.take("a", 1)
    with dead._calls:  # the thread cannot renew the lease, as after SIGKILL
        until(lambda: living.take("a", 1))


def test_node_that_was_stopped_for_longer_than_its_lease_is_counted_again(nodes: Callable[..., RedisCounts]) -> None:
    stopped, living = nodes(lease=0.15), nodes()
    assert stopped.take("a", 2)
    assert stopped.take("a", 2)
    with stopped._calls:
        until(lambda: living.take("a", 2))
        living.give_back("a")
    until(lambda: is_full(living, "a", 2))


def test_store_that_lost_its_data_gets_the_connections_again(
    redis: RedisServer, nodes: Callable[..., RedisCounts]
) -> None:
    one, other = nodes(lease=0.15), nodes()
    assert one.take("a", 1)
    with redis.client as client:
        client.flushall()
        until(lambda: client.hgetall("smtpcore:connections:a"))
    assert not other.take("a", 1)


def test_closed_counts_leave_no_connection_and_count_alone(
    redis: RedisServer, nodes: Callable[..., RedisCounts]
) -> None:
    other = nodes()
    with RedisCounts(redis.url, timeout=TIMEOUT) as one:
        assert one.take("a", 1)
        assert one.is_available()
    assert other.take("a", 1)
    one.give_back("a")
    assert (one.is_available(), one.take("a", 1), one.add(RATE, "a", 0)) == (False, True, 1)
    one.close()


def test_counts_that_are_closed_unused_start_no_thread(redis: RedisServer) -> None:
    counts = RedisCounts(redis.url)
    counts.close()
    assert not counts.is_available()
    assert counts._thread is None


def test_many_connections_are_written_in_several_steps(
    redis: RedisServer, nodes: Callable[..., RedisCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "_BATCH", 2)
    one, other = nodes(), nodes()
    for number in range(5):
        assert one.take(str(number), 1)
    with redis.client as client:
        client.flushall()
    with one._calls:
        one._fail(OSError("test"))
    until(one.is_available)
    assert not any(other.take(str(number), 1) for number in range(5))


def test_lease_is_renewed(redis: RedisServer, nodes: Callable[..., RedisCounts]) -> None:
    one, other = nodes(lease=0.15), nodes()
    assert one.take("a", 1)
    with redis.client as client:
        key = f"smtpcore:process:{one._node}"
        for _ in range(2):
            until(lambda: client.pttl(key) < 110)
            until(lambda: client.pttl(key) > 110)
    assert not other.take("a", 1)


# A store that fails


def test_unreachable_store_at_the_start_is_one_record_and_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    with RedisCounts(DEAD) as counts:
        table = PeerTable(LIMITS, counts)
        assert [table.enter("192.0.2.1", 0) for _ in range(3)] == [None, None, "connections_per_address"]
        assert [counts.add(RATE, "a", 0) for _ in range(2)] == [1, 2]
    (record,) = records(caplog)
    assert "no answer from 127.0.0.1:1, so this process counts alone: " in record


def test_store_that_is_restarted_knows_all_connections(
    redis: RedisServer, nodes: Callable[..., RedisCounts], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = nodes(), nodes()
    assert one.take("a", 9)
    assert one.take("gone", 9)
    redis.stop()
    for counts in (one, other):
        assert counts.take("a", 9)
    one.give_back("gone")
    until(lambda: len(records(caplog)) == 2)
    redis.start()
    until(lambda: one.is_available() and other.is_available())
    until(lambda: is_full(one, "a", 2))
    assert other.take("gone", 1)
    assert sorted(record.partition(" from ")[0] for record in records(caplog)) == [
        *[f"shared limits: 127.0.0.1:{redis.port} answers again"] * 2,
        *["shared limits: no answer"] * 2,
    ]
    assert PASSWORD not in caplog.text


def test_wrong_password_is_one_record_without_the_password(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisCounts(f"redis://:other-secret@127.0.0.1:{redis.port}", timeout=TIMEOUT) as counts:
        assert counts.take("a", 1)
    (record,) = records(caplog)
    assert "other-secret" not in record + repr(counts)


def test_store_that_refuses_to_write_is_a_failure(
    redis: RedisServer, nodes: Callable[..., RedisCounts], caplog: pytest.LogCaptureFixture
) -> None:
    one = nodes()
    assert one.take("a", 9)
    with redis.client as client:
        client.config_set("maxmemory", "1")  # a full store that keeps all data
        try:
            assert one.take("a", 9)
            assert one.add(RATE, "a", 0) == 1
            before = connections(client)
            until(lambda: connections(client) > before + 2)
        finally:
            client.config_set("maxmemory", "0")
    until(one.is_available)
    assert [record.partition(" from ")[0] for record in records(caplog)] == [
        "shared limits: no answer",
        f"shared limits: 127.0.0.1:{redis.port} answers again",
    ]
    assert not one.take("a", 2)


def test_call_that_cannot_get_the_connection_in_time_is_counted_locally(
    nodes: Callable[..., RedisCounts], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = nodes(timeout=0.2), nodes()
    until(one.is_available)
    with one._calls:
        assert one.take("a", 1)
    until(lambda: not other.take("a", 1))
    assert not records(caplog)


def test_calls_beyond_a_few_that_wait_are_counted_locally_at_once(nodes: Callable[..., RedisCounts]) -> None:
    one, other = nodes(), nodes()
    until(one.is_available)
    with one._calls:
        waiting = [threading.Thread(target=one.take, args=("a", 9)) for _ in range(3)]
        for each in waiting:
            each.start()
        until(lambda: one._waiting == 3)
        assert one.take("a", 9)
        assert one.count("a") == 4
    for each in waiting:
        each.join(TIMEOUT)
    until(lambda: is_full(other, "a", 4))


def test_slow_store_is_not_used_until_it_is_fast_again(
    redis: RedisServer, nodes: Callable[..., RedisCounts], caplog: pytest.LogCaptureFixture
) -> None:
    one = nodes()
    assert one.take("a", 9)
    one._usual, one._slow, limit = 30.0, 0.0, one._slow
    assert one.add(RATE, "a", 0) == 1
    assert not one.is_available()
    with redis.client as client:
        before = connections(client)
        until(lambda: connections(client) > before + 2)
    one._slow = limit
    until(one.is_available)
    lost, returned = records(caplog)
    assert lost.endswith("so this process counts alone: answers take 26250 ms")
    assert returned.endswith("answers again")
    assert not one.take("a", 1)


# Servers

LOGIN = b"AUTH PLAIN AHRpbQB3cm9uZw==\r\n"


def app() -> App[Any]:
    made: App[Any] = App()
    made.on("auth")(lambda session, question: Reply(535, "Wrong"))
    return made


def test_server_counts_connections_and_failed_logins_with_another_node(
    backend: str, nodes: Callable[..., RedisCounts]
) -> None:
    limits = Limits(connections_per_address=2, account_failures_per_hour=3)
    other = PeerTable(limits, nodes())
    assert other.enter("127.0.0.1", 0) is None
    other.auth_failed("192.0.2.1", 0, "tim")
    timeouts = Timeouts(auth_delay=0, max_auth_delay=0)
    with running(backend, app(), counts=nodes(), limits=limits, timeouts=timeouts, plaintext_auth=True) as server:
        with server.connect() as one:
            one.expect(220).send(b"EHLO c.example\r\n").expect(250)
            with server.connect() as second:
                second.expect(421)
            one.send(LOGIN).expect(535).send(LOGIN).expect(535).send(LOGIN).expect(454)
        assert not other.may_log_in_as("tim", "192.0.2.1", 0)
        until(lambda: not is_full(nodes(), "127.0.0.1", 2))


def test_hanging_store_delays_one_greeting_and_no_other_session(
    backend: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        closing(RedisCounts(redis.url, timeout=1.0)) as counts,  # so a greeting waits for half a second
        running(backend, app(), counts=counts) as server,
        server.connect() as old,
    ):
        old.expect(220)
        assert counts.is_available()
        with redis.paused():
            with server.connect() as new:
                old.send(b"NOOP\r\n").expect(250)
                assert not is_readable(new.socket), "the other session was answered while the greeting waits"
                new.expect(220)
            begun = time.monotonic()
            for _ in range(4):
                with server.connect() as new:
                    new.expect(220)
            assert time.monotonic() - begun < 1.5, "only the first greeting waits"
            assert len(records(caplog)) == 1
        until(counts.is_available)
        with server.connect() as new:
            new.expect(220)
        assert len(records(caplog)) == 2


# URLs


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://:secret@store.example", "store.example:6379"),
        ("rediss://tim:secret@[2001:db8::1]:7000/2?ssl_cert_reqs=required", "[2001:db8::1]:7000"),
        ("valkey://10.0.0.5:1/?db=3", "10.0.0.5:1"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_address_of_the_store_is_shown_without_the_password(url: str, address: str) -> None:
    counts = RedisCounts(url)
    assert (counts.address, repr(counts)) == (address, f"<RedisCounts at {address}>")


@pytest.mark.parametrize(
    "url",
    [
        *("http://secret@store", "secret", "redis://", "redis://secret@store:x", "redis://secret@[::1"),
        "redis://secret@store?socket_timeout=9",
    ],
)
def test_wrong_url_is_an_error_without_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="the URL of the store") as caught:
        RedisCounts(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "options"), [("", {"timeout": 0.0}), ("", {"lease": float("nan")}), ("?timeout=0", {}), ("?lease=x", {})]
)
def test_times_must_be_positive(query: str, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="use more than 0 seconds"):
        RedisCounts(DEAD + query, **options)  # type: ignore[arg-type]


def test_parameters_of_the_url_take_precedence(redis: RedisServer) -> None:
    with RedisCounts(f"{redis.url}?timeout=20&prefix=mx:&db=0", timeout=0.001) as counts, redis.client as client:
        assert counts.take("a", 1)
        assert client.hvals("mx:connections:a") == [b"1"]


def test_every_rate_has_a_key_of_its_own(nodes: Callable[..., RedisCounts]) -> None:
    counts = nodes()
    rates = [RateLimit(name, 1, seconds) for name, seconds in RATES.items()]
    assert [round(counts.add(rate, "a", 0)) for rate in rates] == [1] * len(rates)
