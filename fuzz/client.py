"""Any octets from a server lead to the same result however they are segmented, and a refused `send` changes nothing.

Only documented errors are raised, each reply is paired with the oldest unanswered command, and memory is bounded.
"""

from collections.abc import Sequence
from itertools import cycle

from smtpcore import (
    NEED_DATA,
    NEED_TLS,
    Answered,
    Attributes,
    Auth,
    AuthCancel,
    AuthResponse,
    BareNewlines,
    Bdat,
    BodyType,
    Burl,
    ClientConfig,
    ClientConnection,
    ClientEvent,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Ehlo,
    Etrn,
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
    Request,
    Rset,
    Signal,
    StartTls,
    State,
    Vrfy,
    Xclient,
)
from tests.helpers import public_properties

from .harness import Draw, cuts

MOST_HELD = 12_294
"""The longest line of a challenge, in octets."""

SEPARATOR = b"\xff"
"""The end of a group of octets that the server sends at once. After each group the client sends a request."""

NAME = "c.example"
NATURAL: tuple[type[Request], ...] = (Ehlo, Mail, Rcpt, Data, DataChunk, DataEnd, Quit)
REQUESTS: tuple[Request, ...] = (
    Ehlo(NAME),
    Mail(Path("a@c.example")),
    Rcpt(Path("u@s.example")),
    Data(),
    DataChunk(b".Subject: x\r\n\r\n.\r\ntext"),
    DataEnd(),
    Quit(),
    Lhlo(NAME),
    Helo(NAME),
    Mail(Path(""), Params({"SIZE": 10, "BODY": BodyType.BINARYMIME})),
    Mail(Path("\u00e9@c.example"), Params({"SMTPUTF8": True, "BODY": BodyType.EIGHT_BIT_MIME})),
    Rcpt(Path("\u00e9@s.example")),
    Rcpt(Path("Postmaster")),
    DataChunk(b"\r"),
    DataChunk(b"\n."),
    DataChunk(b"\x00\xff"),
    Bdat(3),
    Bdat(4, last=True),
    Bdat(0, last=True),
    DataChunk(b"abc"),
    DataChunk(b"ab\r\n"),
    Burl("imap://s.example/box", last=True),
    Rset(),
    Noop("x"),
    Vrfy("u", smtputf8=True),
    StartTls(),
    Auth("PLAIN", b"\0u\0p"),
    Auth("LOGIN"),
    AuthResponse(b"u"),
    AuthCancel(),
    Etrn("@s.example"),
    Xclient(Attributes({"NAME": None})),
)


def make_client(draw: Draw) -> ClientConnection:
    """Make a client. An input of zeros gives an ordinary configuration."""
    bits = draw.byte()
    config = ClientConfig(
        hostname=NAME,
        lmtp=bool(bits & 1),
        pipelining=not bits & 2,
        plaintext_auth=bool(bits & 4),
        bare_newlines=BareNewlines.NORMALIZE if bits & 8 else BareNewlines.REJECT,
        max_reply_line=512 if bits & 16 else 4096,
        max_reply_lines=3 if bits & 32 else 1000,
        max_group=64 if bits & 64 else 16_384,
    )
    return ClientConnection(config)


def choose(choice: int, step: int) -> Request:
    """Choose what the client sends: usually the next request of a normal session, otherwise any request."""
    return REQUESTS[step % len(NATURAL) if choice % 4 else choice // 4 % len(REQUESTS)]


def say(conn: ClientConnection, request: Request) -> bool:
    """Send the request, and return True.

    If the connection refuses the request, check that nothing has changed, and return False.
    """
    before = public_properties(conn)
    may = conn.may_send(request)
    assert public_properties(conn) == before
    try:
        conn.send(request)
    except LocalProtocolError:
        assert not may
        assert public_properties(conn) == before
        return False

    assert may
    return True


def hear(conn: ClientConnection, segments: Sequence[bytes], events: list[ClientEvent]) -> None:
    """Receive segments, append all events to `events`, and check that each reply answers one pending request."""
    for segment in segments:
        conn.receive_data(segment)
        due = conn.replies_due
        while not isinstance(event := conn.next_event(), Signal):
            events.append(event)
            if isinstance(event, ConnectionClosed) or conn.state is State.CLOSED:
                return

            assert isinstance(event, Answered)
            assert conn.replies_due == due - 1
            due = conn.replies_due

        assert event in (NEED_DATA, NEED_TLS)
        assert len(conn.trailing_data) <= MOST_HELD


def converse(head: bytes, flights: Sequence[bytes], way: int, place: int) -> tuple[object, ...]:
    """Run a session and return all its visible results."""
    conn = make_client(Draw(head))
    events: list[ClientEvent] = []
    output: list[bytes] = []
    choices = cycle(head[1:])
    step = 0
    try:
        for flight in flights:
            hear(conn, cuts(flight, place)[way], events)
            if conn.next_event() is NEED_TLS:
                conn.tls_established()
            for _ in range(1 + next(choices) % 4):
                step += say(conn, choose(next(choices), step))
                output.append(conn.data_to_send() if next(choices) % 2 else b"")
            output.append(conn.data_to_send())
        hear(conn, [b""], events)
    except RemoteProtocolError as exc:
        assert conn.state is State.CLOSED
        return events, b"".join(output), str(exc)

    return events, b"".join(output), conn.state


def test_one_input(data: bytes) -> None:
    """Run a session three times, with three different segmentations."""
    draw = Draw(data)
    place = draw.byte()
    head = draw.octets(16)
    flights = draw.rest().split(SEPARATOR)[:12]

    whole = converse(head, flights, 0, place)
    assert converse(head, flights, 1, place) == whole
    assert converse(head, flights, 2, place) == whole
