"""Bodies in chunks: BDAT and BODY=BINARYMIME (RFC 3030)."""

from typing import Any

import pytest

from smtpcore import (
    BareNewlines,
    Bdat,
    Bodies,
    BodyAborted,
    ChunkEnd,
    Connection,
    ConnectionClosed,
    DataEnd,
    DataLine,
    Event,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    Noop,
    RemoteProtocolError,
    Reply,
    Signal,
    State,
    Transaction,
    Wait,
)

from ..helpers import body, bytewise, pieces
from ..playbook import GREETED, HELO, MAIL, RCPT, READY, Answer, answer_with, server

FROM = b"MAIL FROM:<a@c.example>\r\n"
TO = b"RCPT TO:<u@s.example>\r\n"
BINARY = READY + b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n" + TO
EVERY_OCTET = bytes(range(256))

forms = pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
modes = pytest.mark.parametrize("mode", BareNewlines, ids=lambda mode: mode.name)


def bdat(data: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(data), b" LAST" if last else b"", data)


ROWS: list[tuple[str, bytes, bytes, list[int]]] = [
    ("R3030-2-01", RCPT, bdat(b"abc", last=True), [250]),
    ("R3030-2-02", RCPT, b"bdat 3 last\r\nabc", [250]),
    ("R3030-2-02: zeros", RCPT, b"BDAT 00000000000000000003 LAST\r\nabc", [250]),
    ("R3030-2-02: trailing space", RCPT, b"BDAT 3 LAST \r\nabc", [250]),
    ("R3030-2-02: FOO", RCPT, b"BDAT 3 FOO\r\nabc", [501]),
    ("R3030-2-02: LAST and more", RCPT, b"BDAT 6 LAST x\r\nRSET\r\n" + bdat(b"", last=True), [501, 250]),
    ("R3030-2-03", RCPT, b"DATA\r\nx\r\n.\r\n", [354, 250]),
    ("R3030-2-04", RCPT, b"BDAT 5 LAST\r\n.\r\n\r\nNOOP\r\n", [250, 250]),
    ("R3030-2-06", RCPT, bdat(b"abcd") * 3, [250] * 3),
    ("R3030-2-07", RCPT, bdat(b"abc") + bdat(b"", last=True), [250, 250]),
    ("R3030-2-07: only an empty chunk", RCPT, bdat(b"", last=True), [250]),
    ("R3030-2-07: empty chunks", RCPT, bdat(b"") * 3 + bdat(b"", last=True), [250] * 4),
    ("R3030-2-08", RCPT, bdat(b"a", last=True) + bdat(b"b"), [250, 503]),
    ("R3030-2-08: LAST twice", RCPT, bdat(b"a", last=True) + bdat(b"RSET\r\n", last=True), [250, 503]),
    ("R3030-2-10: no transaction", READY, b"BDAT 6\r\nRSET\r\nNOOP\r\n", [503, 250]),
    ("R3030-2-10: before EHLO", GREETED, b"BDAT 6\r\nRSET\r\nNOOP\r\n", [503, 250]),
    ("R3030-2-14", RCPT, bdat(b"abc") + b"RSET\r\n" + bdat(b"", last=True), [250, 250, 503]),
    ("R3030-2-14: EHLO", RCPT, bdat(b"abc") + READY + bdat(b"", last=True), [250, 250, 503]),
    ("R3030-2-15", RCPT, bdat(b"abc") + b"DATA\r\n" + bdat(b"d", last=True), [250, 503, 250]),
    ("R3030-2-16", RCPT, b"DATA\r\nx\r\n.\r\n" + FROM + TO + bdat(b"x", last=True) + FROM, [354] + [250] * 5),
    ("R3030-2-18", RCPT, b"BDAT 2\r\nab\x00\xff\xfe garbage\r\nNOOP\r\n", [250, 500, 250]),
    ("R3030-2-19", MAIL, bdat(b"RSET\r\n", last=True) + TO, [554, 250]),
    (
        "other commands between chunks",
        RCPT,
        bdat(b"a") + b"NOOP\r\nVRFY x\r\nHELP\r\n" + bdat(b"b", last=True),
        [250, 250, 252, 214, 250],
    ),
    ("MAIL and RCPT between chunks", RCPT, bdat(b"a") + FROM + TO + bdat(b"b", last=True), [250, 503, 503, 250]),
    ("pipelined", READY, FROM + TO + TO + bdat(b"a") + bdat(b"b", last=True) + FROM, [250] * 6),
    ("R3030-3-02", READY, b"MAIL FROM:<> BODY=BINARYMIME\r\n", [250]),
    ("R3030-3-02: mixed case", READY, b"MAIL FROM:<> body=binaryMIME\r\n", [250]),
    ("R3030-3-05", BINARY, b"DATA\r\n" + bdat(b"\n", last=True), [503, 250]),
    ("R3030-3-07", RCPT, bdat(b"Content-Transfer-Encoding: binary\r\n\r\n\x00", last=True), [250]),
]


