from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from smtpcore import (
    NEED_DATA,
    NEED_PART,
    NEED_REPLY,
    NEED_TLS,
    AuthCancel,
    AuthResponse,
    BodyAborted,
    ChunkEnd,
    Command,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    HeaderEnd,
    InvalidCommand,
    InvalidData,
    Reply,
    Signal,
    TimedOut,
    UnknownCommand,
    Wait,
)

EVENTS = [
    ConnectionOpened(),
    UnknownCommand("XFOO", "a b"),
    InvalidCommand(b"MAIL", Reply(501), "syntax"),
    DataLine(b"a\r\n"),
    DataChunk(b"a\r\n"),
    HeaderEnd(b"A: b\r\n\r\n"),
    ChunkEnd(),
    DataEnd(),
    InvalidData(Reply(552), "max_message_size"),
    AuthResponse(b"secret"),
    AuthCancel(),
    TimedOut(Wait.COMMAND, "command", Reply(421)),
    BodyAborted(),
    ConnectionClosed(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_is_an_immutable_value(event: Event) -> None:
    fields = [getattr(event, name) for name in type(event).__match_args__]

    assert event == type(event)(*fields)
    assert hash(event) == hash(type(event)(*fields))
    assert not hasattr(event, "__dict__")
    for name in type(event).__match_args__:
        with pytest.raises(FrozenInstanceError):
            setattr(event, name, None)


def test_str_of_an_unknown_command_is_its_line() -> None:
    assert str(UnknownCommand("XFOO", "a b")) == "XFOO a b"
    assert str(UnknownCommand("XFOO")) == "XFOO"


def test_event_and_signal_types_are_complete_and_disjoint() -> None:
    assert set(get_args(Event)) == {Command, *map(type, EVENTS)}
    assert set(Signal) == {NEED_DATA, NEED_PART, NEED_REPLY, NEED_TLS}
    assert not isinstance(NEED_DATA, get_args(Event))
