"""Tell how much longer a client may take."""

# A limit for each wait alone is none: an octet just before its end begins the next one. So waits add up until what is
# waited for is there, a command or a message, and what is received meanwhile buys time at the price of the least rate.

from collections.abc import Callable, Mapping
from functools import lru_cache

from smtpcore import Wait

from ._limits import Limits, Timeouts
from ._peers import PeerTable


class Deadlines:
    """With one client, in seconds. Only waiting for it counts, not the work of handlers."""

    __slots__ = (
        "_clock",
        "_counted_from",
        "_credit",
        "_crowded",
        "_end",
        "_peers",
        "_rate",
        "_timeouts",
        "waited",
    )

    def __init__(self, timeouts: Timeouts, limits: Limits, peers: PeerTable, clock: Callable[[], float]) -> None:
        self._timeouts = _by_wait(timeouts)
        self._crowded = timeouts.crowded
        self._peers = peers
        self._rate = limits.body_rate
        self._clock = clock
        self._end = clock() + timeouts.session
        self._credit = 0.0
        self.waited = 0.0
        """All the time of the session that was spent on waiting for the client."""
        self._counted_from = 0.0

    def restart(self) -> None:
        """Begin to wait for something new."""
        self._counted_from = self.waited
        self._credit = 0.0

    def record_wait(self, seconds: float, octets: int) -> None:
        """Take note of a wait, and of what it has brought."""
        self.waited += seconds
        if self._rate:
            self._credit += octets / self._rate

    def remaining(self, wait: Wait, now: float) -> float:
        """How long a client may be waited for. Raises `TimeoutError` if that time is over."""
        timeout = self._timeouts[wait]
        if wait is Wait.BODY and not self._rate:
            return self._within_session(timeout, now)
        if wait is not Wait.BODY and self._peers.are_many:
            timeout = min(timeout, self._crowded)

        left = timeout + self._credit - (self.waited - self._counted_from)
        if left <= 0:
            raise TimeoutError("the client is too slow")

        return self._within_session(left if left < timeout else timeout, now)

    def within_session(self, timeout: float) -> float:
        """`timeout`, or less where the session has less left. Raises `TimeoutError` if it has nothing left."""
        return self._within_session(timeout, self._clock())

    def _within_session(self, timeout: float, now: float) -> float:
        left = self._end - now
        if left >= timeout:
            return timeout
        if left <= 0:
            raise TimeoutError("the session has taken too long")

        return left


@lru_cache(maxsize=16)
def _by_wait(timeouts: Timeouts) -> Mapping[Wait, float]:
    return {
        Wait.GREETING: timeouts.greeting,
        Wait.COMMAND: timeouts.command,
        Wait.BODY: timeouts.body,
        Wait.AUTH: timeouts.command,
    }
