"""A correct client has no finding, and the report of a client has to match the replies to its message."""

import pytest

from smtpcore_adapters.check import Outcome, Severity
from smtpcore_adapters.check.clients import CLIENT_CHECKS, ClientChecks, ClientSetup, Run, Tls, choose_client_checks
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.check.clients.helpers import failed, finding_of, run_on


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_correct_client_has_no_finding(tls: Tls) -> None:
    assert failed(run_on(Correct(tls, logs_in=tls != "none"), tls=tls)) == set()


def test_checks_have_different_ids() -> None:
    assert len({check.id for check in CLIENT_CHECKS}) == len(CLIENT_CHECKS) >= 30


def test_failure_reported_for_an_accepted_message_is_a_warning() -> None:
    class ReportsFailure(Correct):
        def __call__(self, run: Run) -> bool:
            super().__call__(run)
            return False

    finding = finding_of("session-plain", ReportsFailure())

    assert (finding.outcome, finding.severity) == (Outcome.FAIL, Severity.WARNING)


def test_client_that_never_delivers_is_not_judged_by_its_delivery() -> None:
    def leave(run: Run) -> None:
        Correct("implicit")(run)

    with ClientChecks(ClientSetup()) as server:
        (finding,) = server.run(leave, choose_client_checks(["session-plain"]))

    assert finding.outcome is Outcome.INCONCLUSIVE
