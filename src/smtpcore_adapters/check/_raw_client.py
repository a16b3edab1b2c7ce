"""Talk to a server octet by octet, and take its replies as they come, well-formed or not."""

# The client of `smtpcore` neither sends what is wrong nor takes what is wrong. A check has to do both, so that this
# file cuts the server's octets at LF and keeps all that is odd about them for the checks to look at.

import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

_READ_SIZE = 65_536
_MAX_REPLY = 65_536
"""Octets of a reply, or an endless one would fill the memory."""

_match_reply_line = re.compile(rb"([0-9]{3})([ -]?)(.*)", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which server is checked, and how."""

    host: str
    """Its name or address."""
    port: int
    """Its TCP port."""
    sender: str
    """From whom the test messages come."""
    recipient: str
    """Who gets the test messages, and no one else does."""
    tls: Literal["none", "starttls", "implicit"] = "none"
    """How the connection is secured."""
    insecure: bool = False
    """Whether the server's certificate is taken unseen."""
    user: str = ""
    """Who logs in, by AUTH PLAIN; no one if empty."""
    password: str = ""
    """His password."""
    lmtp: bool = False
    """Whether the server speaks LMTP."""
    timeout: float = 10.0
    """Seconds to wait for a reply."""

    @property
    def hello(self) -> str:
        """The verb that opens a session."""
        return "LHLO" if self.lmtp else "EHLO"

    @property
    def credentials(self) -> bytes:
        """The initial response of AUTH PLAIN."""
        return b64encode(f"\0{self.user}\0{self.password}".encode())


class NoReply(Exception):
    """There is no reply; the text says what there is instead."""


class Silent(NoReply):
    """Nothing comes."""


class HungUp(NoReply):
    """The connection is closed, or broken."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A reply as it came."""

    raw: bytes
    """All of its octets."""
    lines: tuple[bytes, ...]
    """Its lines, their ends still on them."""

    @property
    def code(self) -> int:
        """The number on its last line."""
        return int(self.lines[-1][:3])

    @property
    def texts(self) -> tuple[str, ...]:
        """What follows the numbers."""
        return tuple(line[4:].decode("utf-8", "replace").rstrip("\r\n") for line in self.lines)

    def __str__(self) -> str:
        return " / ".join(printable(line.rstrip(b"\r\n")) for line in self.lines)


class Wire:
    """One connection to the server. Raises `OSError` if there can be none."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket = socket.create_connection((target.host, target.port), timeout=target.timeout)
        self._input = bytearray()
        self.sent: list[str] = []
        """What was sent, for people to read."""
        self.seen: list[str] = []
        """What was answered, for people to read."""
        self.offered: Mapping[str, str] = {}
        """What the last reply to EHLO has listed: arguments by keyword, both in upper case."""

        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.tls == "implicit":
            self.start_tls()

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self._socket.close()

    def forget(self) -> None:
        """Begin the record of what was said anew."""
        self.sent.clear()
        self.seen.clear()

    # Sending

    def send(self, data: bytes, *, shown_as: str | None = None) -> None:
        """Send octets as they are. Raises `HungUp`."""
        self.sent.append(printable(data) if shown_as is None else shown_as)
        self._transmit(data)

    def trickle(self, data: bytes) -> None:
        """Send octets one by one, each in a segment of its own as far as the network leaves it so. Raises `HungUp`."""
        self.sent.append(printable(data))
        for at in range(len(data)):
            self._transmit(data[at : at + 1])

    def pause(self) -> None:
        """Give what was sent the time to arrive on its own, before something else follows."""
        time.sleep(min(0.05, self._target.timeout / 10))

    def ask(self, line: str | bytes, *, shown_as: str | None = None) -> Seen:
        """Send a line, and take the next reply. Raises `NoReply`."""
        octets = line.encode() if isinstance(line, str) else line
        self.send(octets + b"\r\n", shown_as=shown_as)
        return self.reply()

    def _transmit(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._target.timeout)
            self._socket.sendall(data)
        except TimeoutError:
            raise Silent(f"the server takes nothing for {self._target.timeout:g} seconds") from None
        except OSError as exc:
            raise HungUp(f"the connection broke: {exc}") from exc

    # Hearing

    def reply(self) -> Seen:
        """Take the next reply. Raises `NoReply`."""
        lines = [self._line()]
        while lines[-1][3:4] == b"-":
            lines.append(self._line())
            if sum(map(len, lines)) > _MAX_REPLY:
                raise NoReply(f"the reply has more than {_MAX_REPLY} octets")

        seen = Seen(b"".join(lines), tuple(lines))
        self.seen.append(str(seen))
        return seen

    def replies_before_goodbye(self) -> list[Seen]:
        """Say QUIT, and take all replies but the one to it, up to the end of the stream. Raises `Silent`."""
        replies: list[Seen] = []
        try:
            self.send(b"QUIT\r\n")
            while True:
                replies.append(self.reply())
                if replies[-1].code == 221:
                    return replies[:-1]
        except HungUp:
            return replies

    def has_ended(self) -> bool:
        """Whether the server closes the connection without a further word. Raises `Silent`."""
        try:
            while not self._input:
                self._more()
        except HungUp:
            return True

        return False

    @property
    def unread(self) -> bytes:
        """What has come, and was not taken yet."""
        return bytes(self._input)

    def _line(self) -> bytes:
        while (end := self._input.find(b"\n")) < 0:
            if len(self._input) > _MAX_REPLY:
                raise NoReply(f"a line of the reply has more than {_MAX_REPLY} octets")

            self._more()

        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        if _match_reply_line(line) is None:
            self.seen.append(printable(line))
            raise NoReply(f"this is not a reply: {printable(line)}")

        return line

    def _more(self) -> None:
        try:
            self._socket.settimeout(self._target.timeout)
            data = self._socket.recv(_READ_SIZE)
        except TimeoutError:
            raise Silent(f"no reply within {self._target.timeout:g} seconds") from None
        except OSError as exc:
            raise HungUp(f"the connection broke: {exc}") from exc

        if not data:
            raise HungUp("the server has closed the connection")

        self._input += data

    # What changes the connection

    def greet(self, verb: str | None = None) -> Seen:
        """Say EHLO, and note what is offered. Raises `NoReply`."""
        seen = self.ask(f"{verb or self._target.hello} smtpcore-check.example")
        if seen.code == 250:
            keywords = [text.upper().partition(" ") for text in seen.texts[1:]]
            self.offered = {keyword: arguments for keyword, _, arguments in keywords}

        return seen

    def start_tls(self) -> None:
        """Do the client's part of a TLS handshake. Raises `OSError`."""
        self._socket.settimeout(self._target.timeout)
        self._socket = _context(insecure=self._target.insecure).wrap_socket(
            self._socket, server_hostname=self._target.host
        )


@cache  # to read the certificates of all authorities takes longer than a check
def _context(*, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    return context


def printable(data: bytes) -> str:
    """`data` for people to read: unprintable octets escaped, long ones shortened."""
    if len(data) > _SHOWN:
        half = _SHOWN // 2
        return f"{printable(data[:half])} ...{len(data)} octets... {printable(data[-half:])}"

    return "".join(_ESCAPES.get(octet) or (chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}") for octet in data)


_SHOWN = 240
_ESCAPES = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
