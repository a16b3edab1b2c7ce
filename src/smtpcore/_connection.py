"""The server's end of a dialogue."""

# The meaning of the next octet depends on the reply to what came before it: after 354 it belongs to a body, after 220
# to a TLS handshake, after 550 to a command. So nothing is parsed ahead. The receive buffer is the queue: one event is
# taken out of it at a time, and the next one only after the reply to that one.
#
# What a client does wrong is an event that carries its reply. What the program does wrong raises before anything has
# changed: every method below first checks, then changes.

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ._addresses import Path
from ._bodies._incoming import Body
from ._buffer import LineError, ReceiveBuffer
from ._commands import (
    Auth,
    Bdat,
    Burl,
    Command,
    Data,
    Ehlo,
    Expn,
    Helo,
    Lhlo,
    Mail,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
)
from ._config import Bodies, Config
from ._default_replies import (
    AUTH_LINE_FAULTS,
    BAD_SEQUENCE,
    BEFORE_AUTH,
    BEFORE_TLS,
    DEFAULTS,
    HELLOS,
    LINE_FAULTS,
    NAMES_HOST,
    NAMES_MAILBOX,
    ONLY_POSITIVE,
    OUT_OF_SEQUENCE,
    OUT_OF_SEQUENCE_IN_LMTP,
    PRIORITY_LOWERED,
    WRONG_HELLO,
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
    AuthCancel,
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
    UnknownCommand,
    data_lines,
)
from ._extensions._builtin import EXTENSIONS
from ._extensions._definition import Extension
from ._parser import (
    COMMANDS,
    HIDDEN_RESPONSE,
    MALFORMED_CHUNK,
    CommandRejected,
    parse_command,
    parse_response,
    verb_of,
    visible,
)
from ._replies import Reply, ReplyClass, ReplyCode
from ._state import IN_TRANSACTION, MAY_ANSWER, MAY_HEAR, ON_BDAT, WAITING_FOR, State, Wait, next_state
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

        self._vouched = False
        """Whether XCLIENT has named a login."""
        self._auth_failures = 0
        self._dialect = self._make_dialect()
        self._body: Body | None = None
        self._part: ReceiveBuffer | None = None
        """What the program has fetched for the BURL that is asked, and was not yet handed out."""
        self._lines: deque[DataLine] | None = None
        """Of the body, found and not yet handed out."""
        self._errors = 0
        self._idle = 0
        self._messages = 0
        self._domains: frozenset[str] = frozenset()

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
        return self._hear_command() if self._end_of_stream else PAUSED

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
            self._idle += 1  # parts of nothing could go on for ever
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
            return self._ask(InvalidData(body.fault))

        return self._ask(ChunkEnd() if self._state is State.CHUNK else DataEnd())

    def _hear_response(self) -> Event | Signal:
        return self._hear_line(MAX_AUTH_LINE, parse_response)

    def _hear_command(self) -> Event | Signal:
        if self._refused_octets:
            self._refused_octets -= len(self._buffer.take_at_most(self._refused_octets))
        # RFC 3030 section 2: the octets of a chunk that was refused are discarded, and only then comes its reply.
        if self._refused_octets:
            return self._hear_nothing()
        if self._refused:
            refused, self._refused = self._refused, None
            return self._ask(refused)

        return self._hear_line(self._compiled.longest_line, self._understand)

    def _hear_line(self, longest: int, understand: Callable[[bytes], Event]) -> Event | Signal:
        try:
            line = self._buffer.take_line(longest, bare_lf=self._compiled.bare_lf)
        except LineError as exc:
            return self._ask(self._no_line(exc))

        return self._hear_nothing() if line is None else self._hear_event(understand(line))

    def _no_line(self, error: LineError) -> InvalidCommand:
        if self._state is State.AUTH:
            return InvalidCommand(HIDDEN_RESPONSE, self._limit_reached() or AUTH_LINE_FAULTS[error.fault])

        reply = MALFORMED_CHUNK if verb_of(error.line) == Bdat.verb else LINE_FAULTS[error.fault]
        return InvalidCommand(visible(error.line), self._limit_reached() or reply)

    def _hear_nothing(self) -> Event | Signal:
        if not self._end_of_stream:
            self._must_flush = bool(self._output)  # RFC 2920 3.2 (7), behind part of a line as well
            return NEED_DATA

        self._close()
        return ConnectionClosed()

    def _hear_event(self, event: Event) -> Event | Signal:
        if isinstance(event, InvalidCommand):
            return self._refuse(event)
        if not isinstance(event, Bdat):
            return self._ask(event)
        if self._state is State.MAIL:
            # RFC 2033 4.3: there is no recipient to whom a reply could belong.
            self._refused_octets = event.size
            self._move_to(State.READY)
            return self.next_event()

        # What follows is a body already; the reply is owed to its end.
        self._body = self._body or self._make_body()
        self._idle += not event.size  # chunks of nothing could go on for ever
        self._body.begin_chunk(event.size, last=event.last)
        self._state = ON_BDAT[event.last]
        return event

    def _refuse(self, event: InvalidCommand) -> Event | Signal:
        # What closes need not wait for octets that may never come.
        if not self._refused_octets or event.reply.reply_class is ReplyClass.GOODBYE:
            return self._ask(event)

        self._refused = event
        return self.next_event()

    def _ask(self, event: Event) -> Event:
        self._asked = event
        self._owed = 1
        if self._config.lmtp and self._transaction and self._state in (State.DATA, State.LAST_CHUNK):
            self._owed = len(self._transaction.recipients)  # RFC 2033 4.2

        return event

    def _understand(self, line: bytes) -> Event:
        verb = verb_of(line)
        kind = COMMANDS.get(verb, UnknownCommand)
        objection = self._objection(kind)
        if objection is None and kind not in MAY_HEAR[self._state]:
            objection = self._out_of_sequence(UnknownCommand if verb in self._dialect.not_implemented else kind)
        try:
            command = parse_command(verb, line, self._dialect)
        except CommandRejected as exc:
            self._refused_octets = exc.octets
            # A chunk of unknown size cannot be skipped, so that its refusal has to be the one that closes.
            return InvalidCommand(visible(line), exc.reply if kind is Bdat else objection or exc.reply)

        if objection is None and type(command) in _OBJECTIONS:
            objection = _OBJECTIONS[type(command)](self, command)
        if objection is None or self._is_chunk_for_no_one(command):
            return command
        if isinstance(command, Bdat):
            self._refused_octets = command.size

        return InvalidCommand(visible(line), objection)

    def _is_chunk_for_no_one(self, command: Command | UnknownCommand) -> bool:
        return self._config.lmtp and self._state is State.MAIL and isinstance(command, Bdat) and command.last

    # What stands against a command, in the order in which it is looked for

    def _objection(self, kind: type[object]) -> Reply | None:
        exhausted = None if kind is Quit else self._limit_reached()
        if exhausted:
            return exhausted
        if kind in HELLOS and (kind is Lhlo) != self._config.lmtp:
            return WRONG_HELLO[self._config.lmtp]  # RFC 2033 4.1

        return self._insecure(kind) if self._compiled.guards else None

    def _insecure(self, kind: type[object]) -> Reply | None:
        if self._state is State.REFUSED:
            return None
        if self._config.require_tls and not self._tls and kind not in BEFORE_TLS:
            return Reply(530, "STARTTLS has to come first", enhanced="5.7.0")  # RFC 3207 section 4
        if self._config.require_auth and not self._authenticated and kind not in BEFORE_AUTH:
            return Reply(530, "Authentication required", enhanced="5.7.0")  # RFC 4954 section 6

        return None

    def _out_of_sequence(self, kind: type[object]) -> Reply | None:
        if kind in MAY_HEAR[self._state]:
            return None
        if self._config.lmtp and (self._state, kind) in OUT_OF_SEQUENCE_IN_LMTP:
            return BAD_SEQUENCE

        return OUT_OF_SEQUENCE.get((self._state, kind), BAD_SEQUENCE)

    def _limit_reached(self) -> Reply | None:
        limits = self._config
        if limits.max_errors is not None and self._errors >= limits.max_errors:
            return self._goodbye("too many errors")
        if limits.max_auth_failures is not None and self._auth_failures >= limits.max_auth_failures:
            return self._goodbye("too many failures to authenticate")
        if limits.max_idle_commands is not None and self._idle >= limits.max_idle_commands:
            return self._goodbye("too many commands without a message")

        return None

    def _objection_to_burl(self, burl: Burl) -> Reply | None:
        if burl.uri.partition(":")[0].lower() in self._config.burl:
            return None

        return Reply(504, "URLs of this kind are not fetched here", enhanced="5.5.4")  # RFC 4468 3.1

    def _objection_to_data(self, data: Data) -> Reply | None:
        # RFC 3030 section 3
        return Reply(503, "A binary message is sent with BDAT", enhanced="5.5.1") if self._is_binary() else None

    def _objection_to_starttls(self, starttls: StartTls) -> Reply | None:
        if self._tls:
            return Reply(503, "TLS is active already", enhanced="5.5.1")
        if len(self._buffer):
            return self._goodbye("STARTTLS has to be the last command of a group")  # RFC 3207 section 4

        return None

    def _objection_to_auth(self, auth: Auth) -> Reply | None:
        if self._authenticated:
            return Reply(503, "You are authenticated already", enhanced="5.5.1")
        if auth.mechanism not in self._config.auth_mechanisms:
            return Reply(504, "This mechanism is not offered", enhanced="5.5.4")
        # RFC 5802 section 6: where there is no TLS, there is nothing to bind to.
        if not self._tls and (not self._config.plaintext_auth or auth.mechanism.endswith("-PLUS")):
            return Reply(504, "This mechanism needs TLS: say STARTTLS first", enhanced="5.5.4")

        return None

    def _objection_to_mail(self, mail: Mail) -> Reply | None:
        if self._config.max_messages is not None and self._messages >= self._config.max_messages:
            return self._goodbye("too many messages in one session")  # RFC 9422

        if not mail.reverse_path.text.isascii() and not mail.params.smtputf8:
            return Reply(550, "A non-ASCII sender needs the parameter SMTPUTF8", enhanced="5.6.7")  # RFC 6531 3.5

        return None

    def _objection_to_rcpt(self, rcpt: Rcpt) -> Reply | None:
        transaction = self._transaction
        assert transaction, "RCPT is heard in a transaction only"
        if len(transaction.recipients) >= self._config.max_recipients:
            return Reply(452, "Too many recipients", enhanced="4.5.3")  # RFC 5321 4.5.3.1.10
        if self._is_one_domain_too_many(rcpt.forward_path):
            return Reply(452, "Too many domains of recipients", enhanced="4.5.3")  # RFC 9422
        if not rcpt.forward_path.text.isascii() and not transaction.mail.params.smtputf8:
            # RFC 6531 3.5
            return Reply(553, "A non-ASCII recipient needs the parameter SMTPUTF8 of MAIL", enhanced="5.6.7")

        return None

    def _is_one_domain_too_many(self, path: Path) -> bool:
        limit = self._config.max_recipient_domains
        return limit is not None and path.domain not in self._domains and len(self._domains) >= limit

    def _goodbye(self, why: str) -> Reply:
        return Reply(421, f"{self._config.hostname} closing: {why}", enhanced="4.7.0")

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
        self._count(asked, reply)
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

    def _count(self, asked: Event, reply: Reply) -> None:
        kind = type(asked)
        if kind in _ENDS_OF_BODY:
            self._idle = 0 if reply.is_positive else self._idle
        elif kind in _OF_AUTH:
            self._auth_failures += not reply.is_positive
        elif kind is not ConnectionOpened and reply.reply_class is ReplyClass.PERMANENT:
            self._errors += 1
        elif kind not in _OF_PROGRESS:
            self._idle += 1

    def _move(self, asked: Event, reply: Reply) -> None:
        kind: type[object] = type(asked)
        if isinstance(asked, Burl) and asked.last:
            kind = DataEnd  # RFC 4468 3.2: it is an end of data

        self._move_to(next_state(self._state, kind, reply.reply_class))
        if kind in _ON_ACCEPTANCE and reply.is_positive:
            _ON_ACCEPTANCE[kind](self, asked, reply)

    def _open_transaction(self, mail: Mail, reply: Reply) -> None:
        self._transaction = self._begin(mail)
        self._messages += 1

    def _add_recipient(self, rcpt: Rcpt, reply: Reply) -> None:
        assert self._transaction, "RCPT is heard in a transaction only"
        self._transaction.recipients.append(rcpt)
        if self._config.max_recipient_domains is not None:
            self._domains |= {rcpt.forward_path.domain}

    def _open_body(self, data: Data, reply: Reply) -> None:
        self._body = self._make_body()

    def _greet(self, helo: Helo | Ehlo | Lhlo, reply: Reply) -> None:
        self._helo = helo
        self._dialect = self._make_dialect()

    def _believe_proxy(self, xclient: Xclient, reply: Reply) -> None:
        vouched = bool(xclient.attributes.get("LOGIN", self._vouched))
        self._forget_peer()
        self._vouched = self._authenticated = vouched

    def _authenticate(self, auth: Auth | AuthResponse, reply: Reply) -> None:
        self._authenticated = reply.code == ReplyCode.AUTHENTICATION_SUCCEEDED

    def _begin(self, mail: Mail) -> Transaction:
        params = mail.params
        if not self._authenticated:
            # RFC 4954 section 5: as if AUTH=<> had been given. RFC 6710 4.1: only lower priorities are for everyone.
            return Transaction(mail, priority=min(params.mt_priority, 0))

        return Transaction(mail, submitter=params.auth.mailbox if params.auth else None, priority=params.mt_priority)

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
    **dict.fromkeys(State, Connection._hear_command),
    State.CONNECTED: Connection._hear_connection,
    **dict.fromkeys(_IN_BODY, Connection._hear_body),
    State.AUTH: Connection._hear_response,
    State.TLS: Connection._hear_handshake,
    State.CLOSED: Connection._hear_close,
}
"""How the next event is found."""

