"""A client against servers that break the rules: each ends in a documented error, within the limits."""

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpcore import (
    NEED_DATA,
    Answered,
    Auth,
    Bdat,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Noop,
    Quit,
    RemoteProtocolError,
    Reply,
    Request,
    Rset,
    StartTls,
    State,
)

from ..helpers import bytewise, octets_id
from ..playbook import (
    CLIENT,
    GO_AHEAD,
    GREETING,
    HELLO,
    OK,
    ClientPlaybook,
    client,
    mail,
    new_client,
    offer,
    rcpt,
    take_replies,
)

LIMITS: dict[str, Any] = {"max_reply_line": 512, "max_reply_lines": 10}

UNASKED = RemoteProtocolError("the server sent 250 without a request")
GROUP = (mail(), rcpt(), Data())


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "this is not SMTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "this is not SMTP"),
        (b"* OK IMAP4rev1\r\n", "this is not SMTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46" + b"\r\n", "this is not SMTP"),
        (b"\r\n", "this is not SMTP"),
        (b"22 ready\r\n", "this is not SMTP"),
        (b"2200 ready\r\n", "this is not SMTP"),
        (b"220ready\r\n", "this is not SMTP"),
        (b" 220 ready\r\n", "this is not SMTP"),
        (b"\xb2\xb2\xb0 ready\r\n", "this is not SMTP"),
        ("\u0662\u0662\u0660 ready\r\n".encode(), "this is not SMTP"),
        (b"600 ready\r\n", "this is not SMTP"),
        (b"99 ready\r\n", "this is not SMTP"),
        (b"199 ready\r\n", "this is not SMTP"),
        (b"334 prove it\r\n", "334 cannot answer ConnectionOpened"),
        (b"220-a\r\n250 b\r\n", "a reply changes its code from 220 to 250"),
        (b"220-a\r\n220-b\r\n221-c\r\n", "a reply changes its code from 220 to 221"),
        (b"220 a\r250 b\r\n", "a line of a reply has a bare CR or LF"),
        (b"220 a\n", "a line of a reply has a bare CR or LF"),
        (b"220 " + b"x" * 600, "a line of a reply is too long"),
        (b"220-x\r\n" * 11, "a reply has more than 10 lines"),
        (b"x" * 600, "a line of a reply is too long"),
    ],
    ids=lambda value: octets_id(value)[:40] if isinstance(value, bytes) else None,
)
def test_malformed_reply_is_a_remote_error(sent: bytes, error: str) -> None:
    """R5321-4.2-10"""
    book = new_client(**LIMITS).send(sent)

    book.expect(RemoteProtocolError(f"{error}..."))
    assert book.state is State.CLOSED
    assert book.connection.next_event() == ConnectionClosed()
    assert book.connection.data_to_send() == b""
    assert not book.connection.may_send(Quit())


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (mail(), b"354 go on\r\n"),
        (mail(), b"334 \r\n"),
        (Noop(), b"354 go on\r\n"),
        (Rset(), b"300 hm\r\n"),
        (StartTls(), b"354 go on\r\n"),
        (Quit(), b"334 eHh4\r\n"),
    ],
)
def test_reply_of_an_impossible_class_is_a_remote_error(asked: Request, sent: bytes) -> None:
    error = RemoteProtocolError(f"{sent[:3].decode()} cannot answer {getattr(asked, 'verb', '')}")

    client("STARTTLS").ask(asked).send(sent).expect(error)


def test_positive_reply_to_data_is_a_remote_error() -> None:
    client(at=State.RCPT).ask(Data()).send(OK).expect(RemoteProtocolError("250 cannot answer DATA"))


# Unsolicited replies


IDLE = {
    "GREETED": lambda: new_client().send(GREETING).skip(),
    "READY": client,
    "DATA": partial(client, at=State.DATA),
}
"""Clients that wait for no reply, by their state."""


@pytest.mark.parametrize("sent", [OK, b"220 again\r\n", b"550 no\r\n", b"250-a\r\n250 b\r\n", b"521 no\r\n"])
@pytest.mark.parametrize("idle", IDLE.values(), ids=IDLE)
def test_unsolicited_reply_is_a_remote_error(idle: Callable[[], ClientPlaybook], sent: bytes) -> None:
    if idle is IDLE["DATA"] and sent.startswith(b"5"):
        pytest.skip("a refusal in the middle of a body is the reply to the body")

    idle().send(sent).expect(RemoteProtocolError(f"the server sent {sent[:3].decode()} without a request"))


