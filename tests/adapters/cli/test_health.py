"""The readiness of a server."""

from multiprocessing import get_context

from smtpcore_adapters.cli._health import Readiness
from tests.adapters.command import TIMEOUT


def test_readiness_is_shared_with_forked_processes() -> None:
    readiness = Readiness()
    assert not readiness()
    process = get_context("fork").Process(target=readiness.set, args=(True,))
    process.start()
    process.join(TIMEOUT)
    assert readiness()
    readiness.set(False)
    assert not readiness()
