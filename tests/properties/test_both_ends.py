"""Client and server joined: after a reply of every class, both are in the state that the tables name."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from smtpcore import (
    NEED_DATA,
    Answered,
    Attributes,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Burl,
    Challenge,
    ChunkEnd,
    ClientConfig,
    ClientConnection,
    Connection,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    Ehlo,
    Etrn,
    Event,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Path,
    Quit,
    Rcpt,
    Reply,
    ReplyClass,
    Request,
    Rset,
    Signal,
    StartTls,
    State,
    UnknownCommand,
    Vrfy,
    Xclient,
    Xforward,
)
from smtpcore._default_replies import ONLY_POSITIVE
from smtpcore._state import ALLOWED_COMMANDS, ALLOWED_REPLIES, next_state

from ..playbook import CONFIG, NEED_NO_REPLY

EVERYTHING = replace(
    CONFIG, disabled=frozenset(), burl=("imap",), starttls=True, auth_mechanisms=("LOGIN",), plaintext_auth=True
)

HELLO, MAIL, RCPT = Ehlo("c.example"), Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))
CHUNK, LAST_CHUNK = (Bdat(3), DataChunk(b"a\r\n")), (Bdat(3, last=True), DataChunk(b"b\r\n"))

REQUESTS_TO_REACH: dict[State, tuple[Request, ...]] = {
    State.GREETED: (),
    State.READY: (HELLO,),
    State.MAIL: (HELLO, MAIL),
    State.RCPT: (HELLO, MAIL, RCPT),
    State.DATA: (HELLO, MAIL, RCPT, Data()),
    State.CHUNKED: (HELLO, MAIL, RCPT, *CHUNK),
    State.AUTH: (HELLO, Auth("LOGIN")),
}
"""The requests that lead a client to a state, if every reply is positive."""

QUESTIONS: tuple[tuple[Request, ...], ...] = (
    (HELLO,),
    (Helo("c.example"),),
    (MAIL,),
    (RCPT,),
    (Data(),),
    (DataEnd(),),
    CHUNK,
    LAST_CHUNK,
    (Burl("imap://s.example/box"),),
    (Burl("imap://s.example/box", last=True),),
    (Rset(),),
    (Noop(),),
    (Help(),),
    (Vrfy("u"),),
    (Expn("list"),),
    (Etrn("s.example"),),
    (StartTls(),),
    (Auth("LOGIN"),),
    (AuthResponse(b"u"),),
    (AuthCancel(),),
    (Xclient(Attributes({"NAME": "c.example"})),),
    (Xforward(Attributes({"NAME": "c.example"})),),
    (UnknownCommand("XFOO"),),
    (Quit(),),
)

CODES = {
    ReplyClass.COMPLETION: 250,
    ReplyClass.INTERMEDIATE: 354,
    ReplyClass.TRANSIENT: 450,
    ReplyClass.PERMANENT: 550,
    ReplyClass.GOODBYE: 421,
}


def reply_of(asked: Event, reply_class: ReplyClass) -> Reply:
    """Return a reply of this class that may answer `asked`."""
    if reply_class is ReplyClass.INTERMEDIATE and isinstance(asked, Auth | AuthResponse):
        return Challenge(b"")

    only = ONLY_POSITIVE.get(type(asked), ())
    codes = [code for code in only if code // 100 == reply_class.value]
    return Reply(codes[0] if codes else CODES[reply_class])


def best(asked: Event) -> Reply:
    """Return the reply that continues the session."""
    intermediate = {ReplyClass.INTERMEDIATE} & ALLOWED_REPLIES[type(asked)] and not isinstance(asked, AuthResponse)
    return reply_of(asked, ReplyClass.INTERMEDIATE if intermediate else ReplyClass.COMPLETION)


class Pair:
    """A client and a server joined in memory."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.client = ClientConnection(ClientConfig(hostname="c.example", plaintext_auth=True))
        self.server = Connection(EVERYTHING)
        self.finish(self.ask(()))
        for request in requests:
            asked = self.ask((request,))
            if asked is not None:
                self.finish(asked)

    def ask(self, requests: Sequence[Request]) -> Event | None:
        """Send `requests` from the client. Return the event of the server that needs a reply."""
        for request in requests:
            self.client.send(request)
        octets = self.client.data_to_send()
        if octets:
            self.server.receive_data(octets)
        event: Event | Signal = NEED_DATA
        while isinstance(event := self.server.next_event(), NEED_NO_REPLY):
            pass
        return None if isinstance(event, Signal) else event

    def finish(self, asked: Event | None, reply: Reply | None = None) -> Answered:
        """Send the reply of the server, and return the event of the client."""
        assert asked
        reply = reply or best(asked)
        if isinstance(asked, Burl) and reply.is_positive:
            self.server.receive_part(b"x\r\n")
            self.server.receive_part(b"")
            self.ask(())
        sent = self.server.send(reply)
        self.client.receive_data(self.server.data_to_send())
        answered = self.client.next_event()
        assert isinstance(answered, Answered)
        assert answered.reply == sent
        return answered


