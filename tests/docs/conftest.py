"""Shared by the tests of the documentation."""

from collections.abc import Iterator

import pytest

from benchmarks.ports import reserved_ports


@pytest.fixture
def port() -> Iterator[int]:
    """A port for a server that starts later."""
    with reserved_ports(1) as (port,):
        yield port
