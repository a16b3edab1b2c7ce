"""Streams for the tests of this directory."""

from collections.abc import Iterator

import pytest

from tests.adapters.stores.jetstreams import Streams, streams
from tests.adapters.stores.nats_servers import PROGRAM, WITHOUT_PROGRAM


@pytest.fixture
def found() -> Iterator[Streams]:
    """The streams of a server without a cluster, under a new name."""
    if PROGRAM is None:
        pytest.skip(WITHOUT_PROGRAM)

    with streams() as found:
        yield found
