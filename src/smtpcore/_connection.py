"""The server's end of a dialogue."""

# The meaning of the next octet depends on the reply to what came before it: after 354 it belongs to a body, after 220
# to a TLS handshake, after 550 to a command. So nothing is parsed ahead. The receive buffer is the queue: one event is
# taken out of it at a time, and the next one only after the reply to that one.
#
# What a client does wrong is an event that carries its reply. What the program does wrong raises before anything has
# changed: every method below first checks, then changes.

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ._bodies._incoming import Body
from ._buffer import LineError, ReceiveBuffer
from ._commands import (
    Auth,
    Bdat,
    Burl,
    Data,
    Ehlo,
    Expn,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
)
from ._config import Bodies, Config
from ._default_replies import (
    DEFAULTS,
    HELLOS,
    NAMES_HOST,
    NAMES_MAILBOX,
    ONLY_POSITIVE,
    PRIORITY_LOWERED,
    answers_helo,
    enhanced_of,
    with_host,
)
from ._dialects import MAX_AUTH_LINE, Dialect, compiled
from ._endpoint import Endpoint
from ._errors import LocalProtocolError
from ._events import (
    NEED_DATA,
    PAUSED,
    AuthResponse,
    ChunkEnd,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    InvalidCommand,
    InvalidData,
    Signal,
    data_lines,
)
from ._extensions._builtin import EXTENSIONS
from ._extensions._definition import Extension
from ._parser import parse_response
from ._refusals import Refusals
from ._replies import Reply, ReplyClass, ReplyCode
from ._state import IN_TRANSACTION, MAY_ANSWER, ON_BDAT, ON_REPLY, WAITING_FOR, State, Wait
from ._transaction import Transaction
from .parameters import BodyType


