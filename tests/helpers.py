"""Drive a server's connection as an adapter does, without I/O."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from smtpcore import (
    Bdat,
    Config,
    Connection,
    ConnectionClosed,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    Rcpt,
    Reply,
    Signal,
    State,
    Transaction,
)

CONFIG = Config(hostname="s.example", max_errors=None, max_idle_commands=None)

# The input that leads a session into a state. Each includes the previous one.
GREETED = b""
READY = b"EHLO c.example\r\n"
MAIL = READY + b"MAIL FROM:<a@c.example>\r\n"
RCPT = MAIL + b"RCPT TO:<u@s.example>\r\n"
DATA = RCPT + b"DATA\r\n"
HELO = b"HELO c.example\r\n"

BODY_EVENTS = (DataLine, DataChunk)
NEED_NO_REPLY = (*BODY_EVENTS, Bdat)
"""Events that need no reply."""

Answer = Callable[[Connection, Event], Reply | None]
"""Returns the reply to an event, or None after passing the part that a BURL requests to the connection."""

_ANSWER_TO_NOOP: dict[State, list[int]] = {State.CLOSED: [], State.DATA: [], State.REFUSED: [503]}


def accept(conn: Connection, event: Event) -> Reply:
    """Answer as a server that accepts all mail."""
    match event:
        case Rcpt():
            return Reply(250, "Recipient taken", enhanced="2.1.5")
        case DataEnd():
            return Reply(250, "Message taken", enhanced="2.6.0")
        case _:
            return conn.default_reply(event)


def refuse(conn: Connection, event: Event) -> Reply:
    """Answer as a server without handlers."""
    return conn.default_reply(event)


def answer_with(kind: type[Event], reply: Reply) -> Answer:
    """Return an `Answer` that gives `reply` to events of one kind and accepts all others."""
    return lambda conn, event: reply if isinstance(event, kind) else accept(conn, event)


def take_events(conn: Connection, answer: Answer = accept) -> Iterator[Event]:
    """Yield events, answering each that needs a reply, until no event is left."""
    while not isinstance(event := conn.next_event(), Signal | ConnectionClosed):
        yield event
        if not isinstance(event, NEED_NO_REPLY):
            for _ in range(conn.replies_owed):
                if reply := answer(conn, event):
                    conn.send(reply)
    if isinstance(event, ConnectionClosed):
        yield event


def drive(conn: Connection, segments: Iterable[bytes], answer: Answer = accept) -> tuple[list[Event], bytes]:
    """Feed `segments` one after the other. Return the events and the output."""
    events = list(take_events(conn, answer))
    for segment in segments:
        if conn.state is State.CLOSED:
            break
        conn.receive_data(segment)
        events += take_events(conn, answer)
    return events, conn.data_to_send()


def new_connection(**changes: Any) -> Connection:
    """Return a new connection. `changes` replace fields of the configuration."""
    return Connection(replace(CONFIG, **changes))


def connect(before: bytes = GREETED, *, answer: Answer = accept, **changes: Any) -> Connection:
    """Return a connection after receiving and answering `before`."""
    conn = new_connection(**changes)
    drive(conn, [before] if before else [], answer)
    return conn


def events_after(before: bytes, data: bytes, *, answer: Answer = accept, **changes: Any) -> list[Event]:
    """Return the events of `data` after `before`, whole and byte by byte."""
    events, _ = drive(connect(before, answer=answer, **changes), [data], answer)
    piecewise, _ = drive(connect(before, answer=answer, **changes), bytewise(data), answer)
    assert merge_chunks(piecewise) == merge_chunks(events)
    return merge_chunks(events)


def reply_codes(before: bytes, data: bytes, *, answer: Answer = accept, **changes: Any) -> list[int]:
    """Return the reply codes to `data` after `before`: whole, byte by byte, and followed by a command."""
    outputs = []
    for segments in ([data], bytewise(data), [data + b"NOOP\r\n"]):
        conn = connect(before, answer=answer, **changes)
        outputs.append([code for code, _ in replies(drive(conn, segments, answer)[1])])

    whole, piecewise, followed = outputs
    assert piecewise == whole
    assert followed == whole + _ANSWER_TO_NOOP.get(conn.state, [250])
    return whole


def reply_texts(before: bytes, data: bytes, *, answer: Answer = accept, **changes: Any) -> list[str]:
    """Return the replies to `data` after `before`, as text with codes; lines are separated by a newline."""
    _, output = drive(connect(before, answer=answer, **changes), [data], answer)
    return [text for _, text in replies(output)]


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
