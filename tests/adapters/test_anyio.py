"""Tests of the anyio adapter alone; behaviour that all adapters share is in `test_contract`."""

import pytest
import trio

from smtpcore_adapters import Address, App
from smtpcore_adapters.anyio import Backend, run
from tests.adapters.fakes import CONFIG


class Stop(Exception):
    """Ends a server."""


@pytest.mark.parametrize(("backend", "is_trio"), [("asyncio", False), ("trio", True)])
def test_backend_option_chooses_the_event_loop(backend: Backend, is_trio: bool) -> None:
    seen: list[bool] = []

    def look(address: Address) -> None:
        seen.append(trio.lowlevel.in_trio_run())
        raise Stop

    with pytest.raises(Stop):
        run(App(), config=CONFIG, backend=backend, on_ready=look)
    assert seen == [is_trio]
