from typing import Any

import pytest

from smtpcore import (
    EXTENSIONS,
    NEED_DATA,
    NEED_REPLY,
    NEED_TLS,
    Attributes,
    Auth,
    AuthCancel,
    AuthResponse,
    BareNewlines,
    Bdat,
    Bodies,
    BodyAborted,
    Burl,
    Challenge,
    ChunkEnd,
    Command,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Etrn,
    Event,
    Expn,
    Extension,
    Helo,
    Help,
    InvalidCommand,
    InvalidData,
    Lhlo,
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Rset,
    Signal,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
    Wait,
    Xclient,
    Xforward,
)
from smtpcore._state import ALLOWED_REPLIES

from ..helpers import replies
from ..playbook import (
    CONFIG,
    DATA,
    GREETED,
    HELO,
    MAIL,
    RCPT,
    READY,
    accept,
    answer_with,
    new_server,
    server,
    take_events,
)

FROM = b"MAIL FROM:<a@c.example>\r\n"
TO = b"RCPT TO:<u@s.example>\r\n"


def connection_after(before: bytes, data: bytes, **changes: Any) -> tuple[Connection, Event | Signal]:
    """Return a connection that received `before` and then `data`, and the event that needs a reply."""
    conn = server(before, **changes).connection
    conn.receive_data(data)
    return conn, conn.next_event()


def observable(conn: Connection) -> dict[str, object]:
    names = ("state", "transaction", "helo", "tls", "waiting_for", "trailing_data", "must_flush")
    known = {name: getattr(conn, name) for name in names}
    transaction = conn.transaction
    return known | {"recipients": tuple(transaction.recipients) if transaction else None}


# Receiving


def test_new_connection_parses_nothing_before_the_greeting() -> None:
    conn = new_server().connection
    assert (conn.state, conn.config, conn.helo, conn.transaction, conn.tls) == (
        State.CONNECTED,
        CONFIG,
        None,
        None,
        False,
    )
    conn.receive_data(b"EHLO c.example\r\n")

    assert conn.next_event() == ConnectionOpened()
    assert conn.next_event() is NEED_REPLY
    conn.send(Reply(220))
    assert conn.next_event() == Ehlo("c.example")


def test_next_event_comes_only_after_the_pending_reply() -> None:
    conn, event = connection_after(READY, FROM + TO)
    assert event == Mail(Path("a@c.example"))

    assert conn.next_event() is NEED_REPLY
    assert conn.waiting_for is Wait.NOTHING
    assert conn.trailing_data == TO
    conn.send(Reply(250))
    assert conn.next_event() == Rcpt(Path("u@s.example"))
    conn.send(Reply(250))
    assert conn.next_event() is NEED_DATA
    assert conn.trailing_data == b""


