"""Limit the rate of events separately for each key, such as an address."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    level: float
    time: float


def level_after(level: float, seconds: float, leak: float) -> float:
    """Return the level of a bucket after `seconds`. Threads and processes may pass times out of order."""
    return max(0.0, level - max(0.0, seconds) * leak)


class Rate:
    """A leaky bucket for each key: it holds `limit` events, and `limit` events leak out in `seconds` seconds.

    At most `keys` buckets are kept. A further bucket replaces the bucket whose last event is the oldest.
    """

    def __init__(self, limit: int, seconds: float, *, keys: int) -> None:
        self._limit = limit
        self._leak = limit / seconds
        self._keys = keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def level(self, key: str, now: float) -> float:
        """Return the level of the bucket, in events."""
        bucket = self._buckets.get(key)
        return level_after(bucket.level, now - bucket.time, self._leak) if bucket else 0.0

    def is_full(self, key: str, now: float) -> bool:
        """Return whether one more event would exceed the limit."""
        return self.level(key, now) + 1 > self._limit

    def add(self, key: str, now: float) -> float:
        """Add an event, and return the level.

        The level rises up to twice the limit. So a client that continues at the same pace stays over the limit, and
        after a pause of `2 * seconds` the bucket is empty again.
        """
        level = min(self.level(key, now) + 1, 2.0 * self._limit)
        before = self._buckets.get(key)
        self._buckets[key] = _Bucket(level, max(now, before.time) if before else now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)

        return level
