"""Every path of a session up to a bound: each state, each request, each class of replies, breadth first.

Three sessions are explored: a client joined with a server, a server that gets the octets of an incorrect client, and a
client that gets the replies of an incorrect server. A position is the state, together with everything else that decides
the next steps, such as TLS. From each new position all actions are tried, so that the shortest paths are found.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Protocol

import pytest

from smtpcore import (
    Answered,
    Auth,
    AuthResponse,
    Burl,
    ChunkEnd,
    ClientConfig,
    ClientConnection,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Event,
    Lhlo,
    RemoteProtocolError,
    ReplyClass,
    Request,
    Signal,
    State,
    Wait,
)
from smtpcore._state import ALLOWED_REPLIES, MOVES, Step
from tools.state_machine import Move, Role, takes

from ..playbook import NEED_NO_REPLY
from .test_both_ends import CHUNK, EVERYTHING, LAST_CHUNK, MAIL, QUESTIONS, RCPT, reply_of

BOUND = 9
"""The maximum number of actions of a path. Fewer are enough to reach every position."""

LMTP = replace(EVERYTHING, lmtp=True, disabled=EVERYTHING.disabled | {"BURL"})

Position = tuple[object, ...]


class Server(Connection):
    """A server that records its transitions."""

    def __init__(self, config: Config, *, implicit_tls: bool = False) -> None:
        super().__init__(config, implicit_tls=implicit_tls)
        self.moves: set[Move] = set()

    def _advance(self, cause: type[object] | Step, reply_class: ReplyClass | None = None) -> None:
        self.moves.add((self._state, cause, reply_class))
        super()._advance(cause, reply_class)


class Client(ClientConnection):
    """A client that records its transitions."""

    def __init__(self, config: ClientConfig, *, implicit_tls: bool = False) -> None:
        super().__init__(config, implicit_tls=implicit_tls)
        self.moves: set[Move] = set()

    def _advance(self, cause: type[object] | Step, reply_class: ReplyClass | None = None) -> None:
        self.moves.add((self._state, cause, reply_class))
        super()._advance(cause, reply_class)


class Session(Protocol):
    """A session that can be explored."""

    @property
    def position(self) -> Position:
        """The state, and everything else that decides the next steps."""

    @property
    def moves(self) -> Mapping[Role, set[Move]]:
        """The transitions of each end."""

    def act(self, action: Any) -> bool | None:
        """Perform an action. Return False if it proves impossible in this position, or None if it was not begun."""


@dataclass
class Paths:
    """The result of an exploration."""

    shortest: dict[Position, tuple[object, ...]]
    """Position to the shortest path to it."""
    steps: dict[Position, set[Position]]
    """Position to the positions after one action."""
    moves: dict[Role, set[Move]]
    """The transitions that each end made on some path."""

    @property
    def states(self) -> set[object]:
        return {position[0] for position in self.shortest}

    def without_way_to(self, goal: State) -> set[object]:
        """Return the states of the positions from which no path leads to `goal`."""
        leading = {position for position in self.shortest if position[0] is goal}
        while more := {here for here, there in self.steps.items() if there & leading} - leading:
            leading |= more
        return {position[0] for position in self.shortest if position not in leading}


def explore(start: Callable[[], Session], actions: Sequence[Any]) -> Paths:
    """Try all actions from each position, breadth first."""
    first = start().position
    paths = Paths({first: ()}, defaultdict(set), defaultdict(set))
    waiting = deque([first])
    while waiting:
        here = waiting.popleft()
        path = paths.shortest[here]
        session = None
        for action in actions:
            if session is None:
                session = start()
                assert all(map(session.act, path)), f"a path cannot be repeated: {path}"
            is_done = session.act(action)
            if is_done is None:
                continue

            tried, session = session, None
            if not is_done:
                continue

            there = tried.position
            paths.steps[here].add(there)
            for role, moves in tried.moves.items():
                paths.moves[role] |= moves
            if there not in paths.shortest:
                assert len(path) < BOUND, f"{there} is farther than the bound"
                paths.shortest[there] = (*path, action)
                waiting.append(there)

    return paths


# A server that gets any octets

LINES = (
    b"EHLO c.example\r\n",
    b"HELO c.example\r\n",
    b"LHLO c.example\r\n",
    b"MAIL FROM:<a@c.example>\r\n",
    b"RCPT TO:<u@s.example>\r\n",
    b"DATA\r\n",
    b"a\r\n.\r\n",
    b"a\nb\r\n.\r\n",
    b"BDAT 3\r\na",
    b"BDAT 3 LAST\r\na",
    b"\r\n",
    b"\nb",
    b"BURL imap://x\r\n",
    b"BURL imap://x LAST\r\n",
    b"AUTH LOGIN\r\n",
    b"dQ==\r\n",
    b"*\r\n",
    b"STARTTLS\r\n",
    b"XCLIENT NAME=c.example\r\n",
    b"XFORWARD NAME=c.example\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY u\r\n",
    b"EXPN u\r\n",
    b"HELP\r\n",
    b"ETRN s.example\r\n",
    b"XFOO\r\n",
    b"QUIT\r\n",
)
SERVER_ACTIONS = [
    "handshake",
    "failure",
    "end of stream",
    *product((b"", *LINES), ReplyClass),
    *product((b"BURL imap://x\r\n", b"BURL imap://x LAST\r\n"), ReplyClass, (b"x\r\n",)),
]


class ServerAlone:
    """A server that gets octets, and replies to each event with the same class if it can."""

    def __init__(self, config: Config = EVERYTHING) -> None:
        self.server = Server(config)

    @property
    def moves(self) -> Mapping[Role, set[Move]]:
        return {Role.SERVER: self.server.moves}

    @property
    def position(self) -> Position:
        server = self.server
        return (server.state, server.tls)

    def act(self, action: Any) -> bool | None:
        server = self.server
        match action:
            case "handshake":
                return shake_hands(server)
            case "failure":
                server.send_failed()
                return True
            case "end of stream":
                server.receive_data(b"")
                return server.state is not State.CONNECTED and self.reply(ReplyClass.COMPLETION)

        octets, reply_class, *piece = action
        if server.state in (State.CLOSED, State.TLS) or (octets == b"") is not (server.state is State.CONNECTED):
            return None
        if octets:
            server.receive_data(octets)
        return self.reply(reply_class, *piece)

    def reply(self, reply_class: ReplyClass, piece: bytes = b"") -> bool:
        """Reply to the next event. Return False if such a reply is impossible."""
        server, before = self.server, self.server.state
        try:
            event = next_event(server)
        except RemoteProtocolError:
            return True
        if isinstance(event, ConnectionClosed):
            return True
        if isinstance(event, Signal):
            return server.state is not before
        if reply_class not in ALLOWED_REPLIES[type(event)]:
            return False

        if isinstance(event, Burl) and (reply_class is ReplyClass.COMPLETION or piece):
            server.receive_part(b"x\r\n")
            assert next_event(server) is Signal.NEED_PART
            if reply_class is ReplyClass.COMPLETION:
                server.receive_part(b"")
                event = next_event(server)
        assert not isinstance(event, Signal | ConnectionClosed)
        while server.replies_owed:
            server.send(reply_of(event, reply_class))
        return not server.trailing_data  # an action is one request


def shake_hands(*ends: Connection | ClientConnection) -> bool | None:
    """Start TLS at all ends. Return None if that is impossible."""
    if any(end.waiting_for is not Wait.TLS for end in ends):
        return None
    for end in ends:
        end.tls_established()
    return True


def next_event(server: Connection) -> Event | Signal:
    """Return the next event that needs a reply, or a signal."""
    while isinstance(event := server.next_event(), NEED_NO_REPLY):
        pass
    return event


# A client whose server replies anything

OFFERS = b"250-s.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250-AUTH LOGIN\r\n250-BURL imap\r\n\
250-XCLIENT NAME\r\n250-XFORWARD NAME\r\n250-EXPN\r\n250-HELP\r\n250 ETRN\r\n"

REPLIES = {
    ReplyClass.COMPLETION: b"250 OK\r\n",
    ReplyClass.INTERMEDIATE: b"354 Go on\r\n",
    ReplyClass.TRANSIENT: b"450 Later\r\n",
    ReplyClass.PERMANENT: b"550 No\r\n",
    ReplyClass.GOODBYE: b"421 Goodbye\r\n",
}

NO_CLASS: tuple[ReplyClass, ...] = ()
PIECES: tuple[tuple[Request, ...], ...] = (CHUNK[:1], LAST_CHUNK[:1], (DataChunk(b"a\r\n"),))
NEGATIVE = (ReplyClass.TRANSIENT, ReplyClass.PERMANENT)
CLIENT_ACTIONS = [
    "handshake",
    "failure",
    "end of stream",
    *(((), (reply_class,)) for reply_class in ReplyClass),
    *((requests, (reply_class,)) for requests in (*QUESTIONS, (Lhlo("c.example"),)) for reply_class in ReplyClass),
    *((requests, NO_CLASS) for requests in PIECES),
    *((requests, (reply_class,)) for requests in PIECES for reply_class in ReplyClass),
    # RFC 2920 3.1: the server accepts DATA although it refused MAIL, or RCPT.
    ((MAIL, RCPT, Data()), (*NEGATIVE, ReplyClass.INTERMEDIATE)),
    ((MAIL, RCPT, Data()), (ReplyClass.COMPLETION, ReplyClass.PERMANENT, ReplyClass.INTERMEDIATE)),
    # RFC 3030 section 2: a chunk after a refused chunk, sent without waiting for the reply.
    *(((*CHUNK, *LAST_CHUNK), (ReplyClass.PERMANENT, reply_class)) for reply_class in ReplyClass),
]


class ClientAlone:
    """A client whose server sends replies of any class."""

    def __init__(self, *, lmtp: bool = False) -> None:
        self.client = Client(ClientConfig(hostname="c.example", plaintext_auth=True, lmtp=lmtp))

    @property
    def moves(self) -> Mapping[Role, set[Move]]:
        return {Role.CLIENT: self.client.moves}

    @property
    def position(self) -> Position:
        client = self.client
        return (client.state, client.tls, client.octets_left > 0)

    def act(self, action: Any) -> bool | None:
        client = self.client
        match action:
            case "handshake":
                return shake_hands(client)
            case "failure":
                client.send_failed()
                return True
            case "end of stream":
                client.receive_data(b"")
                return self.take()

        requests, classes = action
        if client.state in (State.CLOSED, State.TLS) or (requests and not client.may_send(requests[0])):
            return None
        for request in requests:
            if not client.may_send(request):
                return False
            client.send(request)
        client.data_to_send()
        for reply_class in classes:
            if self.position[0] is State.CLOSED:
                return False
            client.receive_data(self.reply(reply_class, requests))
            if not self.take():
                return False
        return True

    def reply(self, reply_class: ReplyClass, requests: Sequence[Request]) -> bytes:
        """Return the octets of a reply."""
        if requests == (self.client.hello,) and reply_class is ReplyClass.COMPLETION:
            return OFFERS
        is_auth = any(isinstance(request, Auth | AuthResponse) for request in requests)
        return b"334 \r\n" if is_auth and reply_class is ReplyClass.INTERMEDIATE else REPLIES[reply_class]

    def take(self) -> bool:
        """Let the client process a reply. Return False if the client treats the reply as an error."""
        try:
            return isinstance(self.client.next_event(), Answered | ConnectionClosed)
        except RemoteProtocolError as exc:
            return "closed inside" in str(exc)


# A client and a server, joined

JOINED_ACTIONS = ["handshake", *(((), reply_class) for reply_class in ReplyClass), *product(QUESTIONS, ReplyClass)]


class Joined:
    """A client and a server that are joined in memory."""

    def __init__(self) -> None:
        self.client = Client(ClientConfig(hostname="c.example", plaintext_auth=True))
        self.server = Server(EVERYTHING)

    @property
    def moves(self) -> Mapping[Role, set[Move]]:
        return {Role.CLIENT: self.client.moves, Role.SERVER: self.server.moves}

    @property
    def position(self) -> Position:
        for end in (self.client, self.server):
            assert end.state is self.server.state
        return (self.server.state, self.server.tls)

    def act(self, action: Any) -> bool | None:
        client, server = self.client, self.server
        if action == "handshake":
            return shake_hands(client, server)

        requests, reply_class = action
        if server.state in (State.CLOSED, State.TLS) or (requests == ()) is not (server.state is State.CONNECTED):
            return None
        if requests and not client.may_send(requests[0]):
            return None
        for request in requests:
            if not client.may_send(request):
                return False
            client.send(request)
        if requests:
            server.receive_data(client.data_to_send())
        event = next_event(server)
        assert not isinstance(event, Signal | ConnectionClosed), f"{requests} needs a reply"
        if reply_class not in ALLOWED_REPLIES[type(event)]:
            return False
        if isinstance(event, Burl) and reply_class is ReplyClass.COMPLETION:
            server.receive_part(b"x\r\n")
            server.receive_part(b"")
            event = next_event(server)
            assert isinstance(event, ChunkEnd | DataEnd)

        reply = server.send(reply_of(event, reply_class))
        client.receive_data(server.data_to_send())
        answered = client.next_event()
        assert isinstance(answered, Answered)
        assert answered.reply == reply
        assert client.transaction == server.transaction
        assert client.authenticated is server.authenticated
        return True


# Results of the explorations


@cache
def explore_server(*, lmtp: bool) -> Paths:
    return explore(lambda: ServerAlone(LMTP if lmtp else EVERYTHING), SERVER_ACTIONS)


@cache
def explore_client(*, lmtp: bool) -> Paths:
    return explore(lambda: ClientAlone(lmtp=lmtp), CLIENT_ACTIONS)


@pytest.fixture
def server_paths() -> Paths:
    return explore_server(lmtp=False)


@pytest.fixture
def lmtp_server_paths() -> Paths:
    return explore_server(lmtp=True)


@pytest.fixture
def client_paths() -> Paths:
    return explore_client(lmtp=False)


@pytest.fixture
def lmtp_client_paths() -> Paths:
    return explore_client(lmtp=True)


@pytest.fixture(scope="module")
def joined_paths() -> Paths:
    return explore(Joined, JOINED_ACTIONS)


every_session = pytest.mark.parametrize("session", ["server", "lmtp_server", "client", "lmtp_client", "joined"])


@every_session
def test_every_state_can_be_reached_and_left(session: str, request: pytest.FixtureRequest) -> None:
    paths: Paths = request.getfixturevalue(f"{session}_paths")
    # With client and server joined, a whole chunk is one action, so no action ends in these states.
    passing = {State.CHUNK, State.LAST_CHUNK} if session == "joined" else set()

    assert set(State) - passing - paths.states == set(), "unreachable"
    assert paths.without_way_to(State.CLOSED) == set(), "no way to CLOSED"
    assert paths.without_way_to(State.READY) <= {State.REFUSED, State.CLOSED}, "no way back to READY"


def is_drawn(move: Move) -> bool:
    """Return whether the diagrams show this transition. Transitions by a 421 and by closing are not shown."""
    return move in MOVES and move[2] is not ReplyClass.GOODBYE and move[1] is not Step.CLOSE


def test_server_makes_exactly_the_transitions_of_its_diagram(server_paths: Paths, lmtp_server_paths: Paths) -> None:
    with_tls = Server(EVERYTHING, implicit_tls=True)
    with_tls.tls_established()
    made = server_paths.moves[Role.SERVER] | lmtp_server_paths.moves[Role.SERVER] | with_tls.moves
    assert set(filter(is_drawn, made)) == {move for move in MOVES if is_drawn(move) and takes(Role.SERVER, move)}


def test_client_makes_exactly_the_transitions_of_its_diagram(client_paths: Paths, lmtp_client_paths: Paths) -> None:
    with_tls = Client(ClientConfig(hostname="c.example"), implicit_tls=True)
    with_tls.tls_established()
    made = client_paths.moves[Role.CLIENT] | lmtp_client_paths.moves[Role.CLIENT] | with_tls.moves
    assert set(filter(is_drawn, made)) == {move for move in MOVES if is_drawn(move) and takes(Role.CLIENT, move)}


def test_each_state_of_an_end_can_close(server_paths: Paths, client_paths: Paths) -> None:
    for paths in (server_paths, client_paths):
        closing = {state for moves in paths.moves.values() for state, cause, _ in moves if cause is Step.CLOSE}
        assert closing == set(State)