def test_command_is_not_parsed_before_its_crlf() -> None:
    """R5321-2.4-05"""
    book = server(READY)
    for part in (b"NO", b"OP", b"\r"):
        book.send(part).expect()

    book.send(b"\n").expect(Noop(), "250 2.0.0 OK")


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
def test_lines_and_chunks_of_a_body_need_no_reply(form: Bodies) -> None:
    conn = server(DATA, bodies=form).connection
    conn.receive_data(b"a\r\nb\r\n.\r\n")

    events = []
    while not isinstance(event := conn.next_event(), Signal):
        events.append(event)

    assert event is NEED_REPLY
    assert events[:-1] == (
        [DataLine(b"a\r\n"), DataLine(b"b\r\n")] if form is Bodies.LINES else [DataChunk(b"a\r\nb\r\n")]
    )
    assert events[-1] == DataEnd()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_receive_data_copies_any_bytes_like_object(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    conn = server(READY).connection
    data = bytearray(b"NOOP\r\n")
    conn.receive_data(kind(data))
    data[:] = b"QUIT\r\n"

    assert conn.next_event() == Noop()


@pytest.mark.parametrize(
    ("before", "wait"),
    [
        (GREETED, Wait.GREETING),
        (READY, Wait.COMMAND),
        (MAIL, Wait.COMMAND),
        (RCPT, Wait.COMMAND),
        (DATA, Wait.BODY),
        (b"QUIT\r\n", Wait.NOTHING),
        (b"STARTTLS\r\n", Wait.TLS),
    ],
)
def test_waiting_for_follows_the_state(before: bytes, wait: Wait) -> None:
    assert server(before, starttls=True).connection.waiting_for is wait


# The end of the stream


@pytest.mark.parametrize("before", [GREETED, READY, MAIL, RCPT, READY + b"QU", b"NOOP\nx"])
def test_end_of_stream_closes_the_connection_like_quit(before: bytes) -> None:
    """R5321-4.1.1.5-05"""
    conn = server(before).end().expect(ConnectionClosed()).connection

    assert (conn.state, conn.transaction) == (State.CLOSED, None)
    assert conn.next_event() == ConnectionClosed()


def test_commands_before_the_end_of_stream_are_parsed() -> None:
    conn = server(READY).connection
    conn.receive_data(b"NOOP\r\nNOOP\r\n")
    conn.receive_data(b"")

    assert list(take_events(conn)) == [Noop(), Noop(), ConnectionClosed()]
    assert conn.data_to_send().count(b"250") == 2


def test_end_of_stream_before_the_greeting_is_reported_after_it() -> None:
    conn = new_server().connection
    conn.receive_data(b"")

    assert list(take_events(conn)) == [ConnectionOpened(), ConnectionClosed()]


def test_end_of_stream_during_the_handshake_closes_the_connection() -> None:
    conn = server(READY + b"STARTTLS\r\n", starttls=True).connection
    assert conn.next_event() is NEED_TLS
    conn.receive_data(b"")

    assert conn.next_event() == ConnectionClosed()


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
@pytest.mark.parametrize("part", [b"", b".", b"x", b"x\r\n", b"x\r\n.", b"x\r\n.\r", b"x\ny"])
def test_end_of_stream_inside_a_body_is_a_remote_error(part: bytes, form: Bodies) -> None:
    """R5321-4.1.1.10-04"""
    book = server(DATA + part, bodies=form).end().expect(RemoteProtocolError("...closed inside a body"))
    conn = book.connection

    assert (conn.state, conn.transaction) == (State.CLOSED, None)
    assert conn.next_event() == ConnectionClosed()


def test_data_after_the_end_of_the_session_is_ignored() -> None:
    for last in (b"QUIT\r\n", b""):
        conn = server(READY + last).connection if last else server(READY).end().connection
        conn.receive_data(b"NOOP\r\n")
        assert conn.next_event() == ConnectionClosed()
        assert conn.trailing_data == b""

    conn = server(READY).connection
    conn.receive_data(b"")
    conn.receive_data(b"NOOP\r\n")
    assert conn.next_event() == ConnectionClosed()


def test_commands_after_quit_are_never_parsed() -> None:
    book = server(READY).send(b"QUIT\r\nNOOP\r\n").expect(Quit, ConnectionClosed)

    assert book.connection.trailing_data == b"NOOP\r\n"


def test_failed_write_closes_the_connection() -> None:
    conn, _ = connection_after(RCPT, b"NOOP\r\nNOOP\r\n")
    conn.send(Reply(250))

    conn.send_failed()

    assert conn.data_to_send() == b""
    assert not conn.must_flush
    assert (conn.state, conn.transaction) == (State.CLOSED, None)
    assert conn.next_event() == ConnectionClosed()


# Sending


def test_send_returns_the_reply_as_sent() -> None:
    conn, _ = connection_after(GREETED, READY)

    reply = conn.send(Reply(250, "Hello"))

    assert reply.lines[:2] == ("s.example Hello", "PIPELINING")
    assert conn.data_to_send() == reply.encode()
    assert conn.data_to_send() == b""


@pytest.mark.parametrize(
    ("before", "data", "reply", "wire"),
    [
        (GREETED, HELO, Reply(250), b"250 s.example\r\n"),
        (GREETED, HELO, Reply(250, "s.example greets you", enhanced="2.0.0"), b"250 s.example greets you\r\n"),
        (GREETED, HELO, Reply(550, "No", enhanced="5.7.1"), b"550 No\r\n"),
        (GREETED, READY, Reply(421, "Full"), b"421 s.example Full\r\n"),
        (GREETED, b"EHLO\r\n", Reply(501, "Who?", enhanced="5.5.4"), b"501 Who?\r\n"),
        (READY, b"QUIT\r\n", Reply(221, "Bye"), b"221 2.0.0 s.example Bye\r\n"),
        (READY, b"QUIT\r\n", Reply(221, "s.example Bye"), b"221 2.0.0 s.example Bye\r\n"),
        (READY, b"QUIT\r\n", Reply(221, "a", "b"), b"221-2.0.0 s.example a\r\n221 2.0.0 b\r\n"),
        (READY, b"NOOP\r\n", Reply(421), b"421 4.0.0 s.example\r\n"),
        (READY, FROM, Reply(250, "Fine"), b"250 2.0.0 Fine\r\n"),
        (READY, FROM, Reply(250, "Fine", enhanced="2.1.0"), b"250 2.1.0 Fine\r\n"),
        (READY, FROM, Reply(200), b"200 2.0.0 \r\n"),
        (READY, FROM, Reply(400), b"400 4.0.0 \r\n"),
        (READY, FROM, Reply(402), b"402 4.0.0 \r\n"),
        (READY, FROM, Reply(450), b"450 4.0.0 \r\n"),
        (READY, FROM, Reply(501, "a", "b"), b"501-5.5.4 a\r\n501 5.5.4 b\r\n"),
        (READY, FROM, Reply(502), b"502 5.5.1 \r\n"),
        (RCPT, b"DATA\r\n", Reply(354, "Go on"), b"354 Go on\r\n"),
        (RCPT, b"DATA\r\n", Reply(503), b"503 5.5.1 \r\n"),
    ],
)
def test_reply_is_completed_with_hostname_and_status_code(
    before: bytes, data: bytes, reply: Reply, wire: bytes
) -> None:
    """R2034-3-02, R5321-4.2.2-01"""
    conn, _ = connection_after(before, data)
    conn.send(reply)

    assert conn.data_to_send() == wire


def test_replies_have_no_status_code_without_the_extension() -> None:
    conn, _ = connection_after(READY, FROM, disabled=frozenset({"ENHANCEDSTATUSCODES"}))
    conn.send(Reply(250, "Fine", enhanced="2.1.0"))

    assert conn.data_to_send() == b"250 Fine\r\n"


@pytest.mark.parametrize("before", [GREETED, READY, MAIL, RCPT, DATA, DATA + b"x\r\n"])
@pytest.mark.parametrize("data", [b"", b"NOOP\r\n", b".\r\n"])
def test_reply_421_may_be_sent_at_any_time(before: bytes, data: bytes) -> None:
    """R5321-3.8-03, R5321-3.8-04"""
    conn = server(before).connection
    if data:
        conn.receive_data(data)
        conn.next_event()

    conn.send(Reply(421, "Shutting down", enhanced="4.3.2"))

    assert conn.data_to_send() == b"421 4.3.2 s.example Shutting down\r\n"
    assert (conn.state, conn.transaction) == (State.CLOSED, None)
    has_body = before.startswith(DATA) and (before, data) != (DATA, b".\r\n")
    assert list(take_events(conn)) == [*[BodyAborted()] * has_body, ConnectionClosed()]


@pytest.mark.parametrize("asked", [False, True])
def test_reply_421_instead_of_the_greeting_has_no_status_code(asked: bool) -> None:
    """R2034-3-02"""
    conn = new_server().connection
    if asked:
        conn.next_event()
    conn.send(Reply(421, enhanced="4.3.2"))

    assert conn.data_to_send() == b"421 s.example\r\n"
    assert conn.state is State.CLOSED


# Refused replies


@pytest.mark.parametrize(
    ("before", "data", "reply", "why"),
    [
        (READY, b"", Reply(250), "no event needs a reply"),
        (DATA, b"x\r\n", Reply(250), "no event needs a reply"),
        (READY, FROM, Reply(354), "354 cannot answer Mail"),
        (RCPT, b"DATA\r\n", Reply(250), "250 cannot answer Data"),
        (RCPT, b"DATA\r\n", Reply(334), "334 cannot answer Data: use 354"),
        (READY, b"STARTTLS\r\n", Reply(250), "250 cannot answer StartTls: use 220"),
        (READY, b"AUTH PLAIN\r\n", Reply(250), "250 cannot answer Auth: use 235 or 334, or refuse"),
        (READY, b"MAIL\r\n", Reply(250), "250 cannot answer InvalidCommand"),
        (DATA, b"a\nb\r\n.\r\n", Reply(250), "250 cannot answer InvalidData"),
        (GREETED, READY, Reply(250, "Hello", "PIPELINING"), "give one line"),
        (READY, FROM, Reply(250, "\u00e9"), "has not permitted"),
        (READY, b"QUIT\r\n", Reply(221, "x" * 496), "exceeds"),
        (READY, b"QUIT\r\n", Reply(221, "\u00e9"), "has not permitted"),
        (b"QUIT\r\n", b"", Reply(421), "is over"),
        (b"STARTTLS\r\n", b"", Reply(220), "is over"),
        (b"STARTTLS\r\n", b"", Reply(421), "is over"),
    ],
)
def test_refused_reply_raises_and_changes_nothing(before: bytes, data: bytes, reply: Reply, why: str) -> None:
    conn = server(before, starttls=True, auth_mechanisms=("PLAIN",), plaintext_auth=True).connection
    if data:
        conn.receive_data(data)
        while isinstance(conn.next_event(), DataLine):
            pass
    known = observable(conn)

    with pytest.raises(LocalProtocolError, match=why):
        conn.send(reply)

    assert observable(conn) == known
    assert conn.data_to_send() == b""


def test_another_reply_can_be_sent_after_a_refused_reply() -> None:
    conn, event = connection_after(READY, FROM)
    with pytest.raises(LocalProtocolError):
        conn.send(Reply(354))

    conn.send(accept(conn, event))  # type: ignore[arg-type]
    assert conn.state is State.MAIL


@pytest.mark.parametrize("event", [Bdat(1), DataLine(b""), DataChunk(b""), ConnectionClosed()])
def test_default_reply_refuses_events_that_need_no_reply(event: Event) -> None:
    with pytest.raises(LocalProtocolError, match="needs no reply"):
        new_server().connection.default_reply(event)


def test_default_replies_accept_no_recipient_and_no_message() -> None:
    conn = new_server().connection

    assert conn.default_reply(Rcpt(Path("u@s.example"))).code == 550
    assert conn.default_reply(DataEnd()).code == 554
    assert conn.default_reply(InvalidData(Reply(552), "max_message_size")) == Reply(552)
    assert conn.default_reply(InvalidCommand(b"", Reply(501), "syntax")) == Reply(501)


EVENTS_THAT_NEED_A_REPLY: list[Event] = [
    ConnectionOpened(),
    Helo("c.example"),
    Ehlo("c.example"),
    Lhlo("c.example"),
    Auth("PLAIN"),
    AuthResponse(b""),
    AuthCancel(),
    Mail(Path("")),
    Rcpt(Path("u@s.example")),
    Data(),
    ChunkEnd(),
    DataEnd(),
    InvalidData(Reply(552), "max_message_size"),
    Rset(),
    Noop(),
    Quit(),
    Vrfy("x"),
    Expn("x"),
    Help(),
    StartTls(),
    Burl("imap://x/y"),
    Etrn("s.example"),
    Xclient(Attributes({"NAME": "x"})),
    Xforward(Attributes({"NAME": "x"})),
    UnknownCommand("XFOO", ""),
    InvalidCommand(b"", Reply(501), "syntax"),
]


def test_every_event_that_needs_a_reply_has_an_allowed_default() -> None:
    assert {type(event) for event in EVENTS_THAT_NEED_A_REPLY} == set(ALLOWED_REPLIES)
    for event in EVENTS_THAT_NEED_A_REPLY:
        assert new_server().connection.default_reply(event).reply_class in ALLOWED_REPLIES[type(event)]


def test_unknown_command_can_be_accepted() -> None:
    conn, event = connection_after(READY, b"XFOO a b\r\n")
    assert event == UnknownCommand("XFOO", "a b")
    assert conn.default_reply(event).code == 500

    conn.send(Reply(250, "Done"))
    assert conn.data_to_send() == b"250 2.0.0 Done\r\n"


# Flushing


@pytest.mark.parametrize(
    ("before", "data", "may_wait"),
    [
        (READY, FROM + b"NOOP\r\n", True),
        (MAIL, TO + b"NOOP\r\n", True),
        (READY, b"RSET\r\nNOOP\r\n", True),
        (READY, b"VRFY x\r\nNOOP\r\n", False),
        (READY, b"NOOP\r\nNOOP\r\n", False),
        (READY, b"BLURB\r\nNOOP\r\n", False),
        (READY, b"MAIL\r\nNOOP\r\n", False),
        (READY, READY + b"NOOP\r\n", False),
        (READY, b"QUIT\r\nNOOP\r\n", False),
        (RCPT, b"DATA\r\nx", False),
        (DATA, b".\r\nNOOP\r\n", False),
        (READY, FROM, False),
    ],
)
def test_only_replies_to_mail_rcpt_and_rset_may_wait(before: bytes, data: bytes, may_wait: bool) -> None:
    """R2920-3.2-02, R2920-3.2-05, R2920-3.2-06, R2920-3.2-07"""
    conn, event = connection_after(before, data)
    assert not conn.must_flush
    conn.send(accept(conn, event))  # type: ignore[arg-type]

    assert conn.must_flush is not may_wait


def test_replies_to_a_pipelined_group_are_flushed_together() -> None:
    """R2920-3.2-02"""
    conn = server(READY).connection
    conn.receive_data(FROM + TO + TO)
    flushes = []
    while not isinstance(event := conn.next_event(), Signal):
        conn.send(accept(conn, event))
        flushes.append(conn.must_flush)

    assert flushes == [False, False, True]
    assert conn.data_to_send().count(b"250 ") == 3
    assert not conn.must_flush


def test_later_replies_are_flushed_with_a_reply_that_must_be_flushed() -> None:
    conn, event = connection_after(READY, b"NOOP\r\n" + FROM + TO)
    conn.send(accept(conn, event))  # type: ignore[arg-type]
    conn.send(accept(conn, conn.next_event()))  # type: ignore[arg-type]

    assert conn.must_flush


def test_replies_are_flushed_before_waiting_for_the_rest_of_a_line() -> None:
    """R2920-3.2-07"""
    conn, event = connection_after(READY, FROM + b"RCPT TO")
    conn.send(accept(conn, event))  # type: ignore[arg-type]
    assert not conn.must_flush

    assert conn.next_event() is NEED_DATA
    assert observable(conn)["must_flush"]
    conn.data_to_send()

    conn.receive_data(b":<u@s.example>\r\nNOOP\r\n")
    conn.next_event()
    conn.send(Reply(250))
    assert not conn.must_flush


# TLS


def test_tls_may_start_before_the_greeting() -> None:
    """R3207-4.2-09"""
    for asked in (False, True):
        conn = new_server(starttls=True, implicit_tls=True).connection
        if asked:
            assert conn.next_event() is NEED_TLS
        conn.tls_established()
        assert (conn.tls, conn.state) == (True, State.CONNECTED)

        conn.receive_data(READY)
        assert list(take_events(conn))[-1] == Ehlo("c.example")
        output = conn.data_to_send()
        assert output.startswith(b"220 s.example ESMTP\r\n250-s.example\r\n")
        assert b"STARTTLS" not in output


@pytest.mark.parametrize("before", [GREETED, READY, RCPT, DATA, b"QUIT\r\n"])
def test_tls_cannot_start_without_starttls(before: bytes) -> None:
    conn = server(before, starttls=True).connection
    known = observable(conn)

    with pytest.raises(LocalProtocolError, match="use STARTTLS and its 220 first"):
        conn.tls_established()
    assert observable(conn) == known


@pytest.mark.parametrize("asked", [False, True])
def test_tls_cannot_start_before_the_greeting_without_implicit_tls(asked: bool) -> None:
    conn = new_server(starttls=True).connection
    if asked:
        conn.next_event()
    known = observable(conn)

    with pytest.raises(LocalProtocolError, match="use implicit_tls=True"):
        conn.tls_established()
    assert observable(conn) == known


def test_tls_cannot_start_twice() -> None:
    conn = new_server(implicit_tls=True).connection
    conn.tls_established()

    with pytest.raises(LocalProtocolError):
        conn.tls_established()


@pytest.mark.parametrize("answered", [False, True])
def test_plaintext_after_starttls_is_a_remote_error(answered: bool) -> None:
    """R3207-4.2-03"""
    conn, event = connection_after(READY, b"STARTTLS\r\n", starttls=True)
    assert event == StartTls()
    if answered:
        conn.send(Reply(220))

    with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
        conn.receive_data(b"MAIL FROM:<x@evil.example>\r\n")
    assert conn.state is State.CLOSED
    assert conn.next_event() == ConnectionClosed()
    assert conn.trailing_data == b""


def test_plaintext_before_implicit_tls_is_a_remote_error() -> None:
    conn = new_server(implicit_tls=True).connection
    with pytest.raises(RemoteProtocolError, match="before TLS"):
        conn.receive_data(b"EHLO evil.example\r\n")
    assert conn.state is State.CLOSED


def test_errors_before_tls_still_count() -> None:
    book = server(READY + b"BLURB\r\n" * 2 + b"STARTTLS\r\n", starttls=True, max_errors=2 + 1).start_tls()

    book.send(b"BLURB\r\nNOOP\r\n").expect(500, 421)


# Extensions


def test_smtputf8_needs_8bitmime() -> None:
    """R6531-3.1-03"""
    with pytest.raises(LocalProtocolError, match="SMTPUTF8 needs 8BITMIME"):
        new_server(disabled=frozenset({"8BITMIME"}))
    assert new_server(disabled=frozenset({"8BITMIME", "SMTPUTF8"})).state is State.CONNECTED


def test_custom_extension_is_announced_and_its_verb_is_an_event() -> None:
    own = Extension(keyword="XOWN", arguments=lambda config: "a b", verbs=frozenset({"XOWN"}))
    book = server(extensions=[*EXTENSIONS, own]).send(READY).expect("250-...\n250 XOWN a b")

    book.send(b"XOWN x\r\n").expect(UnknownCommand("XOWN", "x"))


@pytest.mark.parametrize("line", [Helo, Vrfy])
def test_extensions_have_no_effect_before_ehlo(line: type[Command]) -> None:
    commands = {Helo: HELO + b"MAIL FROM:<> SIZE=1\r\n", Vrfy: b"VRFY x SMTPUTF8=1\r\n"}

    assert server().send(commands[line]).replies[-1][:3] == {Helo: "555", Vrfy: "252"}[line]


def test_extension_for_tls_only_has_no_verb_before_tls() -> None:
    own = Extension(keyword="XOWN", verbs=frozenset({"XOWN"}), offered=lambda config, tls: tls)

    server(extensions=(*EXTENSIONS, own)).send(b"XOWN\r\n").expect(502)
    new_server(extensions=(*EXTENSIONS, own), implicit_tls=True).start_tls().send(b"XOWN\r\n").expect(220, 500)


def test_limits_of_a_command_line_and_of_a_sasl_response_are_independent() -> None:
    answer = answer_with(Auth, Challenge(b""))
    changes: dict[str, Any] = {"max_command_line": 20_000, "auth_mechanisms": ("LOGIN",), "plaintext_auth": True}
    book = server(READY, answer=answer, **changes).send(b"NOOP " + b"x" * 15_000 + b"\r\n").expect(250)
    book.send(b"AUTH LOGIN\r\n").expect(334).send(b"A" * 12_288 + b"\r\n").expect(500)


def test_refusal_of_a_body_follows_the_replies_that_are_still_queued() -> None:
    conn, _ = connection_after(RCPT, b"DATA\r\nx\r\n")
    conn.data_to_send()
    conn.send(Reply(354, "go on"))
    conn.next_event()
    conn.refuse_body(Reply(550, "No"), at_once=True)

    assert [code for code, _ in replies(conn.data_to_send())] == [354, 550]


def test_longest_hostname_fits_into_every_reply() -> None:
    for data in (b"BLURB\r\nBLURB\r\n", b"NOOP\r\nNOOP\r\n", b"QUIT\r\n", READY, HELO):
        book = new_server(hostname="x" * 255, max_errors=1, max_idle_commands=1).send(data)
        assert max(map(len, book.output.split(b"\r\n"))) <= 510


def test_transaction_ends_with_the_reply_to_its_body() -> None:
    """R5321-4.1.1.4-10"""
    conn, event = connection_after(DATA, b".\r\n")
    assert event == DataEnd()
    assert observable(conn)["recipients"] == (Rcpt(Path("u@s.example")),)

    conn.send(Reply(451))
    assert observable(conn)["transaction"] is None


@pytest.mark.parametrize("command", [b"RSET\r\n", READY, HELO, b"QUIT\r\n"])
def test_transaction_ends_with_rset_hello_or_quit(command: bytes) -> None:
    """R5321-4.1.4-14"""
    conn, _ = connection_after(RCPT, command)
    assert observable(conn)["recipients"] == (Rcpt(Path("u@s.example")),)

    conn.send(Reply(250))
    assert observable(conn)["transaction"] is None


def test_refused_ehlo_keeps_the_transaction() -> None:
    """R5321-4.1.4-04"""
    conn, _ = connection_after(RCPT, b"EHLO other.example\r\n")
    transaction = conn.transaction
    conn.send(Reply(550))

    assert conn.transaction is transaction is not None
    assert conn.helo == Ehlo("c.example")


def test_data_may_be_refused() -> None:
    conn, event = connection_after(RCPT, b"DATA\r\n")
    assert event == Data()
    conn.send(Reply(451))

    assert conn.state is State.RCPT


def test_require_tls_has_no_effect_after_a_refusing_greeting() -> None:
    """R5321-3.1-04"""
    book = new_server(starttls=True, require_tls=True, answer=answer_with(ConnectionOpened, Reply(554, "No")))

    book.send(b"MAIL FROM:<a@c.example>\r\nQUIT\r\n").expect(554, 503, 221)


def test_refusal_that_closes_the_connection_can_be_replaced_only_by_another_closing_reply() -> None:
    # The octets after this BDAT may be a chunk, and would be read as commands.
    conn, event = connection_after(RCPT, b"BDAT many\r\nQUIT\r\n")
    assert isinstance(event, InvalidCommand)
    with pytest.raises(LocalProtocolError, match="has to end"):
        conn.send(Reply(501))

    conn.send(Reply(421))
    assert conn.next_event() == ConnectionClosed()


@pytest.mark.parametrize("mode", [BareNewlines.NORMALIZE, BareNewlines.ACCEPT])
def test_line_that_ends_in_a_bare_lf_has_a_deviation(mode: BareNewlines) -> None:
    book = server(RCPT, bare_newlines=mode, auth_mechanisms=("LOGIN",), plaintext_auth=True)
    events = book.send(b"NOOP\nX-Y\nRSET\r\nAUTH LOGIN\n*\nNOOP\r\nRCPT\n").events

    deviations = [event.deviations for event in events if isinstance(event, Command | UnknownCommand)]
    assert deviations == [("bare-lf",), ("bare-lf",), (), ("bare-lf",), ()]


# One call for each event

EVERYTHING = (
    b"EHLO c.example\r\nNOOP\r\nVRFY x\r\nXFOO\r\nMAIL FROM:<\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n"
    b"RCPT TO:<v@s.example>\r\nDATA\r\nx\r\n.\r\nRSET\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n"
    b"BDAT 3\r\nabcBDAT 0 LAST\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nDATA\r\na\nb\r\n.\r\n"
    b"AUTH PLAIN\r\nAUTH PLAIN AAAA\r\nQUIT\r\n"
)


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
@pytest.mark.parametrize("lmtp", [False, True])
def test_answer_takes_every_event(form: Bodies, lmtp: bool) -> None:
    conn = new_server(bodies=form, lmtp=lmtp, auth_mechanisms=("PLAIN",), plaintext_auth=True).connection
    conn.receive_data(EVERYTHING.replace(b"EHLO", b"LHLO") if lmtp else EVERYTHING)
    event: Event | Signal | None = None
    while event != ConnectionClosed():
        event = conn.next_event()
        assert not isinstance(event, Signal)
        conn.answer(event, *[Reply(250, "Yes")] * isinstance(event, Rcpt | DataEnd))

    ends = [250] * (1 + lmtp)
    assert [code for code, _ in replies(conn.data_to_send())] == [
        *(220, 250, 250, 252, 500, 501, 250, 250, 250, 354, *ends, 250),
        *(250, 250, 250, 250, 250, 250, 354, 550, 535, 535, 221),
    ]


def lmtp_at_the_end() -> tuple[Connection, Event]:
    conn = server(
        b"LHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nRCPT TO:<v@s.example>\r\nDATA\r\n",
        lmtp=True,
    ).connection
    conn.receive_data(b".\r\n")
    event = conn.next_event()
    assert isinstance(event, DataEnd)
    return conn, event


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], [554, 554]),
        ([Reply(250)], [250, 250]),
        ([Reply(250), Reply(450)], [250, 450]),
        ([Reply(421), Reply(250)], [421]),
    ],
)
def test_answer_gives_each_recipient_of_lmtp_a_reply(given: list[Reply], sent: list[int]) -> None:
    conn, event = lmtp_at_the_end()

    assert [reply.code for reply in conn.answer(event, *given)] == sent
    assert [code for code, _ in replies(conn.data_to_send())] == sent


