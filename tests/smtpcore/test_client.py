"""The client's connection, against servers that follow the rules; `test_mischievous_server` has the others."""

from typing import Any

import pytest

from smtpcore import (
    PAUSED,
    Answered,
    Attributes,
    BareNewlines,
    Bdat,
    ChunkEnd,
    ClientConfig,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    Noop,
    Path,
    Quit,
    Rcpt,
    Reply,
    Request,
    Rset,
    StartTls,
    State,
    Transaction,
    Wait,
    Xclient,
)

from ..client_helpers import GREETING, HELLO, OK, Outcome, after_ehlo, mail, offer, play, play_both_ways, rcpt

GO_AHEAD = b"354 go on\r\n"


def test_client_sends_a_message() -> None:
    outcome = play_both_ways(
        *(GREETING, HELLO, offer("SIZE 1000", "8BITMIME")),
        *(mail(SIZE=10), OK, rcpt(), OK, Data(), GO_AHEAD),
        *((DataChunk(b"Subject: x\r\n\r\n.dot\r\n"), DataEnd()), b"250 2.0.0 Queued\r\n", Quit(), b"221 bye\r\n"),
    )

    assert outcome.sent == [
        b"EHLO c.example\r\n",
        b"MAIL FROM:<a@c.example> SIZE=10\r\n",
        b"RCPT TO:<u@s.example>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..dot\r\n.\r\n",
        b"QUIT\r\n",
    ]
    assert [event.to for event in outcome.answered] == [
        ConnectionOpened(),
        HELLO,
        mail(SIZE=10),
        rcpt(),
        Data(),
        DataEnd(),
        Quit(),
    ]
    assert outcome.answered[-2] == Answered(DataEnd(), Reply(250, "Queued", enhanced="2.0.0"))
    assert outcome.events[-1] == ConnectionClosed()


def test_helo_may_follow_a_refused_ehlo() -> None:
    """R5321-2.2.1-03, R5321-2.2.1-04, R5321-3.2-02, R5321-4.1.1.1-04"""
    sent = b"250-s.example\r\n250 SIZE\r\n"
    outcome = play_both_ways(
        GREETING, HELLO, b"502 what?\r\n", Helo("c.example"), sent, mail(), OK, rcpt(), OK, Data(), GO_AHEAD
    )

    assert outcome.sent[:3] == [b"EHLO c.example\r\n", b"HELO c.example\r\n", b"MAIL FROM:<a@c.example>\r\n"]
    assert outcome.conn.helo == Helo("c.example")
    assert dict(outcome.conn.extensions) == {}


def test_client_may_send_nothing_before_the_greeting() -> None:
    """R5321-4.3.1-02"""
    outcome = play()

    assert not outcome.conn.may_send(HELLO)
    with pytest.raises(LocalProtocolError, match="take the reply to ConnectionOpened before you send EHLO"):
        outcome.conn.send(HELLO)
    assert outcome.conn.data_to_send() == b""
    assert outcome.conn.waiting_for is Wait.SERVER_GREETING


@pytest.mark.parametrize("code", [554, 450, 521])
def test_client_may_send_only_quit_after_a_refusing_greeting(code: int) -> None:
    outcome = play_both_ways(b"%d no\r\n" % code)

    assert outcome.conn.state is State.REFUSED
    assert not outcome.conn.may_send(HELLO)
    assert outcome.conn.may_send(Quit())


@pytest.mark.parametrize("code", [421])
def test_client_closes_on_421_instead_of_a_greeting(code: int) -> None:
    outcome = play_both_ways(b"%d no\r\n" % code)

    assert outcome.events == [Answered(ConnectionOpened(), Reply(code, "no")), ConnectionClosed()]


# Pipelining


