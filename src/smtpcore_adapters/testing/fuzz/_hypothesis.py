"""Draw values with Hypothesis one by one, outside of a test."""

from collections.abc import Iterator
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
_BATCH = 50
"""Values that are drawn before the first of them is used."""


def drawn(strategy: SearchStrategy[T], start: int) -> Iterator[T]:
    """Yield values of `strategy` without end. The same `start` gives the same values."""
    number = start * 1_000_003
    while True:
        yield from _batch(strategy, number)
        number += 1


def _batch(strategy: SearchStrategy[T], number: int) -> list[T]:
    values: list[T] = []

    @seed(number)
    @settings(
        max_examples=_BATCH,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=_CHECKS,
    )
    @given(strategy)
    def collect(value: T) -> None:
        values.append(value)

    collect()
    return values
