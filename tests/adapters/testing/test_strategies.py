"""The module of all strategies exports each of them."""

from collections.abc import Sized
from types import FunctionType

import pytest
from hypothesis import find, settings
from hypothesis.strategies import SearchStrategy

from smtpcore_adapters.testing import _session_strategies, _value_strategies, strategies


def public_functions(module: object) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == getattr(module, "__name__", None)
    }


def test_each_strategy_is_exported() -> None:
    exported = public_functions(_session_strategies) | public_functions(_value_strategies)

    assert set(strategies.__all__) == exported | {"OFFERS", "stuffed"}
    assert set(strategies.__all__) <= set(dir(strategies))


STRATEGIES: dict[str, tuple[SearchStrategy[Sized], int]] = {
    "steps": (strategies.steps(), 2),
    "hostile steps": (strategies.steps(valid=False), 2),
    "sessions": (strategies.sessions(), 2),
    "hostile sessions": (strategies.sessions(valid=False), 2),
    "hostile lines": (strategies.hostile_lines(), 10),
    "hostile bodies": (strategies.hostile_bodies(), 40),
}


@pytest.mark.parametrize(("strategy", "longest"), STRATEGIES.values(), ids=STRATEGIES)
def test_simplest_value_is_short(strategy: SearchStrategy[Sized], longest: int) -> None:
    assert len(find(strategy, lambda _: True, settings=settings(max_examples=5, database=None))) <= longest