@pytest.mark.parametrize(("before", "data", "expected"), [pytest.param(*row, id=name) for name, *row in ROWS])
@forms
def test_bdat_replies_follow_rfc_3030(before: bytes, data: bytes, expected: list[int], form: Bodies) -> None:
    assert server(before, bodies=form).send(data).codes == expected


# Events and bodies


def state_and_transaction(conn: Connection) -> tuple[State, Transaction | None]:
    return conn.state, conn.transaction


def test_bdat_event_comes_before_the_octets_and_chunk_end_after_them() -> None:
    """R3030-2-06"""
    conn = server(RCPT).connection
    conn.receive_data(b"BDAT 4\r\nabc")

    assert conn.next_event() == Bdat(4)
    assert (conn.state, conn.waiting_for, conn.replies_owed) == (State.CHUNK, Wait.BODY, 0)
    assert conn.next_event() is Signal.NEED_DATA
    with pytest.raises(LocalProtocolError, match="no event needs a reply"):
        conn.send(Reply(250))
    conn.receive_data(b"d")
    assert conn.next_event() == ChunkEnd()
    assert conn.next_event() is Signal.NEED_REPLY
    assert (conn.waiting_for, conn.replies_owed) == (Wait.NOTHING, 1)
    conn.send(Reply(250))
    assert (conn.state, conn.waiting_for) == (State.CHUNKED, Wait.COMMAND)
    assert conn.transaction is not None

    conn.receive_data(b"BDAT 0 LAST\r\n")
    assert conn.next_event() == Bdat(0, last=True)
    assert conn.next_event() == DataLine(b"abcd")
    assert conn.next_event() == DataEnd()
    assert conn.state is State.LAST_CHUNK
    conn.send(Reply(250))
    assert state_and_transaction(conn) == (State.READY, None)


@forms
@modes
def test_chunks_are_neither_unstuffed_nor_searched_for_an_end_marker(form: Bodies, mode: BareNewlines) -> None:
    """R3030-2-04, R3030-2-05"""
    content = b"..a\r\n.\r\n.b\r\n\r\n.\r\nQUIT\r\n"

    events = server(RCPT, bodies=form, bare_newlines=mode).send(bdat(content, last=True) + b"NOOP\r\n").events
    assert body(events) == content
    assert events[-2:] == [DataEnd(), Noop()]


@forms
@modes
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_chunk_boundaries_do_not_affect_the_body(form: Bodies, mode: BareNewlines, size: int) -> None:
    content = b"\r\n.\r\na\r\n..\r\n\r\nbc\r\n"
    chunked = b"".join(map(bdat, pieces(content, size))) + bdat(b"", last=True)

    events = server(RCPT, bodies=form, bare_newlines=mode).send(chunked).events
    assert body(events) == content
    assert events[-1] == DataEnd()
    if form is Bodies.LINES:
        lines = [event.data for event in events if isinstance(event, DataLine)]
        assert lines == content.splitlines(keepends=True)


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"\r\n."])
def test_last_line_of_the_last_chunk_may_lack_crlf(rest: bytes) -> None:
    events = server(RCPT).send(bdat(b"a\r\nb" + rest, last=True)).events

    assert body(events) == b"a\r\nb" + rest
    assert events[1] == DataLine(b"a\r\n")


BARE = [b"a\rb", b"a\nb", b"\r", b"\n", b"a\r\r\n", b"\n\r\n", b"a\r\nb\r"]


