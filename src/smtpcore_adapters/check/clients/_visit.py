"""One connection of a client, served by a script that may misbehave."""

# A server that complies with RFC 5321 would refuse or repair the octets that a check has to judge. So this server keeps
# all octets of the client, splits commands at LF, and refuses nothing by itself. A `Script` changes single answers.
#
# A command is early if its first octet arrived before the reply to the previous command was sent. Example: the client
# sends `MAIL` and `RCPT` in one segment. The server reads both, sends the reply to MAIL, and then parses RCPT, which
# is early.

import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from .._raw_client import printable

_READ_SIZE = 65_536
_MAX_LINE = 65_536
_MAX_LINES = 2_000
_MAX_BODY = 67_108_864
_MAX_SHOWN = 30
"""Maximum lines of each direction that a visit records in printable form."""
_SEND_BUFFER = 65_536
"""Octets that the system may hold: a larger buffer would hide that a client stopped reading an endless reply."""
_MAX_VISIT = 12
"""Maximum duration of a visit, as a multiple of the timeout."""

_PAUSE_BETWEEN_SEGMENTS = 0.001
"""Seconds between two segments of more than one octet, so that they arrive separately."""

_search_end = re.compile(rb"(?:\A|\n)\.\r?\n").search
_match_chunk = re.compile(r"BDAT ([0-9]{1,9})( LAST)?", re.I).fullmatch

