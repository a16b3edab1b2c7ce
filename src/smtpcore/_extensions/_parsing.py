"""Parsers that several extensions share, for EHLO arguments, for parameter values, and for the times of RFC 3339."""

# A parser of EHLO arguments gets the text after the keyword, a parser of a parameter gets the text after the "=". Both
# get "" if there is no such text, and raise `ValueError` if it is malformed.

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from typing import TypeVar

from .._errors import LocalProtocolError
from .._fields import check_argument

_E = TypeVar("_E", bound=Enum)

_match_date_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch


def parse_nothing(text: str) -> bool:
    """Return True, for a keyword without arguments. RFC 5321 4.1.1.1: a client ignores arguments that it finds."""
    return True


def parse_flag(text: str) -> bool:
    """Return True, for a parameter without a value."""
    if text:
        raise ValueError("this parameter takes no value")

    return True


def number(pattern: str, description: str) -> Callable[[str], int]:
    """Return a parser for numbers of the form `pattern`, which `description` describes."""
    match = re.compile(pattern).fullmatch

    def parse(text: str) -> int:
        if match(text) is None:
            raise ValueError(f"the value is {description}")

        return int(text)

    return parse


def one_of(members: Iterable[_E]) -> Callable[[str], _E]:
    """Return a parser for the values of these enum members, in any letter case."""
    check_argument("members", members, Iterable[Enum])
    values = {member.value: member for member in members}

    def parse(text: str) -> _E:
        # The upper case of some letters beyond ASCII, such as the dotless i, is ASCII: encode to ASCII first.
        wanted = text.encode("ascii", "replace").upper().decode()
        if wanted not in values:
            raise ValueError(f"the value is one of {', '.join(values)}")

        return values[wanted]

    return parse


def format_date_time(time: datetime) -> str:
    """Return `time` as text. Raises `LocalProtocolError` unless its offset from UTC is known, in whole minutes."""
    check_argument("time", time, datetime)
    text = time.isoformat().replace("+00:00", "Z")
    if _match_date_time(text) is None:
        raise LocalProtocolError(f"{text} has no UTC offset in whole minutes: give it a tzinfo")

    return text


def parse_date_time(text: str) -> datetime:
    """Return the time that `text` names."""
    text = text.upper()
    if _match_date_time(text) is None:
        raise ValueError(f"{text!r} is not a time like 2030-12-31T23:59:59Z")
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"  # a datetime cannot hold a leap second

    return datetime.fromisoformat(text)