class Connection(Endpoint):
    """A server's end of one SMTP dialogue, without I/O.

    Pass what arrives to `receive_data`, take events with `next_event`, answer each that is owed a reply with `send`,
    and write what `data_to_send` returns.

    Raises `LocalProtocolError` if `extensions` and `config` do not go together.
    """

    def __init__(self, config: Config, *, extensions: Sequence[Extension] = EXTENSIONS) -> None:
        super().__init__()
        self._config = config
        self._compiled = compiled(tuple(extensions), config)
        self._refusals = Refusals(config, guards=self._compiled.guards)

        self._vouched = False
        """Whether XCLIENT has named a login."""
        self._dialect = self._make_dialect()
        self._body: Body | None = None
        self._part: ReceiveBuffer | None = None
        """What the program has fetched for the BURL that is asked, and was not yet handed out."""
        self._lines: deque[DataLine] | None = None
        """Of the body, found and not yet handed out."""

        self._asked: Event | None = None
        """What is owed a reply."""
        self._owed = 0
        self._refused: InvalidCommand | None = None
        """A chunk whose octets have to be discarded before it is told."""
        self._refused_octets = 0
        self._must_flush = False

    # What is known

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._config

    @property
    def replies_owed(self) -> int:
        """How many replies the last event is still owed: in LMTP, the end of a body may be owed several."""
        return self._owed if self._asked else 0

    @property
    def waiting_for(self) -> Wait:
        """What more input is waited for, and so which time limit holds (RFC 5321 4.5.3.2)."""
        if self._refused_octets and not self._asked:
            return Wait.BODY

        return Wait.NOTHING if self._asked else WAITING_FOR[self._state]

    # Hearing the client

    def _expects_handshake(self) -> bool:
        return self._state is State.TLS or type(self._asked) is StartTls

    def next_event(self) -> Event | Signal:
        """The next thing that the client has said.

        Raises:
            RemoteProtocolError: the stream ended inside a body. No message was received.
        """
        if self._lines:
            return self._lines.popleft()
        if self._asked:
            return self._hear_part(self._part) if self._part is not None else PAUSED

        return _HEAR[self._state](self)

    def _hear_connection(self) -> Event:
        return self._ask(ConnectionOpened())

    def _hear_handshake(self) -> Event | Signal:
        return self._hear_line() if self._end_of_stream else PAUSED

    def _hear_close(self) -> Event:
        return ConnectionClosed()

    def receive_part(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what the program has fetched for a BURL, in as many calls as it takes; `b""` is its end.

        The part joins the message: `next_event` returns its octets as those of a chunk, `PAUSED` where it wants more,
        and at last the end that is owed a reply, or `InvalidData` as soon as the message cannot be accepted. A part
        that breaks off is refused with `send`, as one is that cannot be fetched at all.

        Raises `LocalProtocolError` if no part is wanted.
        """
        burl = self._asked
        if not isinstance(burl, Burl) or (self._part is not None and self._body and not self._body.takes_part):
            raise LocalProtocolError("no part is wanted: wait for a BURL")

        body = self._body = self._body or self._make_body()
        if self._part is None:
            self._part = ReceiveBuffer()
            self._refusals.count_idle()
            body.begin_part(last=burl.last)
            self._state = ON_BDAT[burl.last]
        if data:
            self._part.append(data)
        else:
            body.end_part()

    def _hear_part(self, part: ReceiveBuffer) -> Event | Signal:
        body = self._body
        assert body, "it began with the part"
        pieces = body.take(part)
        if pieces:
            return self._hand_out(pieces)
        if body.ended or body.fault:
            self._part = None
            return self._end_body(body)

        return PAUSED

    def _hand_out(self, pieces: list[bytes]) -> DataLine | DataChunk:
        if self._config.bodies is Bodies.CHUNKS:
            return DataChunk(*pieces)

        self._lines = deque(data_lines(pieces))
        return self._lines.popleft()

    def _hear_body(self) -> Event | Signal:
        body = self._body
        assert body, "there is one from the 354 on"
        pieces = body.take(self._buffer)
        if pieces:
            return self._hand_out(pieces)
        if body.ended:
            return self._end_body(body)
        if self._end_of_stream:
            raise self._broken("the connection was closed inside a body")

        return NEED_DATA

    def _end_body(self, body: Body) -> Event:
        if body.fault:
            return self._ask(InvalidData(body.fault.reply, body.fault.rule))

        return self._ask(ChunkEnd() if self._state is State.CHUNK else DataEnd())

    def _hear_line(self) -> Event | Signal:
        if self._refused_octets:
            self._refused_octets -= len(self._buffer.take_at_most(self._refused_octets))
            if self._refused_octets:
                return self._hear_nothing()
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
            return self._hear_nothing()
        if is_response:
            return self._ask(parse_response(line))

        event, octets = self._refusals.examine(
            line,
            self._dialect,
            state=self._state,
            tls=self._tls,
            authenticated=self._authenticated,
            transaction=self._transaction,
            is_last=not len(self._buffer),
        )
        if isinstance(event, Bdat):
            return self._begin_chunk(event)
        if octets and isinstance(event, InvalidCommand) and event.reply.reply_class is not ReplyClass.GOODBYE:
            # RFC 3030 section 2: discard the octets of a refused chunk before its reply. A reply that closes is sent at
            # once, because the octets may never come.
            self._refused_octets = octets
            self._refused = event
            return self.next_event()

        return self._ask(event)

    def _begin_chunk(self, event: Bdat) -> Event | Signal:
        if self._state is State.MAIL:
            # RFC 2033 4.3: there is no recipient to whom a reply could belong.
            self._refused_octets = event.size
            self._move_to(State.READY)
            return self.next_event()

        # The octets of the body follow; the reply is due at their end.
        self._body = self._body or self._make_body()
        if not event.size:
            self._refusals.count_idle()
        self._body.begin_chunk(event.size, last=event.last)
        self._state = ON_BDAT[event.last]
        return event

    def _hear_nothing(self) -> Event | Signal:
        if not self._end_of_stream:
            self._must_flush = bool(self._output)  # RFC 2920 3.2 (7), behind part of a line as well
            return NEED_DATA

        self._close()
        return ConnectionClosed()

    def _ask(self, event: Event) -> Event:
        self._asked = event
        self._owed = 1
        if self._config.lmtp and self._transaction and self._state in (State.DATA, State.LAST_CHUNK):
            self._owed = len(self._transaction.recipients)  # RFC 2033 4.2

        return event

    # Answering

    def send(self, reply: Reply) -> Reply:
        """Answer the event that is owed a reply, or end the dialogue with a 421 at any time.

        Returns the reply as it will go out: with the keywords behind a positive reply to EHLO, with the host's name
        where RFC 5321 4.2 asks for it, and with an enhanced status code where RFC 2034 does.

        Raises:
            LocalProtocolError: no reply is owed, or none of this class, or its text may not be sent here.
                Nothing was sent, and the connection is as it was.
        """
        asked = self._check_turn(reply)
        reply = self._complete(asked, reply)

        self._owed -= 1
        self._output.append(reply.encode())
        self._must_flush |= type(asked) not in _MAY_WAIT
        self._refusals.count_reply(asked, reply)
        if self._owed <= 0 or reply.reply_class is ReplyClass.GOODBYE:
            self._asked = None
            self._move(asked, reply)

        return reply

    def default_reply(self, event: Event) -> Reply:
        """The answer to `event` of a server that has no opinion: it takes no recipient, and no message.

        Raises `LocalProtocolError` for an event that needs no reply.
        """
        reply = DEFAULTS.get(type(event))
        if isinstance(event, Mail) and event.params.mt_priority > 0 and not self._authenticated:
            return PRIORITY_LOWERED
        if reply:
            return reply
        if isinstance(event, InvalidCommand | InvalidData):
            return event.reply

        raise LocalProtocolError(f"{type(event).__name__} needs no reply: go on with next_event()")

    def _check_turn(self, reply: Reply) -> Event:
        asked = self._asked
        if asked is None:
            return self._check_goodbye(reply)

        kind = type(asked)
        if reply.reply_class not in MAY_ANSWER[kind]:
            raise LocalProtocolError(f"{reply.code} cannot answer {kind.__name__}")
        if kind is Burl and reply.is_positive:
            raise LocalProtocolError("a BURL that is accepted is answered with its octets: give them to receive_part")
        if kind in ONLY_POSITIVE and reply.is_positive and reply.code not in ONLY_POSITIVE[kind]:
            only = " or ".join(str(code.value) for code in ONLY_POSITIVE[kind])
            raise LocalProtocolError(f"{reply.code} cannot answer {kind.__name__}: use {only}, or refuse")

        return asked

    def _check_goodbye(self, reply: Reply) -> Event:
        if self._state in (State.CLOSED, State.TLS):
            raise LocalProtocolError(f"no reply can be sent in {self._state}: the plaintext dialogue is over")
        if reply.reply_class is not ReplyClass.GOODBYE:
            raise LocalProtocolError("no reply is owed: take the next event first")

        return ConnectionOpened()  # RFC 5321 3.8: a 421 may come without being asked for

    def _complete(self, asked: Event, reply: Reply) -> Reply:
        kind = type(asked)
        if kind not in _ADDED_TO and self._is_complete(reply):
            return reply

        accepted = reply.is_positive
        says_helo = accepted and kind in HELLOS
        lines = reply.lines
        if says_helo and kind is not Helo:
            lines = self._with_keywords(reply)
        if not all(map(str.isascii, lines)) and not self._may_be_utf8(asked, reply):
            raise LocalProtocolError(f"{reply!r} has non-ASCII text, which this client has not permitted")

        greets_anew = accepted and kind is Xclient
        if says_helo or greets_anew or kind is ConnectionOpened or reply.code in NAMES_HOST:
            lines = (with_host(lines[0], self._config.hostname), *lines[1:])

        # RFC 2034 section 3 (4): neither in the greeting, which answers XCLIENT too, nor in replies to HELO and EHLO.
        plain = greets_anew or self._state is State.CONNECTED or answers_helo(asked)
        enhanced = enhanced_of(reply) if self._compiled.enhances and not plain else None
        if lines == reply.lines and enhanced == reply.enhanced:
            return reply

        return Reply(reply.code, *lines, enhanced=enhanced)

    def _is_complete(self, reply: Reply) -> bool:
        # Most are, and what follows in `_complete` would find nothing to do for them.
        has_code = reply.enhanced is not None or reply.reply_class is ReplyClass.INTERMEDIATE
        return has_code and self._compiled.enhances and reply.code not in NAMES_HOST and reply.encode().isascii()

    def _with_keywords(self, reply: Reply) -> tuple[str, ...]:
        if len(reply.lines) > 1:
            raise LocalProtocolError("the keywords behind a reply to EHLO come from the extensions: give one line")

        return (*reply.lines, *self._compiled.keywords[self._tls])

    def _may_be_utf8(self, asked: Event, reply: Reply) -> bool:
        # RFC 6531 3.7.4.1 and 3.7.4.2
        if isinstance(asked, Rcpt):
            permitted = self._transaction is not None and self._transaction.mail.params.smtputf8
            return permitted and reply.code in NAMES_MAILBOX

        return isinstance(asked, Vrfy | Expn) and asked.smtputf8

    def _move(self, asked: Event, reply: Reply) -> None:
        # RFC 4468 3.2: BURL LAST is an end of data.
        kind: type[object] = DataEnd if isinstance(asked, Burl) and asked.last else type(asked)
        self._move_to(ON_REPLY.get((self._state, kind, reply.reply_class), self._state))
        if not reply.is_positive:
            return

        match asked:
            case Rcpt():
                assert self._transaction, "RCPT is in sequence only in a transaction"
                self._transaction.recipients.append(asked)
            case Mail(params=params) if self._authenticated:
                submitter = params.auth.mailbox if params.auth else None
                self._transaction = Transaction(asked, submitter=submitter, priority=params.mt_priority)
            case Mail(params=params):
                # RFC 4954 section 5: as if AUTH=<> had been given. RFC 6710 4.1: a priority above 0 needs AUTH.
                self._transaction = Transaction(asked, priority=min(params.mt_priority, 0))
            case Data():
                self._body = self._make_body()
            case Helo() | Ehlo() | Lhlo():
                self._helo = asked
                self._dialect = self._make_dialect()
            case Auth() | AuthResponse():
                self._authenticated = reply.code == ReplyCode.AUTHENTICATION_SUCCEEDED
            case Xclient():
                vouched = bool(asked.attributes.get("LOGIN", self._vouched))
                self._forget_peer()
                self._vouched = self._authenticated = vouched

    def _move_to(self, state: State) -> None:
        if state is self._state:
            return

        self._state = state
        if state is State.CLOSED:
            self._close()
        elif state not in IN_TRANSACTION:
            self._transaction = None
            self._body = None
        if state not in _IN_BODY:
            self._part = None

    # Writing

    @property
    def must_flush(self) -> bool:
        """Whether the queued replies may not wait for the replies to further commands (RFC 2920 3.2)."""
        return bool(self._output) and (self._must_flush or not len(self._buffer))

    def data_to_send(self) -> bytes:
        """Take the octets that are to be written."""
        self._must_flush = False
        return self._take_output()

    # Small print

    def _forget_peer(self) -> None:
        super()._forget_peer()
        self._vouched = False
        self._dialect = self._make_dialect()

    def _make_dialect(self) -> Dialect:
        return self._compiled.dialects[self._tls, isinstance(self._helo, Ehlo | Lhlo)]

    def _make_body(self) -> Body:
        return Body(self._config, binary=self._is_binary())

    def _is_binary(self) -> bool:
        return self._transaction is not None and self._transaction.mail.params.body is BodyType.BINARYMIME

    def _close(self) -> None:
        super()._close()
        self._asked = None
        self._lines = None


_ADDED_TO: Final = HELLOS | {ConnectionOpened, Xclient, InvalidCommand}
"""To what a reply may need more, or less, than an enhanced status code and the host's name."""

_IN_BODY: Final = frozenset({State.DATA, State.CHUNK, State.LAST_CHUNK})

_HEAR: Final[Mapping[State, Callable[[Connection], Event | Signal]]] = {
    **dict.fromkeys(State, Connection._hear_line),
    State.CONNECTED: Connection._hear_connection,
    **dict.fromkeys(_IN_BODY, Connection._hear_body),
    State.TLS: Connection._hear_handshake,
    State.CLOSED: Connection._hear_close,
}
"""How the next event is found."""

_MAY_WAIT: Final = frozenset({Mail, Rcpt, Rset})
"""RFC 2920 3.2: only the replies to these may wait for the replies to what follows."""
