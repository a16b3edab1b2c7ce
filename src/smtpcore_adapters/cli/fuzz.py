"""`smtpcore fuzz`: find the sessions in which a server breaks the rules of SMTP."""

import json
import sys
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

from ._fuzz_clients import fuzz_clients
from ._fuzz_reports import Progress, indented, loaded, print_end, print_findings, report_as_json, save_findings
from ._numbers import NumberRange
from ._password import HELP
from ._target import address_of, refuse_given, target_of

if TYPE_CHECKING:
    from ..check import Target
    from ..testing.fuzz import Comparison, Experiment, Finding, Report, Settings, Sink

_HINTS = {
    "certificate": "; --insecure accepts any certificate",
    "WRONG_VERSION": "; this port speaks plaintext: try --tls starttls",
    "no greeting": "; does the server expect --tls implicit or --proxy?",
    "EHLO is needed": "; --lmtp speaks LMTP",
    "LHLO is needed": "; without --lmtp the command speaks SMTP",
}
"""Advice to add to an error whose text contains a word."""
_PROXY: dict[str | None, Literal[1, 2] | None] = {None: None, "v1": 1, "v2": 2}
_RATE = 50.0
"""Maximum sessions in a second at a server that is not on this machine."""
_NEEDS = "fuzz needs the package hypothesis: pip install 'smtpcore[testing]'"


