"""One notation for dialogues: the octets of the peer, and the events and replies of the tested end, in one chain.

    server(RCPT).send(b"DATA\r\n").expect(354).send(b"x\r\n.\r\n").expect(DataLine(b"x\r\n"), DataEnd(), 250)
    client("PIPELINING").ask(mail(), rcpt()).wire(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\n")

`send` plays the peer, and `ask` gives requests to a client. `expect` compares everything that the tested end has done
since the last `expect`, and `wire` the octets that a client has written since the last `wire`. The items of `expect`:

- a number is the code of a reply;
- a string is the text of a reply, its lines joined by newlines. `...` stands for any text: `"250 2.1.5 ..."`;
- a `Reply` is this reply;
- an event, or a class of events;
- a `RemoteProtocolError`, with a message in which `...` stands for any text, or the class.

If all items are replies, events are ignored, and the other way around. Items of both kinds are compared in order: a
reply follows its event. Errors are always compared. `expect()` says that nothing has happened. The properties `events`,
`replies` and `codes` have the same record, for assertions that a chain cannot express.

Each dialogue is played several times, and all runs must agree: with the segments of `send`; octet by octet; and, for a
server, with a command after the octets of `send`, so that it is certain where a command or a body ends. For a dialogue
whose outcome depends on the segments, pass `cut=False`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final, Generic, Self, TypeVar

from smtpcore import (
    EXTENSIONS,
    Answered,
    Bdat,
    BodyAborted,
    ChunkEnd,
    ClientConfig,
    ClientConnection,
    ClientEvent,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Event,
    Extension,
    HeaderEnd,
    InvalidCommand,
    InvalidData,
    Mail,
    Noop,
    Params,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Request,
    Signal,
    StartTls,
    State,
    Wait,
)

from .helpers import bytewise, pieces, replies

E = TypeVar("E")
C = TypeVar("C", bound=Connection | ClientConnection)

CONFIG: Final = Config(hostname="s.example", max_errors=None, max_idle_commands=None)
CLIENT: Final = ClientConfig(hostname="c.example")

# The octets that lead a server into a state. Each includes the previous one.
GREETED: Final = b""
READY: Final = b"EHLO c.example\r\n"
MAIL: Final = READY + b"MAIL FROM:<a@c.example>\r\n"
RCPT: Final = MAIL + b"RCPT TO:<u@s.example>\r\n"
DATA: Final = RCPT + b"DATA\r\n"
HELO: Final = b"HELO c.example\r\n"

# Octets that a server sends.
GREETING: Final = b"220 s.example ESMTP\r\n"
OK: Final = b"250 OK\r\n"
GO_AHEAD: Final = b"354 go on\r\n"
HELLO: Final = Ehlo("c.example")

NEED_NO_REPLY: Final = (DataLine, DataChunk, HeaderEnd, Bdat, BodyAborted)
"""Events that need no reply."""

MOST_CUT: Final = 20_000
"""Octets up to which a dialogue is played octet by octet; a longer dialogue is cut into pieces of 7 octets."""


# Answers of a server

Answer = Callable[[Connection, Event], Reply | None]
"""Returns the reply to an event, or None after passing the part that a BURL requests to the connection."""


def accept(conn: Connection, event: Event) -> Reply:
    """Answer as a server that accepts all mail."""
    match event:
        case Rcpt():
            return Reply(250, "Recipient taken", enhanced="2.1.5")
        case DataEnd():
            return Reply(250, "Message taken", enhanced="2.6.0")
        case _:
            return conn.default_reply(event)


def refuse(conn: Connection, event: Event) -> Reply:
    """Answer as a server without handlers."""
    return conn.default_reply(event)


def answer_with(kind: type[Event], reply: Reply) -> Answer:
    """Return an `Answer` that gives `reply` to events of one kind and accepts all others."""
    return lambda conn, event: reply if isinstance(event, kind) else accept(conn, event)


def exchange(conn: Connection, answer: Answer = accept) -> Iterator[Event | Reply]:
    """Yield each event and then the reply that was sent to it, until no event is left."""
    while not isinstance(event := conn.next_event(), Signal | ConnectionClosed):
        yield event
        if not isinstance(event, NEED_NO_REPLY):
            for _ in range(conn.replies_owed):
                if reply := answer(conn, event):
                    yield conn.send(reply)
    if isinstance(event, ConnectionClosed):
        yield event


def take_events(conn: Connection, answer: Answer = accept) -> Iterator[Event]:
    """Yield each event, and answer the events that need a reply, until no event is left."""
    return (item for item in exchange(conn, answer) if not isinstance(item, Reply))


# Requests of a client


def mail(sender: str = "a@c.example", **params: object) -> Mail:
    return Mail(Path(sender), Params({keyword.replace("_", "-"): value for keyword, value in params.items()}))


def rcpt(recipient: str = "u@s.example", **params: object) -> Rcpt:
    return Rcpt(Path(recipient), Params(params))


def offer(*keywords: str) -> bytes:
    """Return a positive reply to EHLO."""
    return Reply(250, "s.example", *keywords).encode()


# Comparing


class Playbook(Generic[E]):
    """A dialogue with one end of a session. `record` has what this end has done: events, texts of replies, errors."""

    def __init__(self) -> None:
        self.record: list[object] = []
        self._start = 0
        """The place in `record` of the first item after the last `expect`."""

    def _collect(self, items: Sequence[object]) -> None:
        """Add the new events, replies and errors to `record`. `items` are the expected items."""

    def expect(self, *items: object) -> Self:
        """Compare `items` with all that has happened since the last call."""
        __tracebackhide__ = True
        kinds = {kind_of(item) for item in items}
        self._collect(items)
        new = self.record[self._start :]
        found = [item for item in new if not items or kinds & kinds_of(item)]
        compare(items, found, "the dialogue is not as expected")
        self._start = len(self.record)
        return self

    def skip(self) -> Self:
        """Forget the replies and events since the last `expect`; raise an error that is among them."""
        self._new()
        self._start = len(self.record)
        return self

    def _new(self) -> list[object]:
        """Return the items since the last `expect`.

        Raise an error that is among them, because no `expect` named this error.
        """
        self._collect(())
        new = self.record[self._start :]
        for item in new:
            if isinstance(item, RemoteProtocolError):
                raise item
        return new

    @property
    def events(self) -> list[E]:
        """The events since the last `expect`. Adjacent chunks of a body are merged."""
        return [item for item in self._new() if "event" in kinds_of(item)]  # type: ignore[misc]

    @property
    def replies(self) -> list[str]:
        """The replies since the last `expect`: texts with codes, lines joined by newlines."""
        return [text for text in map(text_of, self._new()) if text is not None]

    @property
    def codes(self) -> list[int]:
        """The codes of the replies since the last `expect`."""
        return [int(text[:3]) for text in self.replies]


def text_of(found: object) -> str | None:
    """Return the text of a reply, or of the reply in an `Answered`; None for other items of a record."""
    return found if isinstance(found, str) else str(found.reply) if isinstance(found, Answered) else None


def kinds_of(found: object) -> set[str]:
    """Return whether an item of a record is a reply, an event, both (at a client), or an error."""
    match found:
        case str():
            return {"reply"}
        case Answered():
            return {"reply", "event"}
        case Exception():
            return {"reply", "event", "error"}
        case _:
            return {"event"}


def kind_of(item: object) -> str:
    """Return the kind of an expected item."""
    match item:
        case int() | str() | Reply():
            return "reply"
        case Exception():
            return "error"
        case type():
            return "error" if issubclass(item, Exception) else "event"
        case bytes() | None | list() | tuple():
            raise TypeError(f"{item!r} cannot be expected: give codes, replies or events")
        case _:
            return "event"


def is_met(item: object, found: object) -> bool:
    """Return whether an item of a record is the expected one."""
    text = text_of(found)
    match item:
        case int():
            return text is not None and int(text[:3]) == item
        case str():
            return text is not None and is_like(item, text)
        case Reply():
            return found.reply == item if isinstance(found, Answered) else str(item) == text
        case Exception():
            return type(found) is type(item) and is_like(str(item), str(found))
        case type():
            return isinstance(found, item)
        case _:
            return found == item


def is_like(pattern: str, text: str) -> bool:
    """Return whether `text` is `pattern`, in which `...` stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), text, re.DOTALL) is not None