@pytest.mark.parametrize("idle", IDLE.values(), ids=IDLE)
def test_unsolicited_421_closes_the_connection_without_an_error(idle: Callable[[], ClientPlaybook]) -> None:
    book = idle().send(b"421 4.3.2 shutting down\r\n")

    book.expect(Answered(None, Reply(421, "shutting down", enhanced="4.3.2")), ConnectionClosed())


def test_reply_421_answers_the_oldest_pending_command_and_closes_the_connection() -> None:
    book = client("PIPELINING").ask(*GROUP).send(OK, b"421 enough\r\n")

    book.expect(Answered(mail(), Reply(250, "OK")), Answered(rcpt(), Reply(421, "enough")), ConnectionClosed())
    assert book.connection.replies_due == 0
    assert book.connection.transaction is None


def test_reply_received_before_its_command_was_sent_is_rejected() -> None:
    """A server that sends replies in advance could make any command seem accepted."""
    conn = new_client().connection
    conn.receive_data(GREETING + offer() + OK)
    assert isinstance(conn.next_event(), Answered)
    conn.send(HELLO)
    assert conn.data_to_send()

    with pytest.raises(RemoteProtocolError, match="the server sent 250 without a request"):
        conn.next_event()


def test_reply_may_come_before_the_command_was_taken_to_be_written() -> None:
    """A program may pass on the input before it takes the octets to write: this is no mistake of the server."""
    conn = new_client().send(GREETING).connection
    conn.send(HELLO)
    conn.receive_data(OK)

    assert conn.next_event() == Answered(HELLO, Reply(250, "OK"))


def test_more_replies_than_commands_are_a_remote_error() -> None:
    client("PIPELINING").ask(*GROUP[:2]).send(OK * 3).expect(250, 250, UNASKED)


def test_reply_before_the_end_of_a_body_is_a_remote_error() -> None:
    client(at=State.DATA).ask(DataChunk(b"x\r\n")).send(b"250 taken already\r\n").expect(UNASKED)


# Chunks


def client_in_chunk(size: int, *, last: bool) -> ClientPlaybook:
    """Return a client that has sent one octet of a chunk of `size` octets."""
    return client("PIPELINING", "CHUNKING", at=State.RCPT).ask(Bdat(size, last=last), DataChunk(b"x"))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_positive_reply_to_an_incomplete_chunk_is_a_remote_error(size: int, last: bool) -> None:
    error = RemoteProtocolError(f"250 cannot answer {'DataEnd' if last else 'ChunkEnd'}")

    client_in_chunk(size, last=last).send(b"250 taken\r\n").expect(error)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("early", "rest"), [(b"250 O", b"K\r\n"), (b"2", b"50 OK\r\n"), (b"250-a\r\n", OK), (OK, OK)])
def test_positive_reply_that_began_before_the_end_of_a_chunk_is_a_remote_error(
    early: bytes, rest: bytes, last: bool
) -> None:
    """A server that sends a reply too many would otherwise seem to have accepted the message."""
    conn = client_in_chunk(2, last=last).connection
    conn.receive_data(early)
    conn.send(DataChunk(b"y"))
    conn.receive_data(rest)

    with pytest.raises(RemoteProtocolError, match=f"250 cannot answer {'DataEnd' if last else 'ChunkEnd'}"):
        conn.next_event()
    assert conn.state is State.CLOSED


def test_refusal_that_began_before_the_end_of_a_chunk_is_its_reply() -> None:
    conn = client_in_chunk(2, last=True).connection
    conn.receive_data(b"45")
    conn.send(DataChunk(b"y"))
    conn.receive_data(b"2 full\r\n")

    assert conn.next_event() == Answered(DataEnd(), Reply(452, "full"))
    assert conn.may_send(Rset())