def test_without_pipelining_each_command_waits_for_the_previous_reply() -> None:
    """R5321-4.3.1-01, R2920-3.1-01"""
    conn = after_ehlo().conn
    conn.send(mail())

    assert not conn.may_send(rcpt())
    with pytest.raises(LocalProtocolError, match="take the reply to MAIL before you send RCPT"):
        conn.send(rcpt())
    assert conn.data_to_send() == b"MAIL FROM:<a@c.example>\r\n"


def test_with_pipelining_a_group_is_sent_at_once_up_to_data() -> None:
    """R2920-3.1-02, R2920-3.1-06, R2920-3.1-07"""
    outcome = after_ehlo("PIPELINING")
    outcome.send((mail(), rcpt(), rcpt("v@s.example"), Data()))

    assert outcome.sent[0].count(b"\r\n") == 4
    assert outcome.conn.replies_due == 4
    assert not outcome.conn.may_send(DataEnd())
    assert not outcome.conn.may_send(Noop())
    outcome.receive([b"250-354 a\r\n250 b\r\n550 250 c\r\n250 550\r\n", GO_AHEAD])
    assert [(type(event.to), event.reply.code) for event in outcome.answered] == [
        (Mail, 250),
        (Rcpt, 550),
        (Rcpt, 250),
        (Data, 354),
    ]
    assert outcome.conn.transaction
    assert outcome.conn.transaction.recipients == [rcpt("v@s.example")]


def test_pipelined_group_may_start_with_the_end_of_a_body() -> None:
    outcome = after_ehlo("PIPELINING")
    outcome.send((mail(), rcpt(), Data()))
    outcome.receive([OK, OK, GO_AHEAD])
    outcome.send((DataLine(b"x\r\n"), DataEnd(), mail("b@c.example"), rcpt("v@s.example"), Data()))

    assert outcome.sent[1] == (b"x\r\n.\r\nMAIL FROM:<b@c.example>\r\nRCPT TO:<v@s.example>\r\nDATA\r\n")
    outcome.receive([b"554 no\r\n", OK, OK, GO_AHEAD])
    assert outcome.conn.transaction
    assert outcome.conn.transaction.mail == mail("b@c.example")
    assert outcome.conn.state is State.DATA


def test_client_ends_an_empty_body_after_354_without_accepted_recipients() -> None:
    """R2920-3.1-05, R2920-3.1-08"""
    outcome = after_ehlo("PIPELINING")
    outcome.send((mail(), rcpt(), rcpt("v@s.example"), Data()))
    outcome.receive([OK, b"550 no\r\n550 no\r\n", GO_AHEAD])

    assert not outcome.conn.may_send(DataChunk(b"x\r\n"))
    with pytest.raises(LocalProtocolError, match="no recipient was accepted"):
        outcome.conn.send(DataChunk(b"x\r\n"))
    outcome.send(DataEnd())
    assert outcome.sent[-1] == b".\r\n"
    outcome.receive([b"554 no valid recipients\r\n"])
    assert outcome.conn.state is State.READY


# Chunks


def test_chunks_are_sent_without_waiting_for_replies() -> None:
    outcome = after_ehlo("PIPELINING", "CHUNKING")
    outcome.send((mail(), rcpt()))
    outcome.receive([OK, OK])
    outcome.send((Bdat(3), DataChunk(b"a\r"), DataChunk(b"\n"), Bdat(2, last=True), DataChunk(b"b\n"[:1] + b"c")))

    assert outcome.sent[-1] == b"BDAT 3\r\na\r\nBDAT 2 LAST\r\nbc"
    outcome.receive([OK, b"250 taken\r\n"])
    assert [event.to for event in outcome.answered[2:]] == [ChunkEnd(), DataEnd()]
    assert outcome.conn.state is State.READY


def test_open_chunk_allows_only_its_remaining_octets() -> None:
    conn = after_ehlo("CHUNKING").conn
    for request in (mail(), rcpt()):
        conn.send(request)
        conn.data_to_send()
        conn.receive_data(OK)
        conn.next_event()
    conn.send(Bdat(3, last=True))

    for refused in (DataChunk(b"abcd"), Rset(), Bdat(1), DataEnd()):
        assert not conn.may_send(refused)
    conn.send(DataChunk(b"abc"))
    assert not conn.may_send(DataChunk(b"d"))
    assert conn.data_to_send() == b"BDAT 3 LAST\r\nabc"


