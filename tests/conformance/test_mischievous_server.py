"""A client against servers that break the rules: each ends in a documented error, within the limits."""

import tracemalloc
from collections.abc import Iterator
from itertools import islice, repeat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpcore import (
    NEED_DATA,
    Answered,
    Auth,
    Bdat,
    ClientConfig,
    ClientConnection,
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
    Signal,
    StartTls,
    State,
)

from ..client_helpers import (
    CLIENT,
    GREETING,
    HELLO,
    OK,
    Outcome,
    Step,
    after_ehlo,
    mail,
    offer,
    play,
    play_both_ways,
    rcpt,
)
from ..helpers import bytewise, octets_id

GO_AHEAD = b"354 go on\r\n"
LIMITS = {"max_reply_line": 512, "max_reply_lines": 10}

IN_DATA: tuple[Step, ...] = (GREETING, HELLO, offer(), mail(), OK, rcpt(), OK, Data(), GO_AHEAD)
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
    outcome = play_both_ways(sent, **LIMITS)

    assert outcome.error.startswith(error)
    assert outcome.conn.state is State.CLOSED
    assert outcome.conn.next_event() == ConnectionClosed()
    assert outcome.conn.data_to_send() == b""
    assert not outcome.conn.may_send(Quit())


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
    outcome = play_both_ways(GREETING, HELLO, offer("STARTTLS"), asked, sent)

    assert outcome.error == f"{sent[:3].decode()} cannot answer {getattr(asked, 'verb', '')}"


def test_positive_reply_to_data_is_a_remote_error() -> None:
    assert play_both_ways(*IN_DATA[:-1], OK).error == "250 cannot answer DATA"


# Unsolicited replies


@pytest.mark.parametrize("sent", [OK, b"220 again\r\n", b"550 no\r\n", b"250-a\r\n250 b\r\n", b"521 no\r\n"])
@pytest.mark.parametrize("before", [(GREETING,), (GREETING, HELLO, offer()), IN_DATA], ids=["GREETED", "READY", "DATA"])
def test_unsolicited_reply_is_a_remote_error(before: tuple[Step, ...], sent: bytes) -> None:
    assert play_both_ways(*before, sent).error == f"the server sent {sent[:3].decode()} without a request"


@pytest.mark.parametrize("before", [(GREETING,), (GREETING, HELLO, offer()), IN_DATA], ids=["GREETED", "READY", "DATA"])
def test_unsolicited_421_closes_without_an_error(before: tuple[Step, ...]) -> None:
    outcome = play_both_ways(*before, b"421 4.3.2 shutting down\r\n")

    assert outcome.events[-2:] == [
        Answered(None, Reply(421, "shutting down", enhanced="4.3.2")),
        ConnectionClosed(),
    ]
    assert not outcome.error


def test_reply_421_answers_the_oldest_pending_command_and_closes() -> None:
    outcome = after_ehlo("PIPELINING")
    outcome.send(GROUP)
    outcome.receive([OK, b"421 enough\r\n"])

    assert [event.to for event in outcome.answered] == [mail(), rcpt()]
    assert outcome.events[-1] == ConnectionClosed()
    assert outcome.conn.replies_due == 0
    assert outcome.conn.transaction is None


def test_reply_received_before_its_command_was_sent_is_rejected() -> None:
    """A server that sends replies in advance could make any command seem accepted."""
    conn = ClientConnection(CLIENT)
    conn.receive_data(GREETING + offer() + OK)
    assert isinstance(conn.next_event(), Answered)
    conn.send(HELLO)
    assert conn.data_to_send()

    with pytest.raises(RemoteProtocolError, match="the server sent 250 without a request"):
        conn.next_event()


def test_reply_received_before_the_command_was_flushed_is_rejected() -> None:
    conn = play(GREETING).conn
    conn.send(HELLO)
    conn.receive_data(OK)

    with pytest.raises(RemoteProtocolError, match="the server sent 250 without a request"):
        conn.next_event()


def test_more_replies_than_commands_are_a_remote_error() -> None:
    outcome = after_ehlo("PIPELINING")
    outcome.send(GROUP[:2])
    outcome.receive([OK * 3])

    assert outcome.codes == [250, 250]
    assert outcome.error == "the server sent 250 without a request"


