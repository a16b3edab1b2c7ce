"""Counts in the memory of one process."""

from smtpcore_adapters import Limits
from smtpcore_adapters.greylist import _PASSED, _WAITING
from smtpcore_adapters.server._counts import RATES, Counts, MemoryCounts, RateLimit
from smtpcore_adapters.server._peers import _LOGINS, PeerTable
from smtpcore_adapters.server._shared_counts import SharedCounts

RATE = RateLimit("auth_failures_per_hour", 2, 3600)


def test_connections_are_counted_up_to_the_limit() -> None:
    counts = MemoryCounts()
    assert [counts.take("a", 2) for _ in range(3)] == [True, True, False]
    assert (counts.count("a"), counts.count("b")) == (2, 0)
    counts.give_back("a")
    assert counts.take("a", 2)


def test_number_of_recent_events_falls_with_time() -> None:
    counts = MemoryCounts()
    assert [counts.add(RATE, "a", 0) for _ in range(5)] == [1, 2, 3, 4, 4]
    assert (counts.level(RATE, "a", 1800), counts.level(RATE, "b", 1800)) == (3, 0)


def test_each_rate_has_numbers_of_its_own() -> None:
    counts = MemoryCounts()
    counts.add(RATE, "a", 0)
    assert counts.level(RateLimit("connections_per_minute", 2, 60), "a", 0) == 0


def test_both_kinds_of_counts_have_the_same_interface() -> None:
    assert isinstance(MemoryCounts(), Counts)
    with SharedCounts(1, 1) as shared:
        assert isinstance(shared.of_worker(0), Counts)


def test_each_rate_of_the_limits_has_a_period() -> None:
    table = PeerTable(Limits(connections_per_minute=1))
    rates = (table._arrivals, table._failures, table._account_failures, table._records, table._important_records)
    assert {rate.name for rate in (*rates, _LOGINS, _WAITING, _PASSED) if rate} == {*RATES}