def compare(expected: Sequence[object], found: Sequence[object], why: str) -> None:
    """Fail, and show both records side by side, unless each found item is the expected one."""
    __tracebackhide__ = True
    missing = object()
    pairs = list(zip_longest(expected, found, fillvalue=missing))
    if all(missing not in pair and is_met(*pair) for pair in pairs):
        return

    lines = [f"{why}:"]
    for item, other in pairs:
        is_same = missing not in (item, other) and is_met(item, other)
        lines += [f"    {other!r}"] if is_same else []
        lines += [f"  - {item!r}"] if not is_same and item is not missing else []
        lines += [f"  + {other!r}"] if not is_same and other is not missing else []
    raise AssertionError("\n".join(lines) + "\n(-: expected, +: found)")


# Connections without I/O


class Run(Generic[C]):
    """A connection, and what it has done: the same items as in `Playbook.record`, and the octets that it wrote."""

    def __init__(self, connection: C, take: Callable[[C], Iterator[object]]) -> None:
        self.connection = connection
        self.record: list[object] = []
        self.output = b""
        self._take = take
        self._is_over = False

    def receive(self, segments: Iterable[bytes]) -> None:
        """Receive `segments`, and take all events after each, up to the end of the session or an error."""
        try:
            self._pump()
            for segment in segments:
                if not self._is_over:
                    self.connection.receive_data(segment)
                    self._pump()
        except RemoteProtocolError as exc:
            self._is_over = True
            self.record.append(exc)
        self.write()

    def write(self) -> None:
        self.output += self.connection.data_to_send()

    def _pump(self) -> None:
        for item in () if self._is_over else self._take(self.connection):
            last = self.record[-1] if self.record else None
            if isinstance(item, DataChunk) and isinstance(last, DataChunk):
                self.record[-1] = DataChunk(last.data + item.data)
            else:
                self.record.append(str(item) if isinstance(item, Reply) else item)
            self._is_over = isinstance(item, ConnectionClosed)