@pytest.mark.parametrize("given", [[Reply(250)] * 3, [Reply(250), Reply(354)], [Reply(250), Reply(250, "a\nb")]])
def test_answer_sends_all_replies_or_none(given: list[Reply]) -> None:
    conn, event = lmtp_at_the_end()
    with pytest.raises(LocalProtocolError):
        conn.answer(event, *given)

    assert conn.data_to_send() == b""
    assert conn.replies_owed == 2


def test_end_of_an_lmtp_message_that_was_answered_once_needs_another_reply() -> None:
    conn, _ = lmtp_at_the_end()
    conn.send(Reply(250))

    assert conn.next_event() is NEED_REPLY


def test_answer_rejects_an_event_that_does_not_wait_for_a_reply() -> None:
    conn, event = connection_after(READY, b"NOOP\r\n")
    assert isinstance(event, Noop)
    conn.answer(event)
    for late, given in ((event, ()), (UnknownCommand("XFOO"), ()), (DataChunk(b""), (Reply(250),))):
        with pytest.raises(LocalProtocolError, match="does not wait for a reply"):
            conn.answer(late, *given)


# The end of a body

CHUNK = RCPT + b"BDAT 3\r\nabc"


@pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("before", "then", "end"),
    [
        (DATA, b"x\r\n.\r\n", [DataEnd]),
        (DATA, b"a\nb\r\n.\r\n", [InvalidData]),
        (DATA, b"", [BodyAborted, RemoteProtocolError]),
        (DATA, b"x\r\n", [BodyAborted, RemoteProtocolError]),
        (CHUNK, b"BDAT 0 LAST\r\n", [Bdat, DataEnd]),
        (CHUNK, b"BDAT 3 LAST\r\na\nbNOOP\r\n", [Bdat, InvalidData, Noop]),
        (CHUNK, b"BDAT 3\r\na\nbRSET\r\n", [Bdat, InvalidData, Rset]),
        (CHUNK, b"NOOP\r\nRSET\r\nNOOP\r\n", [Noop, Rset, BodyAborted, Noop]),
        (CHUNK, b"EHLO c.example\r\n", [Ehlo, BodyAborted]),
        (CHUNK, b"STARTTLS\r\n", [StartTls, BodyAborted]),
        (CHUNK, b"QUIT\r\n", [Quit, BodyAborted]),
        (CHUNK, b"BDAT x\r\n", [InvalidCommand, BodyAborted]),
        (CHUNK, b"", [BodyAborted]),
        (CHUNK, b"BDAT 3 LAST\r\n", [Bdat, BodyAborted, RemoteProtocolError]),
    ],
)
def test_each_body_has_one_end(form: Bodies, before: bytes, then: bytes, end: list[type]) -> None:
    book = server(before, starttls=True, bodies=form, cut=False)
    start = len(book.record)
    if then:
        book.send(then)
    if StartTls not in end:
        book.end()
    found = [type(item) for item in book.record[start:] if not isinstance(item, str | DataLine | DataChunk)]

    assert [kind for kind in found if kind is not ConnectionClosed] == end


