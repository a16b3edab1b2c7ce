"""The counts that `Limits` limits: a small interface, and its default, the memory of one process."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from ._rate_limit import Rate

KEYS = 10_000  # keys per rate; about 2 MB


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit on the rate of events: `limit` events in `seconds` seconds, for each key."""

    name: str
    """The name of the rate, such as `"auth_failures_per_hour"`."""
    limit: int
    """The number of events."""
    seconds: float
    """The period, in seconds."""


RATES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "connections_per_minute": 60.0,
        "auth_failures_per_hour": 3600.0,
        "account_failures_per_hour": 3600.0,
        "logins": 604_800.0,
        "log_records_per_minute": 60.0,
        "important_log_records_per_minute": 60.0,
    }
)
"""The rates, with their periods in seconds."""


@runtime_checkable
class Counts(Protocol):
    """Counts of open connections, and rates of events, for the keys of `Limits`. A key is a text, such as an address.

    Every method returns at once, because the server waits for the result. Several threads may call the methods.
    """

    def take(self, key: str, most: int) -> bool:
        """Add a connection to the count of `key` and return True, or return False if the count is at least `most`."""
        ...

    def give_back(self, key: str) -> None:
        """Subtract a connection that `take` has added."""
        ...

    def count(self, key: str) -> int:
        """Return the count of `key`."""
        ...

    def level(self, rate: RateLimit, key: str, now: float) -> float:
        """Return the number of recent events of `key`. `now` is the time in seconds, of a monotonic clock."""
        ...

    def add(self, rate: RateLimit, key: str, now: float) -> float:
        """Add an event of `key`, and return the number of recent events with this one.

        The number falls by `rate.limit` in `rate.seconds`, and is at most twice `rate.limit`.
        """
        ...


class MemoryCounts:
    """Counts in the memory of this process, for one `PeerTable`, whose lock protects them."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._rates: dict[str, Rate] = {}

    def take(self, key: str, most: int) -> bool:
        """Add a connection to the count of `key`, if the count is below `most`."""
        count = self._taken.get(key, 0)
        if count >= most:
            return False

        self._taken[key] = count + 1
        return True

    def give_back(self, key: str) -> None:
        """Subtract a connection."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]

    def count(self, key: str) -> int:
        """Return the count of `key`."""
        return self._taken.get(key, 0)

    def level(self, rate: RateLimit, key: str, now: float) -> float:
        """Return the number of recent events of `key`."""
        return self._rate(rate).level(key, now)

    def add(self, rate: RateLimit, key: str, now: float) -> float:
        """Add an event of `key`, and return the number of recent events."""
        return self._rate(rate).add(key, now)

    def _rate(self, rate: RateLimit) -> Rate:
        found = self._rates.get(rate.name)
        if found is None:
            found = self._rates[rate.name] = Rate(rate.limit, rate.seconds, keys=KEYS)
        return found
