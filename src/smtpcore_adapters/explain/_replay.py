"""Walk a recording through a connection, and note what happens."""

# The connection is a server's end. It hears what the recorded client said, and gives the answers that the recorded
# server gave: what it does not understand is the client's fault, and what it must not answer is the server's.
#
# A recorded server may let pass what the connection cannot. Then the connection is brought to where that server is, by
# lines of the same meaning that nothing can be said against; otherwise one mistake would make all that follows one.
#
# A line waits in `_waiting` until the one before it has its reply, so that it is always clear which line an event
# belongs to.

import re
from collections import deque
from dataclasses import dataclass, field
from itertools import zip_longest

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
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

from ..transcript import printable
from ._recording import Item, Recording, Side
from ._server_config import config_of
from ._violations import Breach, section_of


@dataclass(slots=True)
class Explained:
    """A line of a recording, with what it means."""

    side: Side
    """Who says it."""
    text: str
    """What it says, secrets masked and unprintable characters replaced."""
    is_body: bool = False
    """Whether it belongs to a message."""
    events: list[str] = field(default_factory=list)
    """What it makes happen."""
    state: str = ""
    """Where the dialogue stands behind it."""
    breaches: list[Breach] = field(default_factory=list)
    """What the RFCs forbid."""
    notes: list[str] = field(default_factory=list)
    """What else is remarkable."""


def explain(recording: Recording) -> list[Explained]:
    """Explain each line of `recording`."""
    walk = _Walk(recording)
    walk.run()
    return walk.lines


@dataclass(frozen=True, slots=True)
class _Heard:
    """A line of the client."""

    data: bytes
    line: Explained
    lacks_chunk: bool
    """Whether the recording has left out the octets of the chunk that it announces."""
    is_early: bool
    """Whether it was sent before the reply to what came before it."""


