"""Rate limits per key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore_adapters.server._rate_limit import Rate


def test_rate_limit_allows_a_burst_and_then_a_steady_rate() -> None:
    rate = Rate(3, 60, keys=10)
    taken = []
    for now in (0, 0, 0, 0, 19, 20, 21, 39, 40):
        taken.append(not rate.is_full("a", now))
        if taken[-1]:
            rate.add("a", now)
    assert taken == [True, True, True, False, False, True, False, False, True]


def test_each_key_has_its_own_bucket() -> None:
    rate = Rate(1, 60, keys=10)
    rate.add("a", 0)
    assert rate.is_full("a", 0)
    assert not rate.is_full("b", 0)


def test_full_bucket_stays_full_under_load_and_drains_in_a_pause() -> None:
    rate = Rate(10, 60, keys=10)
    for second in range(600):
        rate.add("a", second)
    assert rate.is_full("a", 600)
    assert rate.level("a", 600) <= 20
    assert rate.is_full("a", 660)
    assert not rate.is_full("a", 666)
    assert rate.level("a", 10_000) == 0


def test_least_recently_used_bucket_is_evicted() -> None:
    rate = Rate(5, 60, keys=2)
    for key in ("a", "b", "a", "c"):
        rate.add(key, 0)
    assert [rate.level(key, 0) for key in "abc"] == [2, 0, 1]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 50)), max_size=100))
def test_level_of_a_rate_limit_stays_between_zero_and_twice_the_limit(steps: list[tuple[str, float]]) -> None:
    rate = Rate(4, 10, keys=3)
    now = 0.0
    for key, seconds in steps:
        now += seconds
        assert 0 <= rate.level(key, now) <= rate.add(key, now) <= 8


@pytest.mark.parametrize("seconds", [0.5, 60, 3600])
def test_full_bucket_is_empty_after_the_period(seconds: float) -> None:
    rate = Rate(2, seconds, keys=1)
    rate.add("a", 0)
    rate.add("a", 0)
    assert rate.level("a", seconds) == pytest.approx(0)
