"""The fields of a finding."""

from smtpcore_adapters.check import Finding, Outcome, Severity, choose, run_checks
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import target_of
from tests.adapters.peers import serving


def test_finding_states_octets_sent_reply_expected_and_reply_seen() -> None:
    with serving(scripted({"RCPT": "250 fine\r\n"})) as address:
        (finding,) = run_checks(target_of(address), choose(["seq-rcpt-first"]))

    assert finding == Finding(
        id="seq-rcpt-first",
        title="RCPT before MAIL is refused",
        severity=Severity.FAULT,
        section="RFC 5321 4.1.4",
        outcome=Outcome.FAIL,
        expected="5yz",
        sent="RCPT TO:<b@s.example>\\r\\n",
        seen="250 fine",
        note="the reply was: 250 fine",
    )
    assert finding.is_fault


def test_failed_check_of_severity_warning_is_not_a_fault() -> None:
    with serving(scripted({})) as address:
        (finding,) = run_checks(target_of(address), choose(["seq-mail-first"]))

    assert finding.outcome is Outcome.FAIL
    assert not finding.is_fault