def test_reply_before_the_end_of_a_body_is_a_remote_error() -> None:
    outcome = play(*IN_DATA, DataChunk(b"x\r\n"), b"250 taken already\r\n")

    assert outcome.error == "the server sent 250 without a request"


# Chunks


def client_in_chunk(size: int, *, last: bool) -> Outcome:
    outcome = after_ehlo("PIPELINING", "CHUNKING")
    outcome.send(GROUP[:2])
    outcome.receive([OK, OK])
    outcome.events.clear()
    outcome.send((Bdat(size, last=last), DataChunk(b"x")))
    return outcome


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_positive_reply_to_an_incomplete_chunk_is_a_remote_error(size: int, last: bool) -> None:
    outcome = client_in_chunk(size, last=last)
    outcome.receive([b"250 taken\r\n"])

    assert outcome.error == f"250 cannot answer {'DataEnd' if last else 'ChunkEnd'}"


@pytest.mark.parametrize("last", [False, True])
def test_chunk_refused_early_is_sent_to_its_end(last: bool) -> None:
    """R3030-2-11, R3030-2-13: otherwise the server would parse the octets of the chunk as commands."""
    outcome = client_in_chunk(3, last=last)
    outcome.receive([b"452 full\r\n"])

    assert outcome.codes == [452]
    assert not outcome.conn.may_send(Rset())
    assert not outcome.conn.may_send(DataChunk(b"abc"))
    outcome.send(DataChunk(b"bc"))
    assert outcome.sent[-1] == b"bc"
    assert outcome.conn.may_send(Rset())
    assert not outcome.conn.may_send(Bdat(1))
    assert outcome.conn.may_send(Noop()) is last


def test_positive_reply_after_a_refused_chunk_is_a_remote_error() -> None:
    outcome = client_in_chunk(1, last=False)
    outcome.send(Bdat(0, last=True))
    outcome.receive([b"451 lost\r\n250 taken\r\n"])

    assert outcome.codes == [451]
    assert outcome.error == "250 cannot answer DataEnd"


def test_lmtp_last_chunk_after_a_refused_chunk_has_one_reply() -> None:
    outcome = after_ehlo("PIPELINING", "CHUNKING", lmtp=True)
    outcome.send((mail(), rcpt(), rcpt("v@s.example")))
    outcome.receive([OK * 3])
    outcome.send((Bdat(0), Bdat(0, last=True)))
    assert outcome.conn.replies_due == 3
    outcome.receive([b"451 lost\r\n503 no\r\n"])

    assert [event.recipient for event in outcome.answered[-2:]] == [None, None]
    assert outcome.conn.replies_due == 0
    assert outcome.conn.state is State.CHUNK_REFUSED


def test_lmtp_354_without_accepted_recipients_is_a_remote_error() -> None:
    outcome = after_ehlo("PIPELINING", lmtp=True)
    outcome.send(GROUP)
    outcome.receive([OK, b"550 no\r\n", GO_AHEAD])

    assert outcome.error == "354 cannot answer DATA in LMTP without a recipient"


# Authentication


def test_challenge_after_the_final_response_with_pipelined_mail_is_a_remote_error() -> None:
    outcome = after_ehlo("AUTH PLAIN", "PIPELINING", plaintext_auth=True)
    outcome.send((Auth("PLAIN", b"\0u\0p"), mail()))
    outcome.receive([b"334 \r\n"])

    assert outcome.error == "334 cannot answer AUTH"


# TLS


@pytest.mark.parametrize("injected", [b"250 injected\r\n", b"x", b"421 bye\r\n"])
def test_plaintext_after_220_to_starttls_is_a_remote_error(injected: bytes) -> None:
    """R3207-4.2-05"""
    outcome = play_both_ways(GREETING, HELLO, offer("STARTTLS"), StartTls(), b"220 go\r\n" + injected)

    assert outcome.codes == [220, 250, 220]
    assert outcome.error == "plaintext came before TLS"
    assert outcome.conn.state is State.CLOSED


def test_plaintext_buffered_before_the_handshake_is_a_remote_error() -> None:
    conn = after_ehlo("STARTTLS").conn
    conn.send(StartTls())
    conn.data_to_send()
    conn.receive_data(b"220 go\r\n250 injected\r\n")
    assert isinstance(conn.next_event(), Answered)

    with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
        conn.tls_established()
    assert not conn.tls