class _Walk:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._has_server = any(item.side is Side.SERVER for item in recording.items)
        self._has_client = any(item.side is Side.CLIENT for item in recording.items)
        self._conn = Connection(config_of(recording))
        self._waiting: deque[_Heard] = deque()
        """What was sent and not heard yet."""
        self._heard: _Heard | None = None
        """What was heard last."""
        self._chunk: Explained | None = None
        """The line that has announced the last chunk."""
        self._asked: Event | None = None
        """What is owed a reply."""
        self._reply: list[bytes] = []
        """The lines of a reply that has no last line yet."""
        self._offered: frozenset[str] = frozenset()
        self._is_group_blamed = False
        self._has_body = False
        """Whether a line of the message was heard."""
        self._has_eight_bit = False
        self._follows_auth = False
        """Whether a line that is no command may be a secret."""
        self._is_encrypted = False

        self.lines: list[Explained] = []

    def run(self) -> None:
        """Walk to the end."""
        self._advance()
        if self._begins_without_greeting():
            self._answer_with(Reply(220))
        if self._recording.is_ordered:
            self._walk_in_order()
        else:
            self._walk_in_turns()

        self._finish()

    def _begins_without_greeting(self) -> bool:
        first = self._recording.items[0]
        said = next((item.data for item in self._recording.items if item.side is Side.SERVER), b"")
        return first.side is not Side.SERVER and said[:3] not in _GREETINGS

    def _walk_in_order(self) -> None:
        for item, following in zip_longest(self._recording.items, self._recording.items[1:]):
            self._take(item, lacks_chunk=_lacks_chunk(item, following))

    def _walk_in_turns(self) -> None:
        heard = deque(item for item in self._recording.items if item.side is not Side.SERVER)
        said = deque(item for item in self._recording.items if item.side is Side.SERVER)
        while heard or said:
            is_due = self._asked is not None or self._reply or not heard
            self._take(said.popleft() if said and is_due else (heard or said).popleft())

    def _take(self, item: Item, *, lacks_chunk: bool = False) -> None:
        line = Explained(item.side, _shown(item.data))
        self.lines.append(line)
        if item.side is Side.TLS or self._is_encrypted:
            line.text = "(TLS)"
        elif item.side is Side.SERVER:
            self._say(item.data, line)
        else:
            self._mask(item.data, line)
            if self._recording.is_ordered and self._has_server:
                self._check_group(line)

            self._waiting.append(_Heard(item.data, line, lacks_chunk, is_early=self._asked is not None))
            self._advance()

        line.state = line.state or self._conn.state.name

    # The client's lines

    def _mask(self, data: bytes, line: Explained) -> None:
        # Before it is known what it means: a line may wait for long, or for ever.
        if auth := _match_auth(data):
            line.text = auth[1].decode("ascii", "replace").rstrip() + (" ***" if auth[2].strip() else "")
        elif self._follows_auth and not _match_verb(data):
            line.text = "***"

        self._follows_auth = auth is not None or (self._follows_auth and not _match_verb(data))

    def _check_group(self, line: Explained) -> None:
        asked = self._asked
        self._is_group_blamed &= asked is not None
        if asked is None or self._is_group_blamed:
            return

        before = _verb(self._waiting[-1].data) if self._waiting else _name(asked)
        self._is_group_blamed = True
        if isinstance(asked, ConnectionOpened):
            self._blame(line, "the client talks before the greeting", "RFC 5321 3.1")
        elif "PIPELINING" not in self._offered:
            self._blame(line, "the client does not wait for a reply, though PIPELINING is not offered", "RFC 2920 3.1")
        elif before in _LAST_OF_GROUP and not (isinstance(asked, Auth) and asked.initial_response is not None):
            self._blame(line, f"{before} has to be the last of a group", "RFC 2920 3.1")
        else:
            self._is_group_blamed = False

    def _blame(self, line: Explained, text: str, section: str) -> None:
        line.breaches.append(Breach(Side.CLIENT, text, section))

    def _advance(self) -> None:
        # Take events until one is owed a reply, or there is no more to hear.
        while self._asked is None:
            event = Signal.NEED_DATA if self._conn.state is State.CLOSED else self._conn.next_event()
            if not isinstance(event, Signal):
                self._note(event)
            elif self._waiting:
                self._hear(self._waiting.popleft())
            else:
                return

    def _hear(self, heard: _Heard) -> None:
        data, line = heard.data, heard.line
        self._heard = heard
        match self._conn.state:
            case State.CLOSED:
                line.notes.append("the dialogue is over")
                return
            case State.TLS if data.startswith(_TLS_RECORD):
                line.text = "(TLS)"
                line.notes.append("from here on the octets are encrypted")
                self._is_encrypted = True
                return
            case State.TLS:
                self._conn.tls_established()
                self._offered = frozenset()
            case State.DATA | State.CHUNK | State.LAST_CHUNK:
                line.is_body = True
                line.text = _shown(data)
                self._check_body_line(data, line)
            case State.AUTH:
                line.text = "*" if data == b"*\r\n" else "***"

        if _is_chunk(data):
            self._chunk = line

        self._conn.receive_data(self._completed(heard))

    def _completed(self, heard: _Heard) -> bytes:
        """What is heard in place of a line of which the recording has left something out."""
        if heard.lacks_chunk:
            heard.line.notes.append("the octets of the chunk are not in the recording")
            return _CHUNK_SIZE.sub(rb"\g<1>0", heard.data)
        if self._conn.state is State.AUTH or _match_auth(heard.data):
            return _MASK.sub(b"Kioq", heard.data)

        return heard.data

    def _check_body_line(self, data: bytes, line: Explained) -> None:
        if self._conn.state is not State.DATA:
            return

        self._has_body = True
        if data.startswith(b".") and not data.startswith(b"..") and data.rstrip(b"\r\n") != b".":
            self._blame(line, "one dot begins a line: it is removed, so that two have to stand there", "RFC 5321 4.5.2")

    # What a line means

    def _note(self, event: Event) -> None:
        if not isinstance(event, DataChunk | Bdat | ConnectionClosed):
            self._asked = event
        if self._heard is None:
            return  # the connection is open, which no line says

        line = self._heard.line
        if isinstance(event, DataChunk):
            self._check_octets(event.data, line)
            return

        line.events.append(_name(event))
        line.state = self._conn.state.name
        if isinstance(event, InvalidCommand | InvalidData):
            self._blame_for(event, self._heard)
        elif isinstance(event, Auth) and event.mechanism in _PASSWORDS and not self._conn.tls:
            self._check_secrecy(event, line)
        elif isinstance(event, Data):
            self._has_body = self._has_eight_bit = False
        while self._asked is not None and not self._has_server:
            self._answer_with(self._assumed(event))
            line.state = self._conn.state.name

    def _check_secrecy(self, auth: Auth, line: Explained) -> None:
        # A session that began with TLS does not look different.
        if "STARTTLS" in self._offered:
            self._blame(line, f"{auth.mechanism} before TLS shows a password to everyone on the way", "RFC 4954 4")
        else:
            line.notes.append(f"unless TLS came first, {auth.mechanism} shows a password to everyone on the way")

    def _blame_for(self, event: InvalidCommand | InvalidData, heard: _Heard) -> None:
        line = heard.line
        if isinstance(event, InvalidCommand) and _is_chunk(event.line) and self._chunk:
            line = self._chunk  # which is refused behind its octets
        if heard.is_early and event.reply.code in _OUT_OF_SEQUENCE:
            # RFC 2920 3.1: who sends ahead cannot know what will be refused.
            line.notes.append(f"what came before it was refused: {event.reply.lines[0]}")
        else:
            self._blame(line, event.reply.lines[0], section_of(event))

    def _check_octets(self, data: bytes, line: Explained) -> None:
        transaction = self._conn.transaction
        if data.isascii() or self._has_eight_bit or (transaction and transaction.mail.params.body in _EIGHT_BIT):
            return

        self._has_eight_bit = True
        self._blame(line, "octets beyond ASCII, which BODY=8BITMIME has to announce", "RFC 6152 3")

    def _assumed(self, event: Event) -> Reply:
        # Where only the client was recorded, it is taken to have had success.
        if isinstance(event, Auth) and event.initial_response is None:
            return Reply(334)

        success = {Rcpt: 250, DataEnd: 250, Burl: 250, Auth: 235, AuthResponse: 235, Xclient: 220, Etrn: 250}
        code = success.get(type(event))
        return Reply(code) if code else self._conn.default_reply(event)

    # The server's lines

    def _say(self, data: bytes, line: Explained) -> None:
        match = _match_reply_line(data.rstrip(b"\r\n"))
        if not data.endswith(b"\r\n") or b"\r" in data[:-2]:
            self._accuse(line, "a line of a reply ends in CR LF", "RFC 5321 2.3.8")
        if len(data) > _MAX_REPLY_LINE and data[:3] != b"334":
            self._accuse(line, f"a line of a reply has {len(data)} octets", "RFC 5321 4.5.3.1.5")
        if match is None:
            self._accuse(line, "this is not a line of a reply", "RFC 5321 4.2")
            return
        if match[1] == b"334":
            line.text = "334 ***" if match[3].strip() else line.text

        self._reply.append(data.rstrip(b"\r\n"))
        if {each[:3] for each in self._reply} != {match[1]}:
            self._accuse(line, "the lines of a reply have the same code", "RFC 5321 4.2.1")
        if match[2] != b"-":
            lines, self._reply = self._reply, []
            self._answer(int(match[1]), [each[4:].decode("utf-8", "replace") for each in lines], line)

    def _accuse(self, line: Explained, text: str, section: str) -> None:
        line.breaches.append(Breach(Side.SERVER, text, section))

    def _answer(self, code: int, texts: list[str], line: Explained) -> None:
        if not self._has_client:
            return
        if self._asked is None and self._conn.state is State.DATA and not self._has_body and code != _GOODBYE:
            line.notes.append("the message before this is not in the recording")
            self._conn.receive_data(b".\r\n")
            self._advance()

        asked = self._asked
        if asked is None:
            self._answer_unasked(code, line)
            return

        line.events.append(f"answers {_name(asked)}")
        self._check_enhanced(asked, code, texts, line)
        if isinstance(asked, Ehlo | Lhlo) and code == _OK:
            self._offered = frozenset(text.upper().split(" ")[0] for text in texts[1:])

        self._respond(asked, code, texts, line)
        line.state = self._conn.state.name
        self._advance()

    def _answer_unasked(self, code: int, line: Explained) -> None:
        try:
            self._conn.send(Reply(code))
        except LocalProtocolError:
            if self._conn.state is State.CLOSED and code in _GOODBYES:
                return  # RFC 7504 section 3: who has said 521 may go on to say so, and answers QUIT

            self._accuse(line, "nothing was asked that this could answer", "RFC 5321 4.2")
        else:
            line.events.append("a goodbye that was not asked for")
            self._waiting.clear()

    def _respond(self, asked: Event, code: int, texts: list[str], line: Explained) -> None:
        is_refused = isinstance(asked, InvalidCommand | InvalidData)
        if is_refused and code < _FIRST_REFUSAL:
            line.notes.append("the server lets pass what the client may not send")
            self._answer_with(self._conn.default_reply(asked))
            if isinstance(asked, InvalidCommand):
                self._catch_up(asked)
            return

        try:
            self._answer_with(_reply_of(asked, code, texts))
        except LocalProtocolError as exc:
            self._accuse(line, str(exc), "RFC 5321 4.3.2")
            self._answer_with(self._assumed(asked) if isinstance(asked, _MAY_BE_ASSUMED) else Reply(451))

    def _answer_with(self, reply: Reply) -> None:
        if isinstance(self._asked, Burl) and reply.is_positive:
            self._conn.receive_part(b"")
            self._conn.next_event()

        self._conn.send(reply)
        if not self._conn.replies_owed:
            self._asked = None

    def _check_enhanced(self, asked: Event, code: int, texts: list[str], line: Explained) -> None:
        if "ENHANCEDSTATUSCODES" not in self._offered or code // 100 == 3 or isinstance(asked, Ehlo | Helo | Lhlo):
            return

        classes = {match[1] if (match := _match_enhanced(text)) else "" for text in texts}
        if classes != {str(code)[0]}:
            self._accuse(line, "an enhanced status code of the reply's class stands on each line", "RFC 2034 4")

    def _catch_up(self, invalid: InvalidCommand) -> None:
        # The recorded server has accepted something of this kind: say the same without a mistake.
        verb = invalid.line[:4].upper().decode("ascii", "replace")
        conn = self._conn
        lines: list[bytes] = []
        if self._heard and not self._heard.data.endswith(b"\r\n"):
            conn.receive_data(b"\r\n")  # what follows a bare newline is skipped up to the next line end
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
            assert not isinstance(event, Signal), "a whole line is an event"
            conn.send(self._assumed(event))

    # The end

    def _finish(self) -> None:
        last = self.lines[-1]
        if self._reply:
            self._accuse(last, "the last reply has no last line", "RFC 5321 4.2.1")
        if not (self._has_server and self._has_client) or self._is_encrypted:
            return
        if self._asked is not None and not isinstance(self._asked, Quit):
            self._accuse(last, f"{_name(self._asked)} has no reply", "RFC 5321 4.2")
        elif self._conn.state in _IN_BODY:
            self._blame(last, "the message has no end", "RFC 5321 4.1.1.4")
        elif self._conn.state is not State.CLOSED:
            last.notes.append("the dialogue ends without QUIT")