def test_replies_to_earlier_chunks_may_come_before_the_end_of_a_chunk() -> None:
    book = client("PIPELINING", "CHUNKING", at=State.RCPT).ask(Bdat(1), DataChunk(b"x"), Bdat(2, last=True))
    book.ask(DataChunk(b"y")).send(OK).expect(250).ask(DataChunk(b"z")).send(OK).expect(250)


@pytest.mark.parametrize("last", [False, True])
def test_chunk_that_is_refused_early_is_sent_completely(last: bool) -> None:
    """R3030-2-11, R3030-2-13: otherwise the server would parse the octets of the chunk as commands."""
    book = client_in_chunk(3, last=last).wire(b"BDAT 3%b\r\nx" % (b" LAST" * last))
    book.send(b"452 full\r\n").expect(452)

    assert not book.connection.may_send(Rset())
    assert not book.connection.may_send(DataChunk(b"abc"))
    book.ask(DataChunk(b"bc")).wire(b"bc")
    assert book.connection.may_send(Rset())
    assert not book.connection.may_send(Bdat(1))
    assert book.connection.may_send(Noop()) is last


def test_positive_reply_after_a_refused_chunk_is_a_remote_error() -> None:
    book = client_in_chunk(1, last=False).ask(Bdat(0, last=True))

    book.send(b"451 lost\r\n250 taken\r\n").expect(451, RemoteProtocolError("250 cannot answer DataEnd"))


def test_lmtp_last_chunk_after_a_refused_chunk_has_one_reply() -> None:
    book = client("PIPELINING", "CHUNKING", lmtp=True).ask(mail(), rcpt(), rcpt("v@s.example")).send(OK * 3)
    book.expect(250, 250, 250).ask(Bdat(0), Bdat(0, last=True))
    assert book.connection.replies_due == 3
    book.send(b"451 lost\r\n503 no\r\n")

    assert [event.recipient for event in book.answered] == [None, None]
    assert book.connection.replies_due == 0
    assert book.state is State.CHUNK_REFUSED


def test_lmtp_354_without_accepted_recipients_is_a_remote_error() -> None:
    book = client("PIPELINING", lmtp=True).ask(*GROUP).send(OK, b"550 no\r\n", GO_AHEAD)

    book.expect(250, 550, RemoteProtocolError("354 cannot answer DATA in LMTP without a recipient"))


# Authentication


def test_challenge_after_the_final_response_with_pipelined_mail_is_a_remote_error() -> None:
    book = client("AUTH PLAIN", "PIPELINING", plaintext_auth=True).ask(Auth("PLAIN", b"\0u\0p"), mail())

    book.send(b"334 \r\n").expect(RemoteProtocolError("334 cannot answer AUTH"))


# TLS


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"x", b"421 bye\r\n"])
def test_plaintext_after_220_to_starttls_is_a_remote_error(injected: bytes) -> None:
    """R3207-4.2-05"""
    book = client("STARTTLS").ask(StartTls()).send(b"220 go\r\n" + injected)

    book.expect(220, RemoteProtocolError("plaintext came before TLS"))
    assert book.state is State.CLOSED


def test_plaintext_buffered_before_the_handshake_is_a_remote_error() -> None:
    conn = client("STARTTLS").connection
    conn.send(StartTls())
    conn.data_to_send()
    conn.receive_data(b"220 go\r\n250 injected\r\n")
    assert isinstance(conn.next_event(), Answered)

    with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
        conn.tls_established()
    assert not conn.tls


@pytest.mark.parametrize("sent", [b"220 s", b"220-s\r\n"])
def test_plaintext_before_implicit_tls_is_a_remote_error(sent: bytes) -> None:
    conn = new_client(implicit_tls=True).connection

    with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
        conn.receive_data(sent)


# The end of the stream


@pytest.mark.parametrize(
    ("book", "error"),
    [
        (new_client(), "the connection was closed before the reply to ConnectionOpened"),
        (new_client().send(b"22"), "the connection was closed inside a reply"),
        (new_client().send(b"220-a\r\n"), "the connection was closed inside a reply"),
        (new_client().send(GREETING).ask(HELLO).skip(), "the connection was closed before the reply to EHLO"),
        (client(at=State.DATA), "the connection was closed inside a body"),
        (
            client(at=State.DATA).ask(DataChunk(b"x"), DataEnd()),
            "the connection was closed before the reply to DataEnd",
        ),
        (client().ask(Quit()).send(b"221-bye\r\n"), "the connection was closed inside a reply"),
    ],
)
def test_end_of_stream_with_a_pending_reply_is_a_remote_error(book: ClientPlaybook, error: str) -> None:
    """R5321-3.8-05"""
    book.end().expect(RemoteProtocolError(error))


