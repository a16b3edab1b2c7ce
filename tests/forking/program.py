"""The arguments of Python."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """The arguments of Python, parsed."""

    name: str
    """Module to run, or "" for `code`."""
    code: str
    arguments: Sequence[str]
    filters: Sequence[str]


def parse(arguments: Sequence[str]) -> Program | None:
    """Return the program that Python runs with these arguments, or None if only Python itself can parse them."""
    rest, filters = list(arguments), []
    while len(rest) > 1 and rest[0] == "-W":
        filters.append(rest[1])
        rest = rest[2:]
    match rest:
        case ["-m", name, *after]:
            return Program(name, "", after, filters)
        case ["-c", code, *after]:
            return Program("", code, after, filters)
        case _:
            return None
