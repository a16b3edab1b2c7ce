"""Fixtures shared by the tests of the adapters."""

import gc
from ipaddress import IPv6Address
from pathlib import Path

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


@pytest.fixture
def link_local() -> str:
    """A link-local address of this machine with its interface, such as `fe80::1%eth0` (RFC 4007 section 11)."""
    try:
        lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        lines = []
    for address, _, _, scope, _, interface in lines:
        if scope == "20":  # IPV6_ADDR_LINKLOCAL
            return f"{IPv6Address(int(address, 16))}%{interface}"

    pytest.skip("this machine has no link-local address")


@pytest.fixture(scope="module")
def frozen_heap() -> None:
    """Freeze the existing objects, so that a garbage collection after each test of a module is quick.

    They stay frozen: most of them are the collected tests, which `tests/conftest.py` has frozen.
    """
    gc.collect()
    gc.freeze()


def _named(name: str) -> str:
    if name == "asyncio-uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")

    return name
