"""Count how often something has happened of late."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    level: float
    time: float


class Rate:
    """A leaky bucket for each key: it holds `limit` drops, and in `seconds` it loses as many.

    At most `keys` buckets are kept. One too many takes the place of the one that was dripped into the longest ago.
    """

    def __init__(self, limit: int, seconds: float, *, keys: int) -> None:
        self._limit = limit
        self._leak = limit / seconds
        self._keys = keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def level(self, key: str, now: float) -> float:
        """How full the bucket is, in drops."""
        bucket = self._buckets.get(key)
        return max(0.0, bucket.level - (now - bucket.time) * self._leak) if bucket else 0.0

    def is_full(self, key: str, now: float) -> bool:
        """Whether one more would be too many."""
        return self.level(key, now) + 1 > self._limit

    def add(self, key: str, now: float) -> float:
        """Let one more drop fall, and return the level.

        A full bucket still takes as many again: who goes on at the same pace stays over the limit, and who pauses is
        forgiven in bounded time.
        """
        level = min(self.level(key, now) + 1, 2.0 * self._limit)
        self._buckets[key] = _Bucket(level, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)

        return level