# Small print


def _reply_of(asked: Event, code: int, texts: list[str]) -> Reply:
    # Its keywords are known already; and a challenge is not for reading.
    if isinstance(asked, Ehlo | Lhlo | Helo) or code == _CHALLENGE:
        return Reply(code)

    return Reply(code, *texts)


def _name(event: Event) -> str:
    return event.verb if isinstance(event, Command | UnknownCommand) else type(event).__name__


def _verb(data: bytes) -> str:
    match = _match_verb(data)
    return match[0].upper().decode() if match else ""


def _is_chunk(data: bytes) -> bool:
    match = _CHUNK_SIZE.match(data)
    return match is not None and int(match[2]) > 0


def _lacks_chunk(item: Item, following: Item | None) -> bool:
    # Transcripts leave bodies out: then a reply stands behind BDAT, or what follows in its group.
    size = _CHUNK_SIZE.match(item.data)
    if item.side is not Side.CLIENT or size is None or int(size[2]) == 0:
        return False
    if following is None or following.side is not Side.CLIENT:
        return True

    return _match_bare_command(following.data) is not None and len(following.data) != int(size[2])


def _shown(data: bytes) -> str:
    return printable(data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r"))


_LAST_OF_GROUP = frozenset(
    {"EHLO", "HELO", "LHLO", "DATA", "VRFY", "EXPN", "QUIT", "NOOP", "HELP", "STARTTLS", "AUTH"}
    | {AuthResponse.__name__, AuthCancel.__name__}
)
"""What has to be the last of a group of commands (RFC 2920 3.1, RFC 3207 section 4, RFC 4954 section 4)."""

_OUT_OF_SEQUENCE = (503, 554)
_GOODBYES = (221, 421, 521)
_MAY_BE_ASSUMED = (ConnectionOpened, Ehlo, Helo, Lhlo, Mail, Rcpt, Quit)
"""What is taken to have been accepted where its reply makes no sense."""

_PASSWORDS = frozenset({"PLAIN", "LOGIN"})
_EIGHT_BIT = (BodyType.EIGHT_BIT_MIME, BodyType.BINARYMIME)
_IN_BODY = frozenset({State.DATA, State.CHUNK, State.CHUNKED, State.LAST_CHUNK})
_HELLOS = frozenset({"EHLO", "HELO", "LHLO"})
_GREETINGS = frozenset({b"220", b"421", b"521", b"554"})

_OK, _CHALLENGE, _GOODBYE = 250, 334, 421
_FIRST_REFUSAL = 400
_MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5

_TLS_RECORD = b"\x16\x03"  # RFC 8446 5.1: a handshake
_MASK = re.compile(rb"(?<![^ ])\*\*\*(?=\r\n)")
"""What stands for a secret in a transcript."""
_CHUNK_SIZE = re.compile(rb"(?i)(BDAT +)([0-9]{1,20})(?![^ \r\n])")
_match_auth = re.compile(rb"(?i)(\s*AUTH(?: +[\w-]{1,20})?)(?= |\r|\n|$)(.*)", re.DOTALL).match
_match_bare_command = re.compile(rb"(?i)(?:BDAT [0-9]+(?: LAST)?|RSET|NOOP|QUIT)\r\n").fullmatch
_match_verb = re.compile(
    rb"(?i)(?:EHLO|HELO|LHLO|MAIL|RCPT|DATA|BDAT|RSET|NOOP|QUIT|VRFY|EXPN|HELP|STARTTLS|AUTH)(?![A-Za-z0-9+/=])"
).match
_match_reply_line = re.compile(rb"([2-5][0-5][0-9])([ -]?)(.*)", re.DOTALL).fullmatch
_match_enhanced = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)").match
