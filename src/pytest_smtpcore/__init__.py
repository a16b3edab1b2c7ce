"""The fixtures of smtpcore for pytest, which finds them by itself: `smtp_server` and `smtp_pair`."""

# pytest imports this in every run in which smtpcore happens to be installed, whether its fixtures are used or not. So
# it stands outside of the packages, whose import would take its time, and imports nothing of them before it has to.

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from smtpcore_adapters.testing import SmtpPair, SmtpServer

_MARKER = "smtp_server(**options): how the fixture smtp_server is set up, with the options of ServerOptions."


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def smtp_server_options() -> Mapping[str, object]:
    """Options of all servers. Define a fixture of this name to choose others; a marker's come on top."""
    return {}


@pytest.fixture
def smtp_server(request: pytest.FixtureRequest, smtp_server_options: Mapping[str, object]) -> "Iterator[SmtpServer]":
    """A server that has received what `messages` lists: a `smtpcore_adapters.testing.SmtpServer`."""
    from smtpcore_adapters.testing import SmtpServer

    options = dict(smtp_server_options)
    for marker in reversed(list(request.node.iter_markers("smtp_server"))):
        options |= marker.kwargs

    with SmtpServer(**options) as server:
        yield server


@pytest.fixture
def smtp_pair() -> "Iterator[SmtpPair]":
    """A client and a server joined in memory: a `smtpcore_adapters.testing.SmtpPair`."""
    from smtpcore_adapters.testing import SmtpPair

    pair = SmtpPair()
    yield pair
    pair.close()
