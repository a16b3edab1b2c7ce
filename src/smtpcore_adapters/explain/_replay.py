"""Replay a recording through a server's `Connection`, and report the breaches of both sides."""

# The connection receives the recorded client's lines, and sends the recorded server's replies. An `InvalidCommand` or
# `InvalidData` event is a breach by the client; a reply that the connection refuses to send is a breach by the server.
#
# Tolerant servers. A recorded server may accept a command that the connection refuses. Then `_catch_up` sends the
# connection valid commands of the same meaning, so that both are in the same state again. Otherwise every later line
# would be reported too. Example: after `MAIL FROM: <a@b>` (with a space) and a 250, the connection gets `MAIL FROM:<>`.
#
# Pipelining. A line waits in `_waiting` until the line before it has its reply. So each event belongs to one line.

from collections import deque
from dataclasses import dataclass, field
from itertools import zip_longest

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    BodyAborted,
    BodyType,
    Burl,
    Command,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    Ehlo,
    Etrn,
    Event,
    Helo,
    InvalidCommand,
    InvalidData,
    Lhlo,
    LocalProtocolError,
    Mail,
    Quit,
    Rcpt,
    Reply,
    Signal,
    State,
    UnknownCommand,
    Xclient,
)

from ._lines import (
    CHUNK_SIZE,
    MASK,
    MAX_REPLY_LINE,
    TLS_RECORD,
    is_chunk,
    lacks_chunk,
    masked,
    masked_reply,
    match_auth,
    match_enhanced,
    match_reply_line,
    match_token_auth,
    match_unsized_chunk,
    match_verb,
    shown,
    verb_of,
)
from ._recording import Item, Recording, Side
from ._server_config import config_of
from ._violations import Breach, section_of


@dataclass(slots=True)
class Explained:
    """A line of a recording, with its events, the state after it, and its breaches."""

    side: Side
    """The side that sent the line."""
    text: str
    """The text, with secrets masked and unprintable characters escaped."""
    is_body: bool = False
    """Whether the line is part of a message body."""
    events: list[str] = field(default_factory=list)
    """The verbs or types of the events that the line causes. A reply has `answers EVENT`, or `an unsolicited goodbye`.
    """
    state: str = ""
    """The name of the dialogue's state after the line."""
    breaches: list[Breach] = field(default_factory=list)
    """The violations of RFCs in the line."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the line that are not violations."""


def explain(recording: Recording) -> list[Explained]:
    """Return an explanation of each line of `recording`."""
    replay = _Replay(recording)
    replay.run()
    return replay.lines


@dataclass(frozen=True, slots=True)
class _ClientLine:
    """A line that the client sent."""

    data: bytes
    line: Explained
    lacks_chunk: bool
    """Whether the line is a BDAT whose octets are not in the recording."""
    is_early: bool
    """Whether the line was sent before the reply to the previous one."""


