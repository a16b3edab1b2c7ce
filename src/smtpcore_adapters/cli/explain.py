"""`smtpcore explain`: show a recorded dialogue with its events, states and breaches of the RFCs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import BinaryIO

import click
from rich.console import Console
from rich.text import Text

from ..explain import MAX_OCTETS, Explained, Recording, Side, Unreadable, explain, join, read

_LETTERS = {Side.CLIENT: "C: ", Side.SERVER: "S: ", Side.TLS: "-- "}
_STYLES = {Side.CLIENT: "green", Side.SERVER: "cyan", Side.TLS: "default"}


@click.command("explain")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--client", type=click.File("rb"), metavar="FILE", help="File with the octets that the client sent.")
@click.option("--server", type=click.File("rb"), metavar="FILE", help="File with the octets that the server sent.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def explain_file(file: BinaryIO | None, client: BinaryIO | None, server: BinaryIO | None, *, as_json: bool) -> int:
    """Explain a recorded dialogue and report each breach of the RFCs.

    FILE is the output of smtpcore, swaks, curl (-v or --trace), smtplib (debug level 1 or 2), msmtp, nodemailer,
    PHPMailer, Java's mail API, telnet or openssl s_client, a text with C: or S: before each line, or the octets of one
    side. Secrets are not shown.

    Exit status: 0 without breaches, 1 with breaches, 2 if FILE is not a recording.
    """
    try:
        lines = [line for recording in _recordings(file, client, server) for line in explain(recording)]
    except Unreadable as exc:
        raise click.ClickException(f"the file is not a recording of a dialogue: {exc}") from exc

    count = sum(len(line.breaches) for line in lines)
    if as_json:
        click.echo(json.dumps({"breaches": count, "lines": [_as_json(line) for line in lines]}, indent=2))
    else:
        _show(Console(highlight=False, soft_wrap=True), lines)
        click.echo(f"{count} {'breach' if count == 1 else 'breaches'} of the RFCs")

    return int(count > 0)


def _recordings(file: BinaryIO | None, client: BinaryIO | None, server: BinaryIO | None) -> tuple[Recording, ...]:
    if file and not (client or server):
        return read(file.read(MAX_OCTETS + 1))
    if file or not (client or server):
        raise click.UsageError("give one FILE, or the octets of each side with --client and --server")

    return (join(*(side.read(MAX_OCTETS + 1) if side else b"" for side in (client, server))),)


def _as_json(line: Explained) -> dict[str, object]:
    breaches = [{**asdict(breach), "side": breach.side.value} for breach in line.breaches]
    return {**asdict(line), "side": line.side.value, "breaches": breaches}


def _show(console: Console, lines: Sequence[Explained]) -> None:
    for is_plain_body, group in groupby(lines, key=_is_plain_body):
        found = list(group)
        if is_plain_body and len(found) > 1:
            console.print(Text(f"C: ({len(found)} lines of a message)", style="dim"))
        else:
            _show_lines(console, found)


def _is_plain_body(line: Explained) -> bool:
    return line.is_body and not (line.events or line.breaches or line.notes)


def _show_lines(console: Console, lines: Iterable[Explained]) -> None:
    for line in lines:
        text = Text(f"{_LETTERS[line.side]}{line.text}", style=_STYLES[line.side])
        if line.events:
            text.append(f"   [{', '.join(line.events)} -> {line.state}]", style="dim")

        console.print(text)
        for breach in line.breaches:
            console.print(
                Text(f"   BREACH by the {breach.side.value}: {breach.text} ({breach.section})", style="bold red")
            )
        for note in line.notes:
            console.print(Text(f"   note: {note}", style="yellow"))