@pytest.mark.parametrize("sent", [b"220 s", b"220-s\r\n"])
def test_plaintext_before_implicit_tls_is_a_remote_error(sent: bytes) -> None:
    conn = ClientConnection(CLIENT)
    conn.receive_data(sent)
    assert conn.next_event() is NEED_DATA

    with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
        conn.tls_established()


# The end of the stream


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((b"",), "the connection was closed before the reply to ConnectionOpened"),
        ((b"22", b""), "the connection was closed inside a reply"),
        ((b"220-a\r\n", b""), "the connection was closed inside a reply"),
        ((GREETING, HELLO, b""), "the connection was closed before the reply to EHLO"),
        ((*IN_DATA, b""), "the connection was closed inside a body"),
        ((*IN_DATA, (DataChunk(b"x"), DataEnd()), b""), "the connection was closed before the reply to DataEnd"),
        ((GREETING, HELLO, offer(), (Quit(),), b"221-bye\r\n", b""), "the connection was closed inside a reply"),
    ],
)
def test_end_of_stream_with_a_pending_reply_is_a_remote_error(script: tuple[Step, ...], error: str) -> None:
    """R5321-3.8-05"""
    assert play_both_ways(*script).error == error


def test_end_of_stream_inside_a_client_chunk_is_a_remote_error() -> None:
    outcome = client_in_chunk(3, last=True)
    outcome.receive([b""])

    assert outcome.error == "the connection was closed inside a body"


@pytest.mark.parametrize("script", [(GREETING,), (GREETING, HELLO, offer()), (GREETING, HELLO, offer(), Quit())])
def test_end_of_stream_without_a_pending_reply_or_after_quit_closes(script: tuple[Step, ...]) -> None:
    outcome = play_both_ways(*script, b"")

    assert outcome.events[-1] == ConnectionClosed()
    assert not outcome.error
    outcome.conn.receive_data(OK)
    assert outcome.conn.next_event() == ConnectionClosed()


def test_end_of_stream_before_the_handshake_closes() -> None:
    outcome = play_both_ways(GREETING, HELLO, offer("STARTTLS"), StartTls(), b"220 go\r\n", b"")

    assert outcome.events[-1] == ConnectionClosed()


def test_lmtp_replies_before_the_end_of_stream_are_kept() -> None:
    """R2033-5-05"""
    outcome = after_ehlo("PIPELINING", lmtp=True)
    outcome.send((mail(), rcpt("a@s.example"), rcpt("b@s.example"), Data()))
    outcome.receive([OK * 3, GO_AHEAD])
    outcome.send(DataEnd())
    outcome.receive([b"250 a\r\n", b""])

    assert outcome.answered[-1] == Answered(DataEnd(), Reply(250, "a"), rcpt("a@s.example"))
    assert outcome.error == "the connection was closed before the reply to DataEnd"


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
    outcome = Outcome(ClientConnection(CLIENT))
    fed = 0
    tracemalloc.start()
    for segment in islice(endless(kind), 20_000):
        outcome.receive([segment])
        fed += len(segment)
        if outcome.error:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert outcome.error
    assert fed <= CLIENT.max_reply_line * CLIENT.max_reply_lines
    assert peak < 2 * CLIENT.max_reply_line * CLIENT.max_reply_lines


def test_reply_line_is_searched_only_once() -> None:
    config = ClientConfig(hostname="c.example", max_reply_line=4000)
    conn = ClientConnection(config)
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
    def outcome(*, cut: bool) -> tuple[list[Answered], str, State]:
        conn = ClientConnection(ClientConfig(hostname="c.example", max_reply_line=512))
        opening: list[tuple[list[Request], bytes]] = [
            ([], GREETING),
            ([HELLO], offer("PIPELINING", "CHUNKING", "STARTTLS")),
        ]
        events: list[Answered] = []
        try:
            for sent, received in [*opening, *steps]:
                for request in sent:
                    if conn.may_send(request):
                        conn.send(request)
                conn.data_to_send()
                for segment in bytewise(received) if cut else [received] * bool(received):
                    conn.receive_data(segment)
                    while not isinstance(event := conn.next_event(), Signal | ConnectionClosed):
                        events.append(event)
        except RemoteProtocolError as exc:
            return events, str(exc), conn.state
        return events, "", conn.state

    assert outcome(cut=False) == outcome(cut=True)
