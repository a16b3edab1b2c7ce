"""Small helpers of the tests: segments, bodies, replies, and snapshots of a connection."""

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from smtpcore import DataChunk, DataLine, Event, Transaction

BODY_EVENTS = (DataLine, DataChunk)


def public_properties(conn: object) -> dict[str, object]:
    """Return a snapshot of all public properties of a connection."""
    kind = type(conn)
    names = [name for name in dir(kind) if not name.startswith("_") and isinstance(getattr(kind, name), property)]
    return {name: copy_of(getattr(conn, name)) for name in names}


def copy_of(value: object) -> object:
    return replace(value, recipients=[*value.recipients]) if isinstance(value, Transaction) else value


def octets_id(octets: bytes) -> str:
    """Return a test id for `octets`, such as `CR LF . LF`."""
    names = {"\r": "CR", "\n": "LF", "\0": "NUL"}
    return " ".join(names.get(letter, letter) for letter in octets.decode("latin-1"))


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def bytewise(data: bytes) -> list[bytes]:
    return pieces(data, 1)


def merge_chunks(events: Iterable[Event]) -> list[Event]:
    """Return the events, with adjacent chunks merged into one."""
    result: list[Event] = []
    for is_chunk, group in groupby(events, lambda event: isinstance(event, DataChunk)):
        found = list(group)
        result += [DataChunk(body(found))] if is_chunk else found
    return result


def body(events: Iterable[Event]) -> bytes:
    """Return the octets of the body in `events`."""
    return b"".join(event.data for event in events if isinstance(event, BODY_EVENTS))


def replies(output: bytes) -> list[tuple[int, str]]:
    """Split output into replies. Fail if any of it breaks the format of RFC 5321 4.2."""
    assert re.fullmatch(rb"(?:(?:([2-5][0-5][0-9])-[^\r\n]*\r\n)*[2-5][0-5][0-9] [^\r\n]*\r\n)*", output), output
    result: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in output.decode().split("\r\n")[:-1]:  # `splitlines` also splits at U+0085
        lines.append(line)
        if line[3] == " ":
            assert {other[:3] for other in lines} == {line[:3]}
            result.append((int(line[:3]), "\n".join(lines)))
            lines = []
    return result
