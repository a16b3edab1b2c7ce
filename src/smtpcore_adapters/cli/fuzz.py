"""`smtpcore fuzz`: find the sessions in which a server breaks the rules of SMTP."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from random import randrange
from socket import gaierror, getaddrinfo
from typing import TYPE_CHECKING, Any, Literal

import click

from ._password import HELP
from ._target import address_of, target_of

if TYPE_CHECKING:
    from ..check import Target
    from ..testing.fuzz import Comparison, Experiment, Finding, Report, Settings, Sink

_PROXY: dict[str | None, Literal[1, 2] | None] = {None: None, "v1": 1, "v2": 2}
_RATE = 50.0
"""Maximum sessions in a second at a server that is not on this machine."""
_NEEDS = "fuzz needs the package hypothesis: pip install 'smtpcore[testing]'"


@click.command()
@click.argument("server", metavar="HOST[:PORT]", default="")
@click.argument("other", metavar="[OTHER[:PORT]]", default="")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, help="Recipient. Required. Repeatable.")
@click.option("--from", "sender", metavar="ADDRESS", default="a@c.example", show_default=True, help="Sender.")
@click.option("--mine", is_flag=True, help="Confirm that a server on another machine is yours.")
@click.option("--tls", type=click.Choice(["none", "starttls", "implicit"]), default="none", show_default=True)
@click.option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@click.option("--auth", metavar="USER", help=f"User to log in as, with AUTH PLAIN first. {HELP}")
@click.option("--allow-plaintext-auth", is_flag=True, help="Log in also without TLS, which exposes the password.")
@click.option("--proxy", type=click.Choice(["v1", "v2"]), help="Begin each connection with a PROXY header.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option("--helo", metavar="NAME", default="", help="Name in EHLO.  [default: c.example]")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, metavar="SECONDS")
@click.option("--seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="Duration of the run.")
@click.option("--examples", type=click.IntRange(0), help="Maximum number of experiments.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the generated sessions.  [default: random]")
@click.option(
    "--corpus",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory with saved sessions: they are played first, and findings are added.",
)
@click.option(
    "--replay", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Play one saved session."
)
@click.option(
    "--maildir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Maildir of the recipient, to see what is delivered.",
)
@click.option(
    "--other-maildir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Maildir of the recipient at OTHER.",
)
@click.option("--delivered-by", metavar="COMMAND", help="Shell command that prints the delivered messages as an mbox.")
@click.option(
    "--delivery-timeout",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Maximum time until an accepted message is delivered.",
)
@click.option("--start", metavar="COMMAND", help="Command that starts the server, also again after it died.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def fuzz(**options: Any) -> int:
    """Play generated sessions against a server, and report the rules that it breaks.

    Fuzz only your own server: the sessions send many malformed lines and messages. With OTHER, play the same sessions
    at both servers and report how they differ. The default PORT is 25.

    Exit status: 0 without findings, 1 with findings, 2 if the server cannot be fuzzed. Warnings are not findings.
    """
    if find_spec("hypothesis") is None:
        raise click.UsageError(_NEEDS)

    from ..testing.fuzz import CannotFuzz, Unreadable

    target = target_of({**options, "recipient": next(iter(options["recipients"]), "")})
    _check_owner(target.host, is_mine=options["mine"])
    try:
        with _started(options, target) as restart:
            if options["other"]:
                return _compare(options, target)
            if options["replay"]:
                return _replay(options, target)

            return _run(options, target, restart)
    except (CannotFuzz, Unreadable, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


def _check_owner(host: str, *, is_mine: bool) -> None:
    try:
        addresses = {str(entry[4][0]).partition("%")[0] for entry in getaddrinfo(host, None)}
    except (gaierror, UnicodeError) as exc:
        raise click.ClickException(f"cannot find {host}: {exc}") from exc
    if not is_mine and not all(ip_address(address).is_loopback for address in addresses):
        raise click.UsageError(f"{host} is not this machine: add --mine if the server is yours")


@contextmanager
def _started(options: Mapping[str, Any], target: "Target") -> Iterator[Callable[[], bool] | None]:
    """Start the server if there is a command for this, and stop it at the end."""
    from ..testing.fuzz import CannotFuzz, ServerProcess

    if not options["start"]:
        yield None
        return

    process = ServerProcess(options["start"], target.host, target.port)
    try:
        try:
            is_ready = process.start()
        except (OSError, ValueError) as exc:
            raise click.UsageError(f"--start: {exc}") from exc
        if not is_ready:
            raise CannotFuzz(f"{options['start']!r} does not open port {target.port}")

        yield process.start
    finally:
        process.stop()


def _settings(options: Mapping[str, Any], target: "Target") -> "Settings":
    from ..testing.fuzz import Settings

    is_here = not options["mine"]
    return Settings(
        seconds=options["seconds"],
        examples=options["examples"],
        seed=randrange(2**32) if options["seed"] is None else options["seed"],  # noqa: S311
        delivery_timeout=options["delivery_timeout"],
        recipients=options["recipients"],
        proxy=_PROXY[options["proxy"]],
        max_rate=None if is_here else _RATE,
    )


def _sink(options: Mapping[str, Any]) -> "Sink | None":
    from ..testing.fuzz import CommandSink, MaildirSink

    if options["maildir"]:
        return MaildirSink(options["maildir"])

    return CommandSink(options["delivered_by"]) if options["delivered_by"] else None


# One server


def _run(options: Mapping[str, Any], target: "Target", restart: Callable[[], bool] | None) -> int:
    from ..testing.fuzz import fuzzer_of

    settings = _settings(options, target)
    progress = _Progress(settings.seconds) if sys.stderr.isatty() else None
    fuzzer = fuzzer_of(target, settings, sink=_sink(options), restart=restart, progress=progress)
    try:
        report = fuzzer.run(_saved(options["corpus"]))
    finally:
        if progress:
            progress.clear()

    files = _save(options["corpus"], report, lmtp=target.lmtp)
    if options["as_json"]:
        click.echo(json.dumps(_json_report(target, settings.seed, report, files), indent=2))
    else:
        _print(report, settings.seed, files)

    return int(bool(report.faults))


class _Progress:
    """A line on the terminal."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._shown = 0.0

    def __call__(self, report: "Report") -> None:
        now = time.monotonic()
        if now - self._shown >= 0.1:
            self._shown = now
            left = max(self._end - now, 0)
            text = f"{report.sessions} sessions, {len(report.findings)} findings, {left:.0f} s left"
            click.echo(f"\r{text:60}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line."""
        click.echo(f"\r{'':60}\r", nl=False, err=True)


def _saved(corpus: Path | None) -> "list[Experiment]":
    from ..testing.fuzz import load

    return [load(file) for file in sorted(corpus.glob("*.json"))] if corpus and corpus.is_dir() else []


def _save(corpus: Path | None, report: "Report", *, lmtp: bool) -> "list[Path]":
    """Save the findings, and return the file of each."""
    from ..testing.fuzz import save

    directory = corpus or Path("smtpcore-fuzz")
    files: list[Path] = []
    for finding in report.findings:
        violation = finding.violation
        directory.mkdir(parents=True, exist_ok=True)
        name = "-".join(filter(str.isalnum, [violation.law, violation.verb.lower()]))
        file = next(path for n in range(1, 10_000) if not (path := directory / f"{name}-{n}.json").exists())
        about = {"law": violation.law, "section": violation.section, "verb": violation.verb, "text": violation.text}
        save(file, finding.experiment, lmtp=lmtp, about=about)
        files.append(file)

    return files


def _print(report: "Report", seed: int, files: list[Path]) -> None:
    from ..testing.fuzz import group_by_law

    names = {id(finding): file for finding, file in zip(report.findings, files, strict=True)}
    for law, findings in group_by_law(report.findings).items():
        click.echo(f"{law}: {findings[0].title}")
        for finding in findings:
            _print_finding(finding, str(names[id(finding)]))
    for violation in report.unstable:
        click.echo(f"unstable: {violation.verb}: {violation.text} ({violation.law}); a second run did not show it")
    for finding in report.wrong_laws:
        click.echo(f"a correct server breaks this law too, please report: {finding.violation.text}")
        click.echo("\n".join(_indented(finding)))
    for note in report.notes:
        click.echo(f"note: {note}")

    warnings = len(report.findings) - len(report.faults)
    click.echo(
        f"{report.sessions} sessions in {report.seconds:.0f} s with seed {seed}: "
        f"{len(report.faults)} findings, {warnings} warnings, {len(report.unstable)} unstable"
    )


def _print_finding(finding: "Finding", file: str) -> None:
    violation = finding.violation
    kind = "warning: " if violation.is_warning else ""
    click.echo(f"  {kind}{violation.verb or 'a malformed line'}: {violation.text} ({violation.section})")
    click.echo("\n".join(_indented(finding)))
    click.echo(f"    saved as {file}\n")


def _indented(finding: "Finding") -> list[str]:
    from ..testing.fuzz import dialogues

    return [f"    {line}" if line else "" for line in dialogues(finding.recordings)]


def _json_report(target: "Target", seed: int, report: "Report", files: list[Path]) -> dict[str, object]:
    from ..testing.fuzz import dialogues

    return {
        "host": target.host,
        "port": target.port,
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
                "dialogue": dialogues(finding.recordings),
            }
            for finding, file in zip(report.findings, files, strict=True)
        ],
        "unstable": [f"{each.law}: {each.verb}: {each.text}" for each in report.unstable],
        "wrong_laws": [f"{each.violation.law}: {each.violation.text}" for each in report.wrong_laws],
    }


