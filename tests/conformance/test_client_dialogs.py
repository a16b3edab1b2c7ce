"""Replay the example dialogues of the RFCs with our client, which must send the same octets."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import pytest

from smtpcore import (
    EXTENSIONS,
    Bdat,
    ClientConnection,
    DataChunk,
    DataEnd,
    InvalidCommand,
    LocalProtocolError,
    Request,
    State,
)
from smtpcore._dialects import make_dialect
from smtpcore._parser import CommandRejected, parse_command, parse_response, verb_of
from smtpcore._rules import Refusal

from ..playbook import new_client
from .test_dialogs import FILES, octets

CLIENT_ERRORS = {
    "rfc1870-6.1-size-too-big": "a declared size above the announced limit",
    "rfc1985-7-etrn-first": "ETRN without an argument",
    "rfc2033-4-lmtp-rules": "EHLO in LMTP",
    "rfc2852-4-by-values": "a malformed BY",
    "rfc3030-2-sequence-errors": "a body without a transaction",
    "rfc3030-3-binarymime-data": "DATA for a binary message",
    "rfc3207-4-tls-required": "STARTTLS with an argument",
    "rfc3461-5.1-parameter-errors": "malformed parameters",
    "rfc4865-4.2-holdfor": "a hold time above the announced limit",
    "rfc4954-4-cancel-and-errors": "a response that is not base64",
    "rfc5321-3.1-554-greeting": "EHLO after a 554 greeting",
    "rfc6531-3.4-smtputf8": "a non-ASCII recipient without SMTPUTF8",
    "rfc6531-3.7.4.2-vrfy": "SMTPUTF8 with a value",
    "rfc7504-3-521-greeting": "EHLO after a 521 greeting",
}
"""Examples in which the client makes a mistake, so that the server can refuse it. Our client refuses to send these."""

# A dialect that parses every extension, offered or not.
_WITHOUT_RULES = [replace(extension, objection=None) for extension in EXTENSIONS]
ANYTHING = make_dialect(
    _WITHOUT_RULES,
    dict.fromkeys(_WITHOUT_RULES, ("imap",)),
    longest=10_000,
    longest_auth=20_000,
)


@dataclass
class Step:
    """The octets that the client sends at once, or the octets of the server."""

    sent: list[bytes] = field(default_factory=list)
    """The lines of the client, and the octets of its chunks."""
    received: bytes = b""
    tls: bool = False


def parse(path: Path) -> tuple[dict[str, list[str]], list[Step]]:
    header: dict[str, list[str]] = defaultdict(list)
    steps: list[Step] = []
    grouped = False
    lines = iter(path.read_text("ascii").splitlines())
    for line in lines:
        if match := re.fullmatch(r"# server-config: ([a-z-]+)=(.*)", line):
            header[match[1]].append(match[2])
        elif line == "# event: roles-reversed":
            break
        elif line == "# event: tls-handshake":
            steps.append(Step(tls=True))
        elif line in ("<<<PIPELINED", ">>>"):
            grouped = line == "<<<PIPELINED"
            if grouped:
                steps.append(Step())
        elif line.startswith(("C:", "B:")):
            if not steps or steps[-1].received or steps[-1].tls or not (grouped or line[0] == "B" or steps[-1].sent):
                steps.append(Step())
            steps[-1].sent.append(line[3:].encode() + b"\r\n" if line[0] == "C" else octets(next(lines)))
        elif line.startswith("S: "):
            if not steps or not steps[-1].received:
                steps.append(Step())
            steps[-1].received += line[3:].encode() + b"\r\n"
    return header, steps


def requests(conn: ClientConnection, sent: list[bytes]) -> Iterator[Request]:
    """Parse these lines into requests of the client."""
    parts = iter(sent)
    lines = (part.removesuffix(b"\r\n") for part in parts)
    for line in lines:
        if conn.state is State.DATA and not conn.replies_due:
            yield from body(chain([line], lines))
        elif conn.state is State.AUTH:
            response = parse_response(line)
            if isinstance(response, InvalidCommand):
                raise CommandRejected(Refusal(response.rule, response.reply))
            yield response
        else:
            command = parse_command(verb_of(line), line, ANYTHING)
            yield command
            if isinstance(command, Bdat) and command.size:
                yield DataChunk(next(parts))


def body(lines: Iterable[bytes]) -> Iterator[Request]:
    for line in lines:
        if line == b".":
            yield DataEnd()
            return
        yield DataChunk(line.removeprefix(b".") + b"\r\n")


def sorted_values(wire: bytes) -> bytes:
    """Return the octets with the values of NOTIFY sorted: their order has no meaning (RFC 3461 4.1)."""
    return re.sub(rb"(?<= NOTIFY=)[A-Z,]+", lambda found: b",".join(sorted(found[0].split(b","))), wire)


def replay(path: Path) -> None:
    header, steps = parse(path)
    book = new_client(lmtp=header["protocol"] == ["lmtp"], plaintext_auth=True, implicit_tls="tls" in header)
    if "tls" in header:
        book.start_tls()
    for step in steps:
        if step.tls:
            book.start_tls()
        for request in requests(book.connection, step.sent):
            book.ask(request)
        book.wire(sorted_values(b"".join(step.sent)))
        if step.received:
            book.send(step.received).skip()
    assert book.connection.replies_due == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_client_sends_the_octets_of_the_rfc_example(path: Path) -> None:
    if path.stem not in CLIENT_ERRORS:
        replay(path)
        return

    with pytest.raises((LocalProtocolError, CommandRejected)):
        replay(path)


def test_excluded_examples_exist() -> None:
    assert set(CLIENT_ERRORS) <= {path.stem for path in FILES}
