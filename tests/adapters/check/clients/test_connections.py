"""Faults in a session outside of transactions are found by the check for each."""

from collections.abc import Callable

import pytest

from smtpcore_adapters.check import Outcome
from tests.adapters.check.clients.broken_clients import BROKEN_CONNECTIONS, Correct, TalksFirst
from tests.adapters.check.clients.helpers import failed, finding_of, run_on


@pytest.mark.parametrize("client", BROKEN_CONNECTIONS)
def test_fault_is_found_by_the_check_for_it_only(client: Callable[[], Correct]) -> None:
    assert failed(run_on(client())) == BROKEN_CONNECTIONS[client]


def test_client_that_talks_before_the_greeting_is_found() -> None:
    finding = finding_of("greeting-wait", TalksFirst(), pause=2.0)

    assert (finding.outcome, finding.note) == (Outcome.FAIL, "sent before the greeting: NOOP")
