"""The end of the header as an event, and the refusal of a message before its end."""

from dataclasses import replace

import pytest

from smtpcore import (
    Bdat,
    Bodies,
    BodyAborted,
    Burl,
    ChunkEnd,
    Config,
    Connection,
    ConnectionClosed,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    HeaderEnd,
    InvalidData,
    LocalProtocolError,
    Reply,
    Signal,
    State,
    Wait,
)

from ..helpers import bytewise
from ..playbook import CONFIG, DATA, HELO, MAIL, NEED_NO_REPLY, RCPT, accept, server, take_events

HEADER = b"Subject: x\r\nTo: y\r\n\r\n"
BODY = b"one\r\n..two\r\n"
WITH_HEADER = replace(CONFIG, max_header=65_536)
CHUNKS = replace(WITH_HEADER, bodies=Bodies.CHUNKS)
REFUSAL = Reply(550, "No such subject", enhanced="5.7.1")


def in_body(wire: bytes, config: Config = CHUNKS) -> Connection:
    """Return a connection after the events of `wire`, up to the first that is a part of a body or the header's end."""
    conn = Connection(config)
    conn.receive_data(wire)
    while not isinstance(event := conn.next_event(), HeaderEnd | DataChunk | DataLine | Signal):
        if not isinstance(event, NEED_NO_REPLY):
            conn.send(accept(conn, event))
    conn.data_to_send()
    return conn


def header_of(events: list[Event]) -> list[bytes]:
    return [event.header for event in events if isinstance(event, HeaderEnd)]


# The event


def test_header_end_follows_the_lines_of_the_header() -> None:
    dialogue = server(DATA, config=WITH_HEADER).send(HEADER + BODY + b".\r\n")

    dialogue.expect(
        DataLine(b"Subject: x\r\n"),
        DataLine(b"To: y\r\n"),
        DataLine(b"\r\n"),
        HeaderEnd(HEADER),
        DataLine(b"one\r\n"),
        DataLine(b".two\r\n"),
        DataEnd(),
    )


def test_header_end_follows_the_chunks_of_the_header() -> None:
    server(DATA, config=CHUNKS).send(HEADER + BODY + b".\r\n").expect(
        DataChunk(HEADER), HeaderEnd(HEADER), DataChunk(b"one\r\n.two\r\n"), DataEnd()
    )


@pytest.mark.parametrize("config", [WITH_HEADER, CHUNKS])
@pytest.mark.parametrize(
    ("body", "header"),
    [
        pytest.param(b"", b"", id="empty body"),
        pytest.param(b"\r\n", b"\r\n", id="empty line only"),
        pytest.param(b"\r\nbody\r\n", b"\r\n", id="no fields"),
        pytest.param(b"A: b\r\n", b"A: b\r\n", id="no empty line"),
        pytest.param(b"A: b\r\n..\r\n", b"A: b\r\n.\r\n", id="no empty line, with a dot"),
    ],
)
def test_header_ends_at_the_empty_line_or_with_the_body(config: Config, body: bytes, header: bytes) -> None:
    events = server(DATA, config=config).send(body + b".\r\n").events

    assert header_of(events) == [header]
    assert isinstance(events[-1], DataEnd)


def test_header_may_span_chunks_of_bdat() -> None:
    events = server(RCPT, config=CHUNKS).send(b"BDAT 12\r\nSubject: x\r\nBDAT 6\r\n\r\nbodyBDAT 0 LAST\r\n").events

    assert [type(event) for event in events if isinstance(event, HeaderEnd | ChunkEnd | DataEnd)] == [
        ChunkEnd,
        HeaderEnd,
        ChunkEnd,
        DataEnd,
    ]
    assert header_of(events) == [b"Subject: x\r\n\r\n"]


def test_last_chunk_without_an_empty_line_ends_the_header() -> None:
    server(RCPT, config=CHUNKS).send(b"BDAT 6 LAST\r\nA: b\r\n").expect(
        Bdat, DataChunk(b"A: b\r\n"), HeaderEnd(b"A: b\r\n"), DataEnd()
    )


def test_header_over_the_limit_is_refused() -> None:
    config = replace(CHUNKS, max_header=100)
    wire = b"A: " + b"x" * 200 + b"\r\n\r\nbody\r\n.\r\n"

    dialogue = server(DATA, config=config).send(wire)

    dialogue.expect(DataChunk((b"A: " + b"x" * 200)[:100]), InvalidData, "552 5.3.4 The header ... size")


def test_fault_in_the_header_gives_no_header_end() -> None:
    server(DATA, config=CHUNKS).send(b"A: b\r\nC\nD\r\n\r\n.\r\n").expect(DataChunk(b"A: b\r\nC"), InvalidData)


def test_fault_after_the_header_follows_header_end() -> None:
    server(DATA, config=CHUNKS).send(b"A: b\r\n\r\nC\nD\r\n.\r\n").expect(
        DataChunk(b"A: b\r\n\r\n"), HeaderEnd(b"A: b\r\n\r\n"), DataChunk(b"C"), InvalidData
    )


def test_header_end_is_not_returned_without_max_header() -> None:
    assert header_of(server(DATA, config=CONFIG).send(HEADER + BODY + b".\r\n").events) == []


# The refusal


def test_refused_body_is_discarded_and_ends_with_the_refusal() -> None:
    conn = in_body(DATA + HEADER + BODY)
    conn.refuse_body(REFUSAL)
    conn.receive_data(b"more\r\n.\r\nNOOP\r\n")

    end = conn.next_event()
    assert end == InvalidData(REFUSAL, "program")
    assert conn.send(conn.default_reply(end)).code == 550
    assert [type(event).__name__ for event in take_events(conn)] == ["Noop"]


