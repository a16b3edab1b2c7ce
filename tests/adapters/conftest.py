"""Fixtures shared by the tests of the adapters."""

import gc
from collections.abc import Iterator

import pytest

from tests.adapters.harness import BACKENDS, LOOPS


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of an adapter, once for each event loop that it supports."""
    return _named(request.param)


@pytest.fixture(params=LOOPS)
def loop_backend(request: pytest.FixtureRequest) -> str:
    """The name of an adapter with an event loop."""
    return _named(request.param)


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """Freeze the existing objects, so that a garbage collection after each test of a module is quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _named(name: str) -> str:
    if name == "asyncio-uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    return name