def test_end_of_stream_inside_a_client_chunk_is_a_remote_error() -> None:
    client_in_chunk(3, last=True).end().expect(RemoteProtocolError("the connection was closed inside a body"))


@pytest.mark.parametrize("book", [new_client().send(GREETING).skip(), client(), client().ask(Quit())])
def test_end_of_stream_without_a_pending_reply_or_after_quit_closes_the_connection(book: ClientPlaybook) -> None:
    book.end().expect(ConnectionClosed())

    book.connection.receive_data(OK)
    assert book.connection.next_event() == ConnectionClosed()


def test_end_of_stream_before_the_handshake_closes_the_connection() -> None:
    client("STARTTLS").ask(StartTls()).send(b"220 go\r\n").expect(220).end().expect(ConnectionClosed())


def test_lmtp_replies_before_the_end_of_stream_are_kept() -> None:
    """R2033-5-05"""
    book = client("PIPELINING", lmtp=True).ask(mail(), rcpt("a@s.example"), rcpt("b@s.example"), Data())
    book.send(OK * 3, GO_AHEAD).expect(250, 250, 250, 354).ask(DataEnd()).send(b"250 a\r\n").end()

    book.expect(
        Answered(DataEnd(), Reply(250, "a"), rcpt("a@s.example")),
        RemoteProtocolError("the connection was closed before the reply to DataEnd"),
    )


# Endless output


def endless(kind: str) -> Iterator[bytes]:
    match kind:
        case "line":
            return repeat(b"220 " + b"x" * 1000)
        case "reply":
            return repeat(b"220-" + b"x" * 100 + b"\r\n")
        case "nothing":
            return repeat(b"\0" * 1000)
        case _:
            return repeat(b"250 OK\r\n")


@pytest.mark.parametrize("kind", ["line", "reply", "nothing", "replies"])
def test_endless_server_output_ends_within_the_limits(kind: str) -> None:
    conn = new_client().connection
    fed = 0

    def feed() -> None:
        nonlocal fed
        for segment in islice(endless(kind), 20_000):
            fed += len(segment)
            conn.receive_data(segment)
            list(take_replies(conn))

    tracemalloc.start()
    with pytest.raises(RemoteProtocolError):
        feed()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert fed <= CLIENT.max_reply_line * CLIENT.max_reply_lines
    assert peak < 2 * CLIENT.max_reply_line * CLIENT.max_reply_lines


def test_reply_line_is_searched_only_once() -> None:
    conn = new_client(max_reply_line=4000).connection
    for octet in bytewise(b"220 " + b"x" * 3000):
        conn.receive_data(octet)
        assert conn.next_event() is NEED_DATA

    assert conn._buffer._searched == 3004


# Arbitrary output

PIECES = [
    b"250",
    b"220",
    b"354 ",
    b"334 eA==",
    b"421",
    b"5",
    b"-",
    b" ",
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\xff",
    b"x" * 99,
]
wishes = st.sampled_from(
    [HELLO, mail(), rcpt(), Data(), DataChunk(b".\r\n"), DataEnd(), Bdat(3), Bdat(0, last=True), StartTls(), Quit()]
)
noise = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join),
    st.sampled_from([OK, GREETING, GO_AHEAD, b"550 no\r\n", offer("PIPELINING", "CHUNKING", "STARTTLS", "SIZE x")]),
    st.binary(max_size=20),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.lists(wishes, max_size=3), noise), max_size=12))
def test_any_server_output_leads_to_events_or_a_documented_error(steps: list[tuple[list[Request], bytes]]) -> None:
    book = client("PIPELINING", "CHUNKING", "STARTTLS", max_reply_line=512)
    for requests, received in steps:
        for request in requests:
            if book.connection.may_send(request):
                book.ask(request)
        if received:
            book.send(received)