CHUNK_ENDING_IN_CR = (Bdat(2), DataChunk(b"a\r"))

ACROSS: list[tuple[str, tuple[Request, ...], Request, bool]] = [
    ("CR LF in two chunks", (*CHUNK_ENDING_IN_CR, Bdat(1, last=True)), DataChunk(b"\n"), True),
    ("CR LF in two pieces of the last", (Bdat(3, last=True), DataChunk(b"a\r")), DataChunk(b"\n"), True),
    ("CR LF with an empty chunk between", (*CHUNK_ENDING_IN_CR, Bdat(0), Bdat(1, last=True)), DataChunk(b"\n"), True),
    ("an empty chunk after a CR", CHUNK_ENDING_IN_CR, Bdat(0), True),
    ("a last chunk after a CR", CHUNK_ENDING_IN_CR, Bdat(1, last=True), True),
    ("an empty last chunk after a CR", CHUNK_ENDING_IN_CR, Bdat(0, last=True), False),
    ("a CR at the end", (Bdat(2, last=True),), DataChunk(b"a\r"), False),
    ("a CR without LF", (*CHUNK_ENDING_IN_CR, Bdat(1)), DataChunk(b"b"), False),
    ("a long line in two chunks", (Bdat(9), DataChunk(b"x" * 9), Bdat(989)), DataChunk(b"x" * 989), True),
    ("a line that is too long in two chunks", (Bdat(9), DataChunk(b"x" * 9), Bdat(992)), DataChunk(b"x" * 992), False),
]


@pytest.mark.parametrize(("before", "request_", "fits"), [row[1:] for row in ACROSS], ids=[row[0] for row in ACROSS])
def test_line_rules_apply_across_chunks(before: tuple[Request, ...], request_: Request, fits: bool) -> None:
    """R5321-2.3.8-01, R5321-4.5.3.1.6-01"""
    outcome = after_ehlo("PIPELINING", "CHUNKING")
    outcome.send((mail(), rcpt()))
    outcome.receive([OK, OK])
    outcome.send(before)

    assert outcome.conn.may_send(request_) is fits


def test_bare_newline_in_a_chunk_is_refused_even_when_normalizing() -> None:
    outcome = after_ehlo("PIPELINING", "CHUNKING", bare_newlines=BareNewlines.NORMALIZE)
    outcome.send((mail(), rcpt()))
    outcome.receive([OK, OK])
    outcome.send(Bdat(3, last=True))

    assert not outcome.conn.may_send(DataChunk(b"a\nb"))
    assert outcome.conn.may_send(DataChunk(b"a\r\n"))


# TLS


def test_tls_resets_what_the_client_knows_of_the_server() -> None:
    """R3207-4.2-04, R3207-4.2-06, R3207-4-05, R3207-4-07"""
    outcome = after_ehlo("STARTTLS", "PIPELINING")
    outcome.send(StartTls())
    assert not outcome.conn.may_send(Noop())
    outcome.receive([b"220 go\r\n"])

    assert (outcome.conn.state, outcome.conn.waiting_for) == (State.TLS, Wait.TLS)
    assert outcome.conn.next_event() is PAUSED
    outcome.conn.tls_established()
    assert outcome.conn.tls
    assert (outcome.conn.state, dict(outcome.conn.extensions), outcome.conn.helo) == (State.GREETED, {}, None)
    assert not outcome.conn.may_send(mail())
    assert outcome.conn.may_send(HELLO)


# LMTP


