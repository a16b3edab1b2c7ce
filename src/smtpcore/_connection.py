"""The server's end of a dialogue."""

# The meaning of the next octet depends on the reply to what came before it: after 354 it belongs to a body, after 220
# to a TLS handshake, after 550 to a command. So nothing is parsed ahead. The receive buffer is the queue: one event is
# taken out of it at a time, and the next one only after the reply to that one.
#
# What a client does wrong is an event that carries its reply. What the program does wrong raises before anything has
# changed: every method below first checks, then changes.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ._buffer import LineError, LineFault, ReceiveBuffer
from ._commands import Command, Data, Ehlo, Expn, Helo, Help, Mail, Noop, Quit, Rcpt, Rset, StartTls, Vrfy
from ._config import BareNewlines, Bodies, Config
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    NEED_DATA,
    PAUSED,
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
)
from ._extensions import EXTENSIONS, Extension, longest_command_line, offered_extensions
from ._framing import Body
from ._parser import COMMANDS, Dialect, Refused, dialect_of, parse_command, verb_of
from ._replies import Reply, ReplyClass, ReplyCode
from ._state import IN_TRANSACTION, MAY_ANSWER, MAY_HEAR, ON_HANDSHAKE, WAITING_FOR, State, Wait, next_state


@dataclass(slots=True)
class Transaction:
    """What is known of the message that is being sent (RFC 5321 3.3)."""

    mail: Mail
    """The accepted MAIL command."""
    recipients: list[Rcpt] = field(default_factory=list)
    """The accepted RCPT commands, in order. Only the connection adds to them."""