# The challenges of AUTH LOGIN: "Username:" and "Password:" in base64. Other mechanisms get an empty challenge.
_CHALLENGES = {"LOGIN": (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n")}


@dataclass(frozen=True, slots=True)
class Line:
    """A command line of the client."""

    octets: bytes
    """The line as received, with its line end."""
    is_secure: bool
    """Whether the line was received under TLS."""
    is_early: bool
    """Whether the line arrived before the reply to the previous command was sent."""
    after: str
    """The verb of the previous command; `GREETING` for the first command, `END` after a body."""

    @property
    def text(self) -> str:
        """The line without its line end; octets beyond ASCII are escaped."""
        return self.octets.rstrip(b"\r\n").decode("ascii", "backslashreplace")

    @property
    def is_of_lmtp(self) -> bool:
        """Whether the command is LHLO."""
        return self.octets[:4].upper() == b"LHLO"

    @property
    def verb(self) -> str:
        """The first word, in upper case; `EHLO` for the LHLO of LMTP."""
        verb = self.text.partition(" ")[0].upper()
        return "EHLO" if verb == "LHLO" else verb


@dataclass(frozen=True, slots=True)
class Body:
    """A body of the client, sent after a 354 or with BDAT."""

    octets: bytes
    """The body as received, with doubled dots, without the line that ends the body."""
    is_complete: bool
    """Whether the line with the final dot, or the last chunk, was received."""
    is_early: bool
    """Whether octets arrived before the 354 was sent."""
    is_secure: bool
    """Whether the body was received under TLS."""
    is_chunked: bool = False
    """Whether the body was sent with BDAT, so without doubled dots. Default: false."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A response of the client to a challenge of AUTH, whose octets are not recorded."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A reply of the server."""

    octets: bytes
    """The octets, which may be malformed or more than one reply."""
    key: str
    """The verb of the command; `GREETING`, `CHALLENGE`, or `END` for the reply to a body."""
    has_early_input: bool
    """Whether octets of the client had arrived before the reply was sent."""
    is_secure: bool
    """Whether the reply was sent under TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The behaviour of the server in one check."""

    offers: tuple[str, ...] = ("PIPELINING", "SIZE 67108864", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
    """The extensions in the reply to EHLO, except STARTTLS and AUTH."""
    secure_offers: tuple[str, ...] | None = None
    """The same for the reply under TLS; None (the default) for the same extensions."""
    answers: "Mapping[str, bytes | Callable[[Visit], None]]" = field(default_factory=dict[str, bytes])
    """Replies in place of the ordinary replies, or functions that play this part of the session.

    The keys are verbs, `GREETING`, `CHALLENGE` for a challenge of AUTH, and `END` for the end of a body. `AUTH` is
    the reply at the end of the login.
    """
    starttls: Literal["as set", "always", "never"] = "as set"
    """When STARTTLS is offered: `as set` means only to a client that is set up to require STARTTLS."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    """The mechanisms of AUTH; empty for no AUTH."""
    offers_auth_in_plaintext: bool = False
    """Whether AUTH is offered before TLS to a client that uses TLS; by default no."""
    watches: tuple[str, ...] = ()
    """The keys of `answers` before which the server waits for a moment, to notice early octets; empty by default."""
    segment_size: int = 0
    """The octets of each segment in which replies are sent; 0 (the default) for one segment."""
    certificate: Literal["valid", "unknown authority", "wrong name"] = "valid"
    """The certificate of the server."""


class VisitEnded(Exception):
    """The connection ended; the text says how."""


class Visit:
    """A connection and all that was seen on it."""

    def __init__(
        self,
        connection: socket.socket,
        script: Script,
        context: ssl.SSLContext,
        *,
        tls: Literal["none", "starttls", "implicit"],
        timeout: float,
        pause: float,
        lmtp: bool = False,
    ) -> None:
        self.lines: list[Line] = []
        """The command lines of the client, without responses of AUTH."""
        self.bodies: list[Body] = []
        """The bodies of the client."""
        self.log: list[Line | Body | Secret | Sent] = []
        """All commands, bodies and replies in order."""
        self.sent: list[str] = []
        """The replies, in printable form."""
        self.seen: list[str] = []
        """The octets of the client in printable form, secrets masked."""
        self.accepted: int = 0
        """The number of messages that were accepted."""
        self.ended: str = ""
        """How the connection ended."""
        self.is_secure: bool = False
        """Whether TLS is in use."""
        self.rest: bytes = b""
        """The octets of the client that are no complete line."""
        self.was_read_without_end: bool = False
        """Whether the client read an endless reply up to the limit of the check."""
        self.is_early: bool = False
        """Whether octets arrived before the last reply was sent."""
        self.ordinary: bytes | Callable[[Visit], None] = b""
        """The ordinary answer to the command that is being answered."""
        self.key: str = ""
        """The key in `Script.answers` of the command that is being answered."""

        self._socket, self._script, self._context = connection, script, context
        self._tls, self._lmtp = tls, lmtp
        self._timeout, self._pause = timeout, pause
        self._deadline = time.monotonic() + _MAX_VISIT * timeout
        self._input, self._chunks = bytearray(), bytearray()
        self._early = 0  # octets of the input that arrived before the last reply was sent
        self._after = "GREETING"
        self._recipients = self._code = 0
        self._has_sender = False
        self._is_counted = True  # the message whose end is being answered is in `accepted`
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        """Serve the connection until it ends, and close it. Afterwards `ended` says how it ended."""
        try:
            if self._tls == "implicit":
                self.start_tls()
            self._answer("GREETING", b"220 check.example ESMTP\r\n")
            while len(self.lines) < _MAX_LINES:
                self._handle(self._command())

            self.ended = f"the client sent more than {_MAX_LINES} commands"
        except VisitEnded as exc:
            self.ended = str(exc)
        finally:
            self.rest = bytes(self._input)
            self._socket.close()

    # The dialogue

    def _handle(self, line: Line) -> None:
        verb = self._after = self.key = line.verb
        match verb:
            case "EHLO" | "HELO" if line.is_of_lmtp != self._lmtp:
                self.reply(b"500 5.5.1 Unknown command\r\n")
            case "EHLO":
                self._answer(verb, self.hello())
            case "STARTTLS" if self._offers_starttls:
                self._answer(verb, _start_tls)
            case "AUTH" if self._script.mechanisms:
                self._authenticate(line)
            case "MAIL":
                self._recipients = 0
                self._answer(verb, b"250 2.1.0 OK\r\n")
                self._has_sender = self._code // 100 == 2
            case "RCPT":
                self._answer(verb, b"250 2.1.5 OK\r\n" if self._has_sender else b"503 5.5.1 MAIL first\r\n")
                self._recipients += self._code // 100 == 2
            case "BDAT" if self._offers_chunking:
                self._read_chunk(line)
            case "RSET":
                self._recipients, self._has_sender = 0, False
                self._chunks.clear()
                self._answer(verb, b"250 2.0.0 OK\r\n")
            case "DATA":
                self._answer(verb, b"354 Go ahead\r\n" if self._recipients else b"554 5.5.1 No recipients\r\n")
                if self._code == 354:
                    self._read_body()
            case "QUIT":
                self._answer(verb, b"221 2.0.0 Bye\r\n")
                self.end("the client sent QUIT")
            case _:
                self._answer(verb, _OTHERS.get(verb, b"500 5.5.1 Unknown command\r\n"))

    def _answer(self, key: str, ordinary: "bytes | Callable[[Visit], None]") -> None:
        self.key, self.ordinary = key, ordinary
        self.play(self._script.answers.get(key, ordinary))

    def play(self, answer: "bytes | Callable[[Visit], None]") -> None:
        """Send a reply, or call a function that plays this part of the session."""
        if isinstance(answer, bytes):
            self.reply(answer)
        else:
            answer(self)

    @property
    def _offers_starttls(self) -> bool:
        is_wanted = self._script.starttls == "always" or (self._script.starttls == "as set" and self._tls == "starttls")
        return is_wanted and not self.is_secure

    @property
    def _offers(self) -> tuple[str, ...]:
        script = self._script
        return script.offers if script.secure_offers is None or not self.is_secure else script.secure_offers

    @property
    def _offers_chunking(self) -> bool:
        return any(offer.upper().split()[:1] == ["CHUNKING"] for offer in self._offers)

    def hello(self) -> bytes:
        """Return the ordinary reply to EHLO."""
        offers = [*self._offers]
        if self._offers_starttls:
            offers.append("STARTTLS")
        if self._script.mechanisms and (self.is_secure or self._tls == "none" or self._script.offers_auth_in_plaintext):
            offers.append(" ".join(("AUTH", *self._script.mechanisms)))

        texts = ["check.example", *offers]
        separators = "-" * (len(texts) - 1) + " "
        return "".join(f"250{separator}{text}\r\n" for separator, text in zip(separators, texts, strict=True)).encode()

    def _authenticate(self, line: Line) -> None:
        words = line.text.split()
        self.seen[-1] = " ".join((*words[:2], *["***"] * (len(words) > 2)))
        challenges = _CHALLENGES.get(words[1].upper() if len(words) > 1 else "", (b"334 \r\n",))
        for challenge in challenges[len(words) > 2 :]:
            self._answer("CHALLENGE", challenge)
            if self._code != _CHALLENGE:
                return

            self._line()
            self.log.append(Secret())
            self._show("***")

        self._answer("AUTH", b"235 2.7.0 Authenticated\r\n")

    def _read_body(self) -> None:
        is_early, start = self.is_early, 0
        while not (end := _search_end(self._input, start)):
            start = max(0, len(self._input) - 4)
            try:
                if len(self._input) > _MAX_BODY:
                    raise VisitEnded(f"the body has more than {_MAX_BODY} octets")
                self._more()
            except VisitEnded:
                self._add_body(len(self._input), is_early, is_complete=False)
                raise

        dot = end.end() - len(end[0].lstrip(b"\n"))
        self._add_body(dot, is_early, is_complete=True)
        self._take(end.end() - dot)
        self._end_body()

    def _add_body(self, size: int, is_early: bool, *, is_complete: bool) -> None:
        body = self._take(size)
        self._show(printable(body) + ("\\r\\n." if is_complete else ""))
        self._keep_body(Body(body, is_complete, is_early, self.is_secure))

    def _keep_body(self, body: Body) -> None:
        self.bodies.append(body)
        self.log.append(body)

    def _end_body(self) -> None:
        """Answer the end of a body: once, or once for each recipient in LMTP (RFC 2033 4.2)."""
        self._after, self._is_counted = "END", False
        replies = self._recipients if self._lmtp else 1
        self._recipients, self._has_sender = 0, False
        for _ in range(replies):
            self._answer("END", b"250 2.0.0 Accepted\r\n")
            if self._code == _CLOSING:
                break  # a server that is about to close the connection sends no further replies

    def _read_chunk(self, line: Line) -> None:
        match = _match_chunk(line.text)
        if not match:
            self.reply(b"501 5.5.4 BDAT needs a size\r\n")
            return

        size = int(match[1])
        try:
            while len(self._input) < size:
                if len(self._input) + len(self._chunks) > _MAX_BODY:
                    raise VisitEnded(f"the body has more than {_MAX_BODY} octets")
                self._more()
        except VisitEnded:
            self._keep_body(Body(bytes(self._chunks), False, False, self.is_secure, is_chunked=True))
            raise

        chunk = self._take(size)
        self._show(printable(chunk))
        self._chunks += chunk if self._recipients else b""
        if match[2] and self._recipients:
            self._keep_body(Body(bytes(self._chunks), True, False, self.is_secure, is_chunked=True))
            self._chunks.clear()
            self._end_body()
            return

        self._answer("BDAT", b"250 2.0.0 OK\r\n" if self._recipients else b"503 5.5.1 No recipients\r\n")
        if self._code // 100 != 2:
            self._recipients = 0  # all later chunks fail, too (RFC 3030 section 2)
            self._chunks.clear()

    # Sending

    def reply(self, data: bytes) -> None:
        """Send a reply. Raise `VisitEnded` if the client does not take it."""
        self.notice()
        self.log.append(Sent(data, self.key, self.is_early, self.is_secure))
        self.sent.append(printable(data))
        del self.sent[:-_MAX_SHOWN]
        self._code = code_of(data)
        if self._after == "END" and not self._is_counted and self._code // 100 == 2:
            self.accepted += 1
            self._is_counted = True
        size = self._script.segment_size or len(data)
        for at in range(0, len(data), size):
            if at and size > 1:
                time.sleep(_PAUSE_BETWEEN_SEGMENTS)
            self.transmit(data[at : at + size])

    def notice(self, pause: float = 0.0) -> None:
        """Read the octets that have arrived before a reply.

        If none have arrived, wait for them for `pause` seconds, and for a moment if the script watches.
        """
        pause = max(pause, self._pause if self._after in self._script.watches else 0)
        with suppress(VisitEnded):  # the reply is sent nevertheless, because the client may still read it
            while len(self._input) <= _MAX_LINE and self._receive(0 if self._input else pause):
                pass
        self._early = len(self._input)
        self.is_early = bool(self._input)

    def transmit(self, data: bytes) -> None:
        """Send octets unchanged. Raise `VisitEnded` if the client does not take them."""
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(data)
        except TimeoutError:
            raise VisitEnded("the client stopped reading") from None
        except OSError:
            raise VisitEnded("the client closed the connection") from None

    def end(self, reason: str) -> None:
        """Close the connection for sending, read the rest, and raise `VisitEnded`."""
        read = bytes(self._input)
        with suppress(OSError, ValueError):
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.settimeout(0)  # announce the end of TLS without a wait for the client
                self._socket.unwrap()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with suppress(VisitEnded):
            while len(self._input) <= _MAX_LINE:
                self._more()
        if self.is_secure:  # the octets after the end of TLS are encrypted
            self._input[:] = read

        raise VisitEnded(reason)

    def start_tls(self) -> None:
        """Do the handshake of TLS. Raise `VisitEnded` if it fails."""
        self._input.clear()
        self._early = 0
        try:
            self._socket.settimeout(self._timeout)
            self._socket = self._context.wrap_socket(self._socket, server_side=True)
        except OSError:
            raise VisitEnded("the client ended the handshake of TLS") from None
        self.is_secure = True

    # Receiving

    def _command(self) -> Line:
        is_early = self._early > 0
        octets = self._line()
        line = Line(octets, self.is_secure, is_early, self._after)
        self.lines.append(line)
        self.log.append(line)
        self._show(printable(octets.rstrip(b"\r\n")))
        return line

    def _line(self) -> bytes:
        while (end := self._input.find(b"\n")) < 0:
            if len(self._input) > _MAX_LINE:
                raise VisitEnded(f"the client sent a line of more than {_MAX_LINE} octets")
            self._more()

        return self._take(end + 1)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._early = max(0, self._early - size)
        return taken

    def _show(self, text: str) -> None:
        self.seen.append(text)
        del self.seen[:-_MAX_SHOWN]

    def _more(self) -> None:
        if not self._receive(self._timeout):
            raise VisitEnded(f"the client sent nothing for {self._timeout:g} seconds")

    def _receive(self, timeout: float) -> bool:
        if time.monotonic() > self._deadline:
            raise VisitEnded(f"the connection lasted {_MAX_VISIT * self._timeout:g} seconds")
        try:
            self._socket.settimeout(timeout)
            data = self._socket.recv(_READ_SIZE)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            data = b""
        if not data:
            raise VisitEnded("the client closed the connection")

        self._input += data
        return True


_CHALLENGE = 334
_CLOSING = 421
_OTHERS = {"HELO": b"250 check.example\r\n", "NOOP": b"250 2.0.0 OK\r\n"}


def code_of(reply: bytes) -> int:
    """Return the code of the first line of a reply, or 0 for a line without a code."""
    return int(reply[:3]) if reply[:3].isdigit() and reply[3:4] in (b" ", b"-", b"\r") else 0


def _start_tls(visit: Visit) -> None:
    visit.reply(b"220 2.0.0 Go ahead\r\n")
    visit.start_tls()


def closing(reply: bytes) -> Callable[[Visit], None]:
    """Return an answer: this reply, and the end of the connection; only the end if `reply` is empty."""

    def answer(visit: Visit) -> None:
        if reply:
            visit.reply(reply)
        visit.end("the server closed the connection")

    return answer
