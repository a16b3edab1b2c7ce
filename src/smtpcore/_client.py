"""The client's end of a dialogue."""

# A client asks, and a reply moves the dialogue. With PIPELINING there are questions under way to which no one knows the
# answer yet, so a client stands at two places at once:
#
# - `_state` is where the replies so far have brought the dialogue, by the same rows that the server's end walks along;
# - `_state_ahead` is where it will be if all that is under way is accepted. What is sent next has to be in sequence
#   there. A reply that disappoints this hope moves it.
#
# The questions under way are a queue, and each reply answers the oldest (RFC 2920 3.1: by counting, never by code or
# text). A server that talks before it was asked is not answering: so each question remembers how many octets had been
# received when it was handed out to be written, and a reply that began before that answers nothing.
#
# BDAT has two faces. It moves the dialogue when its turn comes, which is when the replies to all before it are there;
# and its octets follow at once, whatever the server may say meanwhile. `_left` counts them, and as long as there are
# some nothing else can be sent.
#
# What the server does wrong ends the dialogue. What the program does wrong raises before anything has changed: `send`
# first prepares the octets and the body behind them, then takes both.

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ._bodies._outgoing import OutgoingBody, outgoing_chunks
from ._commands import Auth, Bdat, Burl, Command, Data, Ehlo, Helo, Lhlo, Mail, Quit, Rcpt, Rset, StartTls, Xclient
from ._config import MIN_COMMAND_LINE, ClientConfig
from ._dialects import MAX_AUTH_LINE, Dialect, make_dialect, read_keywords, read_terms, verbs_of
from ._endpoint import Endpoint
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    NEED_DATA,
    PAUSED,
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
    UnknownCommand,
)
from ._extensions._builtin import EXTENSIONS
from ._extensions._definition import Extension
from ._parser import CommandRejected, parse_command
from ._pipelining import may_follow
from ._replies import MAX_CHALLENGE, Reply, ReplyClass, ReplyCode
from ._reply_reader import ReplyReader, make_reply
from ._state import (
    IN_TRANSACTION,
    MAY_ANSWER,
    MAY_HEAR,
    ON_BDAT,
    WAITING_FOR_REPLY,
    State,
    Wait,
    next_state,
)
from ._transaction import Transaction
from .parameters import BodyType

_IN_CHUNK: Final = frozenset(ON_BDAT.values())
_MAX_CHALLENGE_LINE: Final = len("334 ") + MAX_CHALLENGE + len("\r\n")
_OF_AUTH: Final = (Auth, AuthResponse, AuthCancel)
_OF_HELLO: Final = (Helo, Ehlo, Lhlo)
_IN_BASE: Final = frozenset({"EXPN", "HELP"})  # RFC 5321 4.1.1: verbs that may be tried without being announced
_AFTER_REFUSED_CHUNK: Final = (Rset, Quit)  # RFC 3030 section 2: RSET has to be the next command


@dataclass(slots=True)
class _Pending:
    """What was sent and has no reply yet."""

    said: Request | ConnectionOpened
    to: Question
    """What the reply answers."""
    kind: type[object]
    """As what it stands in the tables."""
    octets: int
    """The size of the command on the wire."""
    mark: int | None = None
    """How many octets had been received when it was handed out to be written; None before that."""
    recipients: deque[Rcpt] = field(default_factory=deque)
    """In LMTP, whose replies are still due."""


