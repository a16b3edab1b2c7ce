"""The client's end of a session."""

# The replies change the state, according to the same tables as in a server. With PIPELINING, the replies to several
# requests may be pending, so that a client keeps two states:
#
# - `_state` is the state that the replies so far have led to;
# - `_ahead` is the state after all pending requests, if each of them is accepted. The next request has to be in
#   sequence in this state. If a request is not accepted, the client computes `_ahead` again.
#
# Example: after MAIL and RCPT in one group, `_state` is READY and `_ahead` is RCPT, so that DATA may follow. If 550
# answers MAIL, both are READY.
#
# The pending requests are a queue, and each reply answers the oldest (RFC 2920 3.1: replies are matched by counting,
# not by code or text). Each request stores how many octets had been received when `send` queued it: a reply that began
# earlier is not its answer. Such a reply ends the session: it is a goodbye, refuses an unfinished body, or is an error.
#
# The octets of a BDAT follow at once, whatever the server replies meanwhile. `_left` counts them, and nothing else can
# be sent before they are complete. The BDAT itself changes the state (`Step`), as soon as the replies to all earlier
# requests have arrived.
#
# A mistake of the server ends the session. A mistake of the caller raises an exception before anything has changed:
# `send` first prepares the octets and the body, then stores both.

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Final, get_args

from ._bodies._outgoing import OutgoingBody
from ._budgets import ClientBudgets
from ._command import Command, UnknownCommand
from ._commands import Auth, Bdat, Data, Ehlo, Helo, Lhlo, Mail, Quit, Rcpt, Rset
from ._config import MIN_COMMAND_LINE, ClientConfig
from ._dialects import MAX_AUTH_LINE, Dialect, make_dialect, read_offers
from ._endpoint import Endpoint, Timer, Transaction
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    Answered,
    AuthCancel,
    AuthResponse,
    ChunkEnd,
    ClientEvent,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    InvalidCommand,
    Question,
    Request,
    Signal,
)
from ._extensions._builtin import EXTENSIONS
from ._extensions._burl import Burl
from ._extensions._definition import Extension
from ._extensions._xclient import Xclient
from ._fields import check_argument
from ._replies import MAX_CHALLENGE, Reply, ReplyClass, ReplyCode
from ._reply_reader import ReplyReader
from ._requests import body_of, check_values, encode, hoped_for, may_follow, name_of
from ._state import ALLOWED_REPLIES, IN_TRANSACTION, WAITING_FOR_REPLY, Step, Wait, chunk_step, is_allowed, row_of
from ._states import State

_MAX_CHALLENGE_LINE: Final = len("334 ") + MAX_CHALLENGE + len("\r\n")
_OF_AUTH: Final = (Auth, AuthResponse, AuthCancel)
_OCTETS: Final = (DataLine, DataChunk)
_OF_HELLO: Final = (Helo, Ehlo, Lhlo)
_PLAIN: Final = (ConnectionOpened, *_OF_HELLO)  # RFC 2034 section 3 (4): their replies have no enhanced status code
_PARTS: Final = (Bdat, Burl)
_REQUESTS: Final = get_args(Request)
_IN_BASE: Final = frozenset({"EXPN", "HELP"})  # RFC 5321 4.1.1: verbs that may be tried without being offered

_DEFAULT_BUDGETS: Final = ClientBudgets()
_BUDGETS: Final = {
    Wait.TLS: "handshake",
    Wait.SERVER_GREETING: "greeting",
    Wait.MAIL_REPLY: "mail",
    Wait.RCPT_REPLY: "rcpt",
    Wait.DATA_REPLY: "data",
    Wait.END_REPLY: "end",
    Wait.COMMAND_REPLY: "command",
}
"""The budget of each wait, except for the reply to QUIT."""


@dataclass(slots=True)
class _Pending:
    """A request whose reply is pending."""

    request: Request | ConnectionOpened
    question: Question
    """The event that the reply answers: for BDAT, the end of its chunk."""
    kind: type[object]
    """The type of the event in the state tables."""
    octets: int
    """The size of the command on the wire."""
    mark: int
    """Octets received before `send` queued the request."""
    end: float = 0
    """Octets received before `send` queued the last octet of a chunk; infinite before."""
    recipients: deque[Rcpt] = field(default_factory=deque)
    """In LMTP, the recipients whose replies are pending."""


