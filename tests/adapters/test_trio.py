"""Tests of the trio adapter alone; behaviour that all adapters share is in `test_contract`."""

import pytest
import trio

from smtpcore_adapters import Address, App
from smtpcore_adapters.trio import run
from tests.adapters.fakes import CONFIG


class Stop(Exception):
    """Ends a server."""


def test_run_serves_in_a_new_event_loop_of_trio() -> None:
    seen: list[bool] = []

    def look(address: Address) -> None:
        seen.append(trio.lowlevel.in_trio_run())
        raise Stop

    with pytest.raises(Stop):
        run(App(), config=CONFIG, on_ready=look)
    assert seen == [True]
    assert not trio.lowlevel.in_trio_run()