class ClientConnection(Endpoint):
    """A client's end of one SMTP or LMTP dialogue, without I/O.

    Say things with `send`, write what `data_to_send` returns, pass what arrives to `receive_data`, and take the replies
    with `next_event`. The first is the greeting, before which nothing can be sent.

    `extensions` are those that the client can make use of: what a server offers besides is listed, no more.
    """

    def __init__(self, config: ClientConfig, *, extensions: Sequence[Extension] = EXTENSIONS) -> None:
        super().__init__()
        self._config = config
        self._known = tuple(extensions)

        self._offers: Mapping[str, object] = MappingProxyType({})
        self._dialect = self._make_dialect({})
        self._mail: Mail | None = None
        """The MAIL that was sent last."""
        self._body: OutgoingBody | None = None
        self._left = 0
        """Octets of a chunk that are still to be sent."""
        self._must_cancel = False
        """Whether the last challenge cannot be answered."""

        self._reader = ReplyReader(config)
        self._reply_start = 0
        """How many octets had been received before the reply that is being read."""
        opened = ConnectionOpened()
        self._pending: deque[_Pending] = deque([_Pending(opened, opened, ConnectionOpened, 0, mark=0)])
        self._group = 0
        """Octets of the commands that have no reply yet."""
        self._ahead: State | None = None
        """Where the dialogue will be if all that is under way is accepted; None if that has to be found out."""

    # What is known

    @property
    def config(self) -> ClientConfig:
        """The configuration."""
        return self._config

    @property
    def hello(self) -> Ehlo | Lhlo:
        """What opens the session with the configured name. After a 5yz to EHLO, `Helo` may be tried (RFC 5321 3.2)."""
        return (Lhlo if self._config.lmtp else Ehlo)(self._config.hostname)

    @property
    def extensions(self) -> Mapping[str, object]:
        """What the server offers: the keywords of its reply to EHLO or LHLO, in upper case, with their terms.

        A known keyword has the value that its extension makes of the arguments, such as the limit of SIZE, None if
        there is none, or the mechanisms of AUTH, a tuple; True if it says all by being there. One whose arguments make
        no sense is missing. An unknown keyword has the text behind it. After HELO, and after TLS has started, there are
        none.
        """
        return self._offers

    @property
    def is_pipelining(self) -> bool:
        """Whether commands may go out before the replies to those before them."""
        return self._config.pipelining and "PIPELINING" in self._offers

    @property
    def replies_due(self) -> int:
        """How many replies are still to come for what was sent, the greeting included."""
        return sum(len(pending.recipients) or 1 for pending in self._pending)

    @property
    def octets_left(self) -> int:
        """How many octets of a chunk are still to be sent, before anything else can be."""
        return self._left

    @property
    def waiting_for(self) -> Wait:
        """What is waited for, and so which time limit holds (RFC 5321 4.5.3.2)."""
        if self._state in (State.CLOSED, State.TLS):
            return Wait.TLS if self._state is State.TLS else Wait.NOTHING
        if len(self._pending) > bool(self._left):
            return WAITING_FOR_REPLY[type(self._pending[0].to)]

        return Wait.DATA_BLOCK if self._left or self._state is State.DATA else Wait.NOTHING

    # Hearing the server

    def next_event(self) -> ClientEvent | Signal:
        """The next reply, with what it answers.

        Returns `PAUSED` while TLS has to be established.

        Raises:
            RemoteProtocolError: what came is no reply, or cannot be the answer to what was asked; or the stream ended
                where the server still had something to say or to hear. Of a message whose end has no reply nobody
                knows whether it was taken; RFC 5321 3.8 has it treated as if a 451 had come.
        """
        if self._state is State.CLOSED:
            return ConnectionClosed()
        if self._state is State.TLS:
            if len(self._buffer):
                raise self._injected()
            return self._hear_nothing() if self._end_of_stream else PAUSED

        heard = self._hear_reply()
        return self._hear_nothing() if heard is None else self._pair(*heard)

    def _hear_reply(self) -> tuple[int, Sequence[str]] | None:
        if not self._reader.is_amid:
            self._reply_start = self._received - len(self._buffer)

        asked = self._pending[0].said if self._pending else None
        try:
            return self._reader.take(
                self._buffer, least_limit=_MAX_CHALLENGE_LINE if isinstance(asked, _OF_AUTH) else 0
            )
        except RemoteProtocolError:
            self._close()
            raise

    def _hear_nothing(self) -> ClientEvent | Signal:
        if not self._end_of_stream:
            return NEED_DATA
        if len(self._buffer) or self._reader.is_amid:
            raise self._broken("the connection was closed inside a reply")
        if self._left or (self._state is State.DATA and not self._pending):
            raise self._broken("the connection was closed inside a body")
        # RFC 5321 4.1.1.10: QUIT closes, whatever its reply.
        if self._pending and not isinstance(self._pending[0].said, Quit):
            raise self._broken(f"the connection was closed before the reply to {_name(self._pending[0].to)}")

        self._close()
        return ConnectionClosed()

    # Pairing replies with what they answer

    def _pair(self, code: int, texts: Sequence[str]) -> Answered:
        pending = self._pending[0] if self._pending else None
        if pending is None or pending.mark is None or self._reply_start < pending.mark:
            return self._hear_unasked(code, texts)

        # RFC 2034 section 3 (4): there are no enhanced status codes in the greeting, nor in replies to HELO and EHLO.
        is_plain = isinstance(pending.said, ConnectionOpened | Helo | Ehlo | Lhlo)
        reply = make_reply(code, texts, may_be_enhanced=not is_plain)
        kind = self._kind_of(pending)
        if reply.reply_class not in MAY_ANSWER[kind] or self._is_premature(reply):
            raise self._broken(f"{code} cannot answer {_name(pending.to)}")

        recipient = pending.recipients.popleft() if pending.recipients and kind is DataEnd else None
        if not pending.recipients or kind is not DataEnd or reply.reply_class is ReplyClass.GOODBYE:
            self._conclude(pending, kind, reply, texts)

        return Answered(pending.to, reply, recipient)

    def _hear_unasked(self, code: int, texts: Sequence[str]) -> Answered:
        if code != ReplyCode.SERVICE_NOT_AVAILABLE:
            raise self._broken(f"the server said {code} without being asked")

        self._close()  # RFC 5321 3.8: a 421 may come at any time
        return Answered(None, make_reply(code, texts, may_be_enhanced=True))

    def _kind_of(self, pending: _Pending) -> type[object]:
        is_part = isinstance(pending.said, Bdat | Burl)
        # RFC 3030 section 2: what follows a refused part of a body is refused as well.
        if is_part and self._state not in _IN_CHUNK and type(pending.said) not in MAY_HEAR.get(self._state, ()):
            return InvalidCommand

        return pending.kind

    def _is_premature(self, reply: Reply) -> bool:
        # What was sent behind AUTH would be taken for the response to its challenge.
        if reply.reply_class is ReplyClass.INTERMEDIATE:
            return len(self._pending) > 1

        # RFC 3030 section 2: a chunk is accepted when all of it is there.
        return reply.is_positive and self._left > 0 and len(self._pending) == 1

    def _conclude(self, pending: _Pending, kind: type[object], reply: Reply, texts: Sequence[str]) -> None:
        hoped = _hoped_for(self._state, pending)
        self._pending.popleft()
        self._group -= pending.octets
        self._move_to(next_state(self._state, kind, reply.reply_class))
        if self._state is not hoped:
            self._ahead = None
        if reply.is_positive:
            self._learn(pending.said, reply, texts)

        self._begin_turn()

    def _move_to(self, state: State) -> None:
        self._state = state
        if state is State.CLOSED:
            self._close()
        elif state not in IN_TRANSACTION:
            self._transaction = None
            self._body = None

    def _learn(self, said: Request | ConnectionOpened, reply: Reply, texts: Sequence[str]) -> None:
        match said:
            case Helo() | Ehlo() | Lhlo():
                self._helo = said
                self._learn_offers([] if isinstance(said, Helo) else texts[1:])
            case Mail() if self._state is State.MAIL:
                self._transaction = Transaction(said)
            case Rcpt() if self._transaction:
                self._transaction.recipients.append(said)
            case Data():
                self._open_body()
            case Auth() | AuthResponse():
                self._authenticated = reply.reply_class is ReplyClass.COMPLETION
                self._must_cancel = reply.challenge is None
            case Xclient():
                self._forget_peer()

    def _open_body(self) -> None:
        if self._config.lmtp and not self._has_recipients():
            # RFC 2033 4.2: where no recipient was accepted, the end of a body would have no reply.
            raise self._broken("354 cannot answer DATA in LMTP without a recipient")

        self._body = OutgoingBody(self._config, self._body_type())

    def _begin_turn(self) -> None:
        said = self._pending[0].said if self._pending else None
        if isinstance(said, Bdat) and Bdat in MAY_HEAR.get(self._state, ()):
            self._state = ON_BDAT[said.last]

    def _learn_offers(self, lines: Sequence[str]) -> None:
        keywords = read_keywords(lines)
        terms = read_terms(keywords, self._known)
        known = {extension.keyword.upper() for extension in self._known}
        offers: dict[str, object] = {keyword: text for keyword, text in keywords.items() if keyword not in known}
        offers |= {extension.keyword.upper(): value for extension, value in terms.items()}
        self._offers = MappingProxyType(offers)
        self._dialect = self._make_dialect(terms)

    def _make_dialect(self, terms: Mapping[Extension, object]) -> Dialect:
        return make_dialect(
            terms,
            longest=MIN_COMMAND_LINE,
            longest_auth=MIN_COMMAND_LINE,  # RFC 4954 section 4: for the initial response; challenges have more room
            not_implemented=verbs_of(self._known) - verbs_of(terms) - _IN_BASE,
        )

    # Asking

    def send(self, request: Request) -> None:
        """Say something to the server: a command, or octets or the end of a body.

        A body follows the 354 to `Data`, as `DataChunk` or `DataLine`, cut anywhere, and `DataEnd` ends it; dots are
        doubled here. If the 354 comes though no recipient was accepted, only `DataEnd` can follow (RFC 2920 3.1). The
        octets of a chunk follow `Bdat` at once, exactly as many as it says; the last one's end is that of the body.

        Raises:
            LocalProtocolError: this is out of sequence, needs an extension that is not offered, or would be no
                well-formed SMTP. Nothing was sent, and the connection is as it was.
        """
        octets, body = self._prepare(request)
        self._output.append(octets)
        self._body = body
        if isinstance(request, DataLine | DataChunk):
            self._left -= len(request.data) if self._left else 0
        else:
            self._await_reply(request, len(octets))

    def may_send(self, request: Request) -> bool:
        """Whether `send` would take this. Where replies are due, a refusal may be for now only."""
        try:
            self._prepare(request)
        except LocalProtocolError:
            return False
        else:
            return True

    def _await_reply(self, request: Request, octets: int) -> None:
        ahead = self._state_ahead()
        asked = _question(request)
        # RFC 4468 3.2: BURL LAST is an end of data.
        is_end = isinstance(asked, Burl) and asked.last
        pending = _Pending(request, asked, DataEnd if is_end else type(asked), octets)
        if self._config.lmtp and self._transaction and isinstance(asked, DataEnd):
            pending.recipients.extend(self._transaction.recipients)  # RFC 2033 4.2

        self._pending.append(pending)
        self._group += octets
        self._ahead = _hoped_for(ahead, pending)
        if isinstance(request, Mail):
            self._mail = request
        elif isinstance(request, Bdat):
            self._left = request.size

        self._begin_turn()

    def _state_ahead(self) -> State:
        if self._ahead is None:
            self._ahead = self._state
            for pending in self._pending:
                self._ahead = _hoped_for(self._ahead, pending)

        return self._ahead

    # What stands against a request

    def _prepare(self, request: Request) -> tuple[bytes, OutgoingBody | None]:
        if isinstance(request, DataLine | DataChunk):
            return self._prepare_run(request.data)

        self._check_turn(request)
        match request:
            case DataEnd():
                return self._prepare_end()
            case AuthResponse() | AuthCancel():
                return self._encode_response(request), self._body
            case Bdat():
                return self._encode(request), self._prepare_chunk(request)
            case _:
                self._check_content(request)
                return self._encode(request), self._body

    def _check_turn(self, request: Request) -> None:
        if self._left:
            raise LocalProtocolError(f"{self._left} octets of the chunk have to be sent first")
        if self._pending:
            self._check_group(request)

        state = self._state_ahead()
        if type(request) not in MAY_HEAR.get(state, ()):
            raise LocalProtocolError(f"{_name(request)} cannot be sent in {state}")
        if state is State.CHUNK_REFUSED and not isinstance(request, _AFTER_REFUSED_CHUNK):
            raise LocalProtocolError("a part of the body was refused: give the transaction up with RSET")
        if isinstance(request, _OF_HELLO) and isinstance(request, Lhlo) != self._config.lmtp:
            raise LocalProtocolError(f"{_name(request)} is not of this protocol: send conn.hello")  # RFC 2033 4.1

    def _check_group(self, request: Request) -> None:
        before = self._pending[-1].said
        if not self.is_pipelining or not may_follow(before, request):
            # RFC 5321 4.3.1, RFC 2920 3.1
            raise LocalProtocolError(f"the reply to {_name(before)} has to come before {_name(request)} can be sent")

    def _check_content(self, request: Command | UnknownCommand) -> None:
        match request:
            case Mail():
                self._check_mail(request)
            case Rcpt(forward_path=path) if not path.text.isascii() and not (self._mail and self._mail.params.smtputf8):
                raise LocalProtocolError("a non-ASCII recipient needs the parameter SMTPUTF8 of MAIL")  # RFC 6531 3.4
            case Auth():
                self._check_auth(request)
            case StartTls() if self._tls:
                raise LocalProtocolError("TLS is active already")  # RFC 3207 4.2
            case Data() if self._body_type() is BodyType.BINARYMIME:
                raise LocalProtocolError("a binary message is sent with BDAT")  # RFC 3030 section 3
            case Burl(uri=uri):
                self._check_scheme(uri.partition(":")[0].lower())

    def _check_mail(self, mail: Mail) -> None:
        if not mail.reverse_path.text.isascii() and not mail.params.smtputf8:
            raise LocalProtocolError("a non-ASCII sender needs the parameter SMTPUTF8")  # RFC 6531 3.4
        if mail.params.requiretls and not self._tls:
            raise LocalProtocolError("REQUIRETLS means nothing without TLS: send STARTTLS first")  # RFC 8689 section 2
        if mail.params.body is BodyType.BINARYMIME and "CHUNKING" not in self._offers:
            raise LocalProtocolError("BODY=BINARYMIME needs CHUNKING, which is not offered")  # RFC 3030 section 3

    def _check_auth(self, auth: Auth) -> None:
        if self._authenticated or any(isinstance(pending.said, Auth) for pending in self._pending):
            raise LocalProtocolError("the session is authenticated already")  # RFC 4954 section 4
        if not self._tls and not self._config.plaintext_auth:
            raise LocalProtocolError("AUTH needs TLS: send STARTTLS first, or set plaintext_auth")

        mechanisms = self._offers.get("AUTH")
        if not isinstance(mechanisms, tuple) or auth.mechanism not in mechanisms:
            raise LocalProtocolError(f"the mechanism {auth.mechanism} is not offered")
        if len(auth.encode()) > MIN_COMMAND_LINE:
            # RFC 4954 section 4
            raise LocalProtocolError("the initial response exceeds a command line: send it when it is asked for")

    def _check_scheme(self, scheme: str) -> None:
        words = self._offers.get("BURL")
        if not isinstance(words, tuple) or scheme not in {word.partition(":")[0].lower() for word in words}:
            raise LocalProtocolError(f"URLs of {scheme!r} are not fetched by this server")  # RFC 4468 3.1

    # From a request to octets

    def _encode(self, request: Command | UnknownCommand) -> bytes:
        octets = request.encode()
        try:
            # By the parser that the other end has: so nothing goes out that would be read as something else.
            heard = parse_command(request.verb, octets.removesuffix(b"\r\n"), self._dialect)
        except CommandRejected as exc:
            raise LocalProtocolError(
                f"this server does not take {_name(request)}: {exc.refusal.reply.lines[0]}"
            ) from None

        # The value of a parameter may be of another type than the one that it is read as.
        if type(heard) is not type(request) or (heard != request and not isinstance(request, Mail | Rcpt)):
            raise LocalProtocolError(f"{_name(request)} would be read as {_name(heard)} with another argument")
        if self._pending and self._config.max_group is not None and self._group + len(octets) > self._config.max_group:
            raise LocalProtocolError(f"{self._group} octets of commands wait for their replies: take some first")

        return octets

    def _encode_response(self, response: AuthResponse | AuthCancel) -> bytes:
        octets = response.encode()
        if self._must_cancel and isinstance(response, AuthResponse):
            raise LocalProtocolError("the challenge is not base64: send AuthCancel()")  # RFC 4954 section 4
        if len(octets) > MAX_AUTH_LINE:
            raise LocalProtocolError(f"a SASL response of {len(octets)} octets exceeds {MAX_AUTH_LINE}")

        return octets

    def _prepare_run(self, data: bytes) -> tuple[bytes, OutgoingBody | None]:
        if self._left:
            return self._prepare_piece(data)
        if self._state is not State.DATA or self._pending or self._body is None:
            raise LocalProtocolError("no body can be sent: it follows the 354 to DATA, or the octets announced by BDAT")
        if not self._has_recipients():
            raise LocalProtocolError("no recipient was accepted: end the body with DataEnd()")  # RFC 2920 3.1

        body = self._body.copy()
        return body.stuff(data), body

    def _prepare_piece(self, data: bytes) -> tuple[bytes, OutgoingBody | None]:
        if len(data) > self._left:
            raise LocalProtocolError(f"{len(data)} octets are more than the {self._left} that the chunk has left")
        if self._body is None:
            return data, None  # the chunk was refused already, and will be discarded

        body = self._body.copy()
        is_last = bool(self._pending) and isinstance(self._pending[-1].to, DataEnd)
        body.check_chunk(data, is_end=is_last and len(data) == self._left)
        return data, body

    def _prepare_end(self) -> tuple[bytes, OutgoingBody]:
        assert self._body, "there is one from the 354 on"
        body = self._body.copy()
        return body.end(), body

    def _prepare_chunk(self, bdat: Bdat) -> OutgoingBody:
        body = self._body.copy() if self._body else outgoing_chunks(self._config, self._body_type())
        body.check_chunk(b"", is_end=bdat.last and not bdat.size)
        return body

    def _has_recipients(self) -> bool:
        return self._transaction is not None and bool(self._transaction.recipients)

    def _body_type(self) -> BodyType | None:
        return self._mail.params.body if self._mail else None

    # Writing

    def data_to_send(self) -> bytes:
        """Take the octets that are to be written."""
        for pending in reversed(self._pending):
            if pending.mark is not None:
                break
            pending.mark = self._received

        return super().data_to_send()

    # Small print

    def _has_input(self) -> bool:
        return super()._has_input() or self._reader.is_amid

    def _forget_peer(self) -> None:
        super()._forget_peer()
        self._ahead = None
        self._learn_offers([])

    def _close(self) -> None:
        super()._close()
        self._ahead = None
        self._pending.clear()
        self._group = 0
        self._left = 0
        self._body = None


def _question(request: Request) -> Question:
    """What the other end is owed an answer to, if it is sent `request`."""
    if isinstance(request, Bdat):
        return DataEnd() if request.last else ChunkEnd()

    assert not isinstance(request, DataLine | DataChunk), "these have no reply"
    return request


def _hoped_for(state: State, pending: _Pending) -> State:
    """Where the dialogue is in `state` when `pending` is answered as well as can be."""
    said = pending.said
    if isinstance(said, Bdat) and Bdat in MAY_HEAR.get(state, ()):
        state = ON_BDAT[said.last]

    hoped = ReplyClass.INTERMEDIATE if isinstance(said, Data) else ReplyClass.COMPLETION
    return next_state(state, pending.kind, hoped)


def _name(event: Request | Question) -> str:
    """What an error message calls `event`: never with its arguments, which may be secret or long."""
    return event.verb if isinstance(event, Command | UnknownCommand) else type(event).__name__
