"""Parse the lines of a fault script."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from smtpcore import EXTENSIONS, LocalProtocolError, Path, Reply

_MAX_DELAY = 3600.0  # seconds
_USUAL = b"250 2.0.0 OK\r\n"
"""The reply of which `cut` sends only the first octets."""

_VERBS = re.findall(
    r"\w+", "EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS AUTH ETRN XCLIENT XFORWARD"
)
_EVENTS = {**{verb: verb for verb in _VERBS}, "CONNECT": "connect", "MESSAGE": "message", "TLS": "TLS"}
_OF_MESSAGES = ("RCPT", "BDAT")
"""Events that are counted within their message; all others are counted from the start of the server."""
_WITH_FIRST = ("connect", "MAIL", "RCPT", "DATA", "message")
_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_MAX_EHLO_LINE = 500  # RFC 5321 4.5.3.1.5: 512 octets, with the code and CRLF

_match_after = re.compile(r"after ([0-9]{1,12}) octets", re.IGNORECASE).fullmatch
_match_number = re.compile(r"[1-9][0-9]{0,8}").fullmatch
_match_range = re.compile(r"([1-9][0-9]{0,8})(-([1-9][0-9]{0,8})?)?").fullmatch
_match_every = re.compile(r"every ([1-9][0-9]{0,8})", re.IGNORECASE).fullmatch
_match_percent = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%").fullmatch
_match_rate = re.compile(r"over ([1-9][0-9]{0,8}) ?/ ?([a-z]+)", re.IGNORECASE).fullmatch
_match_closing = re.compile(r"(.+?),? +then +(close|drop|reset)", re.IGNORECASE).fullmatch
_match_then = re.compile(r".*\bthen +([a-z]+)", re.IGNORECASE).fullmatch
_match_reply = re.compile(r"([2-5][0-5][0-9])(?: +([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?: +(.*))?").fullmatch


class FaultError(ValueError):
    """A line is not a valid fault; the text shows a valid line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One parsed line of a script: the event that triggers the fault, and the action."""

    line: str
    """The line, without surrounding spaces."""
    event: str
    """The event that triggers the fault: a verb in upper case, `connect`, `message` or `TLS`."""
    numbers: range | None = None
    """The numbers of the occurrences that trigger the fault, from 1; None for every occurrence."""
    percent: float | None = None
    """The share of the occurrences that trigger the fault, chosen at random; None for no random choice."""
    first: bool = False
    """Whether only the first occurrence for a client, sender and recipient triggers the fault."""
    rate: tuple[int, int] | None = None
    """A count and a number of seconds: occurrences over this rate trigger the fault. None for no rate."""
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
    extra: Reply | None = None
    """A reply that is sent after the usual reply; None for no such reply."""
    early: bool = False
    """Whether `extra` takes the place of the reply to the next command."""
    ehlo_line: str = ""
    """A line that is added to the reply to EHLO or LHLO; empty for none."""
    certificate: str = ""
    """The fault of the certificate: `expired`, `wrong` or `untrusted`; empty for none."""
    reset: bool = False
    """Whether the connection is reset instead of closed."""
    delay: float = 0.0
    """Seconds before the reply."""
    disabled: str = ""
    """The keyword of the extension that the server does not offer; empty for none."""

    @property
    def counts_sessions(self) -> bool:
        """Whether the fault depends on a count of events in all sessions, which processes cannot share."""
        is_counted = self.numbers is not None and self.event not in _OF_MESSAGES
        return is_counted or self.first or self.rate is not None


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
        hint = _nearest(word.upper(), _EVENTS.values()) or "a line such as RCPT 2 -> 451"
        raise ValueError(f"{word!r} is not a verb, connect or message: write {hint}")

    selected, action = _selected(event, selector.strip()), _action(event, right.strip())
    if selected and "disabled" in action:
        raise ValueError(f"an extension is left out for all clients: write {event} -> {right.strip()}")
    if "octets" in selected and "extra" in action:
        raise ValueError(f"an additional reply follows the usual reply: write message -> {right.strip()}")

    fault = replace(Fault(line=line.strip(), event=event), **(selected | action))
    if fault.reply:
        _check_code(fault.event, fault.reply.code)

    return fault


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that `word` probably stands for, or ""."""
    names = {each.casefold(): each for each in known}
    return next((names[each] for each in get_close_matches(word.casefold(), names, n=1)), "")


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
    if every := _match_every(text):
        return {"numbers": range(int(every[1]), _ENDLESS, int(every[1]))}
    if percent := _match_percent(text):
        return {"percent": _percentage(float(percent[1]))}
    if text.lower() == "first" and event in _WITH_FIRST:
        return {"first": True}
    if rate := _match_rate(text):
        return {"rate": (int(rate[1]), _seconds_of(rate[2]))}
    if text.startswith("<") and text.endswith(">") and event in ("MAIL", "RCPT"):
        return {"address": Path(text[1:-1])}
    if (after := _match_after(text)) and event in ("DATA", "BDAT"):
        # The fault belongs to the message, not to the DATA command.
        return {"event": "message", "octets": int(after[1])}

    raise ValueError(f"{text!r} cannot follow {event}: write {_suggested_selector(event, text)}")


