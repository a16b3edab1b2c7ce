"""Read replies from a peer, well-formed or not, within limits of time and size."""

import re
import time
from dataclasses import dataclass

from ._peers import Peer

MAX_RECEIVED = 1_048_576
"""Maximum octets that are read in a session."""
_MAX_LINE = 65_536

_match_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class WireReply:
    """A reply as received."""

    lines: tuple[bytes, ...]
    """The lines with their line ends."""
    faults: tuple[str, ...] = ()
    """The breaches of the syntax of replies."""

    @property
    def code(self) -> int:
        """The code on the last line; 0 if the line is not a reply."""
        match = _match_line(self.lines[-1].rstrip(b"\r\n"))
        return int(match[1]) if match else 0

    @property
    def text(self) -> bytes:
        """The text of all lines, without codes."""
        return b"\n".join(line[4:].rstrip(b"\r\n") for line in self.lines)


class Silence(Exception):
    """No complete reply arrived in time."""


class EndOfStream(Exception):
    """The server closed the connection."""


class Flood(Exception):
    """The server sent more than the fuzzer reads."""


class ReplyReader:
    """Reads the replies of one session."""

    def __init__(self, peer: Peer, deadline: float) -> None:
        self._peer = peer
        self._deadline = deadline
        self._input = bytearray()
        self._received = 0
        self.allows_utf8 = False
        """Whether replies may have octets beyond ASCII, because SMTPUTF8 was requested."""
        self.slowest = 0.0
        """The longest time in seconds that a reply took."""

    def read(self, deadline: float | None = None) -> WireReply:
        """Return the next reply, which may take the reader's deadline or `deadline` in seconds.

        Raises `Silence`, `EndOfStream` or `Flood`.
        """
        started = time.monotonic()
        lines: list[bytes] = []
        faults: list[str] = []
        while True:
            line = self._line(started + (deadline or self._deadline))
            lines.append(line)
            match = _match_line(line.rstrip(b"\r\n"))
            faults += _faults_of(line, lines[0], is_reply=match is not None, allows_utf8=self.allows_utf8)
            if match is None or match[2] != b"-":
                self.slowest = max(self.slowest, time.monotonic() - started)
                return WireReply(tuple(lines), tuple(dict.fromkeys(faults)))

    def has_more(self) -> bool:
        """Return whether octets have arrived that were not read as a reply."""
        if not self._input:
            try:
                self._more(time.monotonic())
            except (Silence, EndOfStream):
                return False
            except Flood:
                return True

        return True

    def _line(self, until: float) -> bytes:
        while (end := self._input.find(b"\n")) < 0:
            if len(self._input) > _MAX_LINE:
                raise Flood(f"a line of a reply has more than {_MAX_LINE} octets")

            self._more(until)

        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        return line

    def _more(self, until: float) -> None:
        try:
            data = self._peer.receive(until - time.monotonic())
        except TimeoutError:
            raise Silence from None
        except OSError:
            # A reset is treated like an end, because it depends on timing which of them is seen.
            raise EndOfStream from None
        if not data:
            raise EndOfStream

        self._received += len(data)
        self._input += data
        if self._received > MAX_RECEIVED:
            raise Flood(f"the server sent more than {MAX_RECEIVED} octets")
        if time.monotonic() > until and b"\n" not in data:
            raise Silence  # single octets do not extend the time


def _faults_of(line: bytes, first: bytes, *, is_reply: bool, allows_utf8: bool) -> list[str]:
    faults: list[str] = []
    if not is_reply:
        faults.append("a line is not a reply")
    elif line[:3] != first[:3]:
        faults.append("the lines of a reply have different codes")
    if not line.endswith(b"\r\n"):
        faults.append("a line of a reply ends without CR LF")
    if b"\r" in line[:-2] or b"\0" in line:
        faults.append("a line of a reply has a bare CR or NUL")
    if not (line.isascii() or allows_utf8):
        faults.append("a reply has octets beyond ASCII, and SMTPUTF8 was not requested")

    return faults
