"""Faults in the use of STARTTLS and AUTH are found by the check for each."""

from collections.abc import Callable

import pytest

from smtpcore_adapters.check import Outcome, Severity
from smtpcore_adapters.check.clients import choose_client_checks
from tests.adapters.check.clients.broken_clients import (
    BROKEN_WITH_LOGIN,
    BROKEN_WITH_TLS,
    AcceptsAnyAuthority,
    Correct,
    UsesInjectedReplies,
)
from tests.adapters.check.clients.helpers import failed, finding_of, run_on

_CHECKS = choose_client_checks(["session", "tls", "auth"])


@pytest.mark.parametrize("client", BROKEN_WITH_TLS)
def test_fault_of_tls_is_found_by_the_check_for_it_only(client: Callable[..., Correct]) -> None:
    assert failed(run_on(client("starttls"), _CHECKS, tls="starttls")) == BROKEN_WITH_TLS[client]


@pytest.mark.parametrize("client", BROKEN_WITH_LOGIN)
def test_fault_of_a_login_is_found_by_the_check_for_it_only(client: Callable[..., Correct]) -> None:
    findings = run_on(client("starttls", logs_in=True), _CHECKS, tls="starttls")

    assert failed(findings) == BROKEN_WITH_LOGIN[client]


def test_client_that_uses_injected_replies_is_found() -> None:
    finding = finding_of("tls-injection", UsesInjectedReplies("starttls"), tls="starttls", pause=0.5)

    assert finding.outcome is Outcome.FAIL
    assert "used an injected reply" in finding.note


def test_client_without_starttls_is_not_judged_by_its_tls() -> None:
    assert finding_of("tls-new-hello", Correct()).outcome is Outcome.NOT_APPLICABLE


def test_client_that_leaves_the_handshake_is_not_judged_by_the_dialogue_under_tls() -> None:
    class LeavesHandshake(Correct):
        def start_tls(self) -> None:
            self.socket.close()

    finding = finding_of("tls-new-hello", LeavesHandshake("starttls"), tls="starttls")

    assert (finding.outcome, finding.note) == (
        Outcome.INCONCLUSIVE,
        "the client did not start TLS: the client ended the handshake of TLS",
    )


def test_password_in_plaintext_of_a_client_that_requires_no_tls_is_a_warning() -> None:
    class LogsInWithoutTls(Correct):
        def log_in(self) -> None:
            self.ask(b"AUTH PLAIN AHRpbQBzZWNyZXQ=")

    finding = finding_of("auth-plaintext", LogsInWithoutTls(logs_in=True))

    assert (finding.outcome, finding.severity) == (Outcome.FAIL, Severity.WARNING)
    assert "AUTH PLAIN ***" in finding.seen
    assert "AHRpbQBzZWNyZXQ" not in finding.seen


def test_certificate_is_checked_with_implicit_tls() -> None:
    assert finding_of("tls-authority", AcceptsAnyAuthority("implicit"), tls="implicit").outcome is Outcome.FAIL
