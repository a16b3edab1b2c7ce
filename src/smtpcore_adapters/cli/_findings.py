"""The output of `smtpcore check`: findings as lines or as JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Protocol

from rich.console import Console
from rich.text import Text

from ..check import Finding, Outcome, Severity

_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.NOT_APPLICABLE: "dim",
    Outcome.INCONCLUSIVE: "yellow",
}


class _Check(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def section(self) -> str: ...


def list_of(checks: Iterable[_Check]) -> str:
    """Return a line for each check."""
    return "\n".join(f"{each.id}  {each.severity.value}  {each.title} ({each.section})" for each in checks)


def shown(findings: Iterable[Finding], *, as_json: bool) -> Iterator[Finding]:
    """Yield the findings; print each at once unless the result is printed as JSON."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if not as_json:
            _show(console, finding)

        yield finding


def _show(console: Console, finding: Finding) -> None:
    outcome = finding.outcome
    line = Text(f"{outcome.value.upper():15}", style=_STYLES[outcome])
    line.append(f"{finding.id}: {finding.title}", style="default")
    if outcome is not Outcome.PASS:
        line.append(f" ({finding.severity.value}, {finding.section})")

    console.print(line)
    if outcome is Outcome.FAIL:
        for name, text in (("sent", finding.sent), ("expected", finding.expected), ("seen", finding.seen)):
            console.print(Text(f"{name + ':':>15} ", style="dim").append(text.replace("\n", f"\n{'':16}")))
    if finding.note:
        console.print(Text(f"{'':16}{finding.note}", style="dim"))


def summary_of(findings: Sequence[Finding]) -> str:
    """Return a line that counts the outcomes and the severities of failures."""
    outcomes = Counter(finding.outcome for finding in findings)
    failed = Counter(finding.severity for finding in findings if finding.outcome is Outcome.FAIL)
    counts = [f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome]
    return f"{', '.join(counts)}; failed: {', '.join(f'{failed[each]} {each.value}' for each in Severity)}"


def report_of(findings: Sequence[Finding], **about: object) -> dict[str, object]:
    """Return the findings as an object for JSON, after the fields in `about`."""
    return {
        **about,
        "faults": sum(finding.is_fault for finding in findings),
        "findings": [
            {**asdict(finding), "severity": finding.severity.value, "outcome": finding.outcome.value}
            for finding in findings
        ],
    }
