"""`smtpcore check --listen`: check the clients that connect."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import click

from ..check import Finding, Outcome
from ..check.clients import Client, ClientCheck, ClientChecks, ClientFailed, ClientSetup, command
from ._findings import report_of, shown, summary_of

_MAX_SHOWN = 3
_VERBS = ("EHLO", "LHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "QUIT")
_RUN = 3
"""Seconds after which a command is killed, as a multiple of the timeout."""


def check_clients(host: str, port: int, checks: Sequence[ClientCheck], options: dict[str, Any]) -> int:
    """Listen, run the checks, print the findings, and return the exit status."""
    check_address(host, is_mine=options["is_mine"])
    setup = ClientSetup(host=host, port=port, tls=options["tls"], lmtp=options["lmtp"], timeout=options["timeout"])
    client = client_of(options)
    try:
        with ClientChecks(setup) as server:
            findings = list(shown(_findings(server, client, checks, options), as_json=options["as_json"]))
            port = server.port
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}: {exc.strerror}") from exc
    except ClientFailed as exc:
        raise click.ClickException(f"cannot run {exc}") from exc

    if not any(finding.outcome in (Outcome.PASS, Outcome.FAIL) for finding in findings):
        raise click.ClickException(f"cannot check the client: {_reason(findings)}")
    if options["as_json"]:
        left = [check.id for check in checks[len(findings) :]]
        click.echo(json.dumps(report_of(findings, host=host, port=port, left=left), indent=2))
    else:
        left_over = len(checks) - len(findings)
        click.echo(f"{summary_of(findings)}{f'; {left_over} without a connection' if left_over else ''}")

    return int(any(finding.is_fault for finding in findings))


def _reason(findings: Sequence[Finding]) -> str:
    """Return the reason why no finding has a result: the notes, and the commands that the client sent."""
    if not findings:
        return "no client connected"

    notes: dict[str, list[str]] = {}
    for finding in findings:
        notes.setdefault(finding.note, []).append(finding.id)
    reasons = [f"{note} ({', '.join(names[:_MAX_SHOWN])})" for note, names in notes.items()]
    words = [line.partition(" ")[0].upper() for finding in findings for line in finding.seen.splitlines()]
    verbs = [word for word in dict.fromkeys(words) if word in _VERBS]
    sent = f"; the client sent {', '.join(verbs)}" if verbs else ""
    return f"no check applies: {'; '.join(reasons[:_MAX_SHOWN])}{sent}"


def check_address(host: str, *, is_mine: bool) -> None:
    """Raise `click.UsageError` if clients of other machines can reach `host` and `is_mine` is false."""
    if not _is_loopback(host) and not is_mine:
        raise click.UsageError(f"clients of other machines can reach {host}: add --mine if you may test all of them")


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback

    return host == "localhost"


def client_of(options: Mapping[str, Any]) -> Client | None:
    """Return the client of `--run`, or None without this option. Raise `click.UsageError`."""
    if not options["run"]:
        return None

    try:
        return command(options["run"], timeout=_RUN * options["timeout"])
    except ValueError as exc:
        raise click.UsageError(f"--run: {exc}") from exc


def _findings(
    server: ClientChecks, client: Client | None, checks: Iterable[ClientCheck], options: dict[str, Any]
) -> Iterator[Finding]:
    if client is not None:
        yield from server.run(client, checks)
        return

    click.echo(f"listening on {server.setup.host} port {server.port}; Ctrl-C stops", err=True)
    if options["tls"] != "none":
        click.echo(f"the authority of the certificate is in {server.authority}", err=True)
    with suppress(KeyboardInterrupt):
        yield from server.wait(checks, options["seconds"])