NOT_YET_OFFERED = {(State.GREETED, kind) for kind in (StartTls, Xclient, Xforward)}
"""Commands that a server accepts before EHLO, and that a client sends only after the reply to EHLO offers them."""

CASES = [
    (state, requests, reply_class)
    for state, requests, reply_class in product(REQUESTS_TO_REACH, QUESTIONS, ReplyClass)
    if type(requests[0]) in ALLOWED_COMMANDS[state] and (state, type(requests[0])) not in NOT_YET_OFFERED
]


@pytest.mark.parametrize(
    ("state", "requests", "reply_class"),
    CASES,
    ids=lambda value: value.name if isinstance(value, State | ReplyClass) else str(value[0]).partition("(")[0],
)
def test_both_ends_reach_the_state_of_the_table(
    state: State, requests: tuple[Request, ...], reply_class: ReplyClass
) -> None:
    pair = Pair(REQUESTS_TO_REACH[state])
    assert pair.client.state is pair.server.state is state

    asked = pair.ask(requests)
    assert asked
    if reply_class not in ALLOWED_REPLIES[type(asked)]:
        assert reply_class in (ReplyClass.INTERMEDIATE, ReplyClass.COMPLETION)
        return

    before = pair.client.state
    kind = DataEnd if isinstance(asked, Burl) and asked.last else type(asked)
    answered = pair.finish(asked, reply_of(asked, reply_class))

    assert answered.to == asked
    assert pair.client.state is pair.server.state is next_state(before, kind, reply_class)
    assert pair.client.transaction == pair.server.transaction
    assert pair.client.helo == pair.server.helo
    assert pair.client.authenticated is pair.server.authenticated


def test_every_command_is_tried_in_every_state_that_allows_it() -> None:
    tried = {(state, type(requests[0])) for state, requests, _ in CASES} | NOT_YET_OFFERED
    assert set(REQUESTS_TO_REACH) | {State.CHUNK_REFUSED, State.REFUSED} == set(ALLOWED_COMMANDS)
    for state, allowed in ALLOWED_COMMANDS.items():
        if state in REQUESTS_TO_REACH:
            assert {kind.__name__ for kind in allowed} - {kind.__name__ for of, kind in tried if of is state} <= {
                "Lhlo"
            }


@pytest.mark.parametrize("reply_class", [ReplyClass.TRANSIENT, ReplyClass.PERMANENT])
def test_both_ends_reach_chunk_refused_after_a_failed_chunk(reply_class: ReplyClass) -> None:
    pair = Pair(REQUESTS_TO_REACH[State.CHUNKED])
    answered = pair.finish(pair.ask(CHUNK), Reply(CODES[reply_class]))

    assert answered.to == ChunkEnd()
    assert {pair.client.state, pair.server.state} == {State.CHUNK_REFUSED}
    pair.finish(pair.ask((Rset(),)))
    assert pair.client.state is pair.server.state is State.READY


@pytest.mark.parametrize("code", [450, 554])
def test_both_ends_reach_refused_after_a_refusing_greeting(code: int) -> None:
    pair = Pair.__new__(Pair)
    pair.client, pair.server = ClientConnection(ClientConfig(hostname="c.example")), Connection(EVERYTHING)
    answered = pair.finish(pair.ask(()), Reply(code))

    assert answered.to == ConnectionOpened()
    assert {pair.client.state, pair.server.state} == {State.REFUSED}
    pair.finish(pair.ask((Quit(),)))
    assert pair.client.state is pair.server.state is State.CLOSED
