"""A client for tests: send any octets, and read any replies, well-formed or not."""

# The client of `smtpcore` refuses to send malformed commands and to accept malformed replies. Checks have to do both.
# So this client sends octets unchanged, splits the server's output at LF, and keeps all irregularities for the checks
# to judge.

import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Literal

_READ_SIZE = 65_536
_MAX_REPLIES = 100
"""Replies that are read after QUIT."""
_MAX_REPLY = 65_536
"""Maximum octets of a reply, so that an endless reply cannot fill the memory."""

_match_reply_line = re.compile(rb"([0-9]{3})([ -]?)(.*)", re.DOTALL).fullmatch

# The enhanced status code is at the start of the text (RFC 2034 section 4), or at its end as qmail writes it: (#5.7.1).
_search_status = re.compile(r"(?:^|\(#)[245]\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9])").search


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server to check, and how to connect to it."""

    host: str
    """The host name or IP address."""
    port: int
    """The TCP port."""
    sender: str
    """The sender of the test messages."""
    recipient: str
    """The only recipient of the test messages."""
    tls: Literal["none", "starttls", "implicit"] = "none"
    """The use of TLS; by default no TLS."""
    insecure: bool = False
    """Whether any server certificate is accepted, without verification; by default false."""
    user: str = ""
    """The user name for AUTH PLAIN; empty (the default) for no login."""
    password: str = ""
    """The password for AUTH PLAIN."""
    lmtp: bool = False
    """Whether the server speaks LMTP; by default SMTP."""
    timeout: float = 10.0
    """Seconds to wait for each reply; 10 by default."""
    helo: str = ""
    """The name in EHLO, LHLO and HELO; empty (the default) for the address literal of this end of the connection."""

    @property
    def hello(self) -> str:
        """The first command of a session, EHLO or LHLO."""
        return "LHLO" if self.lmtp else "EHLO"

    @property
    def credentials(self) -> bytes:
        """The initial response of AUTH PLAIN."""
        return b64encode(f"\0{self.user}\0{self.password}".encode())


class NoReply(Exception):
    """The server sent no valid reply; the text describes the failure."""


class ServerSilent(NoReply):
    """The server sent nothing within the timeout, or did not read."""


class ServerClosed(NoReply):
    """The server closed the connection, or the connection broke."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply as received."""

    lines: tuple[bytes, ...]
    """The lines, with their line ends."""

    @property
    def code(self) -> int:
        """The code on the last line."""
        return int(self.lines[-1][:3])

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each line, without code and line end."""
        return tuple(line[4:].decode("utf-8", "replace").rstrip("\r\n") for line in self.lines)

    @property
    def status(self) -> tuple[int, int] | None:
        """Subject and detail of the enhanced status code: (1, 8) for `5.1.8`; None without such a code."""
        match = _search_status(self.texts[-1])
        return (int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return " / ".join(printable(line.rstrip(b"\r\n")) for line in self.lines)


class RawClient:
    """One connection to the server. The constructor raises `OSError` if connecting fails."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket = socket.create_connection((target.host, target.port), timeout=target.timeout)
        self._input = bytearray()
        self.helo: str = target.helo or _literal(self._socket.getsockname()[0])
        """The name that this client gives in EHLO."""
        self.sent: list[str] = []
        """The octets sent, in printable form."""
        self.seen: list[str] = []
        """The replies received, in printable form."""
        self.offered: Mapping[str, str] = {}
        """The extensions in the last reply to EHLO: arguments by keyword, both in upper case."""

        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.tls == "implicit":
            self.start_tls()

    def close(self) -> None:
        """Close the connection without QUIT."""
        self._socket.close()

    def clear_record(self) -> None:
        """Clear `sent` and `seen`."""
        self.sent.clear()
        self.seen.clear()

    # Sending

    def send(self, data: bytes, *, shown_as: str | None = None) -> None:
        """Send octets unchanged. Raise `ServerClosed` or `ServerSilent` if the server does not take them."""
        self.sent.append(printable(data) if shown_as is None else shown_as)
        self._transmit(data)

    def trickle(self, data: bytes) -> None:
        """Send octets one by one, each in a segment of its own if the network permits.

        Raises the same errors as `send`.
        """
        self.sent.append(printable(data))
        for at in range(len(data)):
            self._transmit(data[at : at + 1])

    def pause(self) -> None:
        """Wait for a moment, so that the octets sent so far arrive in a segment of their own."""
        time.sleep(min(0.05, self._target.timeout / 10))

    def ask(self, line: str | bytes, *, shown_as: str | None = None) -> RawReply:
        """Send a line, and return the next reply. Raise `NoReply` if there is no valid reply."""
        octets = line.encode() if isinstance(line, str) else line
        self.send(octets + b"\r\n", shown_as=shown_as)
        return self.reply()

    def _transmit(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._target.timeout)
            self._socket.sendall(data)
        except TimeoutError:
            raise ServerSilent(f"the server read nothing for {self._target.timeout:g} seconds") from None
        except OSError as exc:
            raise ServerClosed(f"the connection broke: {exc}") from exc

    # Receiving

    def reply(self) -> RawReply:
        """Return the next reply. Raise `NoReply` if there is no valid reply."""
        lines = [self._line()]
        while lines[-1][3:4] == b"-":
            lines.append(self._line())
            if sum(map(len, lines)) > _MAX_REPLY:
                raise NoReply(f"the reply has more than {_MAX_REPLY} octets")

        seen = RawReply(tuple(lines))
        self.seen.append(str(seen))
        return seen

    def replies_before_goodbye(self) -> list[RawReply]:
        """Send QUIT, and return all replies before the 221 or the end of the stream.

        Raise `ServerSilent` on a timeout, and `NoReply` if the replies do not end.
        """
        replies: list[RawReply] = []
        try:
            self.send(b"QUIT\r\n")
            while len(replies) < _MAX_REPLIES:
                replies.append(self.reply())
                if replies[-1].code == 221:
                    return replies[:-1]
        except ServerClosed:
            return replies

        raise NoReply(f"the server sent more than {_MAX_REPLIES} replies")

    def has_ended(self) -> bool:
        """Return whether the server closes the connection without sending more. Raise `ServerSilent` on a timeout."""
        try:
            while not self._input:
                self._more()
        except ServerClosed:
            return True

        return False

    @property
    def unread(self) -> bytes:
        """The octets received but not yet returned as a reply."""
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
            raise NoReply(f"the server sent a line that is not a reply: {printable(line)}")

        return line

    def _more(self) -> None:
        try:
            data = receive(self._socket, self._target.timeout)
        except TimeoutError:
            raise ServerSilent(f"no reply within {self._target.timeout:g} seconds") from None
        except OSError as exc:
            raise ServerClosed(f"the connection broke: {exc}") from exc

        if not data:
            raise ServerClosed("the server closed the connection")

        self._input += data

    # EHLO and TLS

    def greet(self, verb: str | None = None) -> RawReply:
        """Send EHLO, LHLO or `verb`, and update `offered`. Raise `NoReply` if there is no valid reply."""
        seen = self.ask(f"{verb or self._target.hello} {self.helo}")
        if seen.code == 250:
            keywords = [text.upper().partition(" ") for text in seen.texts[1:]]
            self.offered = {keyword: arguments for keyword, _, arguments in keywords}

        return seen

    def start_tls(self) -> None:
        """Do the client's part of a TLS handshake. Raise `OSError` if it fails."""
        self._socket.settimeout(self._target.timeout)
        self._socket = _context(insecure=self._target.insecure).wrap_socket(
            self._socket, server_hostname=self._target.host
        )


def receive(connection: socket.socket, timeout: float) -> bytes:
    """Return the next octets of the server; `b""` at the end of the stream. Raise `TimeoutError` after `timeout`."""
    connection.settimeout(timeout)
    return connection.recv(_READ_SIZE)


def _literal(host: str) -> str:
    # RFC 5321 4.1.4: a host without a domain gives its address. Many servers refuse a name that the DNS does not have.
    address = ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


@cache  # loading all CA certificates takes longer than a check
def _context(*, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    return context


def printable(data: bytes) -> str:
    """Return `data` as readable text: unprintable octets are escaped, long runs are shortened."""
    if len(data) > _SHOWN:
        half = _SHOWN // 2
        return f"{printable(data[:half])} ...{len(data)} octets... {printable(data[-half:])}"

    return "".join(_ESCAPES.get(octet) or (chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}") for octet in data)


_SHOWN = 240
_ESCAPES = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x5C: "\\\\"}
