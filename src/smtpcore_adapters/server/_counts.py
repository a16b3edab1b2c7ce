"""The counts that `Limits` limits: a small interface, and its default, the memory of one process."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import RLock
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from ._rate_limit import Rate
from ._returns import Returns

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
        "greylist": 14_400.0,
        "greylist_passed": 3_024_000.0,
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


@runtime_checkable
class RemoteCounts(Counts, Protocol):
    """Counts that several machines share, and whose methods may wait for another machine for a fraction of a second.

    The server calls `take_all`, `level` and `add` of such counts in a thread, so that only one session waits. It calls
    `give_back` and `count` in the event loop.
    """

    local: Counts
    """The counts of this server alone. The server takes the log quota, and clients without an address, from here."""

    def take_all(self, most: Mapping[str, int]) -> str | None:
        """Add a connection to the count of each key and return None, or return a key whose count is at least its most.

        In the second case no count changes.
        """
        ...

    def is_available(self) -> bool:
        """Return whether the counts of the other machines are known at present."""
        ...


def take_all(counts: Counts, most: Mapping[str, int]) -> str | None:
    """Add a connection to the count of each key and return None, or return a key whose count is at least its most."""
    taken: list[str] = []
    for key, number in most.items():
        if not counts.take(key, number):
            give_back_all(counts, taken)
            return key
        taken.append(key)

    return None


def give_back_all(counts: Counts, keys: Iterable[str]) -> None:
    """Subtract a connection from the count of each key."""
    for key in keys:
        counts.give_back(key)


class MemoryCounts:
    """Counts in the memory of this process."""

    def __init__(self) -> None:
        self._returns = Returns[str](self._subtract)
        self._taken: dict[str, int] = {}
        self._lock_of_rates = RLock()
        self._rates: dict[str, Rate] = {}

    def take(self, key: str, most: int) -> bool:
        """Add a connection to the count of `key`, if the count is below `most`."""
        with self._returns.lock:
            if self._returns.queue:
                self._subtract()
            count = self._taken.get(key, 0)
            if count >= most:
                return False

            self._taken[key] = count + 1
            return True

    def give_back(self, key: str) -> None:
        """Subtract a connection."""
        self._returns.queue.append(key)
        self._returns.settle()

    def _subtract(self) -> None:
        while self._returns.queue:
            key = self._returns.queue.popleft()
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]

    def count(self, key: str) -> int:
        """Return the count of `key`."""
        if self._returns.queue:
            self._returns.settle()
        return self._taken.get(key, 0)

    def level(self, rate: RateLimit, key: str, now: float) -> float:
        """Return the number of recent events of `key`."""
        with self._lock_of_rates:
            return self._rate(rate).level(key, now)

    def add(self, rate: RateLimit, key: str, now: float) -> float:
        """Add an event of `key`, and return the number of recent events."""
        with self._lock_of_rates:
            return self._rate(rate).add(key, now)

    def _rate(self, rate: RateLimit) -> Rate:
        found = self._rates.get(rate.name)
        if found is None:
            found = self._rates[rate.name] = Rate(rate.limit, rate.seconds, keys=KEYS)
        return found
