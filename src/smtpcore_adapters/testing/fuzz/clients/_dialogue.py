"""Print the visits of a client as a dialogue."""

from collections.abc import Collection, Iterator, Sequence

from ....check.clients import Body, Line, Secret, Sent, Visit
from .._dialogue import printable
from ._behaviour import code_of_reply

NOT_WAITED = "  (the client did not wait)"
_Entry = Body | Line | Secret | Sent


def dialogue_of(
    visits: Sequence[Visit], *, with_quit: bool = True, is_brief: bool = False, needed: Collection[str] = ()
) -> list[str]:
    """Return the lines of a dialogue.

    `with_quit=False` leaves out the final QUIT and its reply. `is_brief` shows the accepted commands before a message
    in one line, and a connection that is like an earlier one in another line. Commands whose verb is `needed`, such as
    `GREETING` or `RCPT`, and all later commands, are shown nevertheless.
    """
    lines: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, visit in enumerate(visits, start=1):
        skipped = _accepted(visit, needed) if is_brief else 0
        shown = tuple(_lines_of(visit, with_quit=with_quit, skipped=skipped))
        before = seen.setdefault(shown, number)
        if is_brief and before != number:
            lines.append(f"connection {number}: like connection {before}")
            continue
        if len(visits) > 1:
            lines.append(f"connection {number}:")
        lines += shown

    return lines


def _accepted(visit: Visit, needed: Collection[str]) -> int:
    """Return the number of entries at the start of a visit that are the greeting, and commands with a usual reply."""
    count = 0
    for number, entry in enumerate(visit.log):
        if isinstance(entry, Body | Secret) or entry.is_secure != _is_secure_at_start(visit):
            break
        if (entry.verb if isinstance(entry, Line) else entry.key) in needed:
            break
        if isinstance(entry, Sent):
            if entry.has_early_input or code_of_reply(entry.octets) // 100 not in (2, 3):
                break
            count = number + 1

    return count if count >= _MIN_SKIPPED else 0


_MIN_SKIPPED = 5
"""Entries that are worth a line in their place: the greeting, and two commands with their replies."""


def _is_secure_at_start(visit: Visit) -> bool:
    return next((entry.is_secure for entry in visit.log if not isinstance(entry, Secret)), False)


def _lines_of(visit: Visit, *, with_quit: bool, skipped: int) -> Iterator[str]:
    is_secure = bool(skipped) and _is_secure_at_start(visit)
    if skipped:
        verbs = [entry.verb for entry in visit.log[:skipped] if isinstance(entry, Line)]
        yield f"-- the usual replies to {', '.join(verbs[:-1])} and {verbs[-1]}{', under TLS' if is_secure else ''}"
    for entry in visit.log[skipped:]:
        if not with_quit and _is_quit(entry):
            return
        if not isinstance(entry, Secret):
            if entry.is_secure and not is_secure:
                yield "-- TLS"
            is_secure = entry.is_secure
        yield from _shown(entry)

    if visit.rest:
        yield f"C: {printable(visit.rest)}"
    yield f"-- {visit.ended}"


def _is_quit(entry: _Entry) -> bool:
    return isinstance(entry, Line) and entry.verb == "QUIT"


def _shown(entry: _Entry) -> Iterator[str]:
    match entry:
        case Secret():
            yield "C: ***"
        case Line(octets=octets):
            words = octets.split()
            is_login = entry.verb == "AUTH" and len(words) > 2
            text = b" ".join([*words[:2], b"***"]) if is_login else octets.removesuffix(b"\r\n")
            yield f"C: {printable(text)}"
        case Body(octets=octets, is_complete=is_complete):
            end = "" if is_complete else ", without its end"
            yield f"C: (a message of {len(octets)} octets{end})"
        case _:
            lines = entry.octets.removesuffix(b"\r\n").split(b"\r\n")
            more = f"  (and {len(lines) - 1} more lines)" if len(lines) > _MAX_LINES else ""
            shown = lines[:1] if more else lines
            early = NOT_WAITED if entry.has_early_input else ""
            yield f"S: {printable(b' / '.join(shown))}{more}{early}"


_MAX_LINES = 3
