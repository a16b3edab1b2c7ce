"""`Tolerance.LENIENT` and `BareNewlines.NORMALIZE` accept wrong lines, but a message ends at the same octet."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpcore import (
    BareNewlines,
    Bodies,
    Command,
    Connection,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    Mail,
    Path,
    Rcpt,
    State,
    Tolerance,
)
from smtpcore_adapters.check._bodies import _NO_ENDS
from smtpcore_adapters.testing import strategies

from ..helpers import body
from ..playbook import CONFIG, DATA, MAIL, RCPT, READY, client, server
from ..profiles import examples

quickly = examples(100)

LENIENT = replace(CONFIG, tolerance=Tolerance.LENIENT, disabled=frozenset(), bare_newlines=BareNewlines.NORMALIZE)
STRICT = replace(LENIENT, tolerance=Tolerance.STRICT)

FAKE_ENDS = {name: octets for name, octets in _NO_ENDS.items() if set(octets) <= set(b"\r\n\0 .")}
"""Sequences that some servers mistook for the end of a message. The other items of `_NO_ENDS` contain text."""

PIECES = [b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.\r\n", b"a", b"QUIT\r\n", b"MAIL FROM: <>\n", b"\x00", b" "]
texts = st.lists(st.sampled_from([*PIECES, *FAKE_ENDS.values()]), max_size=12).map(b"".join)

IN_VALUES = {"local-part", "domain", "no-domain", "hello-name", "carried-value", "helo-parameter"}
"""The deviations that `tolerate` does not correct, because they are part of a value."""


def end_of_message(conn: Connection, octets: bytes) -> tuple[list[Event], int]:
    """Return the events up to the end of the body, and the number of octets after the end."""
    conn.receive_data(octets)
    events: list[Event] = []
    while conn.state in (State.DATA, State.CHUNK, State.LAST_CHUNK) and isinstance(
        event := conn.next_event(), DataLine | DataChunk | DataEnd | InvalidData
    ):
        events.append(event)
        if isinstance(event, DataEnd | InvalidData):
            break

    return events, len(conn.trailing_data)


@pytest.mark.parametrize("mode", BareNewlines, ids=lambda mode: mode.name)
@pytest.mark.parametrize("before", [DATA, RCPT + b"BDAT 20 LAST\r\n"], ids=["DATA", "BDAT"])
@given(octets=texts.filter(bool))
@quickly
def test_message_ends_at_the_same_octet_with_and_without_tolerance(
    before: bytes, mode: BareNewlines, octets: bytes
) -> None:
    ends = [
        end_of_message(server(before, config=replace(config, bare_newlines=mode), cut=False).connection, octets)
        for config in (STRICT, LENIENT)
    ]
    assert ends[0] == ends[1]


WIDE = st.from_regex(r"\A[a-z._-]{1,5}(@[a-z_-]{1,4}(\.[a-z_-]{1,3})?)?\Z").map(Path)
LINES = st.one_of(
    st.builds(Mail, strategies.paths() | WIDE, strategies.mail_params()),
    st.builds(Rcpt, strategies.paths(null=False) | WIDE, strategies.rcpt_params()),
).map(str)


@st.composite
def careless_lines(draw: st.DrawFn) -> str:
    """Draw a MAIL or RCPT line with some of the tolerated mistakes."""
    line = draw(LINES)
    line = draw(st.sampled_from([line, line.lower(), re.sub("[<>]", "", line), line.replace(":<", ": <")]))
    blanks = st.sampled_from([" ", " ", " ", "  ", " \t"])
    return re.sub(" ", lambda _: draw(blanks), line)


def event_of(line: str, tolerance: Tolerance) -> Command | InvalidCommand | None:
    before = MAIL if line[:4].upper() == "RCPT" else READY
    config = replace(LENIENT, tolerance=tolerance)
    events = server(before, config=config, cut=False).send(line.encode() + b"\r\n").events
    event = events[-1] if events else None
    return event if isinstance(event, Command | InvalidCommand) else None


@given(line=careless_lines())
@example(line="MAIL  FROM: a..b@my_host")
@quickly
def test_corrected_line_is_correct_except_in_its_values(line: str) -> None:
    event = event_of(line, Tolerance.LENIENT)
    if not isinstance(event, Mail | Rcpt):
        return

    again = event_of(str(event), Tolerance.LENIENT)
    assert again == event
    assert isinstance(again, Command)
    assert set(again.deviations) == set(event.deviations) & IN_VALUES
    assert isinstance(event_of(str(event), Tolerance.STRICT), InvalidCommand) == bool(again.deviations)
    assert isinstance(event_of(line, Tolerance.STRICT), InvalidCommand) == bool(event.deviations)


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
@pytest.mark.parametrize("fake", FAKE_ENDS.values(), ids=FAKE_ENDS)
@given(before=texts, after=texts)
@example(before=b"one", after=b"two\r\n.\nthree")
@examples(15)  # for each of 32 combinations
def test_normalized_message_has_one_end_for_every_server(
    form: Bodies, fake: bytes, before: bytes, after: bytes
) -> None:
    octets = before + fake + after + b"\r\n.\r\n"
    config = replace(LENIENT, bodies=form)
    events, _ = end_of_message(server(DATA, config=config, cut=False).connection, octets)
    received = body(events)
    assert received.count(b"\r") == received.count(b"\n") == received.count(b"\r\n")

    conn = client(at=State.DATA).connection
    try:
        conn.send(DataChunk(received))
        conn.send(DataEnd())
    except LocalProtocolError:
        assert b"\0" in received  # some servers ignore a NUL, so a client does not send one
        return

    sent = conn.data_to_send()
    assert sent == b".\r\n" or sent.endswith(b"\r\n.\r\n")
    text = b"\r\n" + sent.removesuffix(b".\r\n")
    assert [name for name, end in FAKE_ENDS.items() if end in text and name != "dot-dot"] == []
    assert b"\r\n.\r\n" not in text