class Connection:
    """A server's end of one SMTP dialogue, without I/O.

    Pass what arrives to `receive_data`, take events with `next_event`, answer each that is owed a reply with `send`,
    and write what `data_to_send` returns.

    Raises `LocalProtocolError` if `extensions` and `config` do not go together.
    """

    def __init__(self, config: Config, *, extensions: Sequence[Extension] = EXTENSIONS) -> None:
        _check_extensions(config, extensions)
        self._config = config
        self._extensions = tuple(extensions)
        self._longest_line = longest_command_line(extensions, config)

        self._state = State.CONNECTED
        self._tls = False
        self._helo: Helo | Ehlo | None = None
        self._dialect = self._make_dialect()
        self._transaction: Transaction | None = None
        self._body: Body | None = None
        self._errors = 0
        self._idle = 0

        self._buffer = ReceiveBuffer()
        self._end_of_stream = False
        self._asked: Event | None = None
        """What is owed a reply."""
        self._output: list[bytes] = []
        self._must_flush = False

    # What is known

    @property
    def config(self) -> Config:
        """The configuration."""
        return self._config

    @property
    def state(self) -> State:
        """Where the dialogue stands."""
        return self._state

    @property
    def transaction(self) -> Transaction | None:
        """The open transaction, until the reply to the end of its body."""
        return self._transaction

    @property
    def helo(self) -> Helo | Ehlo | None:
        """The accepted HELO or EHLO."""
        return self._helo

    @property
    def tls(self) -> bool:
        """Whether TLS is active."""
        return self._tls

    @property
    def waiting_for(self) -> Wait:
        """What more input is waited for, and so which time limit holds (RFC 5321 4.5.3.2)."""
        return Wait.NOTHING if self._asked else WAITING_FOR[self._state]

    @property
    def trailing_data(self) -> bytes:
        """What was received and not used."""
        return bytes(self._buffer)

    # Hearing the client

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what has arrived; `b""` is the end of the client's stream.

        Call it when `next_event` returns `NEED_DATA`, and what is buffered stays bounded.

        Raises:
            RemoteProtocolError: octets came behind STARTTLS and before TLS, so that someone may have injected them.
        """
        if not data:
            self._end_of_stream = True
            return
        if self._state is State.CLOSED or self._end_of_stream:
            return
        if self._state is State.TLS or isinstance(self._asked, StartTls):
            # RFC 3207 4.2: nothing said before TLS may be believed after it.
            raise self._broken("plaintext was sent behind STARTTLS")

        self._buffer.append(data)

    def next_event(self) -> Event | Signal:
        """The next thing that the client has said.

        Raises:
            RemoteProtocolError: the stream ended inside a body. No message was received.
        """
        if self._asked:
            return PAUSED
        if self._state is State.CLOSED:
            return ConnectionClosed()
        if self._state is State.CONNECTED:
            return self._ask(ConnectionOpened())
        if self._state is State.DATA:
            return self._hear_body()
        if self._state is State.TLS and not self._end_of_stream:
            return PAUSED

        return self._hear_command()

    def _hear_body(self) -> Event | Signal:
        body = self._body
        assert body, "there is one from the 354 on"
        data = body.take(self._buffer)
        if data:
            return DataLine(data) if self._config.bodies is Bodies.LINES else DataChunk(data)
        if body.ended:
            return self._ask(InvalidData(body.fault) if body.fault else DataEnd())
        if self._end_of_stream:
            raise self._broken("the connection was closed inside a body")

        return NEED_DATA

    def _hear_command(self) -> Event | Signal:
        try:
            line = self._buffer.take_line(
                self._longest_line, bare_lf=self._config.bare_newlines is not BareNewlines.REJECT
            )
        except LineError as exc:
            return self._ask(InvalidCommand(exc.line, self._limit_reached() or _LINE_FAULTS[exc.fault]))

        if line is not None:
            return self._ask(self._understand(line))
        if not self._end_of_stream:
            self._must_flush = bool(self._output)  # RFC 2920 3.2 (7), behind part of a line as well
            return NEED_DATA

        self._close()
        return ConnectionClosed()

    def _ask(self, event: Event) -> Event:
        self._asked = event
        return event

    def _understand(self, line: bytes) -> Event:
        verb = verb_of(line)
        kind = COMMANDS.get(verb, UnknownCommand)
        objection = self._objection(kind)
        if objection:
            return InvalidCommand(line, objection)

        try:
            command = parse_command(verb, line, self._dialect)
        except Refused as exc:
            return InvalidCommand(line, exc.reply)

        objection = self._objection_to_content(command)
        return InvalidCommand(line, objection) if objection else command

    # What stands against a command, in the order in which it is looked for

    def _objection(self, kind: type[object]) -> Reply | None:
        exhausted = None if kind is Quit else self._limit_reached()
        if exhausted:
            return exhausted
        if self._config.require_tls and not self._tls and kind not in _BEFORE_TLS and self._state is not State.REFUSED:
            # RFC 3207 section 4
            return Reply(530, "STARTTLS has to come first", enhanced="5.7.0")
        if kind not in MAY_HEAR[self._state]:
            return _OUT_OF_SEQUENCE.get((self._state, kind), _BAD_SEQUENCE)

        return None

    def _limit_reached(self) -> Reply | None:
        limits = self._config
        if limits.max_errors is not None and self._errors >= limits.max_errors:
            return self._goodbye("too many errors")
        if limits.max_idle_commands is not None and self._idle >= limits.max_idle_commands:
            return self._goodbye("too many commands without a message")

        return None

    def _objection_to_content(self, command: Command | UnknownCommand) -> Reply | None:
        if isinstance(command, Mail):
            return self._objection_to_mail(command)
        if isinstance(command, Rcpt):
            return self._objection_to_rcpt(command)
        if isinstance(command, StartTls) and self._tls:
            return Reply(503, "TLS is active already", enhanced="5.5.1")
        if isinstance(command, StartTls) and len(self._buffer):
            return self._goodbye("STARTTLS has to be the last command of a group")  # RFC 3207 section 4

        return None

    def _objection_to_mail(self, mail: Mail) -> Reply | None:
        limit = self._config.max_message_size
        if limit is not None and (mail.params.size or 0) > limit:
            # RFC 1870 6.1
            return Reply(552, f"The message exceeds the maximum size of {limit} octets", enhanced="5.3.4")
        if not mail.reverse_path.text.isascii() and not mail.params.smtputf8:
            return Reply(550, "A non-ASCII sender needs the parameter SMTPUTF8", enhanced="5.6.7")  # RFC 6531 3.5

        return None

    def _objection_to_rcpt(self, rcpt: Rcpt) -> Reply | None:
        transaction = self._transaction
        assert transaction, "RCPT is heard in a transaction only"
        if len(transaction.recipients) >= self._config.max_recipients:
            return Reply(452, "Too many recipients", enhanced="4.5.3")  # RFC 5321 4.5.3.1.10
        if not rcpt.forward_path.text.isascii() and not transaction.mail.params.smtputf8:
            # RFC 6531 3.5
            return Reply(553, "A non-ASCII recipient needs the parameter SMTPUTF8 of MAIL", enhanced="5.6.7")

        return None

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

        self._asked = None
        self._output.append(reply.encode())
        # RFC 2920 3.2: only the replies to these may wait for the replies to what follows.
        self._must_flush |= not isinstance(asked, Mail | Rcpt | Rset)
        self._count(asked, reply)
        self._move(asked, reply)
        return reply

    def default_reply(self, event: Event) -> Reply:
        """The answer to `event` of a server that has no opinion: it takes no recipient, and no message.

        Raises `LocalProtocolError` for an event that needs no reply.
        """
        if isinstance(event, InvalidCommand | InvalidData):
            return event.reply
        reply = _DEFAULTS.get(type(event))
        if reply is None:
            raise LocalProtocolError(f"{type(event).__name__} needs no reply: go on with next_event()")

        return reply

    def _check_turn(self, reply: Reply) -> Event:
        asked = self._asked
        reply_class = reply.reply_class
        if self._state in (State.CLOSED, State.TLS):
            raise LocalProtocolError(f"no reply can be sent in {self._state}: the plaintext dialogue is over")
        if asked is None:
            if reply_class is ReplyClass.GOODBYE:
                return ConnectionOpened()  # RFC 5321 3.8: a 421 may come without being asked for
            raise LocalProtocolError("no reply is owed: take the next event first")
        if reply_class not in MAY_ANSWER[type(asked)]:
            raise LocalProtocolError(f"{reply.code} cannot answer {type(asked).__name__}")
        if reply.is_positive and reply.code != _ONLY_POSITIVE.get(type(asked), reply.code):
            only = _ONLY_POSITIVE[type(asked)]
            raise LocalProtocolError(f"{reply.code} cannot answer {type(asked).__name__}: use {only}, or refuse")

        return asked

    def _complete(self, asked: Event, reply: Reply) -> Reply:
        lines = reply.lines
        says_helo = reply.is_positive and isinstance(asked, Helo | Ehlo)
        if says_helo or isinstance(asked, ConnectionOpened) or reply.code in _NAMES_HOST:
            lines = (self._with_host(lines[0]), *lines[1:])
        if says_helo and isinstance(asked, Ehlo):
            lines = (*lines, *self._keywords(reply))
        if not all(map(str.isascii, lines)) and not self._may_be_utf8(asked, reply):
            raise LocalProtocolError(f"{reply!r} has non-ASCII text, which this client has not permitted")

        return Reply(reply.code, *lines, enhanced=self._enhanced(asked, reply))

    def _keywords(self, reply: Reply) -> list[str]:
        if len(reply.lines) > 1:
            raise LocalProtocolError("the keywords behind a reply to EHLO come from the extensions: give one line")

        offered = offered_extensions(self._extensions, self._config, tls=self._tls)
        return [extension.announce(self._config) for extension in offered]

    def _with_host(self, line: str) -> str:
        # RFC 5321 4.2: the host's name is the first word of the greeting, and of 221 and 421.
        hostname = self._config.hostname
        return line if line.partition(" ")[0] == hostname else f"{hostname} {line}".rstrip()

    def _may_be_utf8(self, asked: Event, reply: Reply) -> bool:
        # RFC 6531 3.7.4.1 and 3.7.4.2
        if isinstance(asked, Rcpt):
            permitted = self._transaction is not None and self._transaction.mail.params.smtputf8
            return permitted and reply.code in _NAMES_MAILBOX

        return isinstance(asked, Vrfy | Expn) and asked.smtputf8

    def _enhanced(self, asked: Event, reply: Reply) -> str | None:
        # RFC 2034 section 3 (4): neither in the greeting, nor in replies to HELO and EHLO, nor with 3yz.
        if self._state is State.CONNECTED or _is_helo(asked) or reply.code // 100 == 3:
            return None
        if "ENHANCEDSTATUSCODES" in self._config.disabled:
            return None

        return reply.enhanced or _ENHANCED.get(reply.code, f"{reply.code // 100}.0.0")

    def _count(self, asked: Event, reply: Reply) -> None:
        if isinstance(asked, ConnectionOpened):
            return
        if isinstance(asked, DataEnd | InvalidData):
            self._idle = 0 if reply.is_positive else self._idle
        elif reply.reply_class is ReplyClass.PERMANENT:
            self._errors += 1
        elif not isinstance(asked, Mail | Rcpt | Data | InvalidCommand):
            self._idle += 1

    def _move(self, asked: Event, reply: Reply) -> None:
        accepted = reply.is_positive
        self._state = next_state(self._state, type(asked), reply.reply_class)
        if self._state is State.CLOSED:
            self._close()
        elif self._state not in IN_TRANSACTION:
            self._transaction = None

        if not accepted:
            return
        if isinstance(asked, Mail):
            self._transaction = Transaction(asked)
        elif isinstance(asked, Rcpt) and self._transaction:
            self._transaction.recipients.append(asked)
        elif isinstance(asked, Data):
            self._body = Body(self._config)
        elif isinstance(asked, Helo | Ehlo):
            self._helo = asked
            self._dialect = self._make_dialect()

    # Writing

    @property
    def must_flush(self) -> bool:
        """Whether the queued replies may not wait for the replies to further commands (RFC 2920 3.2)."""
        return bool(self._output) and (self._must_flush or not len(self._buffer))

    def data_to_send(self) -> bytes:
        """Take the octets that are to be written."""
        data = b"".join(self._output)
        self._output.clear()
        self._must_flush = False
        return data

    def send_failed(self) -> None:
        """Tell that a write broke: the client cannot be trusted to know any reply, so nothing more is heard of it."""
        self._close()
        self._output.clear()

    # TLS

    def tls_established(self) -> None:
        """Tell that the TLS handshake is done, behind a 220 to STARTTLS or before the greeting.

        Nothing that the client said before is believed any more (RFC 3207 4.2); what belongs to the connection itself,
        as the count of its errors does, is kept.

        Raises:
            LocalProtocolError: TLS cannot start here.
            RemoteProtocolError: octets were received before TLS that someone may have injected.
        """
        if self._tls or self._state not in ON_HANDSHAKE:
            raise LocalProtocolError(f"TLS cannot start in {self._state}: answer STARTTLS with 220 first")
        if len(self._buffer):
            raise self._broken("plaintext was sent before TLS")

        self._state = ON_HANDSHAKE[self._state]
        self._tls = True
        self._helo = None
        self._transaction = None
        self._dialect = self._make_dialect()

    # Small print

    def _make_dialect(self) -> Dialect:
        return dialect_of(self._extensions, self._config, tls=self._tls, extended=isinstance(self._helo, Ehlo))

    def _broken(self, why: str) -> RemoteProtocolError:
        self._close()
        return RemoteProtocolError(why)

    def _close(self) -> None:
        self._state = State.CLOSED
        self._asked = None
        self._transaction = None


def _is_helo(asked: Event) -> bool:
    if isinstance(asked, InvalidCommand):
        # What was no line at all was no EHLO either.
        return asked.reply not in _LINE_FAULTS.values() and verb_of(asked.line) in (Helo.verb, Ehlo.verb)

    return isinstance(asked, Helo | Ehlo)


def _check_extensions(config: Config, extensions: Sequence[Extension]) -> None:
    keywords = {extension.keyword for extension in extensions} - config.disabled
    # RFC 6531 3.1 (8)
    if "SMTPUTF8" in keywords and "8BITMIME" not in keywords:
        raise LocalProtocolError("SMTPUTF8 needs 8BITMIME: enable both, or disable both")


_BEFORE_TLS: Final = frozenset({Noop, Ehlo, StartTls, Quit})  # RFC 3207 section 4

_LINE_FAULTS: Final[Mapping[LineFault, Reply]] = {
    LineFault.TOO_LONG: Reply(500, "Line too long", enhanced="5.5.2"),
    LineFault.BARE_NEWLINE: Reply(500, "Lines end in CR LF: a bare CR or LF ends none", enhanced="5.5.2"),
}

_BAD_SEQUENCE: Final = Reply(503, "Bad sequence of commands", enhanced="5.5.1")

_OUT_OF_SEQUENCE: Final[Mapping[tuple[State, type[object]], Reply]] = {
    (State.GREETED, Mail): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Rcpt): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.GREETED, Data): Reply(503, "EHLO has to come first", enhanced="5.5.1"),
    (State.READY, Rcpt): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.READY, Data): Reply(503, "MAIL has to come first", enhanced="5.5.1"),
    (State.MAIL, Mail): Reply(503, "A transaction is open already", enhanced="5.5.1"),
    (State.RCPT, Mail): Reply(503, "A transaction is open already", enhanced="5.5.1"),
    (State.MAIL, Data): Reply(554, "No valid recipients", enhanced="5.5.1"),  # RFC 5321 3.3
}

_DEFAULTS: Final[Mapping[type[object], Reply]] = {
    ConnectionOpened: Reply(220, "ESMTP"),
    Helo: Reply(250),
    Ehlo: Reply(250),
    Mail: Reply(250, "Sender accepted", enhanced="2.1.0"),
    # No relaying, and no mail taken, unless the program says so.
    Rcpt: Reply(550, "We do not accept mail for this recipient", enhanced="5.7.1"),
    Data: Reply(354, "Start mail input; end with <CRLF>.<CRLF>"),
    DataEnd: Reply(554, "No one here takes messages", enhanced="5.3.0"),
    Rset: Reply(250, "Flushed", enhanced="2.0.0"),
    Noop: Reply(250, "Fine", enhanced="2.0.0"),
    Quit: Reply(221, "closing", enhanced="2.0.0"),
    Vrfy: Reply(252, "Cannot verify, but will accept a message and attempt delivery", enhanced="2.5.0"),
    Expn: Reply(252, "Cannot expand", enhanced="2.5.0"),  # RFC 5321 7.3
    Help: Reply(214, "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP", "See RFC 5321", enhanced="2.0.0"),
    StartTls: Reply(220, "Go ahead", enhanced="2.0.0"),
    UnknownCommand: Reply(500, "Command not recognized", enhanced="5.5.1"),
}

_ONLY_POSITIVE: Final[Mapping[type[object], int]] = {
    Data: ReplyCode.START_MAIL_INPUT,
    StartTls: ReplyCode.SERVICE_READY,
}
"""Where the client acts on the very code."""

_NAMES_HOST: Final = frozenset({ReplyCode.SERVICE_CLOSING, ReplyCode.SERVICE_NOT_AVAILABLE})

_NAMES_MAILBOX: Final = frozenset({ReplyCode.WILL_FORWARD, ReplyCode.USER_NOT_LOCAL})

_ENHANCED: Final[Mapping[int, str]] = {
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    555: "5.5.4",
}
"""RFC 5248: what goes with a code when the program does not say."""