def test_lmtp_client_gets_a_reply_per_accepted_recipient() -> None:
    outcome = after_ehlo("PIPELINING", lmtp=True)
    outcome.send((mail(), rcpt("a@s.example"), rcpt("b@s.example"), rcpt("c@s.example"), Data()))
    outcome.receive([OK, OK, b"550 no\r\n", OK, GO_AHEAD])
    outcome.send((DataChunk(b"x"), DataEnd()))
    assert outcome.conn.replies_due == 2

    outcome.receive([b"250 a\r\n452 c\r\n"])
    assert [(event.recipient, event.reply.code) for event in outcome.answered[-2:]] == [
        (rcpt("a@s.example"), 250),
        (rcpt("c@s.example"), 452),
    ]
    assert outcome.conn.state is State.READY


@pytest.mark.parametrize(("lmtp", "wrong"), [(True, HELLO), (True, Helo("c.example")), (False, Lhlo("c.example"))])
def test_client_hello_must_match_the_protocol(lmtp: bool, wrong: Request) -> None:
    conn = play(GREETING, lmtp=lmtp).conn

    assert not conn.may_send(wrong)
    assert conn.may_send(conn.hello)


# Bodies


@pytest.mark.parametrize(
    ("chunks", "wire"),
    [
        ([], b".\r\n"),
        ([b"x\r\n"], b"x\r\n.\r\n"),
        ([b"x"], b"x\r\n.\r\n"),
        ([b".\r\n..a\r\n.b\r\n"], b"..\r\n...a\r\n..b\r\n.\r\n"),
        ([b"x\r", b"\n", b".", b"y\r\n", b".\r", b"\n"], b"x\r\n..y\r\n..\r\n.\r\n"),
        ([b"\r\n.\r\n"], b"\r\n..\r\n.\r\n"),
    ],
    ids=["empty", "R5321-4.1.1.4-06", "R5321-4.1.1.4-07", "R5321-4.5.2-01", "split lines", "end marker inside"],
)
def test_client_body_is_dot_stuffed_and_ended(chunks: list[bytes], wire: bytes) -> None:
    outcome = after_ehlo()
    for step in (mail(), rcpt(), Data()):
        outcome.send(step)
        outcome.receive([GO_AHEAD if step == Data() else OK])
    outcome.send((*map(DataChunk, chunks), DataEnd()))

    assert outcome.sent[-1] == wire


@pytest.mark.parametrize("bare", [b"a\nb", b"a\rb", b"\n.\n", b"\r.\r", b"a\n\rb"])
def test_bare_newline_is_refused_or_normalized_by_the_client(bare: bytes) -> None:
    """R5321-2.3.8-03"""
    for policy in (BareNewlines.REJECT, BareNewlines.NORMALIZE):
        outcome = after_ehlo(bare_newlines=policy)
        for step in (mail(), rcpt(), Data()):
            outcome.send(step)
            outcome.receive([GO_AHEAD if step == Data() else OK])
        if policy is BareNewlines.REJECT:
            with pytest.raises(LocalProtocolError, match="bare CR or LF"):
                outcome.conn.send(DataChunk(bare + b"x"))
            assert outcome.conn.data_to_send() == b""
        else:
            outcome.send((DataChunk(bare), DataEnd()))
            assert b"\n" not in outcome.sent[-1].replace(b"\r\n", b"")
            assert outcome.sent[-1].count(b"\r\n.\r\n") == 1


def test_client_sends_a_null_sender() -> None:
    """R5321-3.6.3-01"""
    outcome = after_ehlo()
    outcome.send(Mail(Path("")))

    assert outcome.sent == [b"MAIL FROM:<>\r\n"]


def in_data(**changes: Any) -> Outcome:
    outcome = after_ehlo(**changes)
    for step in (mail(), rcpt(), Data()):
        outcome.send(step)
        outcome.receive([GO_AHEAD if step == Data() else OK])
    return outcome


@pytest.mark.parametrize("chunks", [[b"x" * 998 + b"\r\n"], [b"x" * 500, b"x" * 498 + b"\r", b"\n"], [b"." * 998]])
def test_client_sends_lines_of_up_to_1000_octets(chunks: list[bytes]) -> None:
    outcome = in_data()
    outcome.send((*map(DataChunk, chunks), DataEnd()))

    assert outcome.sent[-1].endswith(b"\r\n.\r\n")


