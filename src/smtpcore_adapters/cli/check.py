"""`smtpcore check`: check whether a server complies with the RFCs and is safe."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ..check import CannotCheck, Check, Finding, Outcome, Severity, Target, choose, run_checks
from ._password import HELP
from ._target import target_of

_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.NOT_APPLICABLE: "dim",
    Outcome.INCONCLUSIVE: "yellow",
}


@click.command()
@click.argument("server", metavar="HOST[:PORT]", default="")
@click.option("--to", "recipient", metavar="ADDRESS", help="Recipient of about 40 test messages. Required.")
@click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    help="Sender of the test messages. The default is the recipient, whose domain the server knows.",
)
@click.option(
    "--tls",
    type=click.Choice(["none", "starttls", "implicit"]),
    default="none",
    show_default=True,
    help="Use of TLS.",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@click.option("--auth", metavar="USER", help=f"User to log in as first, with AUTH PLAIN; needs --tls. {HELP}")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option(
    "--helo",
    metavar="NAME",
    default="",
    help="Name of this machine in EHLO.  [default: the address of this end of the connection, in brackets]",
)
@click.option(
    "--only", multiple=True, metavar="ID", help="Run only this check, or this group, such as tls. Repeatable."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Timeout for each reply.",
)
@click.option("--list", "lists", is_flag=True, help="List the checks without running them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def check(**options: Any) -> int:
    """Check whether a server complies with the RFCs and is safe.

    Check only your own server, or a server whose owner agrees, because many checks send malformed input. The default
    PORT is 25.

    Exit status: 0 without faults, 1 with faults, 2 if the server cannot be checked. Warnings are not faults.
    """
    try:
        checks = choose(options["only"])
    except ValueError as exc:
        raise click.UsageError(f"{exc}: see --list") from exc

    if options["lists"]:
        _list(checks)
        return 0

    target = target_of(options)
    try:
        findings = list(_shown(run_checks(target, checks), as_json=options["as_json"]))
    except CannotCheck as exc:
        raise click.ClickException(f"cannot check {exc}") from exc

    if options["as_json"]:
        click.echo(json.dumps(_report(target, findings), indent=2))
    else:
        click.echo(_summary(findings))

    return int(any(finding.is_fault for finding in findings))


def _list(checks: Sequence[Check]) -> None:
    for each in checks:
        click.echo(f"{each.id}  {each.severity.value}  {each.title} ({each.section})")


# Output


def _shown(findings: Iterable[Finding], *, as_json: bool) -> Iterator[Finding]:
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


def _summary(findings: Sequence[Finding]) -> str:
    outcomes = Counter(finding.outcome for finding in findings)
    failed = Counter(finding.severity for finding in findings if finding.outcome is Outcome.FAIL)
    counts = [f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome]
    return f"{', '.join(counts)}; failed: {', '.join(f'{failed[each]} {each.value}' for each in Severity)}"


def _report(target: Target, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "host": target.host,
        "port": target.port,
        "faults": sum(finding.is_fault for finding in findings),
        "findings": [
            {**asdict(finding), "severity": finding.severity.value, "outcome": finding.outcome.value}
            for finding in findings
        ],
    }