def _replay(options: Mapping[str, Any], target: "Target") -> int:
    from ..testing.fuzz import dialogues, fuzzer_of, judge, load

    experiment = load(options["replay"])
    fuzzer = fuzzer_of(target, _settings(options, target), sink=_sink(options))
    fuzzer.probe()
    evidence = fuzzer.gather(experiment, factor=2.0)
    click.echo("\n".join(dialogues(evidence.recordings)))
    violation = judge(evidence)
    if violation is None:
        click.echo("no law is broken")
        return 0

    click.echo(f"{violation.law}: {violation.verb}: {violation.text} ({violation.section})")
    return int(not violation.is_warning)


# Two servers


def _compare(options: Mapping[str, Any], target: "Target") -> int:
    from ..testing.fuzz import MaildirSink, compare, fuzzer_of

    host, port = address_of(options["other"])
    _check_owner(host, is_mine=options["mine"])
    settings = _settings(options, target)
    other_sink = MaildirSink(options["other_maildir"]) if options["other_maildir"] else None
    one = fuzzer_of(target, settings, sink=_sink(options))
    other = fuzzer_of(replace(target, host=host, port=port), settings, sink=other_sink)
    result = compare(one, other, one.settings)
    names = options["server"], options["other"]
    if options["as_json"]:
        click.echo(json.dumps(_json_comparison(result), indent=2))
    else:
        _print_comparison(result, names)

    return int(any(difference.rank < difference.rank.POLICY for difference in result.differences))


def _print_comparison(result: "Comparison", names: tuple[str, str]) -> None:
    from ..testing.fuzz import dialogue

    for difference in result.differences:
        click.echo(f"{difference.rank.name.lower()}: {difference.verb}: {difference.text}")
        for name, recording in zip(names, difference.recordings, strict=True):
            click.echo(f"  {name}")
            click.echo("\n".join(f"    {line}" for line in dialogue(recording)))
        click.echo("")
    for note in result.notes:
        click.echo(f"note: {note}")

    click.echo(f"{result.sessions} sessions: {len(result.differences)} differences")


def _json_comparison(result: "Comparison") -> dict[str, object]:
    from ..testing.fuzz import dialogue

    return {
        "sessions": result.sessions,
        "notes": result.notes,
        "differences": [
            {
                "rank": difference.rank.name.lower(),
                "verb": difference.verb,
                "text": difference.text,
                "dialogues": [dialogue(recording) for recording in difference.recordings],
            }
            for difference in result.differences
        ],
    }
