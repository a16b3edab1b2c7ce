"""LMTP: LHLO, and a reply for each recipient (RFC 2033)."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    Config,
    Connection,
    DataEnd,
    Event,
    InvalidCommand,
    InvalidData,
    Lhlo,
    LocalProtocolError,
    Noop,
    Rcpt,
    Reply,
    Signal,
    State,
    Transaction,
)
from smtpcore import _rules as rules

from ..helpers import replies
from ..playbook import CONFIG, GREETED, accept, exchange, new_server, server

READY = b"LHLO c.example\r\n"
FROM = b"MAIL FROM:<a@c.example>\r\n"
MAIL = READY + FROM
ONE, BAD, TWO = (b"RCPT TO:<%b@s.example>\r\n" % name for name in (b"one", b"bad", b"two"))
RCPT = MAIL + ONE + BAD + TWO
MESSAGE = b"DATA\r\nx\r\n.\r\n"


def answer(conn: Connection, event: Event) -> Reply:
    """Accept all but one recipient, and name the recipient in each reply to the message."""
    if isinstance(event, Rcpt) and event.forward_path.local_part == "bad":
        return Reply(550)
    if isinstance(event, DataEnd) and conn.transaction:
        rcpt = conn.transaction.recipients[-conn.replies_owed]
        return Reply(250, f"for {rcpt.forward_path.local_part}")

    return accept(conn, event)


def pending_state_and_transaction(conn: Connection) -> tuple[int, State, Transaction | None]:
    return conn.replies_owed, conn.state, conn.transaction


def lmtp_codes(before: bytes, data: bytes, **changes: Any) -> list[int]:
    return server(before, answer=answer, lmtp=True, **changes).send(data).codes


@pytest.mark.parametrize(
    ("before", "data", "expected"),
    [
        pytest.param(GREETED, READY, [250], id="R2033-4.1-01"),
        pytest.param(MAIL, READY + b"DATA\r\n" + FROM, [250, 503, 250], id="R2033-4.1-01: second LHLO"),
        pytest.param(GREETED, b"EHLO c.example\r\nHELO c.example\r\n" + FROM, [500, 500, 503], id="R2033-4.1-02"),
        pytest.param(RCPT, b"EHLO c.example\r\n" + MESSAGE, [500, 354, 250, 250], id="R2033-4.1-03"),
        pytest.param(GREETED, b"LHLO\r\n", [501], id="LHLO without a domain"),
        pytest.param(MAIL, BAD + b"DATA\r\n", [550, 503], id="R2033-4.2-01"),
        pytest.param(READY, b"DATA\r\n", [503], id="R2033-4.2-01: no MAIL"),
        pytest.param(RCPT, MESSAGE + FROM, [354, 250, 250, 250], id="R2033-4.2-02"),
        pytest.param(MAIL + ONE + ONE, MESSAGE, [354, 250, 250], id="R2033-4.2-03"),
        pytest.param(RCPT, b"BDAT 3 LAST\r\nabc" + FROM, [250, 250, 250], id="R2033-4.3-01"),
        pytest.param(MAIL, BAD + b"BDAT 6 LAST\r\nQUIT\r\n", [550], id="R2033-4.3-02"),
        pytest.param(MAIL, b"BDAT 0 LAST\r\n" + ONE + FROM, [503, 250], id="R2033-4.3-02: the transaction is over"),
        pytest.param(MAIL, b"BDAT 6\r\nQUIT\r\n", [554], id="R2033-4.3-03: without recipients"),
        pytest.param(RCPT, b"BDAT 3\r\nabcBDAT 0\r\n", [250, 250], id="R2033-4.3-03"),
        pytest.param(RCPT, b"BDAT 3\r\nabcBDAT 0 LAST\r\n", [250, 250, 250], id="R2033-4.3-01: more chunks"),
        pytest.param(RCPT, b"DATA\r\na\nb\r\n.\r\n", [354, 550, 550], id="an invalid body"),
        pytest.param(RCPT, b"BDAT 3 LAST\r\na\nb", [550, 550], id="an invalid chunk"),
    ],
)
def test_lmtp_replies_follow_rfc_2033(before: bytes, data: bytes, expected: list[int]) -> None:
    assert lmtp_codes(before, data) == expected


def replies_of(conn: Connection, octets: bytes) -> int:
    conn.receive_data(octets)
    list(exchange(conn, answer))
    return len(replies(conn.data_to_send()))


LAST = (b"BDAT 2 LAST\r\n\r\n", b"BDAT 0 LAST\r\n")
LINES = (READY, FROM, ONE, BAD, b"BDAT 2\r\n\r\n", *LAST, b"DATA\r\n", b"RSET\r\n")


@pytest.mark.parametrize("first", LINES, ids=str)
def test_each_command_gets_a_reply_except_bdat_last_without_recipients(first: bytes) -> None:
    """R2033-4.2-01, R2033-4.3-01, R2033-4.3-02, R2033-4.3-03"""
    for second, third in product(LINES, LINES):
        conn = Connection(replace(CONFIG, lmtp=True))
        replies_of(conn, MAIL)
        for line in (first, second, third):
            transaction = conn.transaction
            is_silent = line in LAST and transaction is not None and not transaction.recipients
            count = replies_of(conn, line)
            assert (count == 0) is is_silent, (first, second, third)
            if conn.state is State.DATA:
                assert transaction
                count = len(transaction.recipients)
                assert replies_of(conn, b".\r\n") == count > 0


def test_bdat_without_recipients_is_refused_in_smtp() -> None:
    """R2033-4.3-02"""
    smtp = b"EHLO c.example\r\n" + FROM

    server(smtp).send(b"BDAT 6 LAST\r\nQUIT\r\n").expect(554)


def test_lhlo_is_refused_in_smtp() -> None:
    """R2033-4.1-04"""
    server().send(READY + FROM).expect(InvalidCommand, 500, InvalidCommand, 503)


def test_lhlo_is_an_event_and_is_answered_with_the_keywords() -> None:
    """R2033-4.1-01, R2033-5-02, R2033-5-03"""
    book = server(lmtp=True).send(READY)

    assert book.connection.helo == Lhlo("c.example")
    [hello, *keywords] = book.replies[0].splitlines()
    assert hello == "250-s.example"
    assert {"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"} <= {line[4:] for line in keywords}
    book.expect(Lhlo("c.example"))


def test_lmtp_needs_only_pipelining_and_enhancedstatuscodes() -> None:
    """R2033-5-02, R2033-5-03"""
    needed = [extension for extension in EXTENSIONS if extension.keyword in ("PIPELINING", "ENHANCEDSTATUSCODES")]
    config = Config(hostname="s.example", lmtp=True)

    assert Connection(config, extensions=needed).state is State.CONNECTED
    for one in needed:
        with pytest.raises(LocalProtocolError, match="LMTP needs PIPELINING and ENHANCEDSTATUSCODES"):
            Connection(config, extensions=[one])


def test_reply_to_the_wrong_hello_names_the_right_hello_without_a_status_code() -> None:
    """R2033-4.1-03"""
    server(lmtp=True).send(b"EHLO c.example\r\n").expect(str(rules.SPEAKS_LMTP.reply))
    server().send(READY).expect(str(rules.SPEAKS_SMTP.reply))
    assert "LHLO" in rules.SPEAKS_LMTP.reply.lines[0]
    assert "EHLO" in rules.SPEAKS_SMTP.reply.lines[0]
    assert rules.SPEAKS_LMTP.reply.enhanced is rules.SPEAKS_SMTP.reply.enhanced is None


@pytest.mark.parametrize("message", [MESSAGE, b"BDAT 3 LAST\r\nabc"], ids=["DATA", "BDAT"])
def test_lmtp_sends_a_reply_per_recipient_in_order(message: bytes) -> None:
    """R2033-4.2-02"""
    sent = server(RCPT, answer=answer, lmtp=True).send(message).replies

    assert sent[-2:] == ["250 2.0.0 for one", "250 2.0.0 for two"]


@pytest.mark.parametrize("message", [MESSAGE, b"BDAT 3 LAST\r\nabc"], ids=["DATA", "BDAT"])
def test_lmtp_replies_are_flushed_one_by_one_before_the_next_event(message: bytes) -> None:
    """R2033-4.2-04, R2033-4.2-05, R2033-5-04"""
    conn = server(RCPT, answer=answer, lmtp=True).connection
    conn.receive_data(message + b"NOOP\r\n")
    while not isinstance(event := conn.next_event(), DataEnd):
        if conn.replies_owed:
            assert not isinstance(event, Signal)
            conn.send(accept(conn, event))
    conn.data_to_send()

    assert conn.replies_owed == 2
    conn.send(Reply(250, "Stored", "safely"))
    assert conn.must_flush
    assert conn.data_to_send() == b"250-2.0.0 Stored\r\n250 2.0.0 safely\r\n"
    assert (conn.replies_owed, conn.next_event()) == (1, Signal.NEED_REPLY)
    assert conn.transaction is not None
    conn.send(Reply(452))
    assert pending_state_and_transaction(conn) == (0, State.READY, None)
    assert conn.next_event() == Noop()
    with pytest.raises(LocalProtocolError):
        conn.send(Reply(354))


def test_lmtp_replies_to_recipients_are_independent() -> None:
    for first, second in ((Reply(550), Reply(250)), (Reply(250), Reply(451))):
        conn = server(RCPT + b"DATA\r\n", answer=answer, lmtp=True).connection
        conn.receive_data(b".\r\n")
        assert conn.next_event() == DataEnd()
        for reply in (first, second):
            conn.send(reply)
        output = conn.data_to_send()
        assert [code for code, _ in replies(output)] == [first.code, second.code]
        assert conn.state is State.READY


def test_lmtp_421_replaces_all_remaining_replies() -> None:
    conn = server(RCPT + b"DATA\r\n", answer=answer, lmtp=True).connection
    conn.receive_data(b".\r\n")
    conn.next_event()
    conn.send(Reply(250))
    conn.send(Reply(421))

    assert (conn.state, conn.replies_owed) == (State.CLOSED, 0)


def test_invalid_body_is_refused_once_per_recipient() -> None:
    book = server(RCPT + b"DATA\r\n", answer=answer, lmtp=True).send(b"a\nb\r\n.\r\n")

    assert isinstance(book.events[-1], InvalidData)
    book.expect("550 5.6.0 ...", "550 5.6.0 ...")


@pytest.mark.parametrize("keyword", ["PIPELINING", "ENHANCEDSTATUSCODES"])
def test_lmtp_without_a_required_extension_is_refused(keyword: str) -> None:
    """R2033-5-02"""
    with pytest.raises(LocalProtocolError, match="LMTP needs PIPELINING and ENHANCEDSTATUSCODES"):
        new_server(lmtp=True, disabled=frozenset({keyword}))
    with pytest.raises(LocalProtocolError):
        Connection(replace(CONFIG, lmtp=True), extensions=[e for e in EXTENSIONS if e.keyword != keyword])
