"""The server's end of a session."""

# The meaning of the next octet depends on the reply to the event before: after 354 it belongs to a body, after 220 to a
# TLS handshake, after 550 to a command. So nothing is parsed ahead. Pipelined input waits in the receive buffer:
# `next_event` takes one event out of it, and the next event only after the reply to the first.
#
# A mistake of the client is an event that carries its reply. A mistake of the caller raises an exception before
# anything has changed: every method first checks, then changes.

from collections import deque
from collections.abc import Sequence
from typing import Final, get_args

from ._bodies._incoming import Body
from ._budgets import Budgets
from ._buffer import LineError, ReceiveBuffer
from ._command import Command, UnknownCommand, set_deviations
from ._commands import HELLOS, Auth, Bdat, Ehlo, Helo, Lhlo, Mail, Rcpt, Rset
from ._config import Bodies, Config
from ._default_replies import SENT_AS_GIVEN, TIMED_OUT, check_reply, complete, default_reply, may_be_utf8, one_for_each
from ._dialects import MAX_AUTH_LINE, compiled
from ._endpoint import Endpoint, Timer, Transaction
from ._errors import LocalProtocolError
from ._events import (
    NEED_DATA,
    NEED_PART,
    NEED_REPLY,
    NEED_TLS,
    AuthResponse,
    BodyAborted,
    ChunkEnd,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    HeaderEnd,
    InvalidData,
    Signal,
    data_lines,
)
from ._extensions._builtin import EXTENSIONS
from ._extensions._burl import Burl
from ._extensions._definition import Extension, ExtensionCommand
from ._extensions._xclient import Xclient
from ._fields import check_argument, check_octets
from ._parser import parse_response
from ._refusals import Refusals
from ._replies import Reply, ReplyClass, ReplyCode
from ._rules import Refusal
from ._state import ALLOWED_REPLIES, IN_BODY, WAITING_FOR, State, Step, Wait, chunk_step, row_of

_DEFAULT_BUDGETS: Final = Budgets()