class _Replay:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._has_server = any(item.side is Side.SERVER for item in recording.items)
        self._has_client = any(item.side is Side.CLIENT for item in recording.items)
        self._begins_with_tls = self._must_have_begun_with_tls()
        self._conn = Connection(config_of(recording), implicit_tls=self._begins_with_tls)
        self._waiting: deque[_ClientLine] = deque()
        """Client lines that the connection has not received yet."""
        self._current: _ClientLine | None = None
        """The client line that the connection received last."""
        self._chunk: Explained | None = None
        """The line of the last BDAT command with octets."""
        self._pending: Event | None = None
        """The event that needs a reply."""
        self._reply: list[bytes] = []
        """The lines of a reply whose last line is still missing."""
        self._offered: frozenset[str] = frozenset()
        """The keywords in the server's last reply to EHLO."""
        self._is_group_reported = False
        """Whether a breach of the current pipelined group was reported; each group has at most one."""
        self._has_body = False
        """Whether the recording contains any line of the current message."""
        self._has_eight_bit = False
        """Whether undeclared octets beyond ASCII were reported for the current message."""
        self._follows_auth = False
        """Whether a line without a verb may be a secret."""
        self._is_encrypted = False
        """Whether the octets of the following lines are encrypted."""

        self.lines: list[Explained] = []

    def run(self) -> None:
        """Replay the whole recording."""
        if self._begins_with_tls:
            self._conn.tls_established()
        self._advance()
        if self._begins_without_greeting():
            self._answer_with(Reply(220))
        if self._recording.is_ordered:
            self._replay_in_order()
        else:
            self._replay_in_turns()

        self._finish()

    def _must_have_begun_with_tls(self) -> bool:
        # Tokens need TLS (RFC 7628 section 3). A recording of a session with implicit TLS does not show the handshake,
        # so a token without STARTTLS means implicit TLS.
        items = self._recording.items
        has_starttls = any(item.side is Side.TLS or b"STARTTLS" in item.data.upper() for item in items)
        return not has_starttls and any(item.side is Side.CLIENT and match_token_auth(item.data) for item in items)

    def _begins_without_greeting(self) -> bool:
        first = self._recording.items[0]
        reply = next((item.data for item in self._recording.items if item.side is Side.SERVER), b"")
        return first.side is not Side.SERVER and reply[:3] not in _GREETINGS

    def _replay_in_order(self) -> None:
        for item, following in zip_longest(self._recording.items, self._recording.items[1:]):
            self._take(item, without_chunk=lacks_chunk(item, following))

    def _replay_in_turns(self) -> None:
        # The order of the lines of both sides is unknown: take a reply when a reply is due, otherwise the client's next
        # line.
        from_client = deque(item for item in self._recording.items if item.side is not Side.SERVER)
        from_server = deque(item for item in self._recording.items if item.side is Side.SERVER)
        while from_client or from_server:
            is_due = self._pending is not None or self._reply or not from_client
            self._take(from_server.popleft() if from_server and is_due else (from_client or from_server).popleft())

    def _take(self, item: Item, *, without_chunk: bool = False) -> None:
        line = Explained(item.side, shown(item.data))
        self.lines.append(line)
        if item.side is Side.TLS or self._is_encrypted:
            line.text = "(TLS)"
        elif item.side is Side.SERVER:
            line.text = masked_reply(item.data)
            self._take_reply_line(item.data, line)
        else:
            self._mask(item.data, line)
            if self._recording.is_ordered and self._has_server:
                self._check_group(line)

            self._waiting.append(_ClientLine(item.data, line, without_chunk, is_early=self._pending is not None))
            self._advance()

        line.state = line.state or self._conn.state.name

    # The client's lines

    def _mask(self, data: bytes, line: Explained) -> None:
        # Secrets are masked before the line is parsed, because a line may stay in the queue until the end.
        line.text = masked(data)
        is_auth = match_auth(data) is not None
        if self._follows_auth and not is_auth and not match_verb(data):
            line.text = "***"

        self._follows_auth = is_auth or (self._follows_auth and not match_verb(data))

    def _check_group(self, line: Explained) -> None:
        pending = self._pending
        self._is_group_reported &= pending is not None
        if pending is None or self._is_group_reported:
            return

        before = verb_of(self._waiting[-1].data) if self._waiting else _name(pending)
        self._is_group_reported = True
        if isinstance(pending, ConnectionOpened):
            _report_client(line, "the client sends a command before the greeting", "RFC 5321 3.1")
        elif "PIPELINING" not in self._offered:
            _report_client(line, "the client does not wait for a reply, but PIPELINING is not offered", "RFC 2920 3.1")
        elif before in _LAST_OF_GROUP and not (isinstance(pending, Auth) and pending.initial_response is not None):
            _report_client(line, f"{before} must be the last command of a pipelined group", "RFC 2920 3.1")
        else:
            self._is_group_reported = False

    def _advance(self) -> None:
        # Take events until one needs a reply, or until no client line is left.
        while self._pending is None:
            event = Signal.NEED_DATA if self._conn.state is State.CLOSED else self._conn.next_event()
            if not isinstance(event, Signal):
                self._take_event(event)
            elif self._waiting:
                self._receive(self._waiting.popleft())
            else:
                return

    def _receive(self, received: _ClientLine) -> None:
        data, line = received.data, received.line
        self._current = received
        match self._conn.state:
            case State.CLOSED:
                line.notes.append("the dialogue has already ended")
                return
            case State.TLS if data.startswith(TLS_RECORD):
                line.text = "(TLS)"
                line.notes.append("from here on the octets are encrypted")
                self._is_encrypted = True
                return
            case State.TLS:
                self._conn.tls_established()
                self._offered = frozenset()
            case State.DATA | State.CHUNK | State.LAST_CHUNK:
                line.is_body = True
                line.text = shown(data)
                self._check_body_line(data, line)
            case State.AUTH:
                line.text = "*" if data == b"*\r\n" else "***"

        if is_chunk(data):
            self._chunk = line

        self._conn.receive_data(self._completed(received))

    def _completed(self, received: _ClientLine) -> bytes:
        # Replace parts that the recording leaves out: the octets of a chunk, and masked secrets.
        if received.lacks_chunk:
            received.line.notes.append("the octets of the chunk are not in the recording")
            return CHUNK_SIZE.sub(rb"\g<1>0", received.data)
        if not received.line.is_body and self._conn.state is not State.AUTH and match_unsized_chunk(received.data):
            # After a BDAT without a size the connection has to end, but the recorded server may continue.
            return b"BDAT 0 without-a-size\r\n"
        if self._conn.state is State.AUTH or match_auth(received.data):
            return MASK.sub(b"Kioq", received.data)

        return received.data

    def _check_body_line(self, data: bytes, line: Explained) -> None:
        if self._conn.state is not State.DATA:
            return

        self._has_body = True
        if data.startswith(b".") and not data.startswith(b"..") and data.rstrip(b"\r\n") != b".":
            _report_client(
                line, "a line begins with a single dot, which the server removes: send two dots", "RFC 5321 4.5.2"
            )

    # Events

    def _take_event(self, event: Event) -> None:
        if isinstance(event, BodyAborted):
            return
        if not isinstance(event, DataChunk | Bdat | ConnectionClosed):
            self._pending = event
        if self._current is None:
            return  # ConnectionOpened belongs to no line

        line = self._current.line
        if isinstance(event, DataChunk):
            self._check_octets(event.data, line)
            return

        line.events.append(_name(event))
        line.state = self._conn.state.name
        if isinstance(event, InvalidCommand | InvalidData):
            self._report_invalid(event, self._current)
        elif isinstance(event, Auth) and event.mechanism in _PASSWORDS and not self._conn.tls:
            self._check_secrecy(event, line)
        elif isinstance(event, Data):
            self._has_body = self._has_eight_bit = False
        while self._pending is not None and not self._has_server:
            self._answer_with(self._assumed_reply(event))
            line.state = self._conn.state.name

    def _check_secrecy(self, auth: Auth, line: Explained) -> None:
        # Without STARTTLS it is unknown whether TLS is active: a recording does not show implicit TLS.
        if "STARTTLS" in self._offered:
            _report_client(line, f"AUTH {auth.mechanism} without TLS exposes the password", "RFC 4954 4")
        else:
            line.notes.append(f"AUTH {auth.mechanism} exposes the password, unless the session began with TLS")

    def _report_invalid(self, event: InvalidCommand | InvalidData, received: _ClientLine) -> None:
        line = received.line
        if isinstance(event, InvalidCommand) and is_chunk(event.line) and self._chunk:
            line = self._chunk  # a chunk is refused after its octets; the breach belongs to its BDAT line
        if received.is_early and event.reply.code in _OUT_OF_SEQUENCE:
            # RFC 2920 3.1: a client that pipelines cannot know which earlier command will be refused.
            line.notes.append(f"an earlier command of the group was refused: {event.reply.lines[0]}")
        else:
            _report_client(line, event.reply.lines[0], section_of(event, self._conn.state))

    def _check_octets(self, data: bytes, line: Explained) -> None:
        transaction = self._conn.transaction
        if data.isascii() or self._has_eight_bit or (transaction and transaction.mail.params.body in _EIGHT_BIT):
            return

        self._has_eight_bit = True
        _report_client(line, "the message has octets beyond ASCII without BODY=8BITMIME", "RFC 6152 3")

    def _assumed_reply(self, event: Event) -> Reply:
        # In a recording of the client alone, assume that its commands succeeded.
        if isinstance(event, Auth) and event.initial_response is None:
            return Reply(334)

        success = {Rcpt: 250, DataEnd: 250, Burl: 250, Auth: 235, AuthResponse: 235, Xclient: 220, Etrn: 250}
        code = success.get(type(event))
        return Reply(code) if code else self._conn.default_reply(event)

    # The server's lines

    def _take_reply_line(self, data: bytes, line: Explained) -> None:
        match = match_reply_line(data.rstrip(b"\r\n"))
        if not data.endswith(b"\r\n") or b"\r" in data[:-2]:
            _report_server(line, "the line does not end in CR LF", "RFC 5321 2.3.8")
        if len(data) > MAX_REPLY_LINE and data[:3] != b"334":
            text = f"the line has {len(data)} octets, the maximum is {MAX_REPLY_LINE}"
            _report_server(line, text, "RFC 5321 4.5.3.1.5")
        if match is None:
            _report_server(line, "the line is not a reply: it does not begin with a code", "RFC 5321 4.2")
            return

        self._reply.append(data.rstrip(b"\r\n"))
        if self._reply[0][:3] != match[1]:
            _report_server(line, "the lines of the reply have different codes", "RFC 5321 4.2.1")
        if match[2] != b"-":
            lines, self._reply = self._reply, []
            self._answer(int(match[1]), [each[4:].decode("utf-8", "replace") for each in lines], line)

    def _answer(self, code: int, texts: list[str], line: Explained) -> None:
        if not self._has_client:
            return
        if self._pending is None and self._conn.state is State.DATA and not self._has_body and code != _GOODBYE:
            line.notes.append("the message before this reply is not in the recording")
            self._conn.receive_data(b".\r\n")
            self._advance()

        pending = self._pending
        if pending is None:
            self._take_unexpected_reply(code, line)
            return

        line.events.append(f"answers {_name(pending)}")
        self._check_enhanced(pending, code, texts, line)
        if isinstance(pending, Ehlo | Lhlo) and code == _OK:
            self._offered = frozenset(text.upper().split(" ")[0] for text in texts[1:])

        self._respond(pending, code, texts, line)
        line.state = self._conn.state.name
        self._advance()

    def _take_unexpected_reply(self, code: int, line: Explained) -> None:
        try:
            self._conn.send(Reply(code))
        except LocalProtocolError:
            if self._conn.state is State.CLOSED and code in _GOODBYES:
                return  # RFC 7504 section 3: after a 521 a server may repeat the 521, and may reply to QUIT

            _report_server(line, "the reply answers no command", "RFC 5321 4.2")
        else:
            line.events.append("an unsolicited goodbye")
            self._waiting.clear()

    def _respond(self, pending: Event, code: int, texts: list[str], line: Explained) -> None:
        is_refused = isinstance(pending, InvalidCommand | InvalidData)
        if is_refused and code < _FIRST_REFUSAL:
            line.notes.append("the server accepts the client's breach")
            self._answer_with(self._conn.default_reply(pending))
            if isinstance(pending, InvalidCommand):
                self._catch_up(pending)
            return

        try:
            self._answer_with(_reply_of(pending, code, texts))
        except LocalProtocolError as exc:
            _report_server(line, str(exc), "RFC 5321 4.3.2")
            is_assumed = isinstance(pending, _ASSUMED_ACCEPTED)
            self._answer_with(self._assumed_reply(pending) if is_assumed else Reply(451))

    def _answer_with(self, reply: Reply) -> None:
        if isinstance(self._pending, Burl) and reply.is_positive:
            self._conn.receive_part(b"")
            self._conn.next_event()

        self._conn.send(reply)
        if not self._conn.replies_owed:
            self._pending = None

    def _check_enhanced(self, pending: Event, code: int, texts: list[str], line: Explained) -> None:
        if "ENHANCEDSTATUSCODES" not in self._offered or code // 100 == 3 or isinstance(pending, Ehlo | Helo | Lhlo):
            return

        classes = {match[1] if (match := match_enhanced(text)) else "" for text in texts}
        if classes != {str(code)[0]}:
            _report_server(line, f"a line of the reply lacks an enhanced status code {code // 100}.y.z", "RFC 2034 4")

    def _catch_up(self, invalid: InvalidCommand) -> None:
        # The recorded server accepted an invalid command: send the connection valid commands with the same effect.
        verb = invalid.line[:4].upper().decode("ascii", "replace")
        conn = self._conn
        lines: list[bytes] = []
        if self._current and not self._current.data.endswith(b"\n"):
            conn.receive_data(b"\r\n")  # after a bare CR the connection skips everything up to the next LF
        if verb in _HELLOS or conn.helo is None:
            lines.append(b"LHLO c.invalid" if conn.config.lmtp else b"EHLO c.invalid")
        if verb == "MAIL" and conn.transaction:
            lines.append(b"RSET")
        if verb in ("MAIL", "RCPT", "DATA") and (verb == "MAIL" or not conn.transaction):
            lines.append(b"MAIL FROM:<>")
        if verb == "RCPT" or (verb == "DATA" and not (conn.transaction and conn.transaction.recipients)):
            lines.append(b"RCPT TO:<Postmaster>")
        if verb == "DATA":
            lines.append(b"DATA")

        for line in lines:
            conn.receive_data(line + b"\r\n")
            event = conn.next_event()
            if isinstance(event, BodyAborted):  # chunks came before the invalid command
                event = conn.next_event()
            assert not isinstance(event, Signal | ConnectionClosed), "a whole line is an event, and has no limit"
            conn.send(self._assumed_reply(event))

    # End of the recording

    def _finish(self) -> None:
        last = self.lines[-1]
        if self._reply:
            _report_server(last, "the last reply is incomplete", "RFC 5321 4.2.1")
        if not (self._has_server and self._has_client) or self._is_encrypted:
            return
        if self._pending is not None and not isinstance(self._pending, Quit):
            name = (self._current and verb_of(self._current.data)) or _name(self._pending)
            # Some clients leave after a refusal in a pipelined group, without reading the replies after the refusal.
            is_early = self._current is not None and self._current.is_early
            if is_early and last.side is Side.SERVER and last.text.startswith(("4", "5")):
                last.notes.append(f"the recording ends before the reply to {name}")
            else:
                _report_server(last, f"{name} has no reply", "RFC 5321 4.2")
        elif self._conn.state in _IN_BODY:
            _report_client(last, "the message has no end", "RFC 5321 4.1.1.4")
        elif self._conn.state is not State.CLOSED:
            last.notes.append("the dialogue ends without QUIT")


