"""How much longer a client may take."""

import pytest

from smtpcore import Wait
from smtpcore_adapters import Limits, Timeouts
from smtpcore_adapters._clients import Clients
from smtpcore_adapters._patience import Patience

TIMEOUTS = Timeouts(greeting=11, command=12, body=13, session=1000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def patience(rate: float = 10) -> tuple[Patience, Clock]:
    clock = Clock()
    limits = Limits(body_rate=rate)
    return Patience(TIMEOUTS, limits, Clients(limits), clock), clock


@pytest.mark.parametrize(
    ("wait", "seconds"), [(Wait.GREETING, 11), (Wait.COMMAND, 12), (Wait.BODY, 13), (Wait.AUTH, 12)]
)
def test_each_wait_has_its_time(wait: Wait, seconds: float) -> None:
    assert patience()[0].left(wait, Clock.now) == seconds


def test_waits_for_one_command_add_up() -> None:
    waiting, clock = patience()
    waiting.count(5, 0)
    assert waiting.left(Wait.COMMAND, clock.now) == 7
    waiting.count(6.9, 1)
    assert waiting.left(Wait.COMMAND, clock.now) == pytest.approx(0.2)
    waiting.count(0.3, 0)
    with pytest.raises(TimeoutError, match="the client is too slow"):
        waiting.left(Wait.COMMAND, clock.now)

    waiting.begin()
    assert waiting.left(Wait.COMMAND, clock.now) == 12
    assert waiting.waited == pytest.approx(12.2)


def test_octets_buy_time_at_the_least_rate() -> None:
    waiting, clock = patience(rate=10)
    for _ in range(20):
        waiting.count(10, 100)
        assert waiting.left(Wait.BODY, clock.now) == 13
    waiting.count(10, 50)
    assert waiting.left(Wait.BODY, clock.now) == 8
    waiting.count(10, 0)
    with pytest.raises(TimeoutError):
        waiting.left(Wait.BODY, clock.now)


def test_no_octets_buy_more_than_the_time_of_one_wait() -> None:
    waiting, clock = patience(rate=10)
    waiting.count(0, 1_000_000)
    assert waiting.left(Wait.BODY, clock.now) == 13


def test_without_a_rate_each_wait_for_a_body_has_its_time() -> None:
    waiting, clock = patience(rate=0)
    for _ in range(10):
        waiting.count(12, 1)
        assert waiting.left(Wait.BODY, clock.now) == 13
    with pytest.raises(TimeoutError):
        waiting.left(Wait.COMMAND, clock.now)
    clock.now += 995
    assert waiting.left(Wait.BODY, clock.now) == 5


def test_nothing_lasts_longer_than_the_session() -> None:
    waiting, clock = patience()
    clock.now += 990
    assert waiting.left(Wait.COMMAND, clock.now) == 10
    assert waiting.within_session(3) == 3
    clock.now += 10
    with pytest.raises(TimeoutError, match="the session has taken too long"):
        waiting.left(Wait.COMMAND, clock.now)
