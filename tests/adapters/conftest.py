"""What the tests of the adapters share."""

import pytest

from tests.adapters.harness import BACKENDS, LOOPS


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each adapter, on each event loop that it runs in."""
    return _named(request.param)


@pytest.fixture(params=LOOPS)
def loop_backend(request: pytest.FixtureRequest) -> str:
    """The name of each adapter with an event loop."""
    return _named(request.param)


def _named(name: str) -> str:
    if name == "asyncio-uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    return name
