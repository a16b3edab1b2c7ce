"""`smtpcore check`: check whether a server, or a client, complies with the RFCs and is safe."""

import json
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..check import CHECKS, CannotCheck, Finding, ServerLost, choose, run_checks
from ..check.clients import CLIENT_CHECKS, choose_client_checks
from ._check_clients import check_clients
from ._findings import list_of, report_of, shown, summary_of
from ._numbers import NumberRange
from ._password import HELP
from ._target import address_of, refuse_given, target_of


def _complete_checks(context: click.Context, parameter: click.Parameter, start: str) -> list[CompletionItem]:
    """Return the ids of checks that begin with `start`: of clients after `--listen`, else of servers."""
    checks = CLIENT_CHECKS if context.params.get("listens") else CHECKS
    return [CompletionItem(each.id, help=each.title) for each in checks if each.id.startswith(start)]


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
    help="Use of TLS; with --listen, the TLS that the client requires.",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@click.option("--auth", metavar="USER", help=f"User to log in as first, with AUTH PLAIN; needs --tls. {HELP}")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP; with --listen, the clients do.")
@click.option(
    "--helo",
    metavar="NAME",
    default="",
    help="Name of this machine in EHLO.  [default: the address of this end of the connection, in brackets]",
)
@click.option(
    "--listen",
    "listens",
    is_flag=True,
    help="Check clients: listen on HOST:PORT, by default a free port of 127.0.0.1.",
)
@click.option(
    "--run",
    metavar="COMMAND",
    default="",
    help="With --listen, run this client for each check; {host}, {port} and {ca} (a file) are replaced.",
)
@click.option(
    "--seconds",
    type=NumberRange(0, min_open=True),
    metavar="SECONDS",
    help="With --listen, stop waiting for clients after this time.",
)
@click.option(
    "--mine", "is_mine", is_flag=True, help="Confirm that you may check all clients that reach an address of --listen."
)
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    shell_complete=_complete_checks,
    help="Run only this check, or this group, such as tls. Repeatable.",
)
@click.option(
    "--timeout",
    type=NumberRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Timeout for each reply, or for each command with --listen.",
)
@click.option("--list", "lists", is_flag=True, help="List the checks without running them.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def check(**options: Any) -> int:
    """Check whether a server complies with the RFCs and is safe; with --listen, a client.

    Check only your own server, or a server whose owner agrees, because many checks send malformed input. The default
    PORT is 25.

    With --listen, each connection gets the next check, until all checks have run. With --run, the command is started
    once for each check, and its exit status is judged, too.

    Exit status: 0 without faults, 1 with faults, 2 if the server or client cannot be checked to
    the end. Warnings are not faults.
    """
    if options["listens"]:
        refuse_given(options, _OF_SERVERS, "has no effect with --listen")
    else:
        refuse_given(options, _OF_CLIENTS, "needs --listen")
    try:
        checks = choose(options["only"]) if not options["listens"] else ()
        client_checks = choose_client_checks(options["only"]) if options["listens"] else ()
    except ValueError as exc:
        raise click.UsageError(f"{exc}: see --list") from exc

    if options["lists"]:
        click.echo(list_of(checks or client_checks))
        return 0
    if options["listens"]:
        return check_clients(*address_of(options["server"] or "127.0.0.1", port="0"), client_checks, options)

    target = target_of(options)
    findings: list[Finding] = []
    lost: ServerLost | None = None
    try:
        findings.extend(shown(run_checks(target, checks), as_json=options["as_json"]))
    except ServerLost as exc:
        lost = exc
    except CannotCheck as exc:
        raise click.ClickException(f"cannot check {exc}") from exc

    left = [each.id for each in checks[len(findings) :]]
    if options["as_json"]:
        click.echo(json.dumps(report_of(findings, host=target.host, port=target.port, left=left), indent=2))
    else:
        click.echo(f"{summary_of(findings)}{f'; {len(left)} not run' if left else ''}")
    if lost:
        raise click.ClickException(f"the server was lost: {lost}")

    return int(any(finding.is_fault for finding in findings))


_OF_SERVERS = {
    "recipient": "--to",
    "sender": "--from",
    "insecure": "--insecure",
    "auth": "--auth",
    "helo": "--helo",
}
_OF_CLIENTS = {"run": "--run", "seconds": "--seconds", "is_mine": "--mine"}
