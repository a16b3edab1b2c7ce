"""Read the lines of a fault script."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smtpcore import EXTENSIONS, LocalProtocolError, Path, Reply

_MAX_DELAY = 3600.0  # seconds
_USUAL = b"250 2.0.0 OK\r\n"
"""The reply of which `cut` leaves the beginning."""

_VERBS = re.findall(
    r"\w+", "EHLO HELO LHLO MAIL RCPT DATA RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH ETRN XCLIENT XFORWARD"
)
_EVENTS = {**{verb: verb for verb in _VERBS}, "CONNECT": "connect", "MESSAGE": "message"}

_match_after = re.compile(r"after ([0-9]{1,12}) octets", re.IGNORECASE).fullmatch
_match_number = re.compile(r"[1-9][0-9]{0,8}").fullmatch
_match_reply = re.compile(r"([2-5][0-5][0-9])(?: +([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: +(.*))?").fullmatch


class FaultError(ValueError):
    """A line is no fault; the text says what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One line of a script."""

    line: str
    """The line."""
    event: str
    """A verb in upper case, `connect` or `message`."""
    number: int | None = None
    """Which one of its kind it is about; None for all."""
    address: Path | None = None
    """Which address it is about; None for all."""
    octets: int | None = None
    """How much of a message comes before it."""
    reply: Reply | None = None
    """What the client gets in place of the usual reply."""
    octets_instead: bytes | None = None
    """What is written in place of a reply, before the connection is closed."""
    reset: bool = False
    """Whether it is reset."""
    delay: float = 0.0
    """How many seconds later."""
    disabled: str = ""
    """The extension that is not offered."""


def parse_fault(line: str) -> Fault:
    """Turn a line into a fault. Raises `FaultError`."""
    try:
        return _parse(line)
    except (ValueError, LocalProtocolError) as exc:
        raise FaultError(f"fault {line.strip()!r}: {exc}") from exc


def _parse(line: str) -> Fault:
    left, arrow, right = line.partition("->")
    if not arrow:
        raise ValueError("there is no arrow: write it like RCPT 2 -> 451")

    word, _, selector = left.strip().partition(" ")
    event = _EVENTS.get(word.upper())
    if event is None:
        raise ValueError(f"{word!r} is neither a verb nor connect nor message: write it like RCPT 2 -> 451")

    fields: dict[str, Any] = _selected(event, selector.strip()) | _action(event, right.strip())
    return replace(Fault(line=line.strip(), event=event), **fields)


# The left side


def _selected(event: str, text: str) -> dict[str, Any]:
    if not text:
        return {}
    if _match_number(text):
        return {"number": int(text)}
    if text.startswith("<") and text.endswith(">") and event in ("MAIL", "RCPT"):
        return {"address": Path(text[1:-1])}
    if (after := _match_after(text)) and event == "DATA":
        # It happens to the message, and not to the command before it.
        return {"event": "message", "octets": int(after[1])}

    raise ValueError(f"{text!r} says nothing about {event}: write a number, MAIL <address>, or DATA after 3000 octets")


# The right side


def _action(event: str, text: str) -> dict[str, Any]:
    word, _, argument = text.partition(" ")
    if reply := _match_reply(text):
        return {"reply": Reply(int(reply[1]), reply[3] or "A fault on purpose", enhanced=reply[2])}
    if word.lower() not in _ACTIONS:
        raise ValueError(f"{text!r} is no action: write a reply such as 451, {', '.join(_ACTIONS)}")

    return _ACTIONS[word.lower()](event, argument.strip())


def _drop(event: str, argument: str) -> dict[str, Any]:
    return {"octets_instead": b""} if not argument else _complain("drop", argument)


def _reset(event: str, argument: str) -> dict[str, Any]:
    return {"octets_instead": b"", "reset": True} if not argument else _complain("reset", argument)


def _complain(word: str, argument: str) -> dict[str, Any]:
    raise ValueError(f"{word} stands alone: leave {argument!r} out")


def _cut(event: str, argument: str) -> dict[str, Any]:
    if _match_number(argument) is None:
        raise ValueError("cut needs a number of octets: write cut 3")

    return {"octets_instead": _USUAL[: int(argument)]}


def _garbage(event: str, argument: str) -> dict[str, Any]:
    try:
        text = ast.literal_eval(argument)
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f'garbage needs a quoted text: write garbage "what?\\r\\n", not {argument}') from exc
    if not isinstance(text, str | bytes):
        raise ValueError('garbage needs a quoted text: write garbage "what?\\r\\n"')

    return {"octets_instead": text if isinstance(text, bytes) else text.encode()}


def _delay(event: str, argument: str) -> dict[str, Any]:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_DELAY:
        raise ValueError(f"delay needs a number of seconds, {_MAX_DELAY:g} at the most: write delay 2")

    return {"delay": seconds}


def _no(event: str, argument: str) -> dict[str, Any]:
    keyword = argument.upper()
    if event not in ("EHLO", "LHLO"):
        raise ValueError("an extension is left out of the reply to EHLO: write EHLO -> no PIPELINING")
    if keyword not in {extension.keyword for extension in EXTENSIONS}:
        raise ValueError(f"{argument!r} is no extension: write EHLO -> no PIPELINING")

    return {"disabled": keyword}


_ACTIONS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "drop": _drop,
    "reset": _reset,
    "cut": _cut,
    "garbage": _garbage,
    "delay": _delay,
    "no": _no,
}