class ClientConnection(Endpoint[ClientBudgets]):
    """A client's end of one SMTP or LMTP session, without I/O.

    Queue requests with `send`, write the octets that `data_to_send` returns, pass received octets to `receive_data`,
    and take the replies with `next_event`. The first reply is the greeting; nothing can be sent before it.

    `extensions` are the extensions that the client can use. Other keywords are listed, but have no effect. With
    `implicit_tls`, a TLS handshake comes before the greeting (RFC 8314 section 3.3): `next_event` returns `NEED_TLS`
    until `tls_established`. `budgets` limit the waits for the server, if you call `tick`.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        implicit_tls: bool = False,
        budgets: ClientBudgets = _DEFAULT_BUDGETS,
    ) -> None:
        check_argument("config", config, ClientConfig)
        check_argument("budgets", budgets, ClientBudgets)
        super().__init__(budgets, extensions, implicit_tls=implicit_tls)
        self._config = config
        self._known = tuple(extensions)

        self._offers, self._dialect = self._read_offers([])
        self._mail: Mail | None = None
        """The last MAIL that was sent."""
        self._body: OutgoingBody | None = None
        self._left = 0
        """Octets of a chunk that are still to be sent."""
        self._must_cancel = False
        """Whether the last challenge was not base64, so that AUTH has to be cancelled."""

        self._reader = ReplyReader(config)
        self._reply_start = 0
        """Octets received before the reply that is being read."""
        opened = ConnectionOpened()
        self._pending: deque[_Pending] = deque([_Pending(opened, opened, ConnectionOpened, 0, 0)])
        self._group = 0
        """Octets of the commands whose replies are pending."""
        self._ahead: State | None = None
        """The state after all pending requests, if each is accepted; None if it has to be computed."""

    # Properties

    @property
    def config(self) -> ClientConfig:
        """The configuration."""
        return self._config

    @property
    def hello(self) -> Ehlo | Lhlo:
        """The command that opens the session. After a 5yz to EHLO, `Helo` may be tried (RFC 5321 3.2)."""
        return (Lhlo if self._config.lmtp else Ehlo)(self._config.hostname)

    @property
    def extensions(self) -> Mapping[str, object]:
        """The offers of the server: the keywords of its reply to EHLO or LHLO, in upper case, with their terms.

        The terms of a known keyword are its arguments as a typed value: for SIZE the limit, or None; for AUTH a tuple
        of mechanisms. The terms are True if the keyword has no arguments. A known keyword with malformed arguments is
        left out. The terms of an unknown keyword are the text after it. The mapping is empty after HELO, and after TLS
        has started.
        """
        return self._offers

    @property
    def is_pipelining(self) -> bool:
        """Whether requests may be sent before the replies to earlier requests."""
        return self._config.pipelining and "PIPELINING" in self._offers

    @property
    def replies_due(self) -> int:
        """The number of pending replies, the greeting included."""
        return sum(len(pending.recipients) or 1 for pending in self._pending)

    @property
    def octets_left(self) -> int:
        """The octets of a chunk that have to be sent before anything else."""
        return self._left

    @property
    def waiting_for(self) -> Wait:
        """The event that the connection waits for, which selects the timeout (RFC 5321 4.5.3.2)."""
        if self._expects_handshake():
            return Wait.TLS
        if len(self._pending) > bool(self._left):
            return WAITING_FOR_REPLY[self._pending[0].kind]

        return Wait.DATA_BLOCK if self._left or self._state is State.DATA else Wait.NOTHING

    # Receiving

    def next_event(self) -> "ClientEvent | Signal":
        """Return the next reply with its request, `ConnectionClosed`, `NEED_DATA`, or `NEED_TLS` for the handshake.

        Raises:
            RemoteProtocolError: the input is not a reply, or cannot answer the request; or the stream ended while a
                reply or a body was incomplete. If a message was sent and its reply did not come, the server may or may
                not have accepted it; RFC 5321 3.8 says to treat this like a 451.
        """
        if self._state is State.CLOSED:
            return self._closed()
        if self._expects_handshake():
            if len(self._buffer.octets):
                raise self._injected()
            return self._await_data() if self._end_of_stream else Signal.NEED_TLS

        if not self._reader.is_amid:
            self._reply_start = self._received - len(self._buffer.octets)
        pending = self._pending[0] if self._pending else None
        is_auth = pending is not None and isinstance(pending.request, _OF_AUTH)
        try:
            received = self._reader.take(self._buffer, least_limit=_MAX_CHALLENGE_LINE if is_auth else 0)
        except RemoteProtocolError:
            self._advance(Step.CLOSE)
            raise

        if received is None:
            return self._await_data()

        code, texts = received
        is_closing = code == ReplyCode.SERVICE_CLOSING and not (pending and isinstance(pending.request, Quit))
        if pending and self._reply_start >= pending.mark and not is_closing:
            return self._match_reply(pending, code, texts)

        # RFC 5321 3.8: a 421 may come at any time. Servers also send a 221, or refuse a body before its end.
        is_closing |= code == ReplyCode.SERVICE_NOT_AVAILABLE
        if not is_closing and (code < 400 or self._body is None):
            raise self._broken(f"the server sent {code} without a request")

        self._advance(Step.CLOSE)
        return Answered(None if is_closing else DataEnd(), Reply.as_heard(code, *texts))

    def _await_data(self) -> ClientEvent | Signal:
        if not self._end_of_stream:
            return Signal.NEED_DATA
        if len(self._buffer.octets) or self._reader.is_amid:
            raise self._broken("the connection was closed inside a reply")
        if self._left or (self._state is State.DATA and not self._pending):
            raise self._broken("the connection was closed inside a body")
        # RFC 5321 4.1.1.10: QUIT ends the session, whatever its reply is.
        if self._pending and not isinstance(self._pending[0].request, Quit):
            raise self._broken(f"the connection was closed before the reply to {name_of(self._pending[0].question)}")

        self._advance(Step.CLOSE)
        return ConnectionClosed()

    def _match_reply(self, pending: _Pending, code: int, texts: Sequence[str]) -> Answered:
        request = pending.request
        reply = Reply.as_heard(code, *texts, may_be_enhanced=not isinstance(request, _PLAIN))
        kind = pending.kind
        is_between_parts = self._state not in (State.CHUNK, State.LAST_CHUNK)
        if isinstance(request, _PARTS) and is_between_parts and not is_allowed(self._state, type(request)):
            kind = InvalidCommand  # RFC 3030 section 2: after a refused part, later parts are refused too

        # A request after AUTH would answer its challenge. RFC 3030 section 2: a chunk is accepted when it is complete.
        is_challenge = reply.reply_class is ReplyClass.INTERMEDIATE
        is_premature = len(self._pending) > 1 if is_challenge else reply.is_positive and self._reply_start < pending.end
        if reply.reply_class not in ALLOWED_REPLIES[kind] or is_premature:
            raise self._broken(f"{code} cannot answer {name_of(pending.question)}")

        recipient = pending.recipients.popleft() if pending.recipients and kind is DataEnd else None
        if not pending.recipients or kind is not DataEnd or reply.reply_class is ReplyClass.GOODBYE:
            expected = hoped_for(self._state, request, pending.kind)
            self._pending.popleft()
            self._group -= pending.octets
            self._advance(kind, reply.reply_class)
            if self._state is not expected:
                self._ahead = None
            if reply.is_positive:
                self._accept(request, reply, texts)

            self._begin_chunk()

        return Answered(pending.question, reply, recipient)

    def _accept(self, request: Request | ConnectionOpened, reply: Reply, texts: Sequence[str]) -> None:
        match request:
            case Helo() | Ehlo() | Lhlo():
                self._helo = request
                self._offers, self._dialect = self._read_offers([] if isinstance(request, Helo) else texts[1:])
            case Mail() if self._state is State.MAIL:
                self._transaction = Transaction(request)
            case Rcpt() if self._transaction:
                self._transaction.recipients.append(request)
            case Data():
                if self._config.lmtp and not (self._transaction and self._transaction.recipients):
                    # RFC 2033 4.2: without recipients, the end of the body would have no reply.
                    raise self._broken("354 cannot answer DATA in LMTP without a recipient")

                self._body = self._make_body(in_chunks=False)
            case Auth() | AuthResponse():
                self._authenticated = reply.reply_class is ReplyClass.COMPLETION
                self._must_cancel = reply.challenge is None
            case Xclient():
                self._forget_peer()

    def _begin_chunk(self) -> None:
        if self._pending and isinstance(request := self._pending[0].request, Bdat):
            self._advance(chunk_step(last=request.last))

    def _read_offers(self, lines: Sequence[str]) -> tuple[Mapping[str, object], Dialect]:
        offers, terms = read_offers(lines, self._known)
        longest = MIN_COMMAND_LINE  # RFC 4954 section 4: AUTH with its initial response has to fit into such a line
        dialect = make_dialect(self._known, terms, longest=longest, longest_auth=longest, always=_IN_BASE, wide=True)
        return MappingProxyType(offers), dialect

    # Sending

    def send(self, request: Request) -> None:
        """Queue a request: a command, or octets or the end of a body.

        A body follows the 354 to `Data`, as `DataChunk` or `DataLine` in pieces of any size, and `DataEnd` ends it.
        This method doubles leading dots. If the 354 comes although no recipient was accepted, only `DataEnd` can follow
        (RFC 2920 3.1). The octets of a chunk follow `Bdat` at once, exactly as many as it announces; the end of the
        last chunk is the end of the body.

        Raises:
            LocalProtocolError: the request is out of sequence, needs an extension that is not offered, or is malformed.
                Nothing was sent, and the connection is as it was.
        """
        octets, self._body = self._prepare(request)
        self._output.append(octets)
        if isinstance(request, _OCTETS):
            self._left -= len(request.data) if self._left else 0
            if self._pending and not self._left:
                self._pending[-1].end = float(self._received)
            return

        ahead = self._state_ahead()
        question: Question = request if not isinstance(request, Bdat) else DataEnd() if request.last else ChunkEnd()
        pending = _Pending(request, question, row_of(question), len(octets), self._received)
        if self._config.lmtp and self._transaction and isinstance(question, DataEnd):
            pending.recipients.extend(self._transaction.recipients)  # RFC 2033 4.2

        self._pending.append(pending)
        self._group += len(octets)
        self._ahead = hoped_for(ahead, request, pending.kind)
        if isinstance(request, Mail):
            self._mail = request
        elif isinstance(request, Bdat):
            self._left, pending.end = request.size, inf if request.size else 0

        self._begin_chunk()

    def may_send(self, request: Request) -> bool:
        """Return whether `send` accepts this request now. If not, `must_wait` returns whether this can still change."""
        try:
            self._prepare(request)
        except LocalProtocolError:
            return False

        return True

    def must_wait(self, request: Request) -> bool:
        """Return whether this request has to wait for pending replies, which then decide whether it can be sent.

        If the result is false, call `send`: it either accepts the request, or raises the reason why the request cannot
        be sent, which no pending reply can change.
        """
        return not self.may_send(request) and bool(self._pending) and not self._left

    def _state_ahead(self) -> State:
        if self._ahead is None:
            self._ahead = self._state
            for pending in self._pending:
                self._ahead = hoped_for(self._ahead, pending.request, pending.kind)

        return self._ahead

    def _prepare(self, request: Request) -> tuple[bytes, OutgoingBody | None]:
        """Return the octets of `request`, and the body after it. Raise `LocalProtocolError` if it cannot be sent."""
        if isinstance(request, _OCTETS):
            return self._prepare_octets(request.data)

        if not isinstance(request, _REQUESTS):
            check_argument("request", request, Request)
        self._check_sequence(request)
        match request:
            case Bdat():
                body = (self._body or self._make_body(in_chunks=True)).copy()
                if request.last and not request.size:
                    body.check(b"", is_end=True)
                return self._encode(request), body
            case DataEnd():
                assert self._body, "a body exists from the 354 to its end"
                body = self._body.copy()
                return body.end(), body
            case AuthResponse() | AuthCancel():
                octets = request.encode()
                if self._must_cancel and isinstance(request, AuthResponse):
                    raise LocalProtocolError("the challenge is not base64: send AuthCancel()")  # RFC 4954 section 4
                if len(octets) > MAX_AUTH_LINE:
                    raise LocalProtocolError(f"a SASL response of {len(octets)} octets exceeds {MAX_AUTH_LINE}")
                return octets, self._body
            case Auth() if self._authenticated or any(isinstance(pending.request, Auth) for pending in self._pending):
                raise LocalProtocolError("the session is already authenticated")  # RFC 4954 section 4
            case Auth() if not self._tls and not self._config.plaintext_auth:
                raise LocalProtocolError("AUTH needs TLS: send STARTTLS first, or set plaintext_auth")
            case _:
                check_values(request, self._mail, self._offers, self._tls)
                return self._encode(request), self._body

    def _prepare_octets(self, data: bytes) -> tuple[bytes, OutgoingBody | None]:
        if not self._left:
            if self._state is not State.DATA or self._pending or self._body is None:
                raise LocalProtocolError("no body can be sent: first send Data() and receive its 354, or send Bdat()")
            if not (self._transaction and self._transaction.recipients):
                raise LocalProtocolError("no recipient was accepted: end the body with DataEnd()")  # RFC 2920 3.1

            body = self._body.copy()
            return body.stuff(data), body

        if len(data) > self._left:
            raise LocalProtocolError(f"{len(data)} octets are more than the {self._left} that the chunk has left")
        if self._body is None:
            return data, None  # the server has refused the chunk, and discards it

        body = self._body.copy()
        is_last = bool(self._pending) and isinstance(self._pending[-1].question, DataEnd)
        body.check(data, is_end=is_last and len(data) == self._left)
        return data, body

    def _check_sequence(self, request: Request) -> None:
        if self._left:
            raise LocalProtocolError(f"{self._left} octets of the chunk have to be sent first")
        if self._pending:
            before = self._pending[-1].request
            if not self.is_pipelining or not may_follow(before, request):
                # RFC 5321 4.3.1, RFC 2920 3.1
                raise LocalProtocolError(f"take the reply to {name_of(before)} before you send {name_of(request)}")

        state = self._state_ahead()
        if not is_allowed(state, type(request)):
            raise LocalProtocolError(f"{name_of(request)} cannot be sent in {state}")
        if state is State.CHUNK_REFUSED and not isinstance(request, Rset | Quit):  # RFC 3030 section 2
            raise LocalProtocolError("a part of the body was refused: clear the transaction with RSET")
        if isinstance(request, _OF_HELLO) and isinstance(request, Lhlo) != self._config.lmtp:
            raise LocalProtocolError(f"{name_of(request)} does not fit config.lmtp: send conn.hello")  # RFC 2033 4.1

    def _encode(self, request: Command | UnknownCommand) -> bytes:
        octets = encode(request, self._dialect)
        if self._pending and self._config.max_group is not None and self._group + len(octets) > self._config.max_group:
            raise LocalProtocolError(f"{self._group} octets of commands have no reply yet: take some replies first")

        return octets

    def _make_body(self, *, in_chunks: bool) -> OutgoingBody:
        return OutgoingBody(self._config, body_of(self._mail), in_chunks=in_chunks)

    # Time

    def _set_deadline(self, timer: Timer) -> None:
        wait, pending = self.waiting_for, self._pending[0] if self._pending else None
        if wait is Wait.NOTHING or wait is Wait.DATA_BLOCK:
            timer.stop()  # the program has to send: `send_deadline` limits its writes
            return

        budget = "quit" if pending and isinstance(pending.request, Quit) else _BUDGETS[wait]
        timer.await_server(wait, self.budgets, budget, pending, len(pending.recipients) if pending else 0)

    def _time_out(self) -> None:
        self.send_failed()

    # Changes of the state

    def _has_input(self) -> bool:
        return super()._has_input() or self._reader.is_amid

    def _forget_peer(self) -> None:
        super()._forget_peer()
        self._ahead = None
        self._offers, self._dialect = self._read_offers([])

    def _enter(self, state: State) -> None:
        if state not in IN_TRANSACTION:
            self._body = None
        if state is State.CLOSED:
            self._ahead = None
            self._pending.clear()
            self._group = self._left = 0
