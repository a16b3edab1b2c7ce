"""`smtpcore explain`: what a recorded dialogue means, and what in it the RFCs forbid."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import BinaryIO

import click
from rich.console import Console
from rich.text import Text

from ..explain import Explained, Recording, Side, Unreadable, explain, join, read

_LETTERS = {Side.CLIENT: "C: ", Side.SERVER: "S: ", Side.TLS: "-- "}
_STYLES = {Side.CLIENT: "green", Side.SERVER: "cyan", Side.TLS: "default"}


@click.command("explain")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--client", type=click.File("rb"), metavar="FILE", help="The octets that the client has sent.")
@click.option("--server", type=click.File("rb"), metavar="FILE", help="The octets that the server has sent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain_file(file: BinaryIO | None, client: BinaryIO | None, server: BinaryIO | None, *, as_json: bool) -> int:
    """Explain a recorded dialogue, with every breach of the RFCs.

    FILE is a transcript, as this program, swaks, curl -v and smtplib write it, or with C: and S: before each line; or
    it has the octets of one side. Secrets are not shown. The exit status is 1 if there is a breach, 2 if nothing can
    be made of FILE.
    """
    try:
        lines = [line for recording in _recordings(file, client, server) for line in explain(recording)]
    except Unreadable as exc:
        raise click.ClickException(f"this is no recording of a dialogue: {exc}") from exc

    count = sum(len(line.breaches) for line in lines)
    if as_json:
        click.echo(json.dumps({"breaches": count, "lines": [_as_json(line) for line in lines]}, indent=2))
    else:
        _show(Console(highlight=False, soft_wrap=True), lines)
        click.echo(f"{count} {'breach' if count == 1 else 'breaches'} of the RFCs")

    return int(count > 0)


def _recordings(file: BinaryIO | None, client: BinaryIO | None, server: BinaryIO | None) -> tuple[Recording, ...]:
    if file and not (client or server):
        return read(file.read())
    if file or not (client or server):
        raise click.UsageError("give one FILE, or what the sides have sent with --client and --server")

    return (join(client.read() if client else b"", server.read() if server else b""),)


def _as_json(line: Explained) -> dict[str, object]:
    breaches = [{**asdict(breach), "side": breach.side.value} for breach in line.breaches]
    return {**asdict(line), "side": line.side.value, "breaches": breaches}


def _show(console: Console, lines: Sequence[Explained]) -> None:
    for is_dull, group in groupby(lines, key=_is_dull):
        found = list(group)
        if is_dull and len(found) > 1:
            console.print(Text(f"C: ({len(found)} lines of a message)", style="dim"))
        else:
            _show_lines(console, found)


def _is_dull(line: Explained) -> bool:
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
