"""The times of the attempts to deliver a message."""

import random
from dataclasses import dataclass

_LONGEST = 100_000_000.0  # three years; the cluster does not keep longer delays


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The delays between the attempts to deliver a message, and the end of the attempts (RFC 5321 4.5.4.1).

    The defaults are those of the RFC: at least 30 minutes between two attempts, two attempts in the first hour, then
    one every two or three hours, for at least four or five days.
    """

    delays: tuple[float, ...] = (1800.0, 1800.0, 7200.0)
    """Seconds from each attempt to the next. The last delay is repeated."""
    give_up: float = 5 * 86400.0
    """Seconds after which a message that is still not delivered becomes a dead letter, by default 5 days."""

    def __post_init__(self) -> None:
        if not self.delays or not all(0 < delay <= _LONGEST for delay in self.delays):
            raise ValueError(
                f"delays is {self.delays}: give one or more, each of more than 0 to {_LONGEST:.0f} seconds"
            )
        if not self.give_up >= 0:
            raise ValueError(f"give_up is {self.give_up}: it must be at least 0 seconds")

    def delay(self, attempts: int, age: float) -> float | None:
        """Return the seconds to the next attempt after `attempts` earlier ones, or None to give up.

        `age` is the seconds since the message was received. The delay is up to a tenth longer than in `delays`, so that
        messages that failed together are not all tried again together.
        """
        delay = self.delays[min(attempts, len(self.delays) - 1)] * random.uniform(1, 1.1)  # noqa: S311 - no secret
        return delay if age + delay <= self.give_up else None
