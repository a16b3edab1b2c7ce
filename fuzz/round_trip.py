"""Any session between our client and our server: each end receives what the other sent, and their states agree.

Neither end reports a protocol error, because each end refuses to send anything invalid.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

from smtpcore import (
    NEED_DATA,
    NEED_TLS,
    OFF_BY_DEFAULT,
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
from tests.helpers import BODY_EVENTS
from tests.playbook import NEED_NO_REPLY

from .client import NAME, choose
from .harness import ALL, Draw
from .server import ANSWERS, reply_to

UNSAID = (ConnectionOpened, ConnectionClosed, ChunkEnd, *BODY_EVENTS)
"""Events of the server that are not compared with the client's requests. Bodies are compared as octets."""


SERVERS = [replace(ALL, bodies=Bodies.CHUNKS, disabled=disabled) for disabled in (frozenset(), OFF_BY_DEFAULT)]


def is_done(event: Event) -> bool:
    """Return whether `event` is an AUTH that the client's first message completes, so that no challenge may follow."""
    return isinstance(event, Auth) and event.initial_response is not None and event.mechanism in ("PLAIN", "EXTERNAL")


class Pair:
    """A client and a server that are connected, with a record of what each sent and received."""

    def __init__(self, draw: Draw) -> None:
        bits = draw.byte()
        config = ClientConfig(hostname=NAME, plaintext_auth=True, pipelining=not bits & 1, max_text_line=None)
        self.client = ClientConnection(config)
        self.server = Connection(SERVERS[bits >> 1 & 1])
        self.size = 1 + draw.byte()
        """The size in octets of the segments in which data arrives at the other end."""
        self.said: list[Request] = []
        self.heard: list[Event] = []
        self.given: deque[Reply] = deque()
        """Replies that the server sent and the client did not receive yet."""
        self.bodies = bytearray()
        """The octets of all bodies that the server received."""

    def say(self, request: Request) -> bool:
        """Send the request if the client allows it. Return whether it was sent."""
        try:
            self.client.send(request)
        except LocalProtocolError:
            return False

        self.said.append(request)
        return True

    def settle(self, choices: Iterator[int]) -> None:
        """Deliver octets in both directions until none are left."""
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
        """Close the connection after the server's last reply. A client that waits for more replies reports an error."""
        self.client.receive_data(b"")
        try:
            self.client.next_event()
        except RemoteProtocolError:
            assert len(self.said) > len(self.heard)

    def pieces(self, octets: bytes) -> list[bytes]:
        """Return `octets` in segments."""
        return [octets[at : at + self.size] for at in range(0, len(octets), self.size)]

    def listen(self, choices: Iterator[int]) -> None:
        """Let the server process its input and send replies."""
        while not isinstance(event := self.server.next_event(), Signal | ConnectionClosed):
            is_end_of_chunk = isinstance(event, DataEnd | InvalidData) and self.server.state is not State.DATA
            if not isinstance(event, UNSAID) and not is_end_of_chunk:
                self.heard.append(event)
            if isinstance(event, BODY_EVENTS):
                self.bodies += event.data
            while not isinstance(event, NEED_NO_REPLY) and self.server.replies_owed:
                # A positive reply to most events lets the session proceed.
                wish = None if isinstance(event, ConnectionOpened) else ANSWERS[next(choices) % 32 % len(ANSWERS)]
                if wish and wish.challenge is not None and is_done(event):
                    wish = None
                self.given.append(reply_to(self.server, event, wish))

    def take_replies(self) -> None:
        """Let the client process its input, and check that it receives the sent replies in order."""
        while not isinstance(event := self.client.next_event(), Signal | ConnectionClosed):
            assert isinstance(event, Answered)
            assert event.reply == self.given.popleft()

        assert event in (NEED_DATA, NEED_TLS, ConnectionClosed())

    def compare(self) -> None:
        """Check that both ends have the same view of the session."""
        said = [request for request in self.said if not isinstance(request, BODY_EVENTS)]
        for request, event in zip(said, self.heard, strict=False):
            if isinstance(event, InvalidCommand):
                # The client sent this request before it received the reply that made the request invalid.
                is_secret = isinstance(request, Auth | AuthResponse)
                assert not isinstance(request, DataEnd)
                assert is_secret or event.line == request.encode().removesuffix(b"\r\n")
            else:
                assert event == request or (isinstance(event, InvalidData) and isinstance(request, DataEnd))

        # The client may have added CR LF to the last line, or held back a CR whose LF has not followed.
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
    """Run a session between both ends."""
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
