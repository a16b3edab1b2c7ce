"""Drive a client's connection with the output of a scripted server, without I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from smtpcore import (
    Answered,
    ClientConfig,
    ClientConnection,
    ConnectionClosed,
    Ehlo,
    Lhlo,
    Mail,
    Params,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
)

from .helpers import bytewise

CLIENT = ClientConfig(hostname="c.example")
GREETING = b"220 s.example ESMTP\r\n"
HELLO = Ehlo("c.example")
OK = b"250 OK\r\n"

Step = Request | bytes | tuple[Request, ...]
Cut = Callable[[bytes], list[bytes]]


def mail(sender: str = "a@c.example", **params: object) -> Mail:
    return Mail(Path(sender), Params({keyword.replace("_", "-"): value for keyword, value in params.items()}))


def rcpt(recipient: str = "u@s.example", **params: object) -> Rcpt:
    return Rcpt(Path(recipient), Params(params))


def offer(*keywords: str) -> bytes:
    """Return a positive reply to EHLO."""
    return Reply(250, "s.example", *keywords).encode()


@dataclass
class Outcome:
    conn: ClientConnection
    events: list[Answered | ConnectionClosed] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """The octets of each step of the client."""
    error: str = ""

    @property
    def codes(self) -> list[int]:
        return [event.reply.code for event in self.events if isinstance(event, Answered)]

    @property
    def answered(self) -> list[Answered]:
        return [event for event in self.events if isinstance(event, Answered)]

    def receive(self, segments: Iterable[bytes]) -> None:
        """Feed `segments`, and collect all events after each."""
        try:
            for segment in segments:
                self.conn.receive_data(segment)
                while not isinstance(event := self.conn.next_event(), Signal):
                    self.events.append(event)
                    if isinstance(event, ConnectionClosed):
                        return
        except RemoteProtocolError as exc:
            self.error = str(exc)

    def send(self, step: Request | tuple[Request, ...]) -> None:
        for request in step if isinstance(step, tuple) else (step,):
            self.conn.send(request)
        self.sent.append(self.conn.data_to_send())


def whole(data: bytes) -> list[bytes]:
    return [data]


def play(*script: Step, cut: Cut = whole, tls: bool = False, **changes: Any) -> Outcome:
    """Let a client send the requests and receive the octets of `script`, in order, up to the first error."""
    outcome = Outcome(ClientConnection(replace(CLIENT, **changes)))
    if tls:
        outcome.conn.tls_established()
    for step in script:
        if isinstance(step, bytes):
            outcome.receive(cut(step) if step else [b""])
        else:
            outcome.send(step)
        if outcome.error:
            break
    return outcome


def play_both_ways(*script: Step, **changes: Any) -> Outcome:
    """Run `play` with the octets of the server whole and one by one, and compare."""
    outcome = play(*script, **changes)
    piecewise = play(*script, cut=bytewise, **changes)
    assert (piecewise.events, piecewise.sent, piecewise.error) == (outcome.events, outcome.sent, outcome.error)
    assert piecewise.conn.state is outcome.conn.state
    return outcome


def after_ehlo(*keywords: str, tls: bool = False, **changes: Any) -> Outcome:
    """Return a client whose hello was accepted with these keywords."""
    lmtp = changes.get("lmtp", False)
    outcome = play(GREETING, Lhlo("c.example") if lmtp else HELLO, offer(*keywords), tls=tls, **changes)
    outcome.events.clear()
    outcome.sent.clear()
    return outcome
