"""Each body has exactly one end, whatever happens: the order of the events that a connection returns about bodies.

A body begins with a 354, with its first BDAT, or with the first part of a BURL. Then come its octets, and one of
`DataEnd`, `InvalidData` and `BodyAborted`. The sessions are those of `test_laws`, cut anywhere. The program answers in
any way, refuses bodies, lets budgets expire, sends a 421, or loses the connection.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpcore import (
    NEED_DATA,
    NEED_PART,
    Bdat,
    BodyAborted,
    ChunkEnd,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    HeaderEnd,
    InvalidData,
    LocalProtocolError,
    Mail,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Signal,
    State,
    TimedOut,
)

from ..playbook import DATA, RCPT, accept
from ..profiles import examples
from .test_laws import CONFIGS, cut, sessions

PARTS = (DataLine, DataChunk, HeaderEnd, ChunkEnd)
ENDS = (DataEnd, InvalidData, BodyAborted)
REPLIES = (Reply(250), Reply(450), Reply(550), Reply(354), Reply(421))
VARIANTS = [
    replace(config, **changes)  # type: ignore[arg-type]
    for config, changes in zip(
        CONFIGS, ({}, {"lmtp": True}, {"max_header": 100}, {}, {"lmtp": True}, {"burl": ("imap",)}), strict=True
    )
]

ACCEPT, NOTHING = 9, 0
choices = st.lists(st.integers(0, 19), min_size=1, max_size=12)


class Bodies:
    """The state of the body according to the events so far."""

    def __init__(self) -> None:
        self.is_open = False
        self.ends: list[type[object]] = []

    def begin(self) -> None:
        assert not self.is_open
        self.is_open = True

    def take(self, event: Event) -> None:
        """Check that an event may come now."""
        if isinstance(event, PARTS):
            assert self.is_open, event
        elif isinstance(event, ENDS):
            assert self.is_open, event
            self.is_open = False
            self.ends.append(type(event))
        elif isinstance(event, Bdat):
            self.is_open = True
        elif isinstance(event, Mail | Rcpt | Data | TimedOut | ConnectionClosed):
            assert not self.is_open, event


class Program:
    """A program that makes a choice whenever a server has a choice."""

    def __init__(self, conn: Connection, choices: Iterator[int]) -> None:
        self.conn = conn
        self.choices = choices
        self.bodies = Bodies()
        self.now = 0.0

    def work(self) -> None:
        """Process the input up to the end of it, or of the session."""
        while (event := self.conn.next_event()) is not NEED_DATA or self.act():
            if isinstance(event, Signal):
                if event is NEED_PART:
                    self.fetch()
                continue
            self.bodies.take(event)
            if isinstance(event, ConnectionClosed):
                return
            if self.conn.replies_owed:
                self.answer(event)

    def answer(self, event: Event) -> None:
        choice = next(self.choices)
        reply = REPLIES[choice] if choice < len(REPLIES) else accept(self.conn, event)
        if not self.conn.may_send(reply):
            reply = self.conn.default_reply(event)
        self.conn.send(reply)
        if isinstance(event, Data) and reply.code == 354:
            self.bodies.begin()
        if self.conn.replies_owed:
            self.answer(event)

    def fetch(self) -> None:
        choice = next(self.choices)
        if choice == 1:
            self.conn.send(Reply(554))
            return
        if not self.bodies.is_open:
            self.bodies.begin()
        self.conn.receive_part(b"" if choice % 2 else b"x\r\n")

    def act(self) -> bool:
        """Do something that no input asks for. Return whether further events may come."""
        conn = self.conn
        match next(self.choices):
            case 1:
                conn.tick(self.now)
                self.now = conn.deadline
                conn.tick(self.now)
            case 2 if conn.may_send(Reply(421)):
                conn.send(Reply(421))
            case 3:
                conn.send_failed()
            case 4 | 5 as choice:
                try:
                    conn.refuse_body(Reply(554), at_once=choice == 5)
                except LocalProtocolError:
                    return False
            case _:
                return False
        return True


def run(conn: Connection, segments: list[bytes], choices: Iterator[int]) -> Program:
    program = Program(conn, choices)
    try:
        for segment in segments:
            conn.receive_data(segment)
            program.work()
    except RemoteProtocolError:
        program.work()
    return program


@pytest.mark.parametrize("config", VARIANTS)
@given(data=sessions, places=st.lists(st.integers(0, 10_000), max_size=8), choices=choices)
@example(data=DATA + b"a\r\n.\r\n", places=[], choices=[ACCEPT])
@example(data=DATA + b"a\r\n.\r\n", places=[70], choices=[ACCEPT] * 5 + [1])
@example(data=DATA + b"a", places=[], choices=[ACCEPT] * 5 + [NOTHING])
@example(data=RCPT + b"BDAT 1\r\naRSET\r\nBDAT 1 LAST\r\na", places=[3], choices=[ACCEPT])
@example(data=RCPT + b"BURL imap://x LAST\r\n", places=[3], choices=[ACCEPT] * 5 + [6, 7])
@examples(60)
def test_each_body_has_exactly_one_end(config: Config, data: bytes, places: list[int], choices: list[int]) -> None:
    program = run(Connection(config), [*cut(data, places), b""], cycle(choices))

    assert program.conn.state is State.CLOSED
    assert not program.bodies.is_open


@pytest.mark.parametrize(
    ("data", "choices", "end"),
    [
        (DATA + b"a\r\n.\r\n", [ACCEPT], DataEnd),
        (DATA + b"a\nb\r\n.\r\n", [ACCEPT], InvalidData),
        (DATA + b"a\r\n", [ACCEPT], BodyAborted),
        (DATA + b"a\r\n", [ACCEPT] * 5 + [1], BodyAborted),
        (DATA + b"a\r\n", [ACCEPT] * 5 + [2], BodyAborted),
        (DATA + b"a\r\n", [ACCEPT] * 5 + [3], BodyAborted),
        (DATA + b"a\r\n", [ACCEPT] * 5 + [5], BodyAborted),
        (RCPT + b"BDAT 1\r\naRSET\r\n", [ACCEPT], BodyAborted),
        (RCPT + b"BDAT 1\r\naBDAT 1 LAST\r\nb", [ACCEPT], DataEnd),
        (RCPT + b"BDAT 1\r\na", [ACCEPT] * 4 + [2], BodyAborted),
    ],
)
def test_each_kind_of_end_is_reached(data: bytes, choices: list[int], end: type[object]) -> None:
    program = run(Connection(CONFIGS[0]), [data, b""], iter([*choices, *[ACCEPT] * 100]))

    assert program.bodies.ends == [end]