def _report_client(line: Explained, text: str, section: str) -> None:
    line.breaches.append(Breach(Side.CLIENT, text, section))


def _report_server(line: Explained, text: str, section: str) -> None:
    line.breaches.append(Breach(Side.SERVER, text, section))


def _reply_of(pending: Event, code: int, texts: list[str]) -> Reply:
    # Leave out texts that `Connection.send` could refuse: EHLO keywords that differ from the configuration, and
    # challenges that are not base64.
    if isinstance(pending, Ehlo | Lhlo | Helo) or code == _CHALLENGE:
        return Reply(code)

    return Reply(code, *texts)


def _name(event: Event) -> str:
    return event.verb if isinstance(event, Command | UnknownCommand) else type(event).__name__


_LAST_OF_GROUP = frozenset(
    {"EHLO", "HELO", "LHLO", "DATA", "VRFY", "EXPN", "QUIT", "NOOP", "HELP", "STARTTLS", "AUTH"}
    | {AuthResponse.__name__, AuthCancel.__name__}
)
"""Commands that must be the last of a pipelined group (RFC 2920 3.1, RFC 3207 section 4, RFC 4954 section 4)."""

_OUT_OF_SEQUENCE = (503, 554)
_GOODBYES = (221, 421, 521)
_ASSUMED_ACCEPTED = (ConnectionOpened, Ehlo, Helo, Lhlo, Mail, Rcpt, Quit)
"""Events that count as accepted if the recorded reply to them is invalid."""

_PASSWORDS = frozenset({"PLAIN", "LOGIN"})
_EIGHT_BIT = (BodyType.EIGHT_BIT_MIME, BodyType.BINARYMIME)
_IN_BODY = frozenset({State.DATA, State.CHUNK, State.CHUNKED, State.LAST_CHUNK})
_HELLOS = frozenset({"EHLO", "HELO", "LHLO"})
_GREETINGS = frozenset({b"220", b"421", b"521", b"554"})

_OK, _CHALLENGE, _GOODBYE = 250, 334, 421
_FIRST_REFUSAL = 400