Step = Callable[[Run[C], bool], None]
"""A step of a dialogue: takes a run, and whether this run cuts its input into octets."""


class ConnectionPlaybook(Playbook[E], Generic[C, E]):
    """A dialogue with a connection: one run with the given segments, and another one octet by octet."""

    def __init__(self, make: Callable[[], Run[C]], *, cut: bool) -> None:
        super().__init__()
        self._make = make
        self._run = make()
        self._others = [make()] if cut else []
        self._steps: list[Step[C]] = []
        self._written = 0
        """Octets of the output up to the last `expect` of a server or `wire` of a client."""
        self.record = self._run.record

    @property
    def connection(self) -> C:
        """The connection of the first run. After calling its methods, send nothing more, except with `cut=False`."""
        return self._run.connection

    @property
    def state(self) -> State:
        return self.connection.state

    @property
    def output(self) -> bytes:
        """The octets that have been written: by a server since the last `expect`, by a client since the last `wire`."""
        return self._run.output[self._written :]

    def send(self, *segments: bytes) -> Self:
        """Let the peer send `segments`, one after the other."""
        __tracebackhide__ = True
        assert all(segments), "an empty segment is the end of the stream: say end()"
        return self._do(lambda run, cut: run.receive(in_octets(b"".join(segments)) if cut else segments))

    def end(self) -> Self:
        """End the stream of the peer."""
        __tracebackhide__ = True
        return self._do(lambda run, cut: run.receive([b""]))

    def start_tls(self) -> Self:
        """Complete a TLS handshake: after a 220 to STARTTLS, or before the greeting."""
        return self._do(lambda run, cut: run.connection.tls_established())

    def skip(self) -> Self:
        self._written = len(self._run.output)
        return super().skip()

    def _do(self, step: Step[C]) -> Self:
        __tracebackhide__ = True
        self._steps.append(step)
        step(self._run, False)
        for other in self._others:
            step(other, True)
            compare(self._run.record, other.record, "octet by octet, the dialogue is another one")
            assert other.output == self._run.output
            assert other.connection.state is self.state
        return self


def in_octets(data: bytes) -> list[bytes]:
    return bytewise(data) if len(data) <= MOST_CUT else pieces(data, 7)


class ServerPlaybook(ConnectionPlaybook[Connection, Event]):
    """A dialogue with a `Connection`."""

    def _collect(self, items: Sequence[object]) -> None:
        assert [text for _, text in replies(self._run.output)] == [text for text in self.record if type(text) is str]

    def expect(self, *items: object) -> Self:
        __tracebackhide__ = True
        super().expect(*items)
        self._written = len(self._run.output)
        return self

    def send(self, *segments: bytes) -> Self:
        __tracebackhide__ = True
        super().send(*segments)
        if self._others and segments and self._may_be_followed(segments[-1]):
            self._check_following_command(*segments)
        return self

    def _may_be_followed(self, data: bytes) -> bool:
        """Return whether another command may be appended to `data` without becoming a part of it."""
        if self.state in (State.CLOSED, State.DATA):
            return True
        if self.connection.waiting_for is not Wait.COMMAND or self.connection.trailing_data:
            return False

        events = [item for item in self.record if type(item) is not str]
        match events[-1]:
            case StartTls():
                return False  # RFC 3207 section 4: STARTTLS is the last command of its group
            case ChunkEnd() | DataEnd() | InvalidData():
                return True
            case InvalidCommand(line) if line.upper().startswith(b"BDAT"):
                return True
            case _:
                return data.endswith(b"\r\n")

    def _check_following_command(self, *segments: bytes) -> None:
        """Play the dialogue again, with NOOP after the last segment: nothing else may change."""
        __tracebackhide__ = True
        run = self._make()
        for step in self._steps[:-1]:
            step(run, False)
        run.receive([*segments[:-1], segments[-1] + b"NOOP\r\n"])

        same = self.record
        if self.state is State.DATA:
            said = [text for text in run.record if type(text) is str]
            same, run.record = [text for text in same if type(text) is str], list(said)
        elif self.state is not State.CLOSED:
            following = run.record[len(same) :]
            assert len(following) >= 2, f"a command after these octets is not answered: {run.record}"
            event, text = following[:2]
            is_refused = isinstance(event, InvalidCommand) and (
                self.state is State.REFUSED or event.rule.startswith("max_")
            )
            assert event == Noop() or is_refused, f"a command after these octets is another one: {run.record}"
            same = [*same, event, text, *([ConnectionClosed()] if run.connection.state is State.CLOSED else [])]
        compare(same, run.record, "with a command after these octets, the dialogue is another one")