def test_lines_not_yet_returned_are_dropped_after_a_refusal() -> None:
    conn = in_body(DATA + HEADER + BODY + b".\r\n", WITH_HEADER)
    conn.refuse_body(REFUSAL)

    assert isinstance(conn.next_event(), InvalidData)


def test_refusal_of_a_body_answers_the_current_chunk_of_bdat() -> None:
    conn = in_body(RCPT + b"BDAT 1000\r\n" + HEADER)
    conn.refuse_body(REFUSAL)
    conn.receive_data(b"x" * (1000 - len(HEADER)))

    assert conn.next_event() == InvalidData(REFUSAL, "program")
    conn.send(REFUSAL)
    assert conn.state is State.CHUNK_REFUSED
    conn.receive_data(b"BDAT 5\r\nabcdeRSET\r\n")
    assert [type(event).__name__ for event in take_events(conn)] == ["InvalidCommand", "Rset"]


def test_refusal_between_chunks_answers_the_next_chunk() -> None:
    conn = in_body(RCPT + b"BDAT 5\r\nA: b\r")
    assert list(take_events(conn)) == [ChunkEnd()]
    assert conn.state is State.CHUNKED
    conn.refuse_body(REFUSAL)
    conn.receive_data(b"NOOP\r\nBDAT 3\r\nabcNOOP\r\n")

    assert [type(event).__name__ for event in take_events(conn)] == ["Noop", "Bdat", "InvalidData", "Noop"]


def test_refused_lmtp_body_needs_a_reply_for_each_recipient() -> None:
    wire = RCPT.replace(b"EHLO", b"LHLO") + b"RCPT TO:<v@s.example>\r\nDATA\r\n"
    conn = in_body(wire + HEADER, replace(CHUNKS, lmtp=True))
    conn.refuse_body(REFUSAL)
    conn.receive_data(b".\r\n")

    assert isinstance(conn.next_event(), InvalidData)
    assert conn.replies_owed == 2


@pytest.mark.parametrize(("lmtp", "replies"), [(False, 1), (True, 2)])
def test_refusal_at_once_is_sent_before_the_end_and_closes(lmtp: bool, replies: int) -> None:
    wire = (RCPT.replace(b"EHLO", b"LHLO") if lmtp else RCPT) + b"RCPT TO:<v@s.example>\r\nDATA\r\n"
    conn = in_body(wire + HEADER, replace(CHUNKS, lmtp=lmtp))
    conn.refuse_body(REFUSAL, at_once=True)

    assert conn.must_flush
    assert conn.data_to_send() == b"550 5.7.1 No such subject\r\n" * replies
    assert conn.next_event() == BodyAborted()
    assert conn.next_event() == ConnectionClosed()
    assert conn.waiting_for is Wait.NOTHING


@pytest.mark.parametrize("reply", [Reply(250), Reply(354), Reply(550, "ä"), Reply(550, "a\nb")])
@pytest.mark.parametrize("at_once", [False, True])
def test_reply_that_cannot_refuse_changes_nothing(reply: Reply, at_once: bool) -> None:
    conn = in_body(DATA + HEADER)
    with pytest.raises(LocalProtocolError):
        conn.refuse_body(reply, at_once=at_once)

    conn.receive_data(b".\r\n")
    assert [type(event) for event in take_events(conn)][-1] is DataEnd


@pytest.mark.parametrize("wire", [HELO, RCPT, MAIL, DATA + HEADER + b".\r\n"])
def test_refusal_outside_of_a_body_is_a_mistake_of_the_caller(wire: bytes) -> None:
    conn = in_body(wire)
    while not isinstance(conn.next_event(), Signal):
        pass
    with pytest.raises(LocalProtocolError, match="no body is being received"):
        conn.refuse_body(REFUSAL)


def test_refusal_at_once_needs_a_body_that_is_being_received() -> None:
    conn = in_body(RCPT + b"BDAT 5\r\nA: b\r")
    list(take_events(conn))
    with pytest.raises(LocalProtocolError, match="no body is being received"):
        conn.refuse_body(REFUSAL, at_once=True)


def test_octets_one_by_one_give_the_same_refusal() -> None:
    conn = in_body(DATA)
    for octet in bytewise(HEADER + BODY + b".\r\nNOOP\r\n"):
        conn.receive_data(octet)
        for event in take_events(conn):
            if isinstance(event, HeaderEnd):
                conn.refuse_body(REFUSAL)
            assert not isinstance(event, DataEnd)
    assert conn.data_to_send().startswith(b"550 5.7.1 No such subject\r\n250")


def test_refusal_while_a_part_is_fetched_answers_burl() -> None:
    config = replace(CHUNKS, burl=("imap",), disabled=CHUNKS.disabled - {"BURL"})
    conn = in_body(RCPT, config)
    conn.receive_data(b"BURL imap://u@s.example/1 LAST\r\n")
    assert isinstance(conn.next_event(), Burl)
    conn.receive_part(HEADER + BODY)
    assert conn.next_event() == DataChunk(HEADER)
    assert conn.next_event() == HeaderEnd(HEADER)
    conn.refuse_body(REFUSAL)

    assert conn.next_event() == InvalidData(REFUSAL, "program")
    conn.send(REFUSAL)
    assert conn.state is State.READY
