"""Deadlines of a client's commands, bodies and sessions."""

from dataclasses import replace

import pytest

from smtpcore import Wait
from smtpcore_adapters import Limits, Timeouts
from smtpcore_adapters.server._deadlines import Deadlines
from smtpcore_adapters.server._peers import PeerTable

TIMEOUTS = Timeouts(greeting=11, command=12, body=13, session=1000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_deadlines(rate: float = 10) -> tuple[Deadlines, Clock]:
    clock = Clock()
    return Deadlines(replace(TIMEOUTS, body_rate=rate), PeerTable(Limits()), clock), clock


@pytest.mark.parametrize(
    ("wait", "seconds"), [(Wait.GREETING, 11), (Wait.COMMAND, 12), (Wait.BODY, 13), (Wait.AUTH, 12)]
)
def test_each_wait_has_its_timeout(wait: Wait, seconds: float) -> None:
    assert make_deadlines()[0].remaining(wait, Clock.now) == seconds


def test_all_waits_for_a_command_share_one_timeout() -> None:
    deadlines, clock = make_deadlines()
    deadlines.record_wait(5, 0)
    assert deadlines.remaining(Wait.COMMAND, clock.now) == 7
    deadlines.record_wait(6.9, 1)
    assert deadlines.remaining(Wait.COMMAND, clock.now) == pytest.approx(0.2)
    deadlines.record_wait(0.3, 0)
    with pytest.raises(TimeoutError, match="the client is too slow"):
        deadlines.remaining(Wait.COMMAND, clock.now)

    deadlines.restart()
    assert deadlines.remaining(Wait.COMMAND, clock.now) == 12
    assert deadlines.waited == pytest.approx(12.2)


@pytest.mark.parametrize("rate", [0, 10])
def test_each_wait_within_a_body_is_limited_by_block(rate: float) -> None:
    clock = Clock()
    timeouts = replace(TIMEOUTS, block=3, body_rate=rate)
    deadlines = Deadlines(timeouts, PeerTable(Limits()), clock)
    for _ in range(3):
        assert deadlines.remaining(Wait.BODY, clock.now) == 3
        deadlines.record_wait(2.5, 0)
    assert deadlines.remaining(Wait.COMMAND, clock.now) == 12 - 7.5
    deadlines.record_wait(4.5, 0)
    assert deadlines.remaining(Wait.BODY, clock.now) == (1 if rate else 3)


def test_octets_at_the_minimum_rate_extend_the_deadline_of_a_body() -> None:
    deadlines, clock = make_deadlines(rate=10)
    for _ in range(20):
        deadlines.record_wait(10, 100)
        assert deadlines.remaining(Wait.BODY, clock.now) == 13
    deadlines.record_wait(10, 50)
    assert deadlines.remaining(Wait.BODY, clock.now) == 8
    deadlines.record_wait(10, 0)
    with pytest.raises(TimeoutError):
        deadlines.remaining(Wait.BODY, clock.now)


def test_deadline_of_a_body_is_never_extended_beyond_its_timeout() -> None:
    deadlines, clock = make_deadlines(rate=10)
    deadlines.record_wait(0, 1_000_000)
    assert deadlines.remaining(Wait.BODY, clock.now) == 13


def test_each_wait_in_a_body_has_the_full_timeout_without_a_minimum_rate() -> None:
    deadlines, clock = make_deadlines(rate=0)
    for _ in range(10):
        deadlines.record_wait(12, 1)
        assert deadlines.remaining(Wait.BODY, clock.now) == 13
    with pytest.raises(TimeoutError):
        deadlines.remaining(Wait.COMMAND, clock.now)
    clock.now += 995
    assert deadlines.remaining(Wait.BODY, clock.now) == 5


def test_session_timeout_shortens_all_deadlines() -> None:
    deadlines, clock = make_deadlines()
    clock.now += 990
    assert deadlines.remaining(Wait.COMMAND, clock.now) == 10
    assert deadlines.within_session(3) == 3
    clock.now += 10
    with pytest.raises(TimeoutError, match="the session has taken too long"):
        deadlines.remaining(Wait.COMMAND, clock.now)
