"""Simulate a queue that is divided into partitions: hot domains, and the loss of a node. Seeded, so always the same.

    python -m benchmarks.partitions

The simulation checks the formulas of docs/scaling.md: `most`, `growth`, `headroom` and `recovery`. Time goes in steps
of a tenth of a second. In each step a random number of messages arrives (a normal approximation of Poisson's
distribution), for a random domain each, and each partition or node handles as many as it can.
"""

import math
import random
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

STEP = 0.1
"""Seconds of a step."""


# The formulas


def zipf(domains: int, exponent: float = 1.0) -> list[float]:
    """Return the shares of the domains, the largest first: the share of number n is proportional to 1 / n**exponent."""
    weights = [1 / number**exponent for number in range(1, domains + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def partition_of(domain: int, partitions: int, part: int = 0) -> int:
    """Return the partition of a domain, or of a part of a domain that is split."""
    return crc32(b"%d.%d" % (domain, part)) % partitions


def loads(shares: list[float], partitions: int, split: int = 1, hot: float = 1.0) -> list[float]:
    """Return the share of each partition. A domain with a share above `hot` is divided into `split` parts."""
    result = [0.0] * partitions
    for domain, share in enumerate(shares):
        parts = split if share > hot else 1
        for part in range(parts):
            result[partition_of(domain, partitions, part)] += share / parts
    return result


def most(capacity: float, shares: list[float]) -> float:
    """Return the rate that all partitions together can take: that of the hottest partition decides."""
    return capacity / max(shares)


def growth(rate: float, share: float, capacity: float) -> float:
    """Return the messages by which the backlog of a partition grows in a second."""
    return max(0.0, rate * share - capacity)


def headroom(nodes: int) -> float:
    """Return the utilization up to which `nodes` nodes can do without one of them."""
    return (nodes - 1) / nodes


def recovery(rate: float, nodes: int, capacity: float, seconds: float, stopped: float) -> float:
    """Return the seconds from the loss of a node until the backlog is empty.

    For `stopped` seconds no node handles messages, as in the election of a leader, and for `seconds` one is missing.
    """
    after_stop = rate * stopped
    rest = (nodes - 1) * capacity - rate
    if rest > 0 and stopped + after_stop / rest <= seconds:
        return stopped + after_stop / rest

    backlog = after_stop - rest * (seconds - stopped)
    return seconds + backlog / (nodes * capacity - rate)


# The simulation


@dataclass(slots=True)
class Queue:
    """A queue that handles a number of messages in a second."""

    capacity: float
    backlog: float = 0.0

    def step(self, arrived: float) -> None:
        self.backlog = max(0.0, self.backlog + arrived - self.capacity * STEP)


class Arrivals:
    """Random arrivals of messages."""

    def __init__(self, rate: float, seed: int) -> None:
        self._random = random.Random(seed)
        self._mean = rate * STEP

    def count(self) -> int:
        """Return the number of messages of a step."""
        return max(0, round(self._random.gauss(self._mean, math.sqrt(self._mean))))

    def choose(self, sums: list[float]) -> int:
        """Return the number of a domain, with the sums of the shares up to each."""
        return bisect(sums, self._random.random() * sums[-1])

    def part(self, parts: int) -> int:
        """Return the part of a domain that is divided by the id of the message."""
        return self._random.randrange(parts)


def backlogs(
    rate: float,
    seconds: float,
    shares: list[float],
    partitions: int,
    capacity: float,
    *,
    split: int = 1,
    hot: float = 1.0,
) -> list[float]:
    """Return the backlog of each partition after `seconds`."""
    arrivals, sums = Arrivals(rate, seed=1), list(accumulate(shares))
    queues = [Queue(capacity) for _ in range(partitions)]
    for _ in range(round(seconds / STEP)):
        arrived = [0] * partitions
        for _ in range(arrivals.count()):
            domain = arrivals.choose(sums)
            part = arrivals.part(split) if shares[domain] > hot else 0
            arrived[partition_of(domain, partitions, part)] += 1
        for queue, number in zip(queues, arrived, strict=True):
            queue.step(number)
    return [queue.backlog for queue in queues]


def seconds_to_recover(rate: float, nodes: int, capacity: float, seconds: float, stopped: float) -> float:
    """Return the seconds from the loss of a node until the backlog is empty, if any node can take any message."""
    arrivals, queue, now = Arrivals(rate, seed=2), Queue(0), 0.0
    while now < stopped or queue.backlog > 0:
        queue.capacity = 0.0 if now < stopped else capacity * (nodes - (now < seconds))
        queue.step(arrivals.count())
        now += STEP
    return now


def main() -> None:
    """Print what the page has."""
    shares = zipf(10_000)
    print(f"the largest of 10,000 domains has {shares[0]:.1%} of the messages")
    for partitions in (8, 64):
        whole, divided = (max(loads(shares, partitions, split, 0.001)) for split in (1, 16))
        print(f"{partitions} partitions: the hottest has {whole:.1%}, and with large domains in 16 parts {divided:.1%}")
    print(f"3 nodes may be used up to {headroom(3):.0%}, 10 nodes up to {headroom(10):.0%}")
    print(f"10 nodes at 60 %, one lost for 60 s, 5 s without a leader: {recovery(6_000, 10, 1_000, 60, 5):.0f} s")


if __name__ == "__main__":
    main()