@pytest.mark.parametrize("chunks", [[b"x" * 999 + b"\r\n"], [b"x" * 500, b"x" * 600]])
def test_longer_line_is_refused_unless_the_limit_is_disabled(chunks: list[bytes]) -> None:
    *before, last = chunks
    outcome = in_data()
    outcome.send(tuple(map(DataChunk, before)))
    with pytest.raises(LocalProtocolError, match="A line of the message exceeds 1000 octets"):
        outcome.conn.send(DataChunk(last))
    assert outcome.conn.data_to_send() == b""
    outcome.send((DataLine(b"\r\n"), DataEnd()))

    in_data(max_text_line=None).send((*map(DataChunk, chunks), DataEnd()))


def test_unterminated_last_line_counts_with_its_crlf() -> None:
    outcome = in_data()
    outcome.send(DataChunk(b"x" * 999))

    assert not outcome.conn.may_send(DataEnd())


def test_cr_at_the_end_of_a_body_is_refused_or_normalized() -> None:
    assert not body_ending_in_cr(BareNewlines.REJECT).conn.may_send(DataEnd())
    outcome = body_ending_in_cr(BareNewlines.NORMALIZE)
    outcome.send(DataEnd())

    assert b"".join(outcome.sent[-2:]) == b"x\r\n.\r\n"


def body_ending_in_cr(policy: BareNewlines) -> Outcome:
    outcome = in_data(bare_newlines=policy)
    outcome.send(DataChunk(b"x\r"))
    return outcome


def test_client_config_refuses_accept_for_bare_newlines() -> None:
    with pytest.raises(LocalProtocolError, match="bare_newlines cannot be ACCEPT"):
        ClientConfig(hostname="c.example", bare_newlines=BareNewlines.ACCEPT)


def test_client_tls_cannot_start_without_starttls_or_twice() -> None:
    conn = after_ehlo().conn
    with pytest.raises(LocalProtocolError, match=r"TLS cannot start in State\.READY"):
        conn.tls_established()
    conn = after_ehlo(tls=True).conn
    assert conn.tls
    with pytest.raises(LocalProtocolError, match="TLS cannot start"):
        conn.tls_established()


def test_failed_write_closes_the_client() -> None:
    conn = after_ehlo().conn
    conn.send(mail())
    conn.send_failed()

    assert conn.data_to_send() == b""
    assert conn.state is State.CLOSED
    assert conn.replies_due == 0
    assert conn.next_event() == ConnectionClosed()


def test_accepted_xclient_returns_the_client_to_the_greeting() -> None:
    outcome = after_ehlo("XCLIENT NAME", "PIPELINING")
    outcome.send(Xclient(Attributes({"NAME": "spike.example"})))
    outcome.receive([b"220 s.example ESMTP\r\n"])

    assert (outcome.conn.state, dict(outcome.conn.extensions), outcome.conn.helo) == (State.GREETED, {}, None)


def test_trailing_data_has_the_octets_not_yet_parsed() -> None:
    outcome = play(b"220 s.exam")

    assert outcome.conn.trailing_data == b"220 s.exam"
    assert play(GREETING).conn.trailing_data == b""


def test_pipelined_commands_after_a_refused_mail_are_out_of_sequence() -> None:
    outcome = after_ehlo("PIPELINING")
    outcome.send((mail(), rcpt()))
    assert outcome.conn.may_send(Data())
    outcome.receive([b"550 no\r\n"])

    assert not outcome.conn.may_send(Data())
    assert outcome.conn.may_send(mail("b@c.example"))
    outcome.send(mail("b@c.example"))
    outcome.receive([b"503 no\r\n", OK])
    assert outcome.conn.transaction == Transaction(mail("b@c.example"))
