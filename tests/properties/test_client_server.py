"""A client and a server joined in memory: each receives what the other sends, for any segmentation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpcore import (
    Answered,
    Attributes,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Bodies,
    BodyAborted,
    BodyType,
    Burl,
    ByMode,
    Challenge,
    ChunkEnd,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    DeliverBy,
    Ehlo,
    EnvelopeId,
    Etrn,
    Event,
    Expn,
    Helo,
    Help,
    InvalidCommand,
    InvalidData,
    Lhlo,
    Mail,
    Noop,
    Notify,
    OriginalRecipient,
    Params,
    Path,
    Quit,
    Rcpt,
    Reply,
    Request,
    Ret,
    Rset,
    Signal,
    StartTls,
    State,
    Submitter,
    Transaction,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)

from ..playbook import client

quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
SERVER = {
    "hostname": "s.example",
    "bodies": Bodies.CHUNKS,
    "disabled": frozenset[str](),
    "auth_mechanisms": ("PLAIN", "LOGIN"),
    "plaintext_auth": True,
    "burl": ("imap",),
    "max_hold_for": 1000,
    "max_hold_until": NEW_YEAR,
    "min_by_time": 60,
    "starttls": True,
    "max_errors": None,
    "max_idle_commands": None,
    "max_auth_failures": None,
}


def mail(sender: str = "a@c.example", **params: object) -> Mail:
    return Mail(Path(sender), Params({keyword.replace("_", "-"): value for keyword, value in params.items()}))


# Requests that a client may want to send, allowed or not.
HELLOS: list[Request] = [Ehlo("c.example"), Helo("[192.0.2.1]"), Lhlo("c.example")]
MAILS: list[Request] = [
    mail(),
    mail(""),
    mail('"a b\\""@c.example', SIZE=17),
    mail("\u00e9@c.example", SMTPUTF8=True, BODY=BodyType.EIGHT_BIT_MIME),
    mail(BODY=BodyType.BINARYMIME),
    mail(BODY=BodyType.EIGHT_BIT_MIME, RET=Ret.HDRS, ENVID=EnvelopeId.of("x=1")),
    mail(BY=DeliverBy(120, ByMode.RETURN), MT_PRIORITY=-3),
    mail(HOLDFOR=60, SOLICIT=("a:b", "c")),
    mail(REQUIRETLS=True, AUTH=Submitter(None)),
]
RCPTS: list[Request] = [
    Rcpt(Path("u@s.example")),
    Rcpt(Path("Postmaster")),
    Rcpt(Path("\u7528\u6237@s.example")),
    Rcpt(
        Path("v@s.example"),
        Params({"NOTIFY": frozenset({Notify.DELAY}), "ORCPT": OriginalRecipient.of("rfc822", "v@s")}),
    ),
]
OTHERS: list[Request] = [
    Rset(),
    Noop(),
    Noop("hello you"),
    Noop('"quoted"'),
    Help("MAIL"),
    Vrfy("jones"),
    Vrfy("j\u00f6rg", smtputf8=True),
    Vrfy("x SMTPUTF8"),
    Expn("the list "),
    Etrn("@s.example"),
    UnknownCommand("XFOO", "bar  baz"),
    Xforward(Attributes({"NAME": "a b", "ADDR": None})),
    Xclient(Attributes({"NAME": "spike.example"})),
    Auth("PLAIN", b"\0u\0p"),
    Auth("PLAIN"),
    Auth("LOGIN", b""),
    AuthResponse(b"secret"),
    AuthResponse(b""),
    AuthCancel(),
    StartTls(),
    Quit(),
]
BODY: list[Request] = [
    Data(),
    Data(),
    Bdat(0),
    Bdat(5),
    Bdat(6, last=True),
    Bdat(0, last=True),
    Burl("imap://s.example/a"),
    Burl("imap://s.example/a", last=True),
    DataChunk(b".\r\n"),
    DataChunk(b".\r"),
    DataChunk(b"\n..x"),
    DataChunk(b"\r\n.\r\n"),
    DataChunk(b"a" * 5),
    DataLine(b"bcdef\r\n"),
    DataChunk("\u00e9\u00e9\u00e9".encode()),
    DataChunk(b"\x00\xff\n"),
    DataChunk(b""),
    DataEnd(),
    DataEnd(),
]
WISHES = [*HELLOS, *MAILS, *MAILS, *OTHERS, *(3 * RCPTS), *(3 * BODY)]


@dataclass
class Wire:
    """A client and a server, with a record of all that each sent and received."""

    client: ClientConnection
    server: Connection
    opinions: Iterator[bool]
    """The decisions of the server: True accepts the next event."""
    cuts: Iterator[int]
    """The sizes of the segments, in octets."""
    sent: list[Request] = field(default_factory=list)
    received: list[Event] = field(default_factory=list)
    replied: list[tuple[Event, Reply]] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    fetching: bool = False
    """Whether the server is reading the part that a BURL requests."""

    def send(self, request: Request) -> None:
        self.client.send(request)
        self.sent.append(request)

    def settle(self) -> None:
        """Exchange octets until both ends wait for the application."""
        while True:
            asked = self.client.data_to_send()
            self._carry(asked, self.server, self._serve)
            sent = self.server.data_to_send()
            self._carry(sent, self.client, self._take_replies)
            if self.client.state is State.TLS and self.server.state is State.TLS:
                self.client.tls_established()
                self.server.tls_established()
            if not asked and not sent:
                return

    def _carry(self, data: bytes, end: ClientConnection | Connection, then: object) -> None:
        assert callable(then)
        then()
        while data:
            size = next(self.cuts)
            end.receive_data(data[:size])
            data = data[size:]
            then()

    def _take_replies(self) -> None:
        while isinstance(event := self.client.next_event(), Answered):
            self.answered.append(event)

    def _serve(self) -> None:
        while not isinstance(event := self.server.next_event(), Signal | ConnectionClosed):
            if not self.fetching:
                self.received.append(event)
            if isinstance(event, DataLine | DataChunk | Bdat):
                continue
            if isinstance(event, Burl) and next(self.opinions):
                self.fetching = True
                self.server.receive_part(b"a part\r\n")
                self.server.receive_part(b"")
                continue
            self._reply(event)

    def _reply(self, event: Event) -> None:
        for _ in range(self.server.replies_owed):
            asked = self.received[-1] if self.fetching else event
            self.replied.append((asked, self.server.send(self._opinion(event))))
        self.fetching = False

    def _opinion(self, event: Event) -> Reply:
        default = self.server.default_reply(event)
        if isinstance(event, Auth | AuthResponse):
            response = event.initial_response if isinstance(event, Auth) else event.data
            # A mechanism that needs one response must not send a second challenge: a pipelined command may follow.
            return Challenge(b"?") if not response else Reply(235) if next(self.opinions) else default
        if isinstance(event, InvalidCommand | InvalidData | AuthCancel | Burl):
            return default
        if not next(self.opinions):
            return Reply(451, "Not now")
        if isinstance(event, Xclient):
            return Reply(220)
        return default if default.is_positive else Reply(250, "two", "lines", enhanced="2.0.0")


def without_bodies(events: Iterable[Event | Request]) -> list[Event | Request]:
    """Return the commands, and the ends of bodies sent with DATA: the events that are equal at both ends."""
    result: list[Event | Request] = []
    for event in events:
        is_end_of_chunk = isinstance(event, DataEnd) and result and isinstance(result[-1], Bdat)
        if not isinstance(event, DataLine | DataChunk | ChunkEnd | BodyAborted) and not is_end_of_chunk:
            result.append(event)
    return result


def messages(events: Iterable[Event | Request]) -> list[bytes]:
    """Return the complete bodies that the client sent itself.

    Bodies with a BURL part are left out, because a server may hold a CR back until it has fetched the part.
    """
    found: list[bytes] = []
    body = b""
    in_last_chunk = has_part = False
    for event in [*events, Noop()]:
        if isinstance(event, DataLine | DataChunk):
            body += event.data
            continue
        if in_last_chunk:
            found += [body] * (not has_part)
        elif isinstance(event, DataEnd):
            # RFC 5321 4.1.1.4: an unterminated last line is ended with CRLF.
            found.append(body if body.endswith(b"\r\n") or not body else body.removesuffix(b"\r") + b"\r\n")
        in_last_chunk = isinstance(event, Bdat) and event.last
        has_part = isinstance(event, Burl) or (has_part and not isinstance(event, Mail))
        if isinstance(event, Mail):
            body = b""
    return found


def first_that_may_be_sent(client: ClientConnection, place: int) -> Request | None:
    """Return a request of `WISHES` that may be sent now, searching from `place`."""
    there = (WISHES[(place + step * 31) % len(WISHES)] for step in range(len(WISHES)))
    return next((request for request in there if client.may_send(request)), None)


def converse(wire: Wire, steps: list[tuple[int, bool]]) -> None:
    """Send a request for each of `steps`: its place among the requests, and whether to wait for replies after it."""
    wire.settle()
    if wire.client.may_send(wire.client.hello):
        wire.send(wire.client.hello)
    for place, waits in steps:
        request = first_that_may_be_sent(wire.client, place)
        if request is not None:
            wire.send(request)
        if waits or request is None:
            wire.settle()
    while wire.client.octets_left:
        wire.send(next(piece for piece in (DataChunk(b"\n"), DataChunk(b"a")) if wire.client.may_send(piece)))
    wire.settle()


def known_to_both(transaction: Transaction | None) -> tuple[Mail, list[Rcpt]] | None:
    # Only the server knows the trusted submitter and the granted priority.
    return (transaction.mail, transaction.recipients) if transaction else None


def check(wire: Wire, *, accepts_all: bool) -> None:
    """Check that both ends are in the same state and agree on every event."""
    client, server = wire.client, wire.server
    assert client.replies_due == 0
    assert (client.state, client.tls, client.helo) == (server.state, server.tls, server.helo)
    assert known_to_both(client.transaction) == known_to_both(server.transaction)
    assert [answered.reply for answered in wire.answered] == [reply for _, reply in wire.replied]
    for answered, (event, _) in zip(wire.answered, wire.replied, strict=True):
        # The server refuses commands that follow a refused command in their group.
        assert event == answered.to or isinstance(event, InvalidCommand | InvalidData)
    # A chunk may end in a CR, and the part that the server fetches does not start with the LF.
    spoiled = [reply for event, reply in wire.replied if isinstance(event, Burl | InvalidData) and reply.code >= 500]
    if accepts_all and not spoiled:
        assert without_bodies(wire.received[1:]) == without_bodies(wire.sent)
        assert messages(wire.received) == messages(wire.sent)


@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("pipelining", [False, True], ids=["alone", "grouped"])
@quickly
@given(
    steps=st.lists(st.tuples(st.integers(0, len(WISHES) - 1), st.booleans()), max_size=50),
    opinions=st.one_of(st.just([True]), st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=9)),
    cuts=st.sampled_from([[10**6], [1], [2, 7, 1, 30]]),
)
def test_client_and_server_agree_on_every_session(
    lmtp: bool, pipelining: bool, steps: list[tuple[int, bool]], opinions: list[bool], cuts: list[int]
) -> None:
    """R5321-3.3-14, R5321-4.1.1-02, R5321-4.1.1.1-03, R5321-4.2-12, R2920-3.1-05, R2920-3.1-06"""
    client = ClientConnection(
        ClientConfig(hostname="c.example", lmtp=lmtp, pipelining=pipelining, plaintext_auth=True, max_group=None)
    )
    server = Connection(Config(**{**SERVER, "lmtp": lmtp}))  # type: ignore[arg-type]
    wire = Wire(client, server, cycle(opinions), cycle(cuts))
    converse(wire, steps)
    check(wire, accepts_all=all(opinions))


def test_last_chunk_after_refused_recipients_leaves_the_transaction_open() -> None:
    dialogue = client("PIPELINING", "CHUNKING", "BURL imap")
    dialogue.ask(mail(), RCPTS[0], Burl("imap://s.example/a"), Bdat(1, last=True), DataChunk(b"x"))
    dialogue.send(b"250 OK\r\n451 no\r\n554 no\r\n554 no\r\n").expect(250, 451, 554, 554)

    assert dialogue.state is State.MAIL