@click.command()
@click.argument("server", metavar="HOST[:PORT]", default="")
@click.argument("other", metavar="[OTHER[:PORT]]", default="")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, help="Recipient. Required. Repeatable.")
@click.option("--from", "sender", metavar="ADDRESS", default="a@c.example", show_default=True, help="Sender.")
@click.option(
    "--mine", is_flag=True, help="Confirm that a server on another machine is yours, or all clients of --listen."
)
@click.option(
    "--tls",
    type=click.Choice(["none", "starttls", "implicit"]),
    default="none",
    show_default=True,
    help="Use of TLS; with --listen, the TLS that the client requires.",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@click.option("--auth", metavar="USER", help=f"User to log in as, with AUTH PLAIN first. {HELP}")
@click.option("--allow-plaintext-auth", is_flag=True, help="Log in also without TLS, which exposes the password.")
@click.option("--proxy", type=click.Choice(["v1", "v2"]), help="Begin each connection with a PROXY header.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP; with --listen, the clients do.")
@click.option("--helo", metavar="NAME", default="", help="Name in EHLO.  [default: c.example]")
@click.option("--timeout", type=NumberRange(0, min_open=True), default=10.0, show_default=True, metavar="SECONDS")
@click.option("--seconds", type=NumberRange(0), default=60.0, show_default=True, help="Duration of the run.")
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
    type=NumberRange(0),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Maximum time until an accepted message is delivered.",
)
@click.option("--listen", "listens", is_flag=True, help="Fuzz clients: listen on HOST:PORT, by default a free port.")
@click.option(
    "--run",
    metavar="COMMAND",
    default="",
    help="With --listen, run this client for each behaviour; {host}, {port} and {ca} (a file) are replaced.",
)
@click.option("--start", metavar="COMMAND", help="Command that starts the server, also again after it died.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def fuzz(**options: Any) -> int:
    """Play generated sessions against a server or a client, and report the rules that it breaks.

    Fuzz only your own server: the sessions send many malformed lines and messages. With OTHER, play the same sessions
    at both servers and report how they differ. The default PORT is 25.

    With --listen, each connection gets another behaviour of a server. With --run, the command is started once for each
    behaviour, and its exit status is judged, too.

    Exit status: 0 without findings, 1 with findings, 2 if the server or client cannot be fuzzed. Warnings are not
    findings.
    """
    if find_spec("hypothesis") is None:
        raise click.UsageError(_NEEDS)

    from ..testing.fuzz import CannotFuzz, Unreadable

    if options["listens"]:
        refuse_given(options, _OF_SERVERS, "has no effect with --listen")
        return fuzz_clients(*address_of(options["server"] or "127.0.0.1", port="0"), options)
    refuse_given(options, {"run": "--run"}, "needs --listen")
    if options["other"].isdecimal():
        raise click.UsageError(f"give the port after a colon: {options['server']}:{options['other']}")

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
        hint = next((hint for word, hint in _HINTS.items() if word in str(exc)), "")
        raise click.ClickException(f"{exc}{hint}") from exc


_OF_SERVERS = {
    "other": "OTHER",
    "recipients": "--to",
    "insecure": "--insecure",
    "auth": "--auth",
    "allow_plaintext_auth": "--allow-plaintext-auth",
    "proxy": "--proxy",
    "helo": "--helo",
    "maildir": "--maildir",
    "other_maildir": "--other-maildir",
    "delivered_by": "--delivered-by",
    "start": "--start",
}


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
    from ..testing.fuzz import CannotFuzz, fuzzer_of

    settings = _settings(options, target)
    progress = Progress(settings.seconds) if sys.stderr.isatty() else None
    fuzzer = fuzzer_of(target, settings, sink=_sink(options), restart=restart, progress=progress)
    end: CannotFuzz | KeyboardInterrupt | None = None
    try:
        fuzzer.run(_saved(options["corpus"]))
    except (CannotFuzz, KeyboardInterrupt) as exc:
        end = exc
    finally:
        if progress:
            progress.clear()

    report = fuzzer.report
    if end and not report.findings:
        raise end
    files = _save(options["corpus"], report, lmtp=target.lmtp)
    if options["as_json"]:
        result = report_as_json(target.host, target.port, settings.seed, report, files)
        result["wrong_laws"] = [f"{each.violation.law}: {each.violation.text}" for each in report.wrong_laws]
        click.echo(json.dumps(result, indent=2))
    else:
        _print(report, settings.seed, files)
    if isinstance(end, CannotFuzz):
        raise end

    return int(bool(report.faults))


def _saved(corpus: Path | None) -> "list[Experiment]":
    from ..testing.fuzz import load

    return loaded(corpus, load)


def _save(corpus: Path | None, report: "Report", *, lmtp: bool) -> list[Path]:
    from ..testing.fuzz import save

    def write(file: Path, finding: "Finding", about: Mapping[str, str]) -> None:
        save(file, finding.experiment, lmtp=lmtp, about=about)

    return save_findings(corpus, report.findings, write)


def _print(report: "Report", seed: int, files: list[Path]) -> None:
    from ..testing.fuzz import group_by_law

    names = {id(finding): file for finding, file in zip(report.findings, files, strict=True)}
    ordered = [finding for group in group_by_law(report.findings).values() for finding in group]
    print_findings(ordered, [names[id(finding)] for finding in ordered])
    for finding in report.wrong_laws:
        click.echo(f"a correct server breaks this law too, please report: {finding.violation.text}")
        click.echo("\n".join(indented(finding.lines)))
    print_end(report, seed)


def _replay(options: Mapping[str, Any], target: "Target") -> int:
    from ..testing.fuzz import dialogues, fuzzer_of, load

    experiment = load(options["replay"])
    fuzzer = fuzzer_of(target, _settings(options, target), sink=_sink(options))
    fuzzer.probe()
    evidence, violation = fuzzer.replay(experiment)
    click.echo("\n".join(dialogues(evidence.recordings)))
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
        click.echo(json.dumps({"seed": settings.seed, **_json_comparison(result)}, indent=2))
    else:
        _print_comparison(result, names, settings.seed)

    return int(any(difference.rank < difference.rank.POLICY for difference in result.differences))


def _print_comparison(result: "Comparison", names: tuple[str, str], seed: int) -> None:
    from ..testing.fuzz import dialogue

    for difference in result.differences:
        click.echo(f"{difference.rank.name.lower()}: {difference.verb}: {difference.text}")
        for name, recording in zip(names, difference.recordings, strict=True):
            click.echo(f"  {name}")
            click.echo("\n".join(f"    {line}" for line in dialogue(recording)))
        click.echo("")
    for note in result.notes:
        click.echo(f"note: {note}")

    click.echo(f"{result.sessions} sessions with seed {seed}: {len(result.differences)} differences")


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