@forms
@pytest.mark.parametrize("content", BARE)
@pytest.mark.parametrize("size", [1, 99])
@pytest.mark.parametrize("before", [RCPT, READY + b"MAIL FROM:<> BODY=8BITMIME\r\n" + TO])
def test_bare_newline_in_a_chunk_is_treated_as_in_data(form: Bodies, content: bytes, size: int, before: bytes) -> None:
    chunked = b"".join(map(bdat, pieces(content, size)[:-1])) + bdat(pieces(content, size)[-1], last=True)
    last_events: dict[BareNewlines, Event] = {}
    for mode in BareNewlines:
        events = server(before, bodies=form, bare_newlines=mode).send(chunked + b"RSET\r\n").events
        last_events[mode] = events[-2]
        if mode is BareNewlines.ACCEPT:
            assert body(events) == content
        if mode is BareNewlines.NORMALIZE:
            unified = content.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            assert body(events) == unified.replace(b"\n", b"\r\n")

    assert last_events[BareNewlines.ACCEPT] == last_events[BareNewlines.NORMALIZE] == DataEnd()
    refused = last_events[BareNewlines.REJECT]
    assert isinstance(refused, InvalidData | InvalidCommand)
    assert refused.reply.code in (550, 503)  # chunks after the failed chunk are out of sequence


def test_cr_at_the_end_of_a_chunk_waits_for_lf_in_the_next() -> None:
    events = server(RCPT).send(bdat(b"a\r") + bdat(b"\nb\r") + bdat(b"\n", last=True)).events
    assert [event for event in events if isinstance(event, DataLine)] == [DataLine(b"a\r\n"), DataLine(b"b\r\n")]
    assert events[-1] == DataEnd()

    server(RCPT).send(bdat(b"a\r", last=True)).expect(550)
    server(RCPT, max_text_line=1000).send(bdat(b"x" * 1001 + b"\r", last=True)).expect(554)
    server(RCPT).send(bdat(b"a\r") + bdat(b"b", last=True)).expect(250, 550)
    server(RCPT).send(bdat(b"a\r") + bdat(b"", last=True)).expect(250, 550)


# Binary


@forms
@modes
@pytest.mark.parametrize("size", [1, 16, 256])
def test_binary_body_keeps_every_octet(form: Bodies, mode: BareNewlines, size: int) -> None:
    """R3030-3-04"""
    content = EVERY_OCTET + b"\n.\r\n\r\r\n" + EVERY_OCTET[::-1] + b"\r"
    chunked = b"".join(map(bdat, pieces(content, size))) + bdat(b"", last=True)

    events = server(BINARY, bodies=form, bare_newlines=mode).send(chunked + b"NOOP\r\n").events
    assert body(events) == content
    assert events[-2:] == [DataEnd(), Noop()]


@forms
def test_binary_body_without_lines_is_returned_as_it_arrives(form: Bodies) -> None:
    book = server(BINARY, bodies=form, max_text_line=1000, max_message_size=None, cut=False)
    book.send(b"BDAT 100000 LAST\r\n").expect(Bdat)

    for number in range(1, 100):
        book.send(b"\x00" * 1000)
        assert len(body(book.events)) >= 1000 * (number - 1)
    assert book.state is State.LAST_CHUNK


@pytest.mark.parametrize("length", [999, 1000, 1001, 2000, 2001])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nx\r\n"])
def test_long_binary_line_is_returned_in_pieces(length: int, end: bytes) -> None:
    content = b"x" * length + end
    events = server(BINARY, max_text_line=1000).send(bdat(content, last=True)).events

    lines = [event.data for event in events if isinstance(event, DataLine)]
    assert b"".join(lines) == content
    first, _, _ = content.partition(b"\r\n")
    assert [line.removesuffix(b"\r\n") for line in lines][: len(pieces(first, 1000))] == pieces(first, 1000)


def test_crlf_of_a_maximum_binary_line_may_arrive_later() -> None:
    line = b"x" * 1000 + b"\r\n"
    book = server(BINARY, max_text_line=1000).send(bdat(line + b"y", last=True)[:-3], b"\r\n", b"y")

    book.expect(Bdat(1003, last=True), DataLine(line), DataLine(b"y"), DataEnd())


def test_binary_body_over_the_size_limit_is_refused() -> None:
    content = b"\n" * 65_537

    server(BINARY, max_message_size=65_536).send(bdat(content, last=True)).expect(552)