def new_server(
    *,
    answer: Answer = accept,
    config: Config = CONFIG,
    extensions: Sequence[Extension] = EXTENSIONS,
    implicit_tls: bool = False,
    cut: bool = True,
    **changes: Any,
) -> ServerPlaybook:
    """Return a dialogue with a server before its greeting. `changes` replace fields of the configuration."""

    def make() -> Run[Connection]:
        conn = Connection(replace(config, **changes), extensions=extensions, implicit_tls=implicit_tls)
        return Run(conn, lambda conn: exchange(conn, answer))

    return ServerPlaybook(make, cut=cut)


def server(before: bytes = GREETED, **options: Any) -> ServerPlaybook:
    """Return a dialogue with a server that has received and answered `before`, whose replies are not compared.

    `options` are those of `new_server`.
    """
    book = new_server(**options)
    return book._do(lambda run, cut: run.receive([before] if before else [])).skip()


class ClientPlaybook(ConnectionPlaybook[ClientConnection, ClientEvent]):
    """A dialogue with a `ClientConnection`."""

    def ask(self, *requests: Request) -> Self:
        """Let the client send `requests`, and write them at once."""
        __tracebackhide__ = True

        def step(run: Run[ClientConnection], cut: bool) -> None:
            for request in requests:
                run.connection.send(request)
            run.write()

        return self._do(step)

    def wire(self, octets: bytes) -> Self:
        """Compare `octets` with all that the client has written since the last call."""
        __tracebackhide__ = True
        assert self.output == octets
        self._written = len(self._run.output)
        return self

    @property
    def answered(self) -> list[Answered]:
        """The replies since the last `expect`, with their requests."""
        return [event for event in self.events if isinstance(event, Answered)]


def new_client(
    *,
    config: ClientConfig = CLIENT,
    extensions: Sequence[Extension] = EXTENSIONS,
    implicit_tls: bool = False,
    cut: bool = True,
    **changes: Any,
) -> ClientPlaybook:
    """Return a dialogue with a client before the greeting. `changes` replace fields of the configuration."""

    def make() -> Run[ClientConnection]:
        conn = ClientConnection(replace(config, **changes), extensions=extensions, implicit_tls=implicit_tls)
        return Run(conn, take_replies)

    return ClientPlaybook(make, cut=cut)


def take_replies(conn: ClientConnection) -> Iterator[ClientEvent]:
    """Yield each event of a client, until no event is left."""
    while not isinstance(event := conn.next_event(), Signal):
        yield event
        if isinstance(event, ConnectionClosed):
            return


def client(*keywords: str, at: State = State.READY, tls: bool = False, **options: Any) -> ClientPlaybook:
    """Return a dialogue with a client whose EHLO or LHLO was accepted, with these keywords.

    `at` is READY, or a later state, after the usual commands up to it were accepted: MAIL, RCPT or DATA. `options` are
    those of `new_client`.
    """
    book = new_client(implicit_tls=tls, **options)
    if tls:
        book.start_tls()
    book.send(GREETING).ask(book.connection.hello).send(offer(*keywords))
    for state, request, reply in _WAY:
        if book.state is at:
            break
        book.ask(request).send(reply)
        assert book.state is state
    assert book.state is at
    return book.skip()


_WAY: Final = ((State.MAIL, mail(), OK), (State.RCPT, rcpt(), OK), (State.DATA, Data(), GO_AHEAD))
"""The states after EHLO, each with the request and the reply that lead to it."""