def test_refused_chunk_aborts_the_body() -> None:
    conn = server(RCPT).connection
    conn.receive_data(b"BDAT 3\r\nab\rNOOP\r\n")
    assert (conn.next_event(), conn.next_event()) == (Bdat(3), ChunkEnd())
    conn.send(Reply(452))

    assert (conn.next_event(), conn.next_event()) == (BodyAborted(), Noop())


def test_body_kept_in_its_transaction_does_not_reach_the_next_message() -> None:
    conn = server(DATA, bodies=Bodies.CHUNKS).connection
    conn.receive_data(b"SECRET\r\nbare\nLF\r\n.\r\n" + RCPT[len(READY) :] + b"DATA\r\nsecond\r\n.\r\n")
    bodies = []
    while not isinstance(event := conn.next_event(), Signal):
        if isinstance(event, DataChunk) and conn.transaction:
            conn.transaction.body.append(event.data)
        if isinstance(event, DataEnd) and conn.transaction:
            bodies.append(b"".join(conn.transaction.body))
        conn.answer(event, *[Reply(250)] * isinstance(event, Rcpt | DataEnd))

    assert bodies == [b"second\r\n"]


# may_send


def test_may_send_agrees_with_send() -> None:
    for before, data in ((READY, b""), (READY, b"NOOP\r\n"), (RCPT, b"DATA\r\n"), (DATA, b".\r\n"), (DATA, b"")):
        for reply in (Reply(220), Reply(250), Reply(334), Reply(354), Reply(421), Reply(550), Reply(250, "a\nb")):
            conn, _ = connection_after(before, data)
            allowed, was = conn.may_send(reply), observable(conn)
            assert observable(conn) == was
            if allowed:
                conn.send(reply)
            else:
                with pytest.raises(LocalProtocolError):
                    conn.send(reply)


