"""The readiness of a server."""

from multiprocessing import get_context

from smtpcore_adapters.cli._health import Readiness, State
from tests.adapters.command import TIMEOUT


def test_readiness_is_shared_with_forked_processes() -> None:
    readiness = Readiness()
    assert not readiness()
    process = get_context("fork").Process(target=readiness.set, args=(State.READY,))
    process.start()
    process.join(TIMEOUT)
    assert readiness()
    for state in (State.DRAINING, State.NOT_READY):
        readiness.set(state)
        assert not readiness()
        assert readiness.state is state