class Connection(Endpoint[Budgets]):
    """A server's end of one SMTP session, without I/O.

    Pass received octets to `receive_data`, take events with `next_event`, pass each event to `answer` with your reply,
    and write the octets that `data_to_send` returns. With `implicit_tls`, a TLS handshake comes before the greeting
    (RFC 8314 section 3.3): `next_event` returns `NEED_TLS` until `tls_established`. `budgets` limit the waits for the
    client, if you call `tick`.

    Raises `LocalProtocolError` if `extensions` and `config` contradict each other.
    """

    def __init__(
        self,
        config: Config,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        implicit_tls: bool = False,
        budgets: Budgets = _DEFAULT_BUDGETS,
    ) -> None:
        check_argument("config", config, Config)
        check_argument("budgets", budgets, Budgets)
        super().__init__(budgets, extensions, implicit_tls=implicit_tls)
        self._config = config
        self._compiled = compiled(tuple(extensions), config)
        self._refusals = Refusals(config)
        self._dialect = self._compiled.dialects[False, False]
        self._vouched = False
        """Whether the attribute LOGIN of XCLIENT has authenticated the client."""

        self._body: Body | None = None
        self._part: ReceiveBuffer | None = None
        """Octets that the caller fetched for the pending BURL, not yet returned as events."""
        self._lines: deque[DataLine] | deque[BodyAborted] | None = None
        """Lines of the body, or its end by `BodyAborted`, not yet returned."""

        self._replies = 0
        """Replies that the last event still needs; several for the end of a body in LMTP."""
        self._skip = 0
        """Octets of a refused chunk that are still to be discarded."""
        self._refused: Event | None = None
        """The refusal of the chunk that is being discarded, to be returned after the octets of the chunk."""
        self._must_flush = False
        """Whether some of the queued replies must not wait for the replies to later commands."""

    # Properties. Public methods quote aliases of many types: `help()` shows an alias by its name only in quotes.

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._config

    @property
    def replies_owed(self) -> int:
        """Replies that the last event still needs. In LMTP, the end of a body may need several."""
        return self._replies if self._asked else 0

    @property
    def waiting_for(self) -> Wait:
        """The input that the connection waits for, which selects the timeout (RFC 5321 4.5.3.2)."""
        if self._asked:
            return Wait.NOTHING
        if self._state is State.CONNECTED and self._expects_handshake():
            return Wait.TLS
        return Wait.BODY if self._skip else WAITING_FOR[self._state]

    # Receiving

    def next_event(self) -> "Event | Signal":
        """Return the next event from the client, or a signal: `NEED_DATA`, `NEED_REPLY`, `NEED_TLS` or `NEED_PART`.

        Raises `RemoteProtocolError` if the stream ended inside a body, after the event `BodyAborted`.
        """
        if self._lines:
            return self._lines.popleft()
        if self._part is not None:
            return self._read_body(self._part)
        if self._asked is not None:
            return NEED_PART if type(self._asked) is Burl else NEED_REPLY

        state = self._state
        if state in _BETWEEN_LINES:
            return self._read_line() if self._buffer.octets else self._await_data()
        if state in IN_BODY:
            return self._read_body(self._buffer)
        if state is State.CONNECTED and not self._expects_handshake():
            return self._ask(ConnectionOpened())
        if state is State.CLOSED:
            return self._closed()
        return self._await_data() if self._end_of_stream else NEED_TLS

    def receive_part(self, data: bytes | bytearray | memoryview) -> None:
        """Add octets that you have fetched for the pending BURL, in pieces of any size. `b""` ends the part.

        The octets become part of the message: `next_event` returns them like the octets of a chunk, then `NEED_PART`
        until more are added, and after the end the event that needs a reply. If the message cannot be accepted, that
        event is `InvalidData`, and comes early. If the part cannot be fetched completely, refuse the BURL with `send`.
        Raises `LocalProtocolError` if no BURL is pending.
        """
        burl = self._asked
        if not isinstance(burl, Burl) or (self._part is not None and self._body and not self._body.takes_part):
            raise LocalProtocolError("no part is expected: wait for a BURL")

        check_octets(data)
        body = self._open_body()
        if self._part is None:
            self._part = ReceiveBuffer()
            self._refusals.count_idle()
            body.begin_chunk(None, last=burl.last)
            self._advance(chunk_step(last=burl.last))
        self._part.octets += data
        if not data:
            body.end_part(len(self._part.octets))

    def _read_line(self) -> Event | Signal:
        if self._skip:
            self._skip -= len(self._buffer.take_at_most(self._skip))
            if self._skip:
                return self._await_data()
        if self._refused:
            refused, self._refused = self._refused, None
            return self._ask(refused)

        is_response = self._state is State.AUTH
        longest = MAX_AUTH_LINE if is_response else self._compiled.longest_line
        try:
            line = self._buffer.take_line(longest, bare_lf=self._compiled.bare_lf)
        except LineError as exc:
            return self._ask(self._refusals.refuse_line(exc, self._state))
        if line is None:
            return self._await_data()
        if is_response:
            return self._ask(parse_response(line))

        event, octets = self._refusals.examine(line, self._dialect, self._state, self._transaction, self)
        if self._buffer.ended_bare and isinstance(event, Command | UnknownCommand):
            set_deviations(event, ("bare-lf", *event.deviations))
        if type(event) is Bdat:
            return self._begin_chunk(event)
        if octets:
            # RFC 3030 section 2: discard the octets of a refused chunk before its reply.
            self._skip, self._refused = octets, event
            return self._read_line()

        self._asked, self._replies = event, 1
        return event

    def _begin_chunk(self, bdat: Bdat) -> Event | Signal:
        if self._state is State.MAIL:
            # RFC 2033 4.3: without recipients the end of the body has no reply.
            self._advance(Step.DISCARDED_CHUNK)
            self._skip = bdat.size
            return self._read_line()

        # The octets of the chunk follow; the reply answers their end.
        self._advance(chunk_step(last=bdat.last))
        if not bdat.size:
            self._refusals.count_idle()
        self._open_body().begin_chunk(bdat.size, last=bdat.last)
        return bdat

    def _await_data(self) -> Event | Signal:
        if not self._end_of_stream:
            self._must_flush = bool(self._output)  # RFC 2920 3.2 (7), also after part of a line
            return NEED_DATA
        self._advance(Step.CLOSE)
        return self.next_event()  # ConnectionClosed, after the BodyAborted of an open body

    def _read_body(self, buffer: ReceiveBuffer) -> Event | Signal:
        body = self._body
        if body is None:
            raise self._broken("the connection was closed inside a body")

        pieces = body.take(buffer)
        if pieces:
            if self._config.bodies is Bodies.CHUNKS:
                return DataChunk(*pieces)

            self._lines = data_lines(pieces)
            return self._lines.popleft()

        if body.header is not None:
            header, body.header = body.header, None
            return HeaderEnd(header)

        is_part = self._part is not None
        if not body.ended and not (is_part and body.fault):
            if is_part or not self._end_of_stream:
                return NEED_PART if is_part else NEED_DATA

            self._body = None
            return BodyAborted()

        self._part = None
        if self._state is State.CHUNK and not body.fault:
            return self._ask(ChunkEnd())

        self._body = None
        end = InvalidData(body.fault.reply, body.fault.rule) if body.fault else DataEnd()
        return self._ask(end, self._replies_at_end())

    def _replies_at_end(self) -> int:
        # RFC 2033 4.2: in LMTP the end of a message has a reply for each recipient.
        transaction = self._transaction if self._config.lmtp and self._state is not State.CHUNK else None
        return len(transaction.recipients) if transaction else 1

    def _ask(self, event: Event, replies: int = 1) -> Event:
        self._asked, self._replies = event, replies
        return event

    # Replying

    def answer(self, event: "Event", *replies: Reply) -> tuple[Reply, ...]:
        """Answer an event of `next_event` with your reply, or without `replies` like a server without handlers.

        Pass every event to this method: it does nothing for events that need no reply, such as `Bdat`. The end of a
        message in LMTP needs a reply for each recipient; a single reply is then used for all of them. Returns the
        replies as they are sent. Raises `LocalProtocolError` as `send` does, and if `event` does not wait for a reply.
        """
        if event is not self._asked:
            if replies or type(event) in ALLOWED_REPLIES or isinstance(event, ExtensionCommand):
                raise LocalProtocolError(f"{type(event).__name__} does not wait for a reply: take the next event first")
            if not isinstance(event, _EVENTS):
                check_argument("event", event, Event)
            return ()

        wanted = one_for_each(replies or (self.default_reply(event),), self._replies)
        for reply in wanted[1:]:
            self._complete(self._check_reply(reply), reply)  # all replies are checked before the first is sent

        sent = []
        for reply in wanted:
            sent.append(self.send(reply))
            if reply.reply_class is ReplyClass.GOODBYE:
                break  # a 421 also answers for the other recipients

        return tuple(sent)

    def may_send(self, reply: Reply) -> bool:
        """Return whether `send` accepts this reply now, for example a 421 when your program stops."""
        try:
            return bool(self._complete(self._check_reply(reply), reply))
        except LocalProtocolError:
            return False

    def send(self, reply: Reply) -> Reply:
        """Answer the pending event, or end the session with a 421 or 521 although no event is pending.

        Such a 421 is possible until the session is over, except while a TLS handshake is due: before the greeting with
        `implicit_tls`, and from the 220 to STARTTLS until `tls_established`.

        Returns the reply as it is sent: with the keywords after a positive reply to EHLO, with the host's name (RFC
        5321 4.2) and with an enhanced status code (RFC 2034). Raises `LocalProtocolError` if no event is pending, or if
        a reply with this code or text cannot answer the event. The connection is unchanged then.
        """
        asked, given = self._asked, reply
        kind: type[object] = type(asked)
        is_complete = reply.__class__ is Reply and reply.is_complete and self._compiled.enhances
        if asked is None or not is_complete or (kind, reply.code) not in SENT_AS_GIVEN:
            asked = self._check_reply(reply)
            reply = self._complete(asked, reply)
            kind = row_of(asked)

        self._replies -= 1
        self._must_flush = (self._must_flush and bool(self._output)) or kind not in _MAY_WAIT
        self._output.append(reply.octets)
        if not reply.is_positive or kind not in self._refusals.uncounted:
            self._refusals.count_reply(asked, given)
        if self._replies <= 0 or reply.reply_class is ReplyClass.GOODBYE:
            self._asked = None
            self._advance(kind, reply.reply_class)
            if reply.is_positive and kind in _WITH_EFFECT:
                self._accept(asked, reply)

        return reply

    def refuse_body(self, reply: Reply, *, at_once: bool = False) -> Reply:
        """Refuse the message whose body is being received. Return the reply as it is sent.

        The rest of the body, or of its current chunk, is discarded; its end is `InvalidData` with this reply. Between
        two chunks, the next chunk is refused (RFC 3030 section 2). With `at_once`, the reply is sent now, and the
        session ends: a client that reads nothing while it sends may not receive the reply. Raises `LocalProtocolError`
        if no body is being received, or if the reply cannot refuse a message. Nothing has changed then.
        """
        if not self._body or (self._state is State.CHUNKED and at_once) or (self._asked and self._part is None):
            raise LocalProtocolError("no body is being received: answer the event with send()")

        asked = InvalidData(reply, "program")
        check_reply(asked, reply)
        completed = self._complete(asked, reply)
        self._lines = None
        if at_once:
            self._output += [completed.octets] * self._replies_at_end()
            self._must_flush = True
            self._advance(Step.CLOSE)
        else:
            self._body.refuse(Refusal(asked.rule, reply))

        return completed

    def default_reply(self, event: "Event") -> Reply:
        """Return the reply of a server without handlers, which refuses every recipient and every message.

        Raises `LocalProtocolError` for an event that needs no reply.
        """
        return default_reply(event, self._authenticated)

    def _check_reply(self, reply: Reply) -> Event:
        if reply.__class__ is not Reply:
            check_argument("reply", reply, Reply)
        asked = self._asked
        if asked is None:
            if self._state is State.CLOSED or self._expects_handshake():
                raise LocalProtocolError(f"no reply can be sent in {self._state}: the plaintext session is over")
            if reply.reply_class is not ReplyClass.GOODBYE:
                raise LocalProtocolError("no event needs a reply: take the next event first")

            asked = ConnectionOpened()  # RFC 5321 3.8: a 421 needs no command, like a negative greeting
        check_reply(asked, reply)
        return asked

    def _complete(self, asked: Event, reply: Reply) -> Reply:
        if not reply.octets.isascii() and not may_be_utf8(asked, reply, self._transaction):
            raise LocalProtocolError(f"{reply!r} has non-ASCII text, which this client has not permitted")

        enhances = self._compiled.enhances and self._state is not State.CONNECTED
        keywords = self._compiled.keywords[self._tls]
        return complete(asked, reply, hostname=self._config.hostname, keywords=keywords, enhances=enhances)

    def _accept(self, asked: Event, reply: Reply) -> None:
        match asked:
            case Rcpt():
                assert self._transaction, "RCPT is in sequence only in a transaction"
                self._transaction.recipients.append(asked)
            case Mail():
                self._transaction = Transaction.opened(asked, is_authenticated=self._authenticated)
            case Helo() | Ehlo() | Lhlo():
                self._helo = asked
                self._dialect = self._compiled.dialects[self._tls, not isinstance(asked, Helo)]
            case Auth() | AuthResponse():
                self._authenticated = reply.code == ReplyCode.AUTHENTICATION_SUCCEEDED
            case _:
                assert isinstance(asked, Xclient), "_WITH_EFFECT has no other kinds"
                vouched = bool(asked.attributes.get("LOGIN", self._vouched))
                self._forget_peer()
                self._vouched = self._authenticated = vouched

    def _open_body(self) -> Body:
        if self._body is None:
            assert self._transaction, "a body belongs to a transaction"
            self._body = Body(self._config, binary=self._transaction.mail.params.is_binary)
        return self._body

    def _enter(self, state: State) -> None:
        if state is State.DATA:
            self._open_body()
        elif state not in IN_BODY:
            self._part = None
            if self._body and state is not State.CHUNKED:
                self._body = None
                self._lines = deque((BodyAborted(),))
        if state is State.CLOSED:
            self._asked = None

    # Time

    def _set_deadline(self, timer: Timer) -> None:
        state = self._state
        if self._asked is not None:
            timer.stop()
        elif state is State.CONNECTED:  # before the greeting: a PROXY header, which the connection does not see, or TLS
            timer.await_client(Wait.TLS if self._expects_handshake() else Wait.GREETING, self.budgets, None, _NO_LINE)
        else:
            wait = Wait.BODY if self._skip else WAITING_FOR[state]
            message = (self._transaction or wait) if wait is Wait.BODY or state is State.CHUNKED else None
            timer.await_client(wait, self.budgets, message, None if self._buffer.skipping else timer.taken)

    def _time_out(self) -> Reply | None:
        if self._expects_handshake():
            self._advance(Step.CLOSE)
            return None

        return self.send(TIMED_OUT)

    # Writing

    @property
    def must_flush(self) -> bool:
        """Whether the queued replies must be written before further commands are read (RFC 2920 3.2)."""
        return bool(self._output) and (self._must_flush or not self._buffer.octets)

    def _forget_peer(self) -> None:
        super()._forget_peer()
        self._vouched = False
        self._dialect = self._compiled.dialects[self._tls, False]


_EVENTS: Final = get_args(Event)
COMPILED: Final[bool] = not hasattr(Connection.next_event, "__code__")
"""Whether the modules that each command passes through are compiled with mypyc: see "Speed" in `docs/running.md`."""

_NO_LINE: Final = -1
"""The position of the current line before the greeting: there is no line yet."""

_WITH_EFFECT: Final = HELLOS | {Mail, Rcpt, Auth, AuthResponse, Xclient}
"""Events whose positive replies change more than the state."""

_BETWEEN_LINES: Final = frozenset(State) - IN_BODY - {State.CONNECTED, State.TLS, State.CLOSED}
"""The states in which the next octets are a line."""

_MAY_WAIT: Final = frozenset({Mail, Rcpt, Rset})
"""RFC 2920 3.2: only the replies to these commands may wait for the replies to later commands."""
