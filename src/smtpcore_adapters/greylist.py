"""Greylisting: the first attempt of an unknown client, sender and recipient is deferred with a 451 (RFC 6647)."""

# The list needs two facts of each triple, and both follow from the rates of `Counts`. A bucket that gets a single event
# is empty again after the period of the rate, and its level says when the event was: so the list works with every kind
# of counts, and the counts bound its size and forget old triples.

import math
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from smtpcore import Rcpt, Reply, show_texts

from .server._counts import RATES, Counts, MemoryCounts, RateLimit, RemoteCounts
from .server._peers import network_of
from .server._session import Session
from .streams._stream import host_of

__all__ = ["Greylist"]

_WAITING = RateLimit("greylist", 1, RATES["greylist"])
_PASSED = RateLimit("greylist_passed", 1, RATES["greylist_passed"])
_RENEW = 0.5  # the level at which a triple is remembered for another period


class Greylist:
    """Defers the first attempt of each triple of network, sender and recipient: `app.include(Greylist())`.

    Include the list before the handler that accepts recipients. A repetition is accepted if at least `delay` seconds
    and at most four hours have passed. From then on, the triple is accepted for 35 days after each use. The network has
    24 bits of an IPv4 address, and 64 bits of an IPv6 address. Clients that have logged in, and clients of a Unix
    socket, are not deferred.

    With a `RedisCounts` that is also the option `counts` of the servers, a repetition may reach another machine. While
    its store does not answer, no client is deferred.

    Args:
        delay: The time in seconds before a repetition is accepted, 300 by default.
        counts: The counts that remember the triples, by default in the memory of this process: some 10,000 triples, of
            which the oldest are replaced.
        clock: The clock, in seconds.

    Raises:
        ValueError: `delay` is not between 0 and four hours.
    """

    def __init__(
        self, delay: float = 300.0, *, counts: Counts | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 0 <= delay < _WAITING.seconds:
            raise ValueError(f"delay is {delay}: it must be at least 0 and less than {_WAITING.seconds:g} seconds")

        self.counts: Counts = MemoryCounts() if counts is None else counts
        """The counts that remember the triples."""
        self._delay = delay
        self._clock = clock

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply | None:
        """Defer the recipient with 451, or leave the decision to later handlers."""
        network = network_of(host_of(session.peer))
        transaction = session.transaction
        if session.identity is not None or not network or not transaction:
            return None

        key = _key(network, transaction.mail.reverse_path.text, rcpt.forward_path.text)
        if isinstance(self.counts, RemoteCounts):
            wait = await session.run_blocking(self._remote_wait, self.counts, key)
        else:
            wait = self._wait(key)
        if wait <= 0:
            return None

        return Reply(451, f"Greylisted, try again in {math.ceil(wait)} seconds", enhanced="4.7.1")

    def _remote_wait(self, counts: RemoteCounts, key: str) -> float:
        # Both before and after: the store may fail in between, and the counts of this process alone are not enough.
        wait = self._wait(key) if counts.is_available() else 0.0
        return wait if counts.is_available() else 0.0

    def _wait(self, key: str) -> float:
        """Return the seconds until a triple is accepted, 0 if it is accepted now."""
        counts, now = self.counts, self._clock()
        passed = counts.level(_PASSED, key, now)
        if passed <= 0:
            waiting = counts.level(_WAITING, key, now)
            if waiting <= 0:
                counts.add(_WAITING, key, now)
                return self._delay

            # Two attempts at the same moment may both have added an event, so that the bucket began with a level of 2.
            left = self._delay - (math.ceil(waiting) - waiting) * _WAITING.seconds
            if left > 0:
                return left

        if passed < _RENEW:
            counts.add(_PASSED, key, now)
        return 0.0


def _key(*triple: str) -> str:
    text = "\0".join(triple).casefold()
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


show_texts(globals())
