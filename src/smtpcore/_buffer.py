"""The receive buffer: received octets that are not parsed yet."""

# Each octet is examined a constant number of times, for segments of any size: the octets before `_searched`
# are known to have no line end, and deleting from the front of a bytearray copies nothing.
#
# RFC 5321 2.3.8: only CR LF ends a line. A bare LF or CR is a fault and is reported at the first octet that proves it,
# so that a peer that never sends CR LF still gets a reply. Each LF ends a line, which gets one reply: after a bare CR,
# or a line that is too long, everything up to the next LF is skipped, because it is the rest of the same faulty line.

from collections.abc import Callable
from enum import Enum, auto
from re import Match


class LineFault(Enum):
    """A reason why octets are not a valid line."""

    TOO_LONG = auto()
    BARE_NEWLINE = auto()


class LineError(Exception):
    """The next line in the buffer is faulty. `fault` is the reason, and `line` has the octets before the fault."""

    def __init__(self, line: bytes, fault: LineFault) -> None:
        self.line = line
        self.fault = fault


class ReceiveBuffer:
    """A queue of octets. Data is appended to `octets` and taken out as lines or as runs of octets."""

    __slots__ = ("_searched", "ended_bare", "octets", "skipping")

    def __init__(self) -> None:
        self.octets = bytearray()
        self._searched = 0  # before this position there is no LF, and no CR except possibly the last octet
        self.skipping = False
        """Whether the rest of a faulty line is being skipped."""
        self.ended_bare = False
        """Whether a bare LF ended the last line."""

    def take_line(self, limit: int, *, bare_lf: bool = False) -> bytes | None:
        """Take the next line without its line end, or return None while no line is complete.

        `limit` is the maximum length of a line in octets, CR LF included. With `bare_lf`, a bare LF also ends a line.
        Raises `LineError` for a faulty line, and skips the line up to the next LF.
        """
        octets = self.octets
        if self.skipping:
            found = octets.find(b"\n")
            del octets[: found + 1 if found >= 0 else len(octets)]
            self.skipping = found < 0
            if self.skipping:
                return None

        lf = octets.find(b"\n", self._searched, limit)
        cr = octets.find(b"\r", self._searched, lf if lf >= 0 else limit)
        if lf > 0 and cr == lf - 1:
            end = cr
        elif bare_lf and lf >= 0:
            end = lf - octets.endswith(b"\r", 0, lf)
        elif not bare_lf and (lf >= 0 or 0 <= cr < min(len(octets), limit) - 1):
            end = cr if cr >= 0 else lf
            raise self._fault(end, end + 1, LineFault.BARE_NEWLINE, skipping=cr >= 0)
        elif len(octets) >= limit:
            raise self._fault(limit, 0, LineFault.TOO_LONG, skipping=True)
        else:
            self._searched = len(octets) if bare_lf or cr < 0 else cr
            return None

        line = bytes(octets[:end])
        del octets[: lf + 1]
        self._searched = 0
        self.ended_bare = end == lf
        return line

    def _fault(self, end: int, used: int, fault: LineFault, *, skipping: bool) -> LineError:
        error = LineError(bytes(self.octets[:end]), fault)
        del self.octets[:used]
        self._searched = 0
        self.skipping = skipping
        return error

    def take_at_most(self, size: int) -> bytes:
        """Take the next `size` octets, or all octets if there are fewer."""
        run = bytes(memoryview(self.octets)[:size])
        del self.octets[:size]
        self._searched = 0
        return run

    def search(self, pattern: Callable[[bytearray, int], Match[bytes] | None], start: int = 0) -> int:
        """Return the position of the first match at or after `start`, or -1. `pattern` is a regex's method `search`."""
        found = pattern(self.octets, start)
        return found.start() if found else -1
