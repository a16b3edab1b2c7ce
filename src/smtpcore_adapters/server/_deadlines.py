"""Compute how much longer a session may wait for its client."""

# A per-read timeout can be defeated by sending one byte just before it expires. So waits add up until the command or
# the message is complete. Each octet of a body extends its deadline: `Timeouts.body_rate` is the minimum rate.

from collections.abc import Callable, Mapping
from functools import lru_cache

from smtpcore import Wait

from ._limits import Timeouts
from ._peers import PeerTable


class Deadlines:
    """The deadlines of one session, in seconds.

    Only the time that the session waits for the client counts, not the time of handlers. `Timeouts.session` is an
    exception: all time counts.
    """

    __slots__ = (
        "_block",
        "_counted_from",
        "_credit",
        "_crowded",
        "_end",
        "_peers",
        "_rate",
        "_timeouts",
        "clock",
        "waited",
    )

    def __init__(self, timeouts: Timeouts, peers: PeerTable, clock: Callable[[], float]) -> None:
        self._timeouts = _by_wait(timeouts)
        self._crowded = timeouts.crowded
        self._block = timeouts.block
        self._peers = peers
        self._rate = timeouts.body_rate
        self.clock: Callable[[], float] = clock
        """The clock of the session."""
        self._end = clock() + timeouts.session
        self._credit = 0.0
        self.waited: float = 0.0
        """The seconds that the session has spent on waiting for the client."""
        self._counted_from = 0.0

    def restart(self) -> None:
        """Begin a new command or message, with its full timeout."""
        self._counted_from = self.waited
        self._credit = 0.0

    def record_wait(self, seconds: float, octets: int) -> None:
        """Add a wait, and the number of octets that were received after it."""
        self.waited += seconds
        if self._rate:
            self._credit += octets / self._rate

    def remaining(self, wait: Wait, now: float) -> float:
        """Return how many seconds to wait for the client. Raises `TimeoutError` if no time is left."""
        timeout = self._timeouts[wait]
        if wait is not Wait.BODY and self._peers.are_many:
            timeout = min(timeout, self._crowded)
        if wait is not Wait.BODY or self._rate:
            left = timeout + self._credit - (self.waited - self._counted_from)
            if left <= 0:
                raise TimeoutError("the client is too slow")
            if left < timeout:
                timeout = left

        if wait is Wait.BODY and self._block < timeout:
            timeout = self._block
        left = self._end - now
        if left <= 0:
            raise TimeoutError(_TOO_LONG)

        return timeout if timeout < left else left

    def expired(self, wait: Wait) -> str:
        """Return the name of the timeout that ended a wait of this kind: a field of `Timeouts`."""
        if self.clock() >= self._end:
            return "session"
        if wait is Wait.BODY:
            return "body"
        if self._peers.are_many and self._crowded < self._timeouts[wait]:
            return "crowded"

        return "greeting" if wait is Wait.GREETING else "command"

    def within_session(self, timeout: float) -> float:
        """Return `timeout`, or the rest of the session's time if that is shorter.

        Raises `TimeoutError` if no time is left.
        """
        left = self._end - self.clock()
        if left <= 0:
            raise TimeoutError(_TOO_LONG)

        return timeout if timeout < left else left


_TOO_LONG = "the session has taken too long"


@lru_cache(maxsize=16)
def _by_wait(timeouts: Timeouts) -> Mapping[Wait, float]:
    return {
        Wait.GREETING: timeouts.greeting,
        Wait.COMMAND: timeouts.command,
        Wait.BODY: timeouts.body,
        Wait.AUTH: timeouts.command,
    }
