"""The rules that a command has to pass, in the order in which a server checks them."""

# The first rule that is broken decides the reply. `Refusals.examine` checks them in this order:
#
#   1. the limits of the session: errors, refusals, failed authentications, commands without a message; QUIT is exempt
#   2. the protocol: EHLO and HELO belong to SMTP, LHLO belongs to LMTP
#   3. TLS and authentication, where the configuration requires them
#   4. the sequence of commands: whether this state allows this verb
#   5. the syntax of the line and of its addresses, and the rules of extensions for parameters (`_parser.py`)
#   6. the values: limits of messages and recipients, non-ASCII addresses, mechanisms, STARTTLS as the end of its group
#
# A body has three rules of its own, in `_bodies/_checks.py`. `_rules.py` has the replies of all rules.
#
# For example, with `require_tls=True` the line `MAIL FROM:<` gets 530, not 501: rule 3 comes before rule 5.

from collections.abc import Mapping
from typing import Any, Final

from . import _rules as rules
from ._budgets import Budgets
from ._buffer import LineError, LineFault
from ._command import Command, UnknownCommand
from ._commands import HELLOS, Auth, Bdat, Data, Ehlo, Helo, Lhlo, Mail, Noop, Quit, Rcpt, Rset, StartTls
from ._config import Config
from ._dialects import Dialect
from ._endpoint import Endpoint, Transaction
from ._events import AuthCancel, AuthResponse, ChunkEnd, ConnectionOpened, DataEnd, Event, InvalidCommand, InvalidData
from ._extensions._burl import Burl
from ._extensions._definition import ExtensionCommand
from ._parser import HIDDEN_RESPONSE, CommandRejected, parse_command, verb_of, visible
from ._replies import Reply, ReplyClass
from ._rules import Refusal
from ._state import ALLOWED_COMMANDS, State, is_allowed
from ._tolerance import tolerate

_BEFORE_TLS: Final = frozenset({Noop, Ehlo, Lhlo, StartTls, Quit})
"""The commands that are accepted without TLS if `require_tls` is set (RFC 3207 section 4)."""

_BEFORE_AUTH: Final = frozenset({Noop, Ehlo, Helo, Lhlo, StartTls, Auth, Rset, Quit, UnknownCommand})
"""The commands that are accepted without authentication if `require_auth` is set (RFC 4954 section 6)."""

_LINE_FAULTS: Final = {LineFault.TOO_LONG: rules.LINE_TOO_LONG, LineFault.BARE_NEWLINE: rules.BARE_NEWLINE}

_OUT_OF_SEQUENCE: Final[Mapping[tuple[State, type[object]], Refusal]] = {
    **{(State.READY, kind): rules.MAIL_FIRST for kind in (Rcpt, Data, Bdat, Burl)},
    **{(state, Mail): rules.TRANSACTION_OPEN for state in (State.MAIL, State.RCPT)},
    **{(State.MAIL, kind): rules.NO_RECIPIENTS for kind in (Data, Bdat, Burl)},
    (State.CHUNKED, Data): rules.BDAT_ONLY,
    (State.CHUNK_REFUSED, Bdat): rules.CHUNK_REFUSED,
}
"""The refusals with a more specific text than "Bad sequence of commands"."""

_WITH_VALUES: Final = frozenset({Rcpt, Mail, Data, StartTls, Auth})
"""The commands whose values `_refuse_values` checks."""

_OF_AUTH: Final = frozenset({Auth, AuthResponse, AuthCancel})
_ENDS: Final = frozenset({DataEnd, InvalidData})
_NEVER_IDLE: Final = frozenset({ConnectionOpened, Mail, Rcpt, Data, ChunkEnd, InvalidCommand})
_NOTHING: Final[frozenset[Any]] = frozenset()  # one set for all sessions: an empty set takes 216 octets


