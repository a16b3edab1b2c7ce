"""Breaches of RFCs, and the section for each of the client's mistakes."""

from collections.abc import Mapping
from dataclasses import dataclass

from smtpcore import InvalidCommand, InvalidData, State

from ._recording import Side


@dataclass(frozen=True, slots=True)
class Breach:
    """A violation of an RFC."""

    side: Side
    """The side that violated the RFC."""
    text: str
    """The description of the violation."""
    section: str
    """The RFC and its section, for example `RFC 5321 4.1.4`."""


# The section for a mistake of the client is looked up in these tables, in this order: by the rule that the client
# broke, by the verb and the code of the core's reply, by the code and the enhanced status code, by the code alone.

_OF_RULE: Mapping[str, str] = {
    "BINARYMIME": "RFC 3030 3",
    "bare_newlines": "RFC 5321 2.3.8",
    "max_command_line": "RFC 5321 4.5.3.1.4",
}
_OF_VERB: Mapping[tuple[str, int], str] = {
    ("AUTH", 500): "RFC 4954 4",
    ("AUTH", 501): "RFC 4954 4",
    ("AUTH", 503): "RFC 4954 4",
    ("AUTH", 504): "RFC 4954 4",
    ("BDAT", 501): "RFC 3030 2",
    ("BDAT", 503): "RFC 3030 2",
    ("BDAT", 521): "RFC 3030 2",
    ("BURL", 501): "RFC 4468 3",
    ("BURL", 503): "RFC 4468 3",
    ("ETRN", 500): "RFC 1985 5",
    ("ETRN", 501): "RFC 1985 5",
    ("EHLO", 501): "RFC 5321 4.1.1.1",
    ("HELO", 501): "RFC 5321 4.1.1.1",
    ("MAIL", 501): "RFC 5321 4.1.1.2",
    ("RCPT", 501): "RFC 5321 4.1.1.3",
    ("STARTTLS", 421): "RFC 3207 4",
    ("STARTTLS", 501): "RFC 3207 4",
    ("STARTTLS", 503): "RFC 3207 4.2",
}
_OF_REPLY: Mapping[tuple[int, str | None], str] = {
    (500, None): "RFC 2033 4.1",
    (501, "5.5.2"): "RFC 4954 4",
    (550, "5.6.0"): "RFC 5321 2.3.8",
    (550, "5.6.7"): "RFC 6531 3.5",
    (553, "5.6.7"): "RFC 6531 3.5",
    (554, "5.6.0"): "RFC 5321 4.5.3.1.6",
    (554, "5.5.1"): "RFC 5321 3.3",
}
_OF_CODE: Mapping[int, str] = {
    500: "RFC 5321 4.1.1",
    501: "RFC 5321 4.1.1",
    502: "RFC 5321 2.2.1",
    503: "RFC 5321 4.1.4",
    504: "RFC 5321 4.2.4",
    552: "RFC 1870 6.1",
    555: "RFC 5321 4.1.1.11",
}


def section_of(event: InvalidCommand | InvalidData, state: State) -> str:
    """Return the section that the client violated with a command or body in `state`."""
    line = event.line if isinstance(event, InvalidCommand) else b""
    reply = event.reply
    if event.rule in _OF_RULE:
        return _OF_RULE[event.rule]

    verb = line.partition(b" ")[0].upper().decode("ascii", "replace")
    if state is State.CHUNKED and verb == "DATA":
        return "RFC 3030 2"

    known = _OF_VERB.get((verb, reply.code)) or _OF_REPLY.get((reply.code, reply.enhanced))
    return known or _OF_CODE.get(reply.code, "RFC 5321 4.1.1")