@pytest.mark.parametrize("disabled", [{"BINARYMIME"}, {"BINARYMIME", "CHUNKING"}], ids=len)
def test_binarymime_is_accepted_only_where_offered(disabled: set[str]) -> None:
    """R3030-3-01, R3030-3-02"""
    changes: dict[str, Any] = {"disabled": frozenset(disabled)}

    assert not any("BINARYMIME" in text for text in server(**changes).send(READY).replies)
    server(READY, **changes).send(b"MAIL FROM:<> BODY=BINARYMIME\r\n").expect(501)
    server(READY, **changes).send(b"MAIL FROM:<> BODY=8BITMIME\r\n").expect(250)


def test_binarymime_needs_chunking_and_both_are_announced_without_arguments() -> None:
    """R3030-2-01, R3030-3-01"""
    [text] = server().send(READY).replies
    assert {"250-CHUNKING", "250-BINARYMIME"} <= set(text.splitlines())

    with pytest.raises(LocalProtocolError, match="BINARYMIME needs CHUNKING"):
        server(disabled=frozenset({"CHUNKING"}))
    without = frozenset({"CHUNKING", "BINARYMIME"})
    assert "CHUNKING" not in server(disabled=without).send(READY).replies[0]
    server(RCPT, disabled=without).send(b"BDAT 0 LAST\r\n").expect(502)


def test_body_parameter_extends_the_line_limit_of_mail() -> None:
    """R3030-3-03"""
    start, end = b"MAIL FROM:<", b"@c.example> BODY=BINARYMIME\r\n"
    line = start + b'"' + b"x" * 60 + b'"' + end
    server(READY).send(line).expect(250)

    long = b"MAIL FROM:<a@c.example> BODY=BINARYMIME".ljust(512 + 16 - 2) + b"\r\n"
    server(READY).send(long).expect(250)


# Refused


@pytest.mark.parametrize(
    ("before", "line"),
    [(READY, b"BDAT 12\r\n"), (MAIL, b"BDAT 12 LAST\r\n"), (RCPT, b"BDAT 12 NOW\r\n"), (HELO, b"BDAT 12 LAST\r\n")],
)
def test_refused_chunk_is_discarded_before_its_reply(before: bytes, line: bytes) -> None:
    """R3030-2-10, R3030-2-20"""
    book = server(before)
    conn, known = book.connection, book.state

    for segment in (line, *bytewise(b"RSET\r\nQUIT\r")):
        book.send(segment).expect()
        assert (conn.waiting_for, conn.trailing_data) == (Wait.BODY, b"")
    book.send(b"\nNOOP\r\n").expect(InvalidCommand, "5...", Noop, 250)

    assert (conn.state, conn.waiting_for is Wait.BODY) == (known, False)


def test_replies_before_a_refused_chunk_are_flushed_before_its_octets() -> None:
    conn = server(READY).connection

    conn.receive_data(FROM + b"BDAT 100\r\nabc")
    events = [conn.next_event()]
    conn.send(Reply(250))
    assert not conn.must_flush
    events.append(conn.next_event())

    assert events[1] is Signal.NEED_DATA
    assert conn.must_flush


def test_end_of_stream_inside_a_refused_chunk_closes_the_connection() -> None:
    server(READY + b"BDAT 100\r\nabc").end().expect(ConnectionClosed())


def test_bdat_after_too_many_errors_is_refused_at_once() -> None:
    book = server(READY, max_errors=1).send(b"BLURB\r\nBDAT 100\r\n").expect(500, 421)

    assert book.state is State.CLOSED


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT",
        b"BDAT ",
        b"BDAT x",
        b"BDAT -1",
        b"BDAT +1",
        b"BDAT 1_0",
        b"BDAT 0x10 LAST",
        b"BDAT LAST",
        b"BDAT  3",
        b"BDAT 3\x00",
        b"BDAT \xd9\xa3",
        b"BDAT \xff",
        b"BDAT " + b"1" * 21,
        b"BDAT 3 " + b"x" * 600,
        b"BDAT 3\n",
    ],
)
@pytest.mark.parametrize("before", [READY, MAIL, RCPT, RCPT + b"BDAT 1\r\na"])
def test_bdat_with_an_invalid_size_closes_the_connection(before: bytes, line: bytes) -> None:
    """R3030-2-02"""
    aborted = [BodyAborted] * (b"BDAT" in before)
    book = server(before).send(line + b"\r\nNOOP\r\n").expect(InvalidCommand, 521, *aborted, ConnectionClosed)

    assert book.state is State.CLOSED


