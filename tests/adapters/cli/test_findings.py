"""Findings are printed as lines, counted, and made into an object for JSON."""

import pytest

from smtpcore_adapters.check import Finding, Outcome, Severity
from smtpcore_adapters.cli._findings import report_of, shown, summary_of

_FINDING = Finding(
    id="quit-sent",
    title="A session ends with QUIT",
    severity=Severity.FAULT,
    section="RFC 5321 4.1.1.10",
    outcome=Outcome.FAIL,
    expected="QUIT",
    sent="220 ready",
    seen="EHLO c\nNOOP",
    note="no QUIT",
)


def test_failure_is_printed_with_the_dialogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown([_FINDING], as_json=False)) == [_FINDING]
    assert capsys.readouterr().out.splitlines() == [
        "FAIL           quit-sent: A session ends with QUIT (fault, RFC 5321 4.1.1.10)",
        "          sent: 220 ready",
        "      expected: QUIT",
        "          seen: EHLO c",
        "                NOOP",
        "                no QUIT",
    ]


def test_nothing_is_printed_before_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(shown([_FINDING], as_json=True)) == [_FINDING]
    assert capsys.readouterr().out == ""


def test_findings_are_counted() -> None:
    assert summary_of([_FINDING]) == (
        "0 pass, 1 fail, 0 not applicable, 0 inconclusive; failed: 0 security, 1 fault, 0 warning"
    )
    assert report_of([_FINDING], host="h")["faults"] == 1
