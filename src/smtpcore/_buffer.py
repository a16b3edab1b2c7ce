"""The receive buffer: received octets that were not used yet."""

# Each octet is examined a constant number of times, whatever the sizes of the segments: the octets before `_searched`
# are known to have no line end, and deleting from the front of a bytearray copies nothing.
#
# RFC 5321 2.3.8: only CR LF ends a line. A bare LF or CR is a fault and is reported at the first octet that proves it,
# so that a peer that never sends CR LF still gets a reply. After a fault everything up to the next CR LF is skipped,
# because it is the rest of the same faulty line.

from collections.abc import Callable
from enum import Enum, auto
from re import Match


class LineFault(Enum):
    """A reason why octets are not a valid line."""

    TOO_LONG = auto()
    BARE_NEWLINE = auto()


class LineError(Exception):
    """The buffer starts with a faulty line. `line` holds its octets up to the `fault`."""

    def __init__(self, line: bytes, fault: LineFault) -> None:
        super().__init__(line, fault)
        self.line = line
        self.fault = fault


class ReceiveBuffer:
    """A queue of octets. Data is appended as it arrives and taken out as lines or as runs of octets."""

    __slots__ = ("_data", "_searched", "_skipping")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # before this position there is no LF, and no CR except possibly the last octet
        self._skipping = False

    def __len__(self) -> int:
        return len(self._data)

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        self._data += data

    # Lines

    def take_line(self, limit: int, *, bare_lf: bool = False) -> bytes | None:
        """Take the next line without its line end, or return None while no line is complete.

        `limit` is the maximum length of a line in octets, CR LF included. With `bare_lf`, a bare LF also ends a line.
        Raises `LineError` for a faulty line. Everything up to the next line end is then skipped.
        """
        if self._skipping:
            self._skip_line(b"\n" if bare_lf else b"\r\n")
            if self._skipping:
                return None

        data = self._data
        if not data:
            return None

        window = min(len(data), limit)
        lf = data.find(b"\n", self._searched, window)
        cr = data.find(b"\r", self._searched, lf if lf >= 0 else window)
        if lf > 0 and cr == lf - 1:
            return self._take(cr, lf + 1)

        if bare_lf:
            if lf >= 0:
                return self._take(lf - data.endswith(b"\r", 0, lf), lf + 1)
        elif lf >= 0 or 0 <= cr < window - 1:
            end = cr if cr >= 0 else lf
            raise self._skip_after(LineError(self._take(end, end + 1), LineFault.BARE_NEWLINE))

        if window == limit:
            raise self._skip_after(LineError(bytes(data[:limit]), LineFault.TOO_LONG))

        self._searched = window if bare_lf or cr < 0 else cr
        return None

    def _take(self, end: int, used: int) -> bytes:
        line = bytes(self._data[:end])
        del self._data[:used]
        self._searched = 0
        return line

    def _skip_after(self, error: LineError) -> LineError:
        self._skipping = True
        self._searched = 0
        return error

    def _skip_line(self, line_end: bytes) -> None:
        data = self._data
        found = data.find(line_end)
        if found >= 0:
            del data[: found + len(line_end)]
            self._skipping = False
        else:
            # A CR at the end may be the first half of the line end.
            del data[: len(data) - data.endswith(b"\r")]

    # Runs

    def take_at_most(self, size: int) -> bytes:
        """Take the next `size` octets, or all octets if there are fewer."""
        run = bytes(memoryview(self._data)[:size])
        del self._data[:size]
        self._searched = 0
        return run

    def search(self, pattern: Callable[[bytearray, int], Match[bytes] | None], start: int = 0) -> int:
        """Return the first position from `start` on where `pattern`, the `search` of a regex, matches, or -1."""
        found = pattern(self._data, start)
        return found.start() if found else -1

    def find(self, wanted: bytes, start: int) -> int:
        """Return the first position of `wanted` from `start` on, or -1."""
        return self._data.find(wanted, start)

    def startswith(self, wanted: bytes, start: int = 0) -> bool:
        """Return whether the octets from `start` on begin with `wanted`."""
        return self._data.startswith(wanted, start)

    def endswith(self, wanted: bytes | tuple[bytes, ...]) -> bool:
        """Return whether the buffer ends with `wanted`, or with one member of a tuple."""
        return self._data.endswith(wanted)
