"""The times of the attempts to deliver a message."""

import pytest

from smtpcore_adapters.drain import Schedule


def test_attempts_follow_the_rfc_for_five_days() -> None:
    schedule, age, attempts = Schedule(), 0.0, 0
    while (delay := schedule.delay(attempts, age)) is not None:
        expected = 1800 if attempts < 2 else 7200
        assert expected <= delay <= 1.1 * expected
        age, attempts = age + delay, attempts + 1
    assert 4.8 * 86400 < age <= 5 * 86400
    assert 50 < attempts < 62


def test_schedule_without_time_gives_up_at_once() -> None:
    assert Schedule(give_up=0).delay(0, 0) is None


@pytest.mark.parametrize("delays", [(), (0.0,), (1.0, -1.0), (float("inf"),), (float("nan"),), (1e9,)])
def test_impossible_schedule_is_refused(delays: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="delays is"):
        Schedule(delays=delays)
    with pytest.raises(ValueError, match="give_up is -1"):
        Schedule(give_up=-1)