class Refusals:
    """The rules of one session, and the counters of its limits."""

    __slots__ = (
        "_config",
        "_domains",
        "_errors",
        "_exhausted",
        "_failures",
        "_idle",
        "_mails",
        "_rcpts",
        "_refused",
        "uncounted",
    )

    def __init__(self, config: Config) -> None:
        self._config = config
        self._errors = 0
        self._failures = 0
        self._idle = 0
        self._mails = 0
        self._rcpts = 0
        self._refused = 0
        self._domains: frozenset[str] = _NOTHING
        self._exhausted: Refusal | None = None
        """The refusal of every command except QUIT after a limit of the session was reached; None before that."""
        limits = (config.max_messages, config.max_recipients_per_session, config.max_recipient_domains)
        self.uncounted = _NEVER_IDLE if limits == (None, None, None) else _NOTHING
        """Events whose positive replies need no `count_reply`."""

    def examine(
        self, line: bytes, dialect: Dialect, state: State, transaction: Transaction | None, session: Endpoint[Budgets]
    ) -> tuple[Command | UnknownCommand | InvalidCommand, int]:
        """Return the command in a line, or the refusal by the first rule that the line breaks.

        `state` and `transaction` belong to `session`; as arguments they save two calls. The second result is the number
        of octets to discard before the refusal is sent: the chunk of a refused BDAT (RFC 3030 section 2). A refusal
        that closes the connection is sent at once: the octets may never come.
        """
        verb = verb_of(line)
        kind = dialect.kinds.get(verb, UnknownCommand)
        refusal = self._refuse_verb(verb, kind, dialect, state, session)
        octets = 0
        try:
            try:
                command = parse_command(verb, line, dialect)
            except CommandRejected:
                if dialect.tolerant is None:
                    raise
                command = tolerate(verb, line, dialect)
        except CommandRejected as exc:
            # A chunk of unknown size cannot be skipped, so its refusal must close the connection.
            refusal = exc.refusal if kind is Bdat else refusal or exc.refusal
            octets = exc.octets
        else:
            if refusal is None and kind in _WITH_VALUES:
                refusal = self._refuse_values(command, transaction, session)
            if refusal is None:
                return command, 0
            if isinstance(command, Bdat):
                if refusal is rules.NO_RECIPIENTS and self._config.lmtp and command.last:
                    return command, 0  # RFC 2033 4.3: the end of a body without recipients has no reply
                octets = command.size

        event = InvalidCommand(visible(line), refusal.reply, refusal.rule)
        return event, 0 if refusal.reply.reply_class is ReplyClass.GOODBYE else octets

    def refuse_line(self, error: LineError, state: State) -> InvalidCommand:
        """Return the refusal of a line that is too long, or has a bare CR or LF."""
        if state is State.AUTH:
            line = HIDDEN_RESPONSE
            refusal = rules.RESPONSE_TOO_LONG if error.fault is LineFault.TOO_LONG else rules.BARE_NEWLINE
        else:
            line = visible(error.line)
            refusal = rules.BAD_CHUNK_SIZE if verb_of(error.line) == Bdat.verb else _LINE_FAULTS[error.fault]
        refusal = self._exhausted or refusal
        return InvalidCommand(line, refusal.reply, refusal.rule)

    def _refuse_verb(
        self, verb: str, kind: type[object], dialect: Dialect, state: State, session: Endpoint[Budgets]
    ) -> Refusal | None:
        config = self._config
        if self._exhausted and kind is not Quit:
            return self._exhausted
        if kind in HELLOS and (kind is Lhlo) is not config.lmtp:
            return rules.SPEAKS_LMTP if config.lmtp else rules.SPEAKS_SMTP  # RFC 2033 4.1

        if config.require_tls and not session.tls and kind not in _BEFORE_TLS and state is not State.REFUSED:
            return rules.NEEDS_TLS
        needs_auth = config.require_auth and not session.authenticated and state is not State.REFUSED
        if needs_auth and kind not in _BEFORE_AUTH and not (issubclass(kind, ExtensionCommand) and kind.before_auth):
            return rules.NEEDS_AUTH

        if kind in ALLOWED_COMMANDS[state] or is_allowed(state, kind):
            return None
        if verb in dialect.not_implemented and UnknownCommand in ALLOWED_COMMANDS[state]:
            return None  # the parser answers with 502
        if state is State.GREETED:
            return rules.HELLO_FIRST.fill(hello=Lhlo.verb if config.lmtp else Ehlo.verb)
        if config.lmtp and state is State.MAIL and kind is Data:
            return rules.OUT_OF_SEQUENCE  # RFC 2033 4.2 asks for 503

        return _OUT_OF_SEQUENCE.get((state, kind), rules.OUT_OF_SEQUENCE)

    def _refuse_values(
        self, command: Command | UnknownCommand, transaction: Transaction | None, session: Endpoint[Budgets]
    ) -> Refusal | None:
        config = self._config
        match command:
            case Rcpt(forward_path=path):
                assert transaction, "RCPT is in sequence only in a transaction"
                limit, most = config.max_recipient_domains, config.max_recipients_per_session
                if len(transaction.recipients) >= config.max_recipients:
                    return rules.TOO_MANY_RECIPIENTS
                if most is not None and self._rcpts >= most:
                    return rules.TOO_MANY_IN_SESSION
                if limit is not None and len(self._domains | {path.domain}) > limit:
                    return rules.TOO_MANY_DOMAINS
                if not path.text.isascii() and not transaction.mail.params.smtputf8:
                    return rules.RECIPIENT_NOT_ASCII  # RFC 6531 3.5
            case Mail(reverse_path=path):
                if config.max_messages is not None and self._mails >= config.max_messages:
                    return rules.TOO_MANY_MESSAGES.fill(host=config.hostname)  # RFC 9422
                if not path.text.isascii() and not command.params.smtputf8:
                    return rules.SENDER_NOT_ASCII  # RFC 6531 3.5
            case Data() if transaction and transaction.mail.params.is_binary:
                return rules.NEEDS_BDAT  # RFC 3030 section 3
            case StartTls():
                if session.tls:
                    return rules.TLS_ACTIVE
                if session.trailing_data:
                    return rules.STARTTLS_NOT_LAST.fill(host=config.hostname)  # RFC 3207 section 4
            case Auth(mechanism=mechanism):
                if session.authenticated:
                    return rules.AUTHENTICATED
                if mechanism not in config.auth_mechanisms:
                    return rules.MECHANISM_NOT_OFFERED
                if not session.tls and mechanism not in config.plaintext_mechanisms:
                    return rules.MECHANISM_NEEDS_TLS

        return None

    # The counters

    def count_reply(self, asked: Event, reply: Reply) -> None:
        """Update the counters of the session's limits after `reply`."""
        kind = type(asked)
        accepted = reply.is_positive
        if accepted and kind in _NEVER_IDLE:
            if isinstance(asked, Rcpt):
                self._rcpts += 1
                if self._config.max_recipient_domains is not None:
                    self._domains |= {asked.forward_path.domain}
            elif kind is Mail:
                self._mails += 1
            return

        is_end = kind in _ENDS
        self._refused += reply.reply_class is ReplyClass.TRANSIENT or ((is_end or reply.is_relayed) and not accepted)
        if is_end:  # an accepted message resets the errors: each message may have some wrong recipients
            self._idle, self._errors = (0, 0) if accepted else (self._idle, self._errors)
        elif kind in _OF_AUTH:
            self._failures += not accepted
        elif kind is not ConnectionOpened and reply.reply_class is ReplyClass.PERMANENT:
            self._errors += not reply.is_relayed
        elif kind not in _NEVER_IDLE:
            self._idle += 1

        self._check_limits()

    def count_idle(self) -> None:
        """Count a chunk without octets, or a fetched part, so that `max_idle_commands` also limits these."""
        self._idle += 1
        self._check_limits()

    def _check_limits(self) -> None:
        limits = self._config
        exhausted = None
        if limits.max_errors is not None and self._errors >= limits.max_errors:
            exhausted = rules.TOO_MANY_ERRORS
        elif limits.max_refusals is not None and self._refused >= limits.max_refusals:
            exhausted = rules.TOO_MANY_REFUSALS
        elif limits.max_auth_failures is not None and self._failures >= limits.max_auth_failures:
            exhausted = rules.TOO_MANY_FAILURES
        elif limits.max_idle_commands is not None and self._idle >= limits.max_idle_commands:
            exhausted = rules.TOO_MANY_COMMANDS

        self._exhausted = exhausted.fill(host=limits.hostname) if exhausted else None
