"""The promises of docstrings with "any", "never" or "until", in every situation that a session can reach.

A situation of a server is a position of `test_every_path`, and then: a line whose reply is pending, a part of a line or
of a body, the end of the stream, a part of a BURL, or the first of two replies in LMTP. A situation of a client is a
position, and then requests whose replies are pending.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isinf
from typing import Any, Generic, TypeVar

import pytest

from smtpcore import (
    NEED_PART,
    NEED_REPLY,
    NEED_TLS,
    Answered,
    BodyAborted,
    Burl,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataEnd,
    Event,
    InvalidCommand,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
    State,
    TimedOut,
    Wait,
)
from smtpcore._state import IN_BODY

from ..playbook import NEED_NO_REPLY
from .test_both_ends import EVERYTHING, MAIL, QUESTIONS, RCPT, best
from .test_every_path import (
    LINES,
    LMTP,
    REPLIES,
    ClientAlone,
    ServerAlone,
    explore_client,
    explore_server,
    next_event,
)

E = TypeVar("E", Connection, ClientConnection)

SENT = tuple(map(Reply, (220, 221, 235, 250, 334, 354, 421, 450, 503, 521, 530, 550, 554)))
ENDS = tuple(map(Reply, (421, 521)))
TWO_RECIPIENTS = b"RCPT TO:<u@s.example>\r\nRCPT TO:<v@s.example>\r\nDATA\r\n.\r\n"
INPUTS = (*LINES, b"NOO", b"a\r\n", b"BDAT 0\r\n", TWO_RECIPIENTS)
REQUESTS = tuple(dict.fromkeys(request for requests in QUESTIONS for request in requests))


@dataclass(frozen=True)
class Situation(Generic[E]):
    """A named situation, and a function that makes a session in this situation."""

    name: str
    make: Callable[[], E]


def seen(end: Connection | ClientConnection) -> tuple[object, ...]:
    """Return everything that a program sees of a session without changing it."""
    of_server = (
        (end.replies_owed, end.must_flush) if isinstance(end, Connection) else (end.replies_due, end.octets_left)
    )
    of_peer = (end.tls, end.helo, end.authenticated, end.trailing_data)
    return (end.state, end.waiting_for, end.deadline, repr(end.transaction), *of_peer, *of_server)


def is_unchanged(
    end: Connection | ClientConnection, situation: Situation[Connection] | Situation[ClientConnection]
) -> bool:
    """Return whether a session is as `situation` made it, the next octets and events included."""
    other = situation.make()
    if seen(end) != seen(other) or end.data_to_send() != other.data_to_send():
        return False

    return bool(outcome(end) == outcome(other))


def outcome(end: Connection | ClientConnection) -> Any:
    """Return the next event, or the text of the error."""
    try:
        return end.next_event()
    except RemoteProtocolError as exc:
        return str(exc)


# The situations


def server_after(config: Config, path: tuple[object, ...], octets: bytes | None, part: bytes = b"") -> Connection:
    """Return a server after a path, and after octets that may need a reply. `b""` is the end of the stream."""
    session = ServerAlone(config)
    assert all(map(session.act, path))
    server = session.server
    if octets is None:
        return server

    server.receive_data(octets)
    event = take(server)
    while octets == TWO_RECIPIENTS and server.replies_owed == 1 and not isinstance(event, DataEnd):
        server.answer(event, *([] if isinstance(event, InvalidCommand) else [best(event)]))
        event = take(server)
    if server.replies_owed > 1:
        server.send(Reply(250))
    if part and isinstance(event, Burl):
        server.receive_part(part)
        take(server)
    return server


def take(server: Connection) -> Event:
    """Return the next event that needs a reply; `ConnectionClosed` if no such event comes."""
    try:
        event = next_event(server)
    except RemoteProtocolError:
        return ConnectionClosed()
    return ConnectionClosed() if isinstance(event, Signal) else event


@pytest.fixture(scope="module")
def servers() -> list[Situation[Connection]]:
    found: dict[tuple[object, ...], Situation[Connection]] = {}
    for config in (EVERYTHING, LMTP):
        for path in explore_server(lmtp=config.lmtp).shortest.values():
            for octets in (None, b"", *INPUTS):
                for part in (b"", b"x\r\n") if octets and octets.startswith(b"BURL") else (b"",):
                    if octets and server_after(config, path, None).state in (State.CONNECTED, State.TLS):
                        continue
                    make = partial(server_after, config, path, octets, part)
                    situation = Situation(f"{path} {octets!r} {part!r}", make)
                    server = situation.make()
                    pending = outcome(server) if server.replies_owed else None
                    found.setdefault((config.lmtp, *seen(server), server.data_to_send(), pending), situation)
    with_tls = Situation("implicit TLS", partial(Connection, EVERYTHING, implicit_tls=True))
    return [*found.values(), with_tls]


def client_after(path: tuple[object, ...], requests: tuple[Request, ...], *, lmtp: bool) -> ClientConnection:
    """Return a client after a path, and after requests whose replies are pending."""
    session = ClientAlone(lmtp=lmtp)
    assert all(map(session.act, path))
    for request in requests:
        if session.client.may_send(request):
            session.client.send(request)
    return session.client


@pytest.fixture(scope="module")
def clients() -> list[Situation[ClientConnection]]:
    found: dict[tuple[object, ...], Situation[ClientConnection]] = {}
    for lmtp in (False, True):
        for path in explore_client(lmtp=lmtp).shortest.values():
            for requests in ((), *QUESTIONS, (MAIL, RCPT), (MAIL, RCPT, Data()), (Data(), DataEnd())):
                situation = Situation(f"{path} {requests}", partial(client_after, path, requests, lmtp=lmtp))
                client = situation.make()
                found.setdefault((lmtp, *seen(client), client.data_to_send()), situation)
    with_tls = partial(ClientConnection, ClientConfig(hostname="c.example"), implicit_tls=True)
    return [*found.values(), Situation("implicit TLS", with_tls)]


# Both ends


def ends(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> list[Situation[Connection] | Situation[ClientConnection]]:
    return [*servers, *clients]


def test_each_octet_is_returned_once(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        end.data_to_send()
        assert end.data_to_send() == b"", situation.name


def test_nothing_can_be_sent_after_a_failed_write(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        end.send_failed()
        assert (end.state, end.data_to_send()) == (State.CLOSED, b""), situation.name
        if isinstance(end, Connection):
            assert not any(map(end.may_send, SENT)), situation.name
        else:
            assert not any(end.may_send(request) for requests in QUESTIONS for request in requests), situation.name


def test_octets_before_a_tls_handshake_end_the_session(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        if end.waiting_for is Wait.TLS:
            with pytest.raises(RemoteProtocolError, match="plaintext came before TLS"):
                end.receive_data(b"x")
            assert end.state is State.CLOSED


def test_handshake_is_possible_exactly_while_a_session_waits_for_tls(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        is_due = end.waiting_for is Wait.TLS
        assert (outcome(end) is NEED_TLS) is is_due or end.state is State.CLOSED, situation.name

        end = situation.make()
        if is_due:
            end.tls_established()
            assert end.tls, situation.name
        else:
            with pytest.raises(LocalProtocolError, match="TLS cannot start"):
                end.tls_established()
            assert is_unchanged(end, situation), situation.name


def test_budgets_can_be_replaced_at_any_time(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        end.tick(0.0)
        if isinf(deadline := end.deadline):
            continue
        if isinstance(end, Connection):
            end.budgets = replace(end.budgets, session=1.0)
        else:
            end.budgets = replace(end.budgets, session=1.0)
        end.tick(0.5)
        assert end.deadline <= min(deadline, 1.0), situation.name


def test_session_is_over_once_a_budget_is_spent(
    servers: list[Situation[Connection]], clients: list[Situation[ClientConnection]]
) -> None:
    for situation in ends(servers, clients):
        end = situation.make()
        end.tick(0.0)
        if isinf(end.deadline):
            continue

        waited_for = end.waiting_for
        end.tick(end.deadline)
        event = end.next_event()
        if isinstance(event, BodyAborted):
            event = end.next_event()
        assert isinstance(event, TimedOut), situation.name
        assert end.state is State.CLOSED, situation.name
        # Before `next_event` has returned `ConnectionOpened`, an adapter may wait for a PROXY header.
        assert event.wait is (Wait.GREETING if waited_for is Wait.NOTHING else waited_for), situation.name


# The server


def test_421_can_be_sent_until_the_session_is_over_except_while_a_handshake_is_due(
    servers: list[Situation[Connection]],
) -> None:
    for situation in servers:
        for reply in ENDS:
            server = situation.make()
            expected = server.state is not State.CLOSED and server.waiting_for is not Wait.TLS
            assert server.may_send(reply) is expected, situation.name
            if expected:
                server.send(reply)
                assert server.data_to_send().splitlines()[-1].startswith(b"%d " % reply.code), situation.name
                assert server.state is State.CLOSED, situation.name


def test_server_sends_exactly_the_replies_that_it_may_send(servers: list[Situation[Connection]]) -> None:
    for situation in servers:
        for reply in SENT:
            server = situation.make()
            if server.may_send(reply):
                server.send(reply)
            else:
                with pytest.raises(LocalProtocolError):
                    server.send(reply)
                assert is_unchanged(server, situation), (situation.name, reply)


def test_need_reply_is_returned_exactly_while_a_reply_is_pending(servers: list[Situation[Connection]]) -> None:
    for situation in servers:
        server = situation.make()
        is_pending = server.replies_owed > 0
        assert (outcome(server) in (NEED_REPLY, NEED_PART)) is is_pending or server.state in IN_BODY, situation.name


def test_default_reply_answers_each_event_that_needs_a_reply(servers: list[Situation[Connection]]) -> None:
    for situation in servers:
        server = situation.make()
        while not isinstance(event := outcome(server), Signal | ConnectionClosed | str):
            if server.replies_owed:
                assert server.may_send(server.default_reply(event)), situation.name
                assert server.answer(event), situation.name
                assert server.replies_owed == 0, situation.name
            else:
                assert isinstance(event, NEED_NO_REPLY)
                with pytest.raises(LocalProtocolError):
                    server.default_reply(event)
                assert server.answer(event) == ()


def test_refuse_body_refuses_the_body_or_changes_nothing(servers: list[Situation[Connection]]) -> None:
    for situation in servers:
        for at_once in (False, True):
            server = situation.make()
            try:
                server.refuse_body(Reply(554), at_once=at_once)
            except LocalProtocolError:
                assert is_unchanged(server, situation), situation.name
            else:
                assert (server.state is State.CLOSED) is at_once, situation.name


def test_receive_part_takes_the_part_or_changes_nothing(servers: list[Situation[Connection]]) -> None:
    for situation in servers:
        server = situation.make()
        is_wanted = outcome(situation.make()) is NEED_PART
        if is_wanted:
            server.receive_part(b"x\r\n")
        else:
            with pytest.raises(LocalProtocolError, match="wait for a BURL"):
                server.receive_part(b"x\r\n")
            assert is_unchanged(server, situation), situation.name


# The client


def test_client_never_gets_the_signals_of_a_server(clients: list[Situation[ClientConnection]]) -> None:
    for situation in clients:
        assert outcome(situation.make()) not in (NEED_REPLY, NEED_PART), situation.name


def test_client_sends_exactly_the_requests_that_it_may_send(clients: list[Situation[ClientConnection]]) -> None:
    for situation in clients:
        refusing = situation.make()
        before = seen(refusing)
        for request in REQUESTS:
            if refusing.may_send(request):
                client = situation.make()
                assert client.state not in (State.CONNECTED, State.CLOSED), situation.name
                client.send(request)
            else:
                with pytest.raises(LocalProtocolError):
                    refusing.send(request)
                assert seen(refusing) == before, (situation.name, request)
        assert is_unchanged(refusing, situation), situation.name


def test_request_that_need_not_wait_stays_refused_after_the_replies(clients: list[Situation[ClientConnection]]) -> None:
    for situation in clients:
        client = situation.make()
        refused = [each for each in REQUESTS if not client.must_wait(each) and not client.may_send(each)]
        for octets in REPLIES.values() if refused else ():
            client = situation.make()
            client.data_to_send()
            while client.replies_due and client.state is not State.CLOSED and not client.octets_left:
                client.receive_data(octets)
                if not isinstance(outcome(client), Answered):
                    break
            for request in refused:
                assert not client.may_send(request), (situation.name, request, octets)
