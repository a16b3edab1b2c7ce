"""The client's connection, with servers that follow the rules; `test_mischievous_server` has servers that do not."""

import pytest

from smtpcore import (
    NEED_TLS,
    Answered,
    Attributes,
    BareNewlines,
    Bdat,
    BodyType,
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
    Params,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Request,
    Rset,
    StartTls,
    State,
    Transaction,
    Wait,
    Xclient,
)

from ..playbook import GO_AHEAD, GREETING, HELLO, OK, client, mail, new_client, offer, rcpt


def test_client_sends_a_message() -> None:
    book = client("SIZE 1000", "8BITMIME")
    book.ask(mail(SIZE=10)).wire(b"MAIL FROM:<a@c.example> SIZE=10\r\n").send(OK)
    book.ask(rcpt()).wire(b"RCPT TO:<u@s.example>\r\n").send(OK)
    book.ask(Data()).wire(b"DATA\r\n").send(GO_AHEAD)
    assert [event.to for event in book.answered] == [mail(SIZE=10), rcpt(), Data()]
    book.expect(250, 250, 354)

    book.ask(DataChunk(b"Subject: x\r\n\r\n.dot\r\n"), DataEnd()).wire(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    book.send(b"250 2.0.0 Queued\r\n").expect(Answered(DataEnd(), Reply(250, "Queued", enhanced="2.0.0")))
    book.ask(Quit()).wire(b"QUIT\r\n").send(b"221 bye\r\n").expect(
        Answered(Quit(), Reply(221, "bye")), ConnectionClosed()
    )


def test_client_gets_the_greeting_and_the_reply_to_ehlo() -> None:
    book = new_client().send(GREETING).expect(Answered(ConnectionOpened(), Reply(220, "s.example ESMTP")))

    book.ask(HELLO).wire(b"EHLO c.example\r\n").send(offer("SIZE"))
    book.expect(Answered(HELLO, Reply(250, "s.example", "SIZE")))


def test_helo_may_follow_a_refused_ehlo() -> None:
    """R5321-2.2.1-03, R5321-2.2.1-04, R5321-3.2-02, R5321-4.1.1.1-04"""
    sent = b"250-s.example\r\n250 SIZE\r\n"
    book = new_client().send(GREETING).expect(220)
    book.ask(HELLO).wire(b"EHLO c.example\r\n").send(b"502 what?\r\n").expect(502)
    book.ask(Helo("c.example")).wire(b"HELO c.example\r\n").send(sent).expect(250)
    book.ask(mail()).wire(b"MAIL FROM:<a@c.example>\r\n").send(OK).ask(rcpt()).send(OK).ask(Data()).send(GO_AHEAD)

    book.expect(250, 250, 354)
    assert book.connection.helo == Helo("c.example")
    assert dict(book.connection.extensions) == {}


def test_client_may_send_nothing_before_the_greeting() -> None:
    """R5321-4.3.1-02"""
    book = new_client()

    assert not book.connection.may_send(HELLO)
    with pytest.raises(LocalProtocolError, match="take the reply to ConnectionOpened before you send EHLO"):
        book.connection.send(HELLO)
    assert book.connection.data_to_send() == b""
    assert book.connection.waiting_for is Wait.SERVER_GREETING


@pytest.mark.parametrize("code", [554, 450, 521])
def test_client_may_send_only_quit_after_a_refusing_greeting(code: int) -> None:
    book = new_client().send(b"%d no\r\n" % code)

    assert book.state is State.REFUSED
    assert not book.connection.may_send(HELLO)
    assert book.connection.may_send(Quit())


@pytest.mark.parametrize("code", [421])
def test_client_closes_on_421_instead_of_a_greeting(code: int) -> None:
    book = new_client().send(b"%d no\r\n" % code)

    book.expect(Answered(ConnectionOpened(), Reply(code, "no")), ConnectionClosed())


# Pipelining


def test_without_pipelining_each_command_waits_for_the_previous_reply() -> None:
    """R5321-4.3.1-01, R2920-3.1-01"""
    conn = client().connection
    conn.send(mail())

    assert not conn.may_send(rcpt())
    with pytest.raises(LocalProtocolError, match="take the reply to MAIL before you send RCPT"):
        conn.send(rcpt())
    assert conn.data_to_send() == b"MAIL FROM:<a@c.example>\r\n"


def test_with_pipelining_a_group_is_sent_at_once_up_to_data() -> None:
    """R2920-3.1-02, R2920-3.1-06, R2920-3.1-07"""
    book = client("PIPELINING").ask(mail(), rcpt(), rcpt("v@s.example"), Data())

    assert book.output.count(b"\r\n") == 4
    assert book.connection.replies_due == 4
    assert not book.connection.may_send(DataEnd())
    assert not book.connection.may_send(Noop())
    book.send(b"250-354 a\r\n250 b\r\n550 250 c\r\n250 550\r\n", GO_AHEAD)
    assert [(type(event.to), event.reply.code) for event in book.answered] == [
        (Mail, 250),
        (Rcpt, 550),
        (Rcpt, 250),
        (Data, 354),
    ]
    assert book.connection.transaction
    assert book.connection.transaction.recipients == [rcpt("v@s.example")]


def test_pipelined_group_may_start_with_the_end_of_a_body() -> None:
    book = client("PIPELINING", at=State.DATA)
    book.ask(DataLine(b"x\r\n"), DataEnd(), mail("b@c.example"), rcpt("v@s.example"), Data())

    book.wire(b"x\r\n.\r\nMAIL FROM:<b@c.example>\r\nRCPT TO:<v@s.example>\r\nDATA\r\n")
    book.send(b"554 no\r\n", OK, OK, GO_AHEAD).expect(554, 250, 250, 354)
    assert book.connection.transaction
    assert book.connection.transaction.mail == mail("b@c.example")
    assert book.state is State.DATA


def test_client_ends_an_empty_body_after_354_without_accepted_recipients() -> None:
    """R2920-3.1-05, R2920-3.1-08"""
    book = client("PIPELINING").ask(mail(), rcpt(), rcpt("v@s.example"), Data())
    book.send(OK, b"550 no\r\n550 no\r\n", GO_AHEAD).skip()

    assert not book.connection.may_send(DataChunk(b"x\r\n"))
    with pytest.raises(LocalProtocolError, match="no recipient was accepted"):
        book.connection.send(DataChunk(b"x\r\n"))
    book.ask(DataEnd()).wire(b".\r\n").send(b"554 no valid recipients\r\n").expect(554)
    assert book.state is State.READY


# Chunks


def test_chunks_are_sent_without_waiting_for_replies() -> None:
    book = client("PIPELINING", "CHUNKING", at=State.RCPT)
    book.ask(Bdat(3), DataChunk(b"a\r"), DataChunk(b"\n"), Bdat(2, last=True), DataChunk(b"b\n"[:1] + b"c"))

    book.wire(b"BDAT 3\r\na\r\nBDAT 2 LAST\r\nbc").send(OK, b"250 taken\r\n")
    assert [event.to for event in book.answered] == [ChunkEnd(), DataEnd()]
    assert book.state is State.READY


def test_open_chunk_allows_only_its_remaining_octets() -> None:
    conn = client("CHUNKING", at=State.RCPT).connection
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
    book = client("PIPELINING", "CHUNKING", at=State.RCPT).ask(*before)

    assert book.connection.may_send(request_) is fits


def test_empty_last_chunk_adds_nothing_to_the_last_line() -> None:
    book = client("CHUNKING", at=State.RCPT).ask(Bdat(1000), DataChunk(b"x" * 1000)).send(OK)
    book.ask(Bdat(0, last=True)).send(OK).expect(250, 250)


def test_bare_newline_in_a_chunk_is_refused_even_when_normalizing() -> None:
    book = client("PIPELINING", "CHUNKING", at=State.RCPT, bare_newlines=BareNewlines.NORMALIZE)
    book.ask(Bdat(3, last=True))

    assert not book.connection.may_send(DataChunk(b"a\nb"))
    assert book.connection.may_send(DataChunk(b"a\r\n"))


# TLS


def test_tls_discards_the_extensions_and_the_hello_of_the_client() -> None:
    """R3207-4.2-04, R3207-4.2-06, R3207-4-05, R3207-4-07"""
    book = client("STARTTLS", "PIPELINING").ask(StartTls())
    assert not book.connection.may_send(Noop())
    book.send(b"220 go\r\n")

    assert (book.state, book.connection.waiting_for) == (State.TLS, Wait.TLS)
    assert book.connection.next_event() is NEED_TLS
    assert book.start_tls().connection.tls
    assert (book.state, dict(book.connection.extensions), book.connection.helo) == (State.GREETED, {}, None)
    assert not book.connection.may_send(mail())
    assert book.connection.may_send(HELLO)


# LMTP


def test_lmtp_client_gets_a_reply_per_accepted_recipient() -> None:
    book = client("PIPELINING", lmtp=True)
    book.ask(mail(), rcpt("a@s.example"), rcpt("b@s.example"), rcpt("c@s.example"), Data())
    book.send(OK, OK, b"550 no\r\n", OK, GO_AHEAD).skip().ask(DataChunk(b"x"), DataEnd())
    assert book.connection.replies_due == 2

    book.send(b"250 a\r\n452 c\r\n")
    assert [(event.recipient, event.reply.code) for event in book.answered] == [
        (rcpt("a@s.example"), 250),
        (rcpt("c@s.example"), 452),
    ]
    assert book.state is State.READY


@pytest.mark.parametrize(("lmtp", "wrong"), [(True, HELLO), (True, Helo("c.example")), (False, Lhlo("c.example"))])
def test_client_hello_must_match_the_protocol(lmtp: bool, wrong: Request) -> None:
    conn = new_client(lmtp=lmtp).send(GREETING).connection

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
    client(at=State.DATA).ask(*map(DataChunk, chunks), DataEnd()).wire(wire)


@pytest.mark.parametrize("bare", [b"a\nb", b"a\rb", b"\n.\n", b"\r.\r", b"a\n\rb"])
def test_bare_newline_is_refused_or_normalized_by_the_client(bare: bytes) -> None:
    """R5321-2.3.8-03"""
    for policy in (BareNewlines.REJECT, BareNewlines.NORMALIZE):
        book = client(at=State.DATA, bare_newlines=policy)
        if policy is BareNewlines.REJECT:
            with pytest.raises(LocalProtocolError, match="bare CR or LF"):
                book.connection.send(DataChunk(bare + b"x"))
            assert book.connection.data_to_send() == b""
        else:
            book.ask(DataChunk(bare), DataEnd())
            assert b"\n" not in book.output.replace(b"\r\n", b"")
            assert book.output.count(b"\r\n.\r\n") == 1


def test_client_sends_a_null_sender() -> None:
    """R5321-3.6.3-01"""
    client().ask(Mail(Path(""))).wire(b"MAIL FROM:<>\r\n")


@pytest.mark.parametrize("chunks", [[b"x" * 998 + b"\r\n"], [b"x" * 500, b"x" * 498 + b"\r", b"\n"], [b"." * 998]])
def test_client_sends_lines_of_up_to_1000_octets(chunks: list[bytes]) -> None:
    book = client(at=State.DATA).ask(*map(DataChunk, chunks), DataEnd())

    assert book.output.endswith(b"\r\n.\r\n")


@pytest.mark.parametrize("chunks", [[b"x" * 999 + b"\r\n"], [b"x" * 500, b"x" * 600]])
def test_longer_line_is_refused_unless_the_limit_is_disabled(chunks: list[bytes]) -> None:
    *before, last = chunks
    book = client(at=State.DATA).ask(*map(DataChunk, before))
    with pytest.raises(LocalProtocolError, match="A line of the message exceeds 1000 octets"):
        book.connection.send(DataChunk(last))
    assert book.connection.data_to_send() == b""
    book.ask(DataLine(b"\r\n"), DataEnd())

    client(at=State.DATA, max_text_line=None).ask(*map(DataChunk, chunks), DataEnd())


def test_unterminated_last_line_counts_with_its_crlf() -> None:
    book = client(at=State.DATA).ask(DataChunk(b"x" * 999))

    assert not book.connection.may_send(DataEnd())


def test_cr_at_the_end_of_a_body_is_refused_or_normalized() -> None:
    book = client(at=State.DATA, bare_newlines=BareNewlines.REJECT).ask(DataChunk(b"x\r"))
    assert not book.connection.may_send(DataEnd())

    book = client(at=State.DATA, bare_newlines=BareNewlines.NORMALIZE).ask(DataChunk(b"x\r"))
    book.ask(DataEnd()).wire(b"x\r\n.\r\n")


def test_client_config_refuses_accept_for_bare_newlines() -> None:
    with pytest.raises(LocalProtocolError, match="bare_newlines cannot be ACCEPT"):
        ClientConfig(hostname="c.example", bare_newlines=BareNewlines.ACCEPT)


def test_client_tls_cannot_start_without_starttls_or_twice() -> None:
    conn = client().connection
    with pytest.raises(LocalProtocolError, match=r"TLS cannot start in State\.READY"):
        conn.tls_established()
    conn = client(tls=True).connection
    assert conn.tls
    with pytest.raises(LocalProtocolError, match="TLS cannot start"):
        conn.tls_established()


@pytest.mark.parametrize("body", [BodyType.EIGHT_BIT_MIME, "8BITMIME", "8bitmime"])
def test_body_type_may_be_given_as_text(body: object) -> None:
    book = client("8BITMIME").ask(Mail(Path("a@c.example"), Params({"BODY": body}))).send(b"250 ok\r\n")
    book.ask(Rcpt(Path("b@s.example"))).send(b"250 ok\r\n").ask(Data()).send(b"354 go\r\n")
    conn = book.connection
    conn.send(DataChunk(b"\xe9\r\n"))
    assert conn.data_to_send() == b"\xe9\r\n"


def test_binary_body_given_as_text_needs_bdat() -> None:
    binary = Mail(Path("a@c.example"), Params({"BODY": "BINARYMIME"}))
    book = client("BINARYMIME", "CHUNKING").ask(binary).send(b"250 ok\r\n")
    conn = book.ask(Rcpt(Path("b@s.example"))).send(b"250 ok\r\n").connection
    with pytest.raises(LocalProtocolError, match="must be sent with BDAT"):
        conn.send(Data())
    with pytest.raises(LocalProtocolError, match="needs CHUNKING"):
        client("BINARYMIME").connection.send(binary)


def test_failed_write_closes_the_client() -> None:
    conn = client().connection
    conn.send(mail())
    conn.send_failed()

    assert conn.data_to_send() == b""
    assert conn.state is State.CLOSED
    assert conn.replies_due == 0
    assert conn.next_event() == ConnectionClosed()


def test_accepted_xclient_returns_the_client_to_the_greeting() -> None:
    book = client("XCLIENT NAME", "PIPELINING").ask(Xclient(Attributes({"NAME": "spike.example"}))).send(GREETING)

    assert (book.state, dict(book.connection.extensions), book.connection.helo) == (State.GREETED, {}, None)


def test_trailing_data_has_the_octets_not_yet_parsed() -> None:
    book = new_client().send(b"220 s.exam")

    assert book.connection.trailing_data == b"220 s.exam"
    assert new_client().send(GREETING).connection.trailing_data == b""


def test_group_continues_with_a_second_transaction_after_a_refused_mail() -> None:
    book = client("PIPELINING").ask(mail(), rcpt(), Rset(), mail("b@c.example")).send(b"550 no\r\n")
    book.ask(rcpt()).send(b"503 no\r\n", OK, OK, OK).expect(550, 503, 250, 250, 250)
    assert book.state is State.RCPT


def test_end_of_stream_between_two_requests_closes_the_client() -> None:
    book = client().end().expect(ConnectionClosed())
    assert book.state is State.CLOSED


def test_pipelined_commands_after_a_refused_mail_are_out_of_sequence() -> None:
    book = client("PIPELINING").ask(mail(), rcpt())
    assert book.connection.may_send(Data())
    book.send(b"550 no\r\n")

    assert not book.connection.may_send(Data())
    assert book.connection.may_send(mail("b@c.example"))
    book.ask(mail("b@c.example")).send(b"503 no\r\n", OK).expect(550, 503, 250)
    assert book.connection.transaction == Transaction(mail("b@c.example"))


# Replies that no request has asked for


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("code", [400, 450, 521, 552])
def test_refusal_before_the_end_of_the_body_answers_the_body_and_closes_the_connection(lmtp: bool, code: int) -> None:
    book = client(at=State.DATA, lmtp=lmtp).ask(DataChunk(b"hi\r\n")).send(f"{code} no\r\n".encode())
    book.expect(Answered(DataEnd(), Reply.as_heard(code, "no")), ConnectionClosed)
    assert book.state is State.CLOSED


def test_refusal_between_two_chunks_answers_the_body_and_closes_the_connection() -> None:
    book = client("CHUNKING", at=State.RCPT).ask(Bdat(3), DataChunk(b"a\r\n")).send(OK).skip().send(b"552 no\r\n")
    book.expect(Answered(DataEnd(), Reply(552, "no")), ConnectionClosed)
    assert book.state is State.CLOSED


def test_reply_that_accepts_a_body_before_its_end_is_an_error() -> None:
    client(at=State.DATA).ask(DataChunk(b"hi\r\n")).send(OK).expect(
        RemoteProtocolError("the server sent 250 without ...")
    )


@pytest.mark.parametrize("at", [State.READY, State.MAIL, State.RCPT, State.DATA])
def test_unsolicited_221_closes_the_connection(at: State) -> None:
    book = (
        client(at=at)
        .send(b"221 idle for too long\r\n")
        .expect(Answered(None, Reply(221, "idle for too long")), ConnectionClosed)
    )
    assert book.state is State.CLOSED


def test_221_answers_only_quit() -> None:
    client().ask(Noop()).send(b"221 bye\r\n").expect(Answered(None, Reply(221, "bye")), ConnectionClosed)
    new_client().send(b"221 bye\r\n").expect(Answered(None, Reply(221, "bye")), ConnectionClosed)
    client().ask(Quit()).send(b"221 bye\r\n").expect(Answered(Quit(), Reply(221, "bye")), ConnectionClosed)


# Offers in unusual forms


@pytest.mark.parametrize(
    ("keywords", "offers"),
    [
        (["AUTH LOGIN PLAIN", "AUTH XOAUTH2"], {"AUTH": ("LOGIN", "PLAIN", "XOAUTH2")}),
        (["AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN"], {"AUTH": ("PLAIN", "LOGIN")}),
        (["AUTH=PLAIN LOGIN"], {"AUTH": ("PLAIN", "LOGIN")}),
        (["AUTH", "AUTH PLAIN", "AUTH !"], {"AUTH": ("PLAIN",)}),
        (["AUTH\tPLAIN"], {"AUTH": ("PLAIN",)}),
        (["AUTH"], {}),
        (["XCLIENT NAME", "XCLIENT ADDR NAME"], {"XCLIENT": ("NAME", "ADDR")}),
        (["SIZE 1000", "SIZE"], {"SIZE": None}),
        (["SIZE", "SIZE 1000"], {"SIZE": 1000}),
        (["8BITMIME", "8BITMIME what"], {"8BITMIME": True}),
        (["X-OWN a b", "X-OWN c"], {"X-OWN": "c"}),
    ],
)
def test_offers_of_a_repeated_keyword_and_of_the_old_form_are_kept(keywords: list[str], offers: object) -> None:
    assert client(*keywords).connection.extensions == offers


# Requests that have to wait


def test_request_must_wait_while_a_pending_reply_decides() -> None:
    conn = client("PIPELINING").connection
    for request in (mail(), rcpt(), Data()):
        assert not conn.must_wait(request)
        conn.send(request)

    assert conn.must_wait(Noop())
    assert not conn.may_send(Noop())


@pytest.mark.parametrize(
    ("replied", "request_", "why"),
    [
        (b"554 no service\r\n", HELLO, "EHLO cannot be sent in State.REFUSED"),
        (GREETING + offer(), mail(SIZE=10), "SIZE"),
        (GREETING + offer(), Data(), "DATA cannot be sent in State.READY"),
    ],
)
def test_request_that_can_never_be_sent_need_not_wait(replied: bytes, request_: Request, why: str) -> None:
    conn = new_client().connection
    assert conn.must_wait(request_)
    greeting, hello = replied.splitlines(keepends=True)[:1], replied.splitlines(keepends=True)[1:]
    conn.receive_data(b"".join(greeting))
    conn.next_event()
    if hello:
        conn.send(HELLO)
        conn.receive_data(b"".join(hello))
        conn.next_event()

    assert not conn.must_wait(request_)
    with pytest.raises(LocalProtocolError, match=why):
        conn.send(request_)


def test_request_inside_a_chunk_is_a_mistake_and_need_not_wait() -> None:
    conn = client("CHUNKING", at=State.RCPT).ask(Bdat(2)).connection

    assert not conn.must_wait(Noop())
    with pytest.raises(LocalProtocolError, match="2 octets of the chunk have to be sent first"):
        conn.send(Noop())