@pytest.mark.parametrize("code", [451, 452, 552, 554])
def test_after_a_failed_chunk_all_chunks_up_to_rset_are_refused(code: int) -> None:
    """R3030-2-12"""
    group = bdat(b"abc") + bdat(b"RSET\r\n") + bdat(b"", last=True) + TO + b"DATA\r\nNOOP\r\nRSET\r\n" + FROM
    answer: Answer = answer_with(ChunkEnd, Reply(code))

    book = server(RCPT, answer=answer).send(group)
    assert not any(isinstance(event, DataEnd) for event in book.events)
    book.expect(code, 503, 503, 503, 503, 250, 250, 250)


def test_reply_to_the_last_chunk_ends_the_transaction() -> None:
    server(RCPT, answer=answer_with(DataEnd, Reply(451))).send(bdat(b"a", last=True) + TO + FROM).expect(451, 503, 250)


# Limits


@forms
def test_size_limit_is_reported_after_the_chunk_that_exceeds_it(form: Bodies) -> None:
    """R3030-2-20, R1870-4-01"""
    line = b"x" * 998 + b"\r\n"
    book = server(RCPT, bodies=form, max_message_size=65_536, cut=False).send(bdat(line * 65)).expect(250)

    for part in pieces(b"BDAT 100000\r\n" + line * 99, 5000):
        book.send(part)
        assert len(book.connection.trailing_data) <= 1
        assert not any(isinstance(event, InvalidData) for event in book.events)
        assert book.output == b""
        book.skip()
    book.send(line + bdat(b"", last=True) + b"RSET\r\n")
    assert isinstance(book.events[0], InvalidData)
    book.expect(552, 503, 250)


def test_size_limit_counts_all_chunks() -> None:
    chunk = bdat(b"x\r\n" * 10_000)

    server(RCPT, max_message_size=65_536).send(chunk * 3 + bdat(b"", last=True)).expect(250, 250, 552, 503)


def test_line_limit_applies_across_chunks() -> None:
    server(RCPT, max_text_line=1000).send(bdat(b"x" * 600) * 2 + b"RSET\r\n").expect(250, 554, 250)


@forms
@pytest.mark.parametrize("part", [b"", b"abc", b"abc\r\n"])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_end_of_stream_inside_a_chunk_is_a_remote_error(part: bytes, last: bytes, form: Bodies) -> None:
    book = server(RCPT + b"BDAT 6%b\r\n" % last + part, bodies=form).end()

    book.expect(RemoteProtocolError("...closed inside a body"))
    assert book.state is State.CLOSED


@pytest.mark.parametrize("last", [True, False])
def test_end_of_stream_between_chunks_closes_the_connection(last: bool) -> None:
    book = server(RCPT).send(bdat(b"abc", last=last)).end()

    assert book.events[-1] == ConnectionClosed()
    assert DataEnd() in book.events or not last


def test_default_reply_accepts_chunks_but_no_message() -> None:
    conn = server(RCPT).connection

    assert conn.default_reply(ChunkEnd()).code == 250
    assert conn.default_reply(DataEnd()).code == 554
    with pytest.raises(LocalProtocolError, match="needs no reply"):
        conn.default_reply(Bdat(3))


def test_bdat_does_not_count_as_an_idle_command() -> None:
    data = (FROM + TO + bdat(b"a") * 5 + bdat(b"", last=True)) * 3

    assert set(server(READY, max_idle_commands=2).send(data).codes) == {250}


def test_bdat_is_encoded_with_size_and_last() -> None:
    assert (str(Bdat(3)), str(Bdat(0, last=True))) == ("BDAT 3", "BDAT 0 LAST")
    with pytest.raises(LocalProtocolError, match="cannot have -1 octets"):
        Bdat(-1)


def test_empty_chunks_count_as_idle_commands() -> None:
    server(RCPT, max_idle_commands=10).send(12 * b"BDAT 0\r\n").expect(*(9 * [250] + [421]))
