"""The output of `smtpcore fuzz`, for servers and for clients: progress, findings as dialogues or JSON, saved files."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

if TYPE_CHECKING:
    from ..testing.fuzz import Violation

_INTERVAL = 0.1
"""Seconds between two changes of the line on the terminal."""
_WIDTH = 60
_LONGEST_VERB = 20
"""Characters of a verb in texts and in names of files; a malformed line may begin with a longer word."""


class AnyFinding(Protocol):
    """A finding about a server or a client."""

    @property
    def violation(self) -> "Violation":
        """The violation."""
        ...

    @property
    def title(self) -> str:
        """The law in words."""
        ...

    @property
    def lines(self) -> list[str]:
        """The dialogue."""
        ...


FindingT = TypeVar("FindingT", bound=AnyFinding)
LoadedT = TypeVar("LoadedT")


class AnyReport(Protocol):
    """The report of a run against a server or a client."""

    sessions: int
    seconds: float
    unstable: "list[Violation]"
    notes: list[str]

    @property
    def findings(self) -> Sequence[AnyFinding]:
        """The findings."""
        ...

    @property
    def faults(self) -> Sequence[AnyFinding]:
        """The findings that are more than warnings."""
        ...


class Progress:
    """A line on the terminal."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._shown = 0.0

    def __call__(self, report: AnyReport) -> None:
        """Show the progress, at most every tenth of a second."""
        now = time.monotonic()
        if now - self._shown >= _INTERVAL:
            self._shown = now
            left = max(self._end - now, 0)
            text = f"{report.sessions} sessions, {len(report.findings)} findings, {left:.0f} s left"
            click.echo(f"\r{text:{_WIDTH}}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line."""
        click.echo(f"\r{'':{_WIDTH}}\r", nl=False, err=True)


def saved(corpus: Path | None) -> list[Path]:
    """Return the files in the directory of `--corpus`."""
    return sorted(corpus.glob("*.json")) if corpus and corpus.is_dir() else []


def loaded(corpus: Path | None, load: Callable[[Path], LoadedT]) -> list[LoadedT]:
    """Read the files in the directory of `--corpus`. Name each damaged file on standard error, and leave it out."""
    from ..testing.fuzz import Unreadable

    read: list[LoadedT] = []
    for file in saved(corpus):
        try:
            read.append(load(file))
        except Unreadable as exc:
            click.echo(f"left out: {exc}", err=True)

    return read


def save_findings(
    corpus: Path | None, findings: Sequence[FindingT], write: Callable[[Path, FindingT, Mapping[str, str]], None]
) -> list[Path]:
    """Save each finding with `write`, and return the files."""
    directory = corpus or Path("smtpcore-fuzz")
    files: list[Path] = []
    for finding in findings:
        violation = finding.violation
        directory.mkdir(parents=True, exist_ok=True)
        name = "-".join(filter(str.isalnum, [violation.law, violation.verb.lower()[:_LONGEST_VERB]]))
        file = next(path for n in range(1, 10_000) if not (path := directory / f"{name}-{n}.json").exists())
        about = {"law": violation.law, "section": violation.section, "verb": violation.verb, "text": violation.text}
        write(file, finding, about)
        files.append(file)

    return files


def print_findings(findings: Sequence[AnyFinding], files: Sequence[Path]) -> None:
    """Print the findings, grouped by law."""
    laws = dict.fromkeys(finding.violation.law for finding in findings)
    for law in laws:
        group = [pair for pair in zip(findings, files, strict=True) if pair[0].violation.law == law]
        click.echo(f"{law}: {group[0][0].title}")
        for finding, file in group:
            _print_finding(finding, str(file))


def _print_finding(finding: AnyFinding, file: str) -> None:
    violation = finding.violation
    kind = "warning: " if violation.is_warning else ""
    click.echo(f"  {kind}{_shown(violation.verb)}: {violation.text} ({violation.section})")
    click.echo("\n".join(indented(finding.lines)))
    click.echo(f"    saved as {file}\n")


def _shown(verb: str) -> str:
    return (verb if len(verb) <= _LONGEST_VERB else f"{verb[:_LONGEST_VERB]}...") or "a malformed line"


def indented(lines: Sequence[str]) -> list[str]:
    """Return the lines of a dialogue as they are printed below a finding."""
    return [f"    {line}" if line else "" for line in lines]


def print_end(report: AnyReport, seed: int) -> None:
    """Print the unstable violations, the notes, and the last line."""
    for violation in report.unstable:
        verb = _shown(violation.verb)
        click.echo(f"unstable: {verb}: {violation.text} ({violation.law}); a second run did not show it")
    for note in report.notes:
        click.echo(f"note: {note}")

    warnings = len(report.findings) - len(report.faults)
    click.echo(
        f"{report.sessions} sessions in {report.seconds:.0f} s with seed {seed}: "
        f"{len(report.faults)} findings, {warnings} warnings, {len(report.unstable)} unstable"
    )


def report_as_json(host: str, port: int, seed: int, report: AnyReport, files: Sequence[Path]) -> dict[str, object]:
    """Return the report as JSON values."""
    return {
        "host": host,
        "port": port,
        "seed": seed,
        "sessions": report.sessions,
        "seconds": round(report.seconds, 3),
        "notes": report.notes,
        "faults": len(report.faults),
        "findings": [
            {
                "law": finding.violation.law,
                "title": finding.title,
                "section": finding.violation.section,
                "verb": finding.violation.verb,
                "text": finding.violation.text,
                "warning": finding.violation.is_warning,
                "file": str(file),
                "dialogue": finding.lines,
            }
            for finding, file in zip(report.findings, files, strict=True)
        ],
        "unstable": [f"{each.law}: {each.verb}: {each.text}" for each in report.unstable],
    }