_OBJECTIONS: Final[Mapping[type[object], Callable[[Connection, Any], Reply | None]]] = {
    Mail: Connection._objection_to_mail,
    Rcpt: Connection._objection_to_rcpt,
    Auth: Connection._objection_to_auth,
    Burl: Connection._objection_to_burl,
    Data: Connection._objection_to_data,
    StartTls: Connection._objection_to_starttls,
}
"""What may stand against a command that is in sequence."""

_ON_ACCEPTANCE: Final[Mapping[type[object], Callable[[Connection, Any, Reply], None]]] = {
    Mail: Connection._open_transaction,
    Rcpt: Connection._add_recipient,
    Data: Connection._open_body,
    Helo: Connection._greet,
    Ehlo: Connection._greet,
    Lhlo: Connection._greet,
    Xclient: Connection._believe_proxy,
    Auth: Connection._authenticate,
    AuthResponse: Connection._authenticate,
}
"""What follows from a positive reply, besides the state."""

_ENDS_OF_BODY: Final = frozenset({DataEnd, InvalidData})
_OF_AUTH: Final = frozenset({Auth, AuthResponse, AuthCancel})
_OF_PROGRESS: Final = frozenset({ConnectionOpened, Mail, Rcpt, Data, ChunkEnd, InvalidCommand})
"""What does not count as idle."""

_MAY_WAIT: Final = frozenset({Mail, Rcpt, Rset})
"""RFC 2920 3.2: only the replies to these may wait for the replies to what follows."""
