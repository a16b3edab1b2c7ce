"""BURL: parts of a message from a URL (RFC 4468)."""

from typing import Any

import pytest

from smtpcore import (
    NEED_PART,
    NEED_REPLY,
    OFF_BY_DEFAULT,
    Bodies,
    BodyAborted,
    Burl,
    ChunkEnd,
    Connection,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    Noop,
    Reply,
    State,
    Wait,
)

from ...helpers import body, replies
from ...playbook import MAIL, RCPT, READY, accept, take_events
from .helpers import PART, URL, gateway


def test_burl_part_may_be_mixed_with_chunks() -> None:
    """R4468-3.2-01"""
    session = f"BURL {URL}\r\nBDAT 3\r\nabcburl {URL}\r\nBDAT 1 LAST\r\nd".encode()
    for bodies in Bodies:
        book = gateway(RCPT, bodies=bodies).send(session)
        assert body(book.events) == PART + b"abc" + PART + b"d"
        ends = [event for event in book.events if isinstance(event, ChunkEnd | DataEnd)]
        assert ends == [ChunkEnd()] * 3 + [DataEnd()]
        book.expect(250, 250, 250, 250)


def test_burl_last_ends_the_transaction_even_if_refused() -> None:
    """R4468-3.5-01"""
    again = b"MAIL FROM:<>\r\n"
    gateway(RCPT).send(f"BURL {URL} last\r\n".encode() + again).expect(250, 250)
    gateway(RCPT).send(b"BDAT 1\r\nx" + f"BURL {URL} LAST\r\n".encode() + again).expect(250, 250, 250)
    gateway(RCPT, answer=accept).send(f"BURL {URL} LAST\r\n".encode() + again).expect(554, 250)
    assert str(Burl(URL, last=True)) == f"BURL {URL} LAST"


def test_failed_burl_refuses_the_rest_of_the_message() -> None:
    """R4468-3.2-02"""
    session = f"BURL {URL}\r\nBURL {URL} LAST\r\nBDAT 4 LAST\r\nQUITRSET\r\n".encode()
    gateway(RCPT, answer=accept).send(session).expect(554, 503, 503, 250)


@pytest.mark.parametrize(
    ("before", "line", "code"),
    [
        (b"", f"BURL {URL} LAST", 503),
        (READY, f"BURL {URL} LAST", 503),
        pytest.param(MAIL, f"BURL {URL} LAST", 554, id="R4468-3.1-04, R4468-6-01"),
        (RCPT, "BURL", 501),
        (RCPT, f"BURL {URL} MORE", 501),
        (RCPT, f"BURL {URL} LAST LAST", 501),
        (RCPT, "BURL http://s.example/x LAST", 504),
    ],
)
def test_invalid_burl_is_refused(before: bytes, line: str, code: int) -> None:
    gateway(before).send(line.encode() + b"\r\n").expect(code)


def test_new_message_starts_without_the_rest_of_the_previous_message() -> None:
    book = gateway(RCPT).send(b"BDAT 3\r\na\nbRSET\r\nMAIL FROM:<>\r\nRCPT TO:<u@s.example>\r\n")
    assert not isinstance(book.events[-1], InvalidCommand)
    book = gateway(RCPT).send(b"BDAT 1\r\na" + READY + RCPT[len(READY) :] + b"BDAT 1 LAST\r\nb")
    assert [event.data for event in book.events if isinstance(event, DataLine)] == [b"b"]
    book.expect(250, 250, 250, 250, "250 2.6.0 Message taken")


@pytest.mark.parametrize(
    "changes", [{"disabled": OFF_BY_DEFAULT - {"BURL"} | {"8BITMIME", "SMTPUTF8"}}, {"lmtp": True}]
)
def test_burl_is_not_offered_without_8bitmime_or_in_lmtp(changes: dict[str, Any]) -> None:
    book = gateway(**changes).send(b"LHLO c.example\r\n" if "lmtp" in changes else READY)
    assert b"250 HELP" in book.output
    assert b"BURL" not in book.output


def test_burl_uri_must_be_visible_ascii() -> None:
    assert str(Burl("imap://x")) == "BURL imap://x"
    assert str(Burl("imap://x", last=True)) == "BURL imap://x LAST"
    for uri in ("", "a b", "imap://\u00e9", "imap://\x07"):
        with pytest.raises(LocalProtocolError, match="is not a URI"):
            Burl(uri)


# The part that BURL requests


def connection_after_burl(data: bytes, **changes: Any) -> Connection:
    conn = gateway(RCPT, **changes).connection
    conn.receive_data(data)
    assert isinstance(conn.next_event(), Burl)
    return conn


