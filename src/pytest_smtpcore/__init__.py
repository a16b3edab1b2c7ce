"""The pytest plugin of smtpcore, with the fixtures `smtp_server` and `smtp_pair`. pytest loads it automatically."""

# pytest imports this module in every run in an environment with smtpcore, whether or not a test uses the fixtures. So
# it is a package of its own, and imports the other packages only inside the fixtures, to keep the start of pytest fast.

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from smtpcore_adapters.testing import SmtpPair, SmtpServer

_MARKER = "smtp_server(**options): options for the fixture smtp_server, as listed in ServerOptions."


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker with pytest."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def smtp_server_options() -> Mapping[str, object]:
    """Return the options of all servers.

    Override this fixture to change the options. A marker's options take precedence.
    """
    return {}


@pytest.fixture
def smtp_server(request: pytest.FixtureRequest, smtp_server_options: Mapping[str, object]) -> "Iterator[SmtpServer]":
    """Run a server that collects received messages in `messages`: a `smtpcore_adapters.testing.SmtpServer`."""
    from smtpcore_adapters.testing import SmtpServer

    options: dict[str, Any] = dict(smtp_server_options)
    for marker in reversed(list(request.node.iter_markers("smtp_server"))):
        if marker.args:
            raise TypeError(f"the marker smtp_server takes keyword arguments only, not {marker.args[0]!r}")
        options |= marker.kwargs

    with SmtpServer(**options) as server:
        yield server


@pytest.fixture
def smtp_pair() -> "Iterator[SmtpPair]":
    """Return a client and a server that are connected in memory: a `smtpcore_adapters.testing.SmtpPair`."""
    from smtpcore_adapters.testing import SmtpPair

    pair = SmtpPair()
    yield pair
    pair.close()
