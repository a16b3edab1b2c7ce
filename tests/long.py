"""Complete proofs are slow. They are marked `long`, and the tests that always run contain a small part of each."""

from collections.abc import Iterable

import pytest

long = pytest.mark.long


def mostly_long(values: Iterable[str], *short: str) -> list[object]:
    """Return the values of a parameter: all tests are long, except those with a value of `short`."""
    return [value if value in short else pytest.param(value, marks=long) for value in values]