def test_burl_part_is_returned_as_it_arrives() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\nNOOP\r\n".encode(), bodies=Bodies.CHUNKS)
    assert (conn.next_event(), conn.waiting_for) == (NEED_PART, Wait.NOTHING)
    for data in (b"ab", b"c"):
        conn.receive_part(data)
        assert (conn.next_event(), conn.next_event()) == (DataChunk(data), NEED_PART)

    conn.receive_part(b"")
    assert (conn.next_event(), conn.next_event(), conn.replies_owed) == (DataEnd(), NEED_REPLY, 1)
    conn.send(Reply(250, "Taken"))
    assert (conn.next_event(), conn.transaction) == (Noop(), None)


@pytest.mark.parametrize(("last", "following"), [("", []), (" LAST", [DataLine(b"c")])])
def test_unterminated_line_of_a_burl_part_is_returned_at_the_end_of_the_message(
    last: str, following: list[Event]
) -> None:
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode())
    conn.receive_part(b"ab\r\nc")
    conn.receive_part(b"")

    assert list(take_events(conn)) == [DataLine(b"ab\r\n"), *following, DataEnd() if last else ChunkEnd()]


def test_burl_cannot_be_accepted_before_the_part_is_complete() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\n".encode())
    with pytest.raises(LocalProtocolError, match="receive_part"):
        conn.send(Reply(250, "Taken"))

    conn.receive_part(b"x\r\n")
    with pytest.raises(LocalProtocolError, match="receive_part"):
        conn.send(Reply(250, "Taken"))


@pytest.mark.parametrize(("last", "following"), [("", [503, 250]), (" LAST", [250, 554])])
def test_incomplete_burl_part_can_be_refused(last: str, following: list[int]) -> None:
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode())
    conn.receive_part(b"half a li")
    assert conn.next_event() is NEED_PART
    conn.send(Reply(451, "The line is dead"))
    with pytest.raises(LocalProtocolError, match="no part is expected"):
        conn.receive_part(b"ne\r\n")

    conn.receive_data(b"MAIL FROM:<>\r\nRSET\r\n" if not last else b"MAIL FROM:<>\r\nBDAT 0\r\n")
    assert list(take_events(conn))
    assert [code for code, _ in replies(conn.data_to_send())] == [451, *following]


def test_rest_of_an_incomplete_burl_part_does_not_reach_the_next_message() -> None:
    conn = connection_after_burl(f"BURL {URL} LAST\r\n".encode())
    conn.receive_part(b"x\r\nhalf a li")
    conn.receive_part(b"ne\r\n")
    conn.send(Reply(451, "The line is dead"))

    conn.receive_data(RCPT[len(READY) :] + f"BURL {URL} LAST\r\n".encode())
    while not isinstance(event := conn.next_event(), Burl):
        if event != BodyAborted():
            conn.send(accept(conn, event))  # type: ignore[arg-type]
    assert conn.next_event() is NEED_PART
    conn.receive_part(b"all\r\n")
    conn.receive_part(b"")
    assert list(take_events(conn)) == [DataLine(b"all\r\n"), DataEnd()]


@pytest.mark.parametrize(("data", "code"), [(b"x" * 70_000 + b"\r\n", 552), (b"a\nb\r\n", 550), (b"x" * 69_999, 554)])
@pytest.mark.parametrize("last", ["", " LAST"])
def test_burl_part_is_checked_like_any_body(data: bytes, code: int, last: str) -> None:
    changes = {"max_message_size": 65_536, "max_text_line": 100_000} if code == 552 else {}
    conn = connection_after_burl(f"BURL {URL}{last}\r\n".encode(), **changes)
    conn.receive_part(data)
    events = list(take_events(conn))
    assert isinstance(events[-1], InvalidData)
    with pytest.raises(LocalProtocolError, match="no part is expected"):
        conn.receive_part(b"more")

    assert conn.data_to_send().startswith(b"%d " % code)
    assert conn.state is (State.READY if last else State.CHUNK_REFUSED)


def test_burl_part_may_be_empty() -> None:
    conn = connection_after_burl(f"BURL {URL}\r\n".encode())
    conn.receive_part(b"")
    with pytest.raises(LocalProtocolError, match="no part is expected"):
        conn.receive_part(b"x")
    assert list(take_events(conn)) == [ChunkEnd()]


def test_empty_burl_parts_count_as_idle_commands() -> None:
    def fetch_nothing(conn: Connection, event: Event) -> Reply | None:
        if not isinstance(event, Burl):
            return accept(conn, event)
        conn.receive_part(b"")
        return None

    book = gateway(RCPT, answer=fetch_nothing, max_idle_commands=10).send(f"BURL {URL}\r\n".encode() * 20)
    book.expect(*[250] * 9, 421)


def test_receive_part_without_burl_is_refused() -> None:
    for before in (b"", READY, RCPT):
        with pytest.raises(LocalProtocolError, match="no part is expected"):
            gateway(before).connection.receive_part(b"x")
