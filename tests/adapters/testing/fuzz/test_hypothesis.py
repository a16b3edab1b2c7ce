"""Values are drawn outside of a test, and a seed repeats them."""

from itertools import islice

from hypothesis import strategies as st

from smtpcore_adapters.testing.fuzz._hypothesis import drawn


def some(seed: int) -> list[int]:
    return list(islice(drawn(st.integers(), seed), 120))


def test_seed_repeats_the_values() -> None:
    assert some(1) == some(1)
    assert some(1) != some(2)


def test_batches_differ() -> None:
    values = some(3)

    assert values[:40] != values[50:90]
