"""Print recordings as dialogues."""

from collections.abc import Iterator, Sequence

from ._player import End, Entry, Recording

_MOST_REPLIES = 30
"""Replies to a group that are printed; a group has fewer commands."""
_LONGEST = 100
"""Characters of a printed line."""
_ENDS = {
    End.SILENT: "no reply",
    End.DROPPED: "the server closed the connection",
    End.LEFT_OPEN: "the server keeps the connection open",
    End.FLOOD: "the server sends without end",
    End.TLS_FAILED: "the TLS handshake fails",
}


def dialogue(recording: Recording, other: Recording | None = None) -> list[str]:
    """Return the lines of a recording.

    `C:` begins a group of octets that the client sends at once, and `C|` continues the group. A reply that differs from
    the reply of `other` to the same group is marked with `<--`.
    """
    lines: list[str] = []
    expected = _replies(other)
    found: dict[int, int] = {}
    if recording.prefix:
        lines.append(f"-- after {recording.prefix}")
    for entry in recording.log:
        if entry.is_client:
            lines += (f"C{'|' if number else ':'} {line}" for number, line in enumerate(_shown(entry.octets)))
            continue

        number = found.get(entry.group, 0)
        found[entry.group] = number + 1
        if number >= _MOST_REPLIES:
            continue
        codes = expected.get(entry.group, [])
        differs = other is not None and (number >= len(codes) or codes[number] != entry.octets[:3])
        lines.append(f"S: {_short_reply(entry)}{'  <--' if differs else ''}")
    hidden = found.get(recording.log[-1].group, 0) - _MOST_REPLIES if recording.log else 0
    if hidden > 0:
        lines.append(f"-- and {hidden} more replies")
    if recording.end in _ENDS:
        lines.append(f"-- {_ENDS[recording.end]}")

    return lines


def lines_sent(recording: Recording) -> int:
    """Return the number of lines that the client sent, without the final QUIT."""
    return sum(len(list(_shown(entry.octets))) for entry in recording.log if entry.is_client and not _is_quit(entry))


def _is_quit(entry: Entry) -> bool:
    return entry.octets == b"QUIT\r\n"


def _replies(recording: Recording | None) -> dict[int, list[bytes]]:
    groups: dict[int, list[bytes]] = {}
    for entry in recording.log if recording else ():
        if not entry.is_client:
            groups.setdefault(entry.group, []).append(entry.octets[:3])

    return groups


def _short_reply(entry: Entry) -> str:
    lines = entry.octets.split(b"\n")
    more = len(lines) - 2
    end = "" if entry.octets.endswith(b"\r\n") else "\\n" if entry.octets.endswith(b"\n") else ""
    first = printable(lines[0].removesuffix(b"\r"))
    return f"{first}{end}{f'  (and {more} more lines)' if more > 0 else ''}"


def _shown(octets: bytes) -> Iterator[str]:
    lines = octets.split(b"\r\n")
    yield from (printable(line) for line in lines[:-1])
    if lines[-1]:
        yield f"{printable(lines[-1])}  (without CR LF)"


def printable(octets: bytes) -> str:
    """Return octets as text on one line: unprintable octets are escaped, and a long line is cut."""
    cut = octets[:_LONGEST]
    text = "".join(_ESCAPES.get(octet) or (chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}") for octet in cut)
    return text if len(octets) <= _LONGEST else f"{text}... ({len(octets)} octets)"


_ESCAPES = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}


def dialogues(recordings: Sequence[Recording]) -> list[str]:
    """Return the lines of one recording, or of two recordings with their differences marked."""
    if len(recordings) == 1:
        return dialogue(recordings[0])

    one, other = recordings
    has_same_groups = not one.plan.is_pipelined and len(one.plan.steps) == len(other.plan.steps)
    return [
        "first session:",
        *dialogue(one, other if has_same_groups else None),
        "",
        "second session:",
        *dialogue(other, one if has_same_groups else None),
    ]
