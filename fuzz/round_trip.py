"""Whatever our client says to our server, and is answered: each hears what the other said, and both stand at one place.

Neither finds fault with the other, as both see to it that they make none.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

from smtpcore import (
    NEED_DATA,
    OFF_BY_DEFAULT,
    PAUSED,
    Answered,
    Auth,
    AuthResponse,
    Bodies,
    ChunkEnd,
    ClientConfig,
    ClientConnection,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    DataEnd,
    Event,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
    State,
)
from tests.helpers import BODY_EVENTS, NEED_NO_REPLY

from .client import NAME, choose
from .harness import ALL, Draw
from .server import ANSWERS, reply_to

UNSAID = (ConnectionOpened, ConnectionClosed, ChunkEnd, *BODY_EVENTS)
"""What a server hears without its being said in so many words."""


SERVERS = [replace(ALL, bodies=Bodies.CHUNKS, disabled=disabled) for disabled in (frozenset(), OFF_BY_DEFAULT)]


def is_done(event: Event) -> bool:
    """Whether a mechanism has nothing more to ask (RFC 4616, RFC 4422): a client may have gone on, trusting in that."""
    return isinstance(event, Auth) and event.initial_response is not None and event.mechanism in ("PLAIN", "EXTERNAL")


class Pair:
    """Both ends, and what each has said and heard."""

    def __init__(self, draw: Draw) -> None:
        bits = draw.byte()
        config = ClientConfig(hostname=NAME, plaintext_auth=True, pipelining=not bits & 1, max_text_line=None)
        self.client = ClientConnection(config)
        self.server = Connection(SERVERS[bits >> 1 & 1])
        self.size = 1 + draw.byte()
        """Octets of the pieces in which the octets of one arrive at the other."""
        self.said: list[Request] = []
        self.heard: list[Event] = []
        self.given: deque[Reply] = deque()
        """Replies that are still under way."""
        self.bodies = bytearray()
        """The octets of all bodies that were heard."""

    def say(self, request: Request) -> bool:
        """Say it if it may be said. Returns whether it was."""
        try:
            self.client.send(request)
        except LocalProtocolError:
            return False

        self.said.append(request)
        return True

    def settle(self, choices: Iterator[int]) -> None:
        """Carry octets both ways until nothing is under way."""
        self.listen(choices)
        while True:
            there = self.client.data_to_send()
            for piece in self.pieces(there):
                self.server.receive_data(piece)
                self.listen(choices)
            back = self.server.data_to_send()
            for piece in self.pieces(back):
                self.client.receive_data(piece)
                self.take_replies()
            if not there and not back:
                break

        assert not self.given
        if self.server.state is State.CLOSED:
            self.hang_up()
        if self.server.state is State.TLS:
            self.client.tls_established()
            self.server.tls_established()

    def hang_up(self) -> None:
        """The server closes the connection behind its last reply, which need not say so to a client (521)."""
        self.client.receive_data(b"")
        try:
            self.client.next_event()
        except RemoteProtocolError:
            assert len(self.said) > len(self.heard)

    def pieces(self, octets: bytes) -> list[bytes]:
        """`octets` as they arrive."""
        return [octets[at : at + self.size] for at in range(0, len(octets), self.size)]

    def listen(self, choices: Iterator[int]) -> None:
        """The server takes what it hears, and answers."""
        while not isinstance(event := self.server.next_event(), Signal | ConnectionClosed):
            is_end_of_chunk = isinstance(event, DataEnd | InvalidData) and self.server.state is not State.DATA
            if not isinstance(event, UNSAID) and not is_end_of_chunk:
                self.heard.append(event)
            if isinstance(event, BODY_EVENTS):
                self.bodies += event.data
            while not isinstance(event, NEED_NO_REPLY) and self.server.replies_owed:
                # Without this neither would get far.
                wish = None if isinstance(event, ConnectionOpened) else ANSWERS[next(choices) % 32 % len(ANSWERS)]
                if wish and wish.challenge is not None and is_done(event):
                    wish = None
                self.given.append(reply_to(self.server, event, wish))

    def take_replies(self) -> None:
        """The client takes the replies, which are those that were given, in order."""
        while not isinstance(event := self.client.next_event(), Signal | ConnectionClosed):
            assert isinstance(event, Answered)
            assert event.reply == self.given.popleft()

        assert event in (NEED_DATA, PAUSED, ConnectionClosed())

    def compare(self) -> None:
        """Everything arrived, and as it was meant."""
        said = [request for request in self.said if not isinstance(request, BODY_EVENTS)]
        for request, event in zip(said, self.heard, strict=False):
            if isinstance(event, InvalidCommand):
                # It was sent in the hope of another reply to what went before.
                is_secret = isinstance(request, Auth | AuthResponse)
                assert not isinstance(request, DataEnd)
                assert is_secret or event.line == request.encode().removesuffix(b"\r\n")
            else:
                assert event == request or (isinstance(event, InvalidData) and isinstance(request, DataEnd))

        # A last line without its end was given one; a CR that never got its LF may have been held back.
        sent = b"".join(request.data for request in self.said if isinstance(request, BODY_EVENTS))
        if self.client.state is State.READY and all(isinstance(event, Request) for event in self.heard):
            assert self.bodies.translate(None, b"\r\n") == sent.translate(None, b"\r\n")

        client, server = self.client, self.server
        assert client.state is server.state
        if client.state is State.CLOSED:
            return

        assert len(self.heard) in (len(said), len(said) - bool(client.octets_left))
        assert (client.helo, client.tls, client.authenticated) == (server.helo, server.tls, server.authenticated)
        assert client.transaction == server.transaction


def test_one_input(data: bytes) -> None:
    """Hold one session between both ends."""
    draw = Draw(data)
    pair = Pair(draw)
    choices = cycle(draw.octets(8))
    pair.settle(choices)
    step = 0
    for choice in draw.rest()[:200]:
        if pair.say(choose(choice & 127, step)):
            step += 1
        if choice & 128:
            pair.settle(choices)
            pair.compare()

    pair.settle(choices)
    pair.compare()
