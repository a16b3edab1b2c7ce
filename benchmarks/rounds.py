"""Measure several things in turns, and say how far the results can be trusted."""

# A machine is never quite quiet. So nothing is measured once: each round measures everything, and what disturbs a
# round disturbs all of it. The median forgets a disturbed round, and the quartiles show how many there were.

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Work: TypeAlias = Callable[[], float]
"""Does some work, and returns how much."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds have measured."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.low:,.4g} to {self.high:,.4g})"


def spread(values: Iterable[float]) -> Spread:
    """The median and the quartiles of `values`, of which there is at least one."""
    known = sorted(values)
    if len(known) == 1:
        return Spread(known[0], known[0], known[0])

    low, median, high = statistics.quantiles(known, n=4, method="inclusive")
    return Spread(median, low, high)


def rate(work: Work, seconds: float) -> float:
    """How much `work` gets done in a second of CPU time, tried for `seconds`."""
    done = 0.0
    start = time.process_time()
    while (spent := time.process_time() - start) < seconds:
        done += work()

    return done / spent


def rates(works: Mapping[str, Work], *, rounds: int, seconds: float) -> dict[str, Spread]:
    """The `rate` of each of `works`, in interleaved rounds."""
    for work in works.values():
        work()  # so that none pays for what only the first call does

    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            measured[name].append(rate(work, seconds))

    return {name: spread(values) for name, values in measured.items()}
