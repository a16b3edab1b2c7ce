"""Print the visits of a client as a dialogue."""

from collections.abc import Iterator, Sequence

from ....check.clients import Body, Line, Secret, Sent, Visit
from .._dialogue import printable


def dialogue_of(visits: Sequence[Visit], *, with_quit: bool = True) -> list[str]:
    """Return the lines of a dialogue.

    `with_quit=False` leaves out the final QUIT and its reply.
    """
    lines: list[str] = []
    for number, visit in enumerate(visits, start=1):
        if len(visits) > 1:
            lines.append(f"connection {number}:")
        lines += _lines_of(visit, with_quit=with_quit)

    return lines


def _lines_of(visit: Visit, *, with_quit: bool) -> Iterator[str]:
    is_secure = False
    for entry in visit.log:
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


def _is_quit(entry: Body | Line | Secret | Sent) -> bool:
    return isinstance(entry, Line) and entry.verb == "QUIT"


def _shown(entry: Body | Line | Secret | Sent) -> Iterator[str]:
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
            early = "  (the client did not wait)" if entry.has_early_input else ""
            yield f"S: {printable(b' / '.join(shown))}{more}{early}"


_MAX_LINES = 3