@pytest.mark.parametrize(
    ("code", "params", "reply", "priority", "submitter"),
    [
        (235, "MT-PRIORITY=3 AUTH=a@c.example", "250 2.1.0 Sender accepted", 3, Mailbox("a@c.example")),
        (235, "MT-PRIORITY=-3 AUTH=<>", "250 2.1.0 Sender accepted", -3, None),
        (235, "", "250 2.1.0 Sender accepted", 0, None),
        (535, "MT-PRIORITY=1 AUTH=a@c.example", "250 2.3.6 0 is the priority...", 0, None),
        (535, "MT-PRIORITY=0", "250 2.1.0 Sender accepted", 0, None),
        (535, "MT-PRIORITY=-3 AUTH=<>", "250 2.1.0 Sender accepted", -3, None),
    ],
)
def test_priority_and_submitter_count_only_after_authentication(
    code: int, params: str, reply: str, priority: int, submitter: Mailbox | None
) -> None:
    def answer(conn: Connection, event: Event) -> Reply:
        return Reply(code) if isinstance(event, Auth) else conn.default_reply(event)

    changes: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True, "disabled": frozenset()}
    book = server(READY, answer=answer, cut=False, **changes)
    book.send(b"AUTH PLAIN AAAA\r\n").expect(code)
    book.send(f"MAIL FROM:<a@c.example> {params}".strip().encode() + b"\r\n").expect(reply)

    transaction = book.connection.transaction
    assert transaction
    assert (transaction.priority, transaction.submitter) == (priority, submitter)
