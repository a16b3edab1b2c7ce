"""Parse the lines of a fault script."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smtpcore import EXTENSIONS, LocalProtocolError, Path, Reply

_MAX_DELAY = 3600.0  # seconds
_USUAL = b"250 2.0.0 OK\r\n"
"""The reply of which `cut` sends only the first octets."""

_VERBS = re.findall(
    r"\w+", "EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH ETRN XCLIENT XFORWARD"
)
_EVENTS = {**{verb: verb for verb in _VERBS}, "CONNECT": "connect", "MESSAGE": "message"}

_match_after = re.compile(r"after ([0-9]{1,12}) octets", re.IGNORECASE).fullmatch
_match_number = re.compile(r"[1-9][0-9]{0,8}").fullmatch
_match_range = re.compile(r"([1-9][0-9]{0,8})(-([1-9][0-9]{0,8})?)?").fullmatch
_match_closing = re.compile(r"(.+?),? +then +(close|reset)", re.IGNORECASE).fullmatch
_match_reply = re.compile(r"([2-5][0-5][0-9])(?: +([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: +(.*))?").fullmatch


class FaultError(ValueError):
    """A line is not a valid fault; the text shows a valid line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One parsed line of a script: the event that triggers the fault, and the action."""

    line: str
    """The line, without surrounding spaces."""
    event: str
    """The event that triggers the fault: a verb in upper case, `connect` or `message`."""
    numbers: range | None = None
    """The numbers of the occurrences that trigger the fault, from 1; None for every occurrence."""
    address: Path | None = None
    """The address in MAIL or RCPT; None for any address."""
    octets: int | None = None
    """The octets of a message after which the fault happens; None for the end of the message."""
    reply: Reply | None = None
    """The reply to send; None for the usual reply."""
    octets_instead: bytes | None = None
    """The octets to send instead of a reply before the connection is closed; None for a reply."""
    closes: bool = False
    """Whether the connection is closed after `reply`."""
    reset: bool = False
    """Whether the connection is reset instead of closed."""
    delay: float = 0.0
    """Seconds before the reply."""
    disabled: str = ""
    """The keyword of the extension that the server does not offer; empty for none."""


def parse_fault(line: str) -> Fault:
    """Parse one line. Raise `FaultError` if it is not valid."""
    try:
        return _parse(line)
    except (ValueError, LocalProtocolError) as exc:
        raise FaultError(f"fault {line.strip()!r}: {exc}") from exc


def _parse(line: str) -> Fault:
    left, arrow, right = line.partition("->")
    if not arrow:
        raise ValueError("the arrow is missing: write a line such as RCPT 2 -> 451")

    word, _, selector = left.strip().partition(" ")
    event = _EVENTS.get(word.upper())
    if event is None:
        raise ValueError(f"{word!r} is not a verb, connect or message: write a line such as RCPT 2 -> 451")

    fields: dict[str, Any] = _selected(event, selector.strip()) | _action(event, right.strip())
    fault = replace(Fault(line=line.strip(), event=event), **fields)
    if fault.reply:
        _check_code(fault.event, fault.reply.code)

    return fault


def _check_code(event: str, code: int) -> None:
    # A server refuses to send a code that cannot answer the event (RFC 5321 4.3.2), so the fault would have no effect.
    allowed = _POSITIVE_CODES.get(event)
    forbidden = _CODES_OF_STEPS - _OWN_CODES.get(event, set())
    is_possible = code // 100 == 2 and code not in forbidden if allowed is None else code in allowed
    if code < _FIRST_REFUSAL and not is_possible:
        example = "".join(f"{each}, " for each in ((250,) if allowed is None else allowed[:1]))
        raise ValueError(
            f"{code} cannot answer {event}: write {example}a refusal such as 451, or "
            f'garbage "{code} OK\\r\\n" to send it and close the connection'
        )


_FIRST_REFUSAL = 400
_POSITIVE_CODES: Mapping[str, tuple[int, ...]] = {
    "DATA": (354,),
    "BDAT": (),
    "message": (250,),
    "STARTTLS": (220,),
    "XCLIENT": (220,),
    "AUTH": (235, 334),
}
"""The only codes below 400 that can answer these events. Any other event can have any 2yz except `_CODES_OF_STEPS`."""
_CODES_OF_STEPS = {220, 221, 235}
_OWN_CODES: Mapping[str, set[int]] = {"connect": {220}, "QUIT": {221}}


# The event, left of the arrow


def _selected(event: str, text: str) -> dict[str, Any]:
    if not text:
        return {}
    if numbers := _match_range(text):
        first = int(numbers[1])
        last = int(numbers[3] or _ENDLESS) if numbers[2] else first
        if last < first:
            raise ValueError(f"the range {text} is empty: write {last}-{first}")

        return {"numbers": range(first, last + 1)}
    if text.startswith("<") and text.endswith(">") and event in ("MAIL", "RCPT"):
        return {"address": Path(text[1:-1])}
    if (after := _match_after(text)) and event in ("DATA", "BDAT"):
        # The fault belongs to the message, not to the DATA command.
        return {"event": "message", "octets": int(after[1])}

    raise ValueError(
        f"{text!r} cannot follow {event}: write a number, a range such as 2-4 or 2-, MAIL <address>, "
        "or DATA after 3000 octets"
    )


_ENDLESS = 10**9


# The action, right of the arrow


def _action(event: str, text: str) -> dict[str, Any]:
    word, _, argument = text.partition(" ")
    closing = _match_closing(text)
    if reply := _match_reply(closing[1] if closing else text):
        fields = {"closes": closing is not None, "reset": closing is not None and closing[2].lower() == "reset"}
        return {"reply": Reply(int(reply[1]), reply[3] or "A fault on purpose", enhanced=reply[2]), **fields}
    if word.lower() not in _ACTIONS:
        raise ValueError(f"{text!r} is not an action: write a reply such as 451, or {', '.join(_ACTIONS)}")

    return _ACTIONS[word.lower()](event, argument.strip())


def _drop(event: str, argument: str) -> dict[str, Any]:
    _forbid_argument("drop", argument)
    return {"octets_instead": b""}


def _reset(event: str, argument: str) -> dict[str, Any]:
    _forbid_argument("reset", argument)
    return {"octets_instead": b"", "reset": True}


def _forbid_argument(word: str, argument: str) -> None:
    if argument:
        raise ValueError(f"{word} has no argument: remove {argument!r}")


def _cut(event: str, argument: str) -> dict[str, Any]:
    if _match_number(argument) is None:
        raise ValueError("cut needs a number of octets: write cut 3")

    return {"octets_instead": _USUAL[: int(argument)]}


def _garbage(event: str, argument: str) -> dict[str, Any]:
    try:
        text = ast.literal_eval(argument)
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f'garbage needs a quoted text: write garbage "what?\\r\\n" instead of {argument}') from exc
    if not isinstance(text, str | bytes):
        raise ValueError('garbage needs a quoted text: write garbage "what?\\r\\n"')

    return {"octets_instead": text if isinstance(text, bytes) else text.encode()}


def _delay(event: str, argument: str) -> dict[str, Any]:
    try:
        seconds = float(argument)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_DELAY:
        raise ValueError(f"delay needs a number of seconds, at most {_MAX_DELAY:g}: write delay 2")

    return {"delay": seconds}


def _no(event: str, argument: str) -> dict[str, Any]:
    keyword = argument.upper()
    if event not in ("EHLO", "LHLO"):
        raise ValueError("no is an action for EHLO and LHLO: write EHLO -> no PIPELINING")
    if keyword not in {extension.keyword for extension in EXTENSIONS}:
        raise ValueError(f"{argument!r} is not an extension: write EHLO -> no PIPELINING")

    return {"disabled": keyword}


_ACTIONS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "drop": _drop,
    "reset": _reset,
    "cut": _cut,
    "garbage": _garbage,
    "delay": _delay,
    "no": _no,
}
