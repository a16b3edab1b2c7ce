"""Measure several things in interleaved rounds, with the median and quartiles of the results."""

# A machine is never completely quiet. So each thing is measured several times: each round measures everything, so that
# a disturbance affects all things equally. The median ignores a few disturbed rounds. The quartiles show the spread.

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Work: TypeAlias = Callable[[], float]
"""A function that does some work and returns the amount of work."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The results of several rounds."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.low:,.4g} to {self.high:,.4g})"


def spread(values: Iterable[float]) -> Spread:
    """Return the median and quartiles of `values`, which has at least one value."""
    known = sorted(values)
    if len(known) == 1:
        return Spread(known[0], known[0], known[0])

    low, median, high = statistics.quantiles(known, n=4, method="inclusive")
    return Spread(median, low, high)


def rate(work: Work, seconds: float) -> float:
    """Return the amount of work per second of CPU time, measured for `seconds`."""
    done = spent = 0.0
    start = time.process_time()
    while spent < seconds:  # works at least once, even if another thread of the process has used up the CPU time
        done += work()
        spent = time.process_time() - start

    return done / spent


def rates(works: Mapping[str, Work], *, rounds: int, seconds: float) -> dict[str, Spread]:
    """Return the `rate` of each of `works`, measured in interleaved rounds."""
    for work in works.values():
        work()  # warm up

    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            measured[name].append(rate(work, seconds))

    return {name: spread(values) for name, values in measured.items()}
