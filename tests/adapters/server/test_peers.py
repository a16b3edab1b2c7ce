"""State of addresses and users that outlives a session: connections, failed logins, and the log quota."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from smtpcore_adapters import Limits
from smtpcore_adapters.server._counts import Counts, MemoryCounts
from smtpcore_adapters.server._peers import PeerTable


@pytest.fixture(params=["memory", "workers"])
def counts(request: pytest.FixtureRequest) -> Iterator[Counts]:
    if request.param == "memory":
        yield MemoryCounts()
        return

    if not hasattr(os, "fork"):  # pragma: no cover
        pytest.skip("this system cannot fork")
    from smtpcore_adapters.server._shared_counts import SharedCounts

    with SharedCounts(1, 8) as shared:
        yield shared.of_worker(0)


def test_connections_are_counted_in_total_per_address_and_per_prefix() -> None:
    table = PeerTable(Limits(connections=5, connections_per_address=2, connections_per_prefix=3))
    asked = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "", "203.0.113.1"]
    assert [table.enter(host, 0) for host in asked] == [
        *(None, None, "connections_per_address", None, "connections_per_prefix", None, None, "connections"),
    ]


def test_number_of_all_connections_is_that_of_all_tables_with_the_same_counts() -> None:
    counts = MemoryCounts()
    one, other = (PeerTable(Limits(connections=1), counts) for _ in range(2))
    assert [table.enter("192.0.2.1", 0) for table in (one, other)] == [None, "connections"]
    one.leave("192.0.2.1")
    assert other.enter("192.0.2.1", 0) is None


def test_ended_connection_is_no_longer_counted() -> None:
    counts = MemoryCounts()
    table = PeerTable(Limits(connections=1), counts)
    for host in ("192.0.2.1", "2001:db8::1", "", "/run/smtp"):
        assert table.enter(host, 0) is None
        assert table.enter(host, 0) == "connections"
        table.leave(host)
    assert not counts._taken


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("/run/a", "/run/a", False),
    ],
)
def test_default_prefix_is_24_bits_of_ipv4_and_64_bits_of_ipv6(first: str, second: str, together: bool) -> None:
    table = PeerTable(Limits(connections_per_prefix=1))
    table.enter(first, 0)
    assert table.enter(second, 0) == ("connections_per_prefix" if together else None)


def test_prefix_lengths_are_configurable() -> None:
    table = PeerTable(Limits(connections_per_prefix=1, ipv4_prefix=16, ipv6_prefix=128))
    assert [table.enter(host, 0) for host in ("192.0.2.1", "192.0.99.1", "2001:db8::1", "2001:db8::2")] == [
        *(None, "connections_per_prefix", None, None)
    ]


def test_connections_per_minute_include_refused_connections() -> None:
    table = PeerTable(Limits(connections_per_minute=2))
    assert [table.enter("192.0.2.1", now) for now in (0, 0, 0)] == [None, None, "connections_per_minute"]
    assert table.enter("192.0.2.2", 0) is None
    assert table.enter("192.0.2.1", 31) == "connections_per_minute"
    assert table.enter("192.0.2.1", 200) is None


def test_connections_per_minute_are_counted_per_ipv6_prefix() -> None:
    table = PeerTable(Limits(connections_per_minute=1))
    assert table.enter("2001:db8::1", 0) is None
    assert table.enter("2001:db8::2", 0) == "connections_per_minute"
    assert table.enter("192.0.2.1", 0) is None
    assert table.enter("192.0.2.2", 0) is None


def test_failed_logins_are_counted_per_address_and_forgotten_later() -> None:
    table = PeerTable(Limits())
    assert [table.auth_failed("192.0.2.1", 0) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert table.auth_failed("192.0.2.2", 0) == 1
    assert table.auth_failed("192.0.2.1", 100_000) == 1


def test_logins_are_blocked_after_too_many_failures_and_allowed_again_later() -> None:
    table = PeerTable(Limits(auth_failures_per_hour=3))
    for _ in range(3):
        assert table.may_authenticate("192.0.2.1", 0)
        table.auth_failed("192.0.2.1", 0)
    assert not table.may_authenticate("192.0.2.1", 0)
    assert table.may_authenticate("192.0.2.2", 0)
    assert not table.may_authenticate("192.0.2.1", 1100)
    assert table.may_authenticate("192.0.2.1", 1300)


def test_failed_logins_are_counted_per_user_from_all_addresses() -> None:
    table = PeerTable(Limits(account_failures_per_hour=3))
    for number in range(3):
        assert table.may_log_in_as("tim", "198.51.100.1", 0)
        assert table.auth_failed(f"192.0.2.{number}", 0, "tim") == number + 1
    assert not table.may_log_in_as("tim", "198.51.100.1", 0)
    assert table.may_log_in_as("anna", "198.51.100.1", 0)
    assert not table.may_log_in_as("tim", "198.51.100.1", 1100)
    assert table.may_log_in_as("tim", "198.51.100.1", 1300)


def test_higher_count_of_the_address_and_the_user_decides_about_the_delay() -> None:
    table = PeerTable(Limits())
    assert [table.auth_failed("192.0.2.1", 0, user) for user in (None, "tim", "anna")] == [1, 2, 3]
    assert table.auth_failed("192.0.2.2", 0, "tim") == 2


@pytest.mark.parametrize("spelling", ["Tim", "TIM", " tim ", "\N{FULLWIDTH LATIN SMALL LETTER T}im"])
def test_all_spellings_of_a_user_count_together(spelling: str) -> None:
    table = PeerTable(Limits(account_failures_per_hour=1))
    table.auth_failed("192.0.2.1", 0, spelling)
    assert not table.may_log_in_as("tim", "192.0.2.2", 0)


def test_user_can_log_in_from_a_known_address_during_an_attack() -> None:
    table = PeerTable(Limits(account_failures_per_hour=1))
    table.logged_in("tim", "192.0.2.1", 0)
    table.logged_in("anna", "192.0.2.3", 0)
    for second in range(10):
        table.auth_failed("192.0.2.2", second, "tim")
    assert [table.may_log_in_as("tim", f"192.0.2.{number}", 10) for number in (1, 2, 3)] == [True, False, False]


def test_address_of_a_user_is_known_for_a_week_after_the_last_login() -> None:
    day = 86_400.0
    table = PeerTable(Limits(account_failures_per_hour=1))
    table.logged_in("tim", "192.0.2.1", 0)
    for now, known in ((6.9 * day, True), (7.1 * day, False)):
        table.auth_failed("192.0.2.2", now, "tim")
        table.auth_failed("192.0.2.2", now, "tim")
        assert table.may_log_in_as("tim", "192.0.2.1", now) == known


def test_key_of_a_user_is_short_and_contains_no_name() -> None:
    counts = MemoryCounts()
    table = PeerTable(Limits(), counts)
    table.auth_failed("192.0.2.1", 0, "tim" * 10_000)
    table.logged_in("tim", "192.0.2.1", 0)
    keys = [key for rate in counts._rates.values() for key in rate._buckets]
    assert len(keys) == 3
    assert not [key for key in keys if "tim" in key or len(key) > 100]


def test_disabled_limits_never_block() -> None:
    off = Limits(auth_failures_per_hour=None, account_failures_per_hour=None, log_records_per_minute=None)
    table = PeerTable(off)
    assert [table.auth_failed("192.0.2.1", 0, "tim") for _ in range(3)] == [1, 1, 1]
    assert table.may_authenticate("192.0.2.1", 0)
    table.logged_in("tim", "192.0.2.1", 0)
    assert table.may_log_in_as("tim", "192.0.2.1", 0)
    assert all(table.may_log("192.0.2.1", 0) for _ in range(1000))
    assert table.take_left_out(1000) == 0


def test_suppressed_log_records_are_counted_and_reported_once_a_minute() -> None:
    table = PeerTable(Limits(log_records_per_minute=2))
    assert [table.may_log("192.0.2.1", 0) for _ in range(5)] == [True, True, False, False, False]
    assert table.may_log("192.0.2.2", 0)
    assert table.take_left_out(0) == 3
    assert not table.may_log("192.0.2.1", 1)
    assert table.take_left_out(59) == 0
    assert table.take_left_out(60) == 1
    assert table.take_left_out(600) == 0


def test_important_log_records_have_a_quota_of_their_own() -> None:
    table = PeerTable(Limits(log_records_per_minute=2))
    assert [table.may_log("192.0.2.1", 0) for _ in range(3)] == [True, True, False]
    assert [table.may_log("192.0.2.1", 0, important=True) for _ in range(3)] == [True, True, False]
    assert table.take_left_out(0) == 2
    assert PeerTable(Limits(log_records_per_minute=None)).may_log("192.0.2.1", 0, important=True)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Let Python switch between threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("frequent_switches")
def test_no_connection_of_several_threads_is_refused_below_the_limits(counts: Counts) -> None:
    table = PeerTable(Limits(connections=8, connections_per_minute=1_000_000), counts)

    def come_and_go(number: int) -> int:
        refused = 0
        for _ in range(500):
            if table.enter(f"192.0.2.{number}", 0):
                refused += 1
            else:
                table.leave(f"192.0.2.{number}")
        return refused

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == 0
    assert table._here == 0
    assert [counts.count(key) for key in ("", "192.0.2.0", "192.0.2.0/24")] == [0, 0, 0]