def _percentage(percent: float) -> float:
    if not 0 < percent <= 100:
        raise ValueError(f"{percent:g}% is not a share: write a number between 0 and 100, such as 10%")

    return percent


def _seconds_of(unit: str) -> int:
    if unit.lower() not in _UNITS:
        raise ValueError(f"{unit!r} is not a unit of time: write over 10/s, over 10/min or over 10/h")

    return _UNITS[unit.lower()]


def _suggested_selector(event: str, text: str) -> str:
    word = text.partition(" ")[0]
    if "/" in text:
        word = "over"
    elif "percent" in text.lower():
        return f"{event} 10%"

    match _nearest(word, ("after", "every", "first", "over")):
        case "after":
            return "DATA after 3000 octets"
        case "every":
            return f"{event} every 3"
        case "first":
            return f"{event} first" if event in _WITH_FIRST else f"{event} 1, or first after {', '.join(_WITH_FIRST)}"
        case "over":
            return f"{event} over 10/min"
        case _:
            return (
                "a number, a range such as 2-4 or 2-, every 3, 10%, first, over 10/min, MAIL <address>, "
                "or DATA after 3000 octets"
            )


_ENDLESS = 10**9


# The action, right of the arrow


def _action(event: str, text: str) -> dict[str, Any]:
    word, _, argument = text.partition(" ")
    if event == "TLS" and word.lower() not in _CERTIFICATES:
        raise ValueError(f"{text!r} is not an action for TLS: write {_ALL_CERTIFICATES}, or STARTTLS -> 454")

    closing = _match_closing(text)
    if reply := _match_reply(closing[1] if closing else text):
        if not closing and (then := _match_then(text)) and (nearest := _nearest(then[1], ("close", "drop", "reset"))):
            raise ValueError(f"'then {then[1]}' is not an action: write then {nearest}")

        fields = {"closes": closing is not None, "reset": closing is not None and closing[2].lower() == "reset"}
        return {"reply": _reply(reply), **fields}
    if word.lower() not in _ACTIONS:
        hint = _nearest(word, _ACTIONS) or f"a reply such as 451, or {', '.join(_ACTIONS)}"
        raise ValueError(f"{text!r} is not an action: write {hint}")

    return _ACTIONS[word.lower()](event, argument.strip())


def _reply(found: re.Match[str]) -> Reply:
    return Reply(int(found[1]), found[3] or "A fault on purpose", enhanced=found[2])


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
    text = _quoted(argument, 'garbage needs a quoted text: write garbage "what?\\r\\n"')
    return {"octets_instead": text if isinstance(text, bytes) else text.encode()}


def _quoted(argument: str, rule: str) -> str | bytes:
    try:
        text = ast.literal_eval(argument)
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f"{rule} instead of {argument}") from exc
    if not isinstance(text, str | bytes):
        raise ValueError(rule)

    return text


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


def _line(event: str, argument: str) -> dict[str, Any]:
    if event not in ("EHLO", "LHLO"):
        raise ValueError('line is an action for EHLO and LHLO: write EHLO -> line "X-FOO 1"')

    text = _quoted(argument, 'line needs a quoted text: write EHLO -> line "X-FOO 1"')
    if isinstance(text, bytes) or not text.isprintable() or not 0 < len(text.encode()) <= _MAX_EHLO_LINE:
        raise ValueError(f"line needs printable text of at most {_MAX_EHLO_LINE} octets, or write garbage {argument}")

    return {"ehlo_line": text}


def _stray(event: str, argument: str) -> dict[str, Any]:
    return {"extra": _extra("stray", argument)}


def _early(event: str, argument: str) -> dict[str, Any]:
    return {"extra": _extra("early", argument), "early": True}


def _extra(word: str, argument: str) -> Reply:
    reply = _match_reply(argument)
    if reply is None:
        raise ValueError(f"{word} needs a reply: write {word} 250")

    return _reply(reply)


def _certificate(kind: str, event: str, argument: str) -> dict[str, Any]:
    if event != "TLS" or argument.lower() != "certificate":
        raise ValueError(f"a fault of the certificate belongs to TLS: write TLS -> {kind} certificate")

    return {"certificate": kind}


_CERTIFICATES = ("expired", "wrong", "untrusted")
_ALL_CERTIFICATES = " or ".join(f"{kind} certificate" for kind in _CERTIFICATES)

_ACTIONS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "drop": _drop,
    "reset": _reset,
    "cut": _cut,
    "garbage": _garbage,
    "delay": _delay,
    "no": _no,
    "line": _line,
    "stray": _stray,
    "early": _early,
    **{kind: partial(_certificate, kind) for kind in _CERTIFICATES},
}
