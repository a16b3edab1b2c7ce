"""The octets that were received and not yet used."""

# Every octet is looked at a constant number of times, however it arrives: `_searched` remembers how far the search
# for a line end has come, and deleting from the front of a bytearray moves nothing.
#
# RFC 5321 2.3.8: a line ends at CR LF and nowhere else. A bare LF or CR is a fault, found at the first octet that
# proves it, so that a peer who never sends CR LF gets its answer all the same. What follows a fault is skipped up to
# the next CR LF: nothing behind it can have been meant as a command by an honest peer.

from collections.abc import Callable
from enum import Enum, auto
from re import Match


class LineFault(Enum):
    """Why octets cannot be a line."""

    TOO_LONG = auto()
    BARE_NEWLINE = auto()


class LineError(Exception):
    """Instead of a line there was `fault`, after `line`."""

    def __init__(self, line: bytes, fault: LineFault) -> None:
        super().__init__(line, fault)
        self.line = line
        self.fault = fault


class ReceiveBuffer:
    """A queue of octets: appended as they arrive, taken as lines or as runs."""

    __slots__ = ("_data", "_searched", "_skipping")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # in the octets before there is no LF, and no CR but a last one
        self._skipping = False

    def __len__(self) -> int:
        return len(self._data)

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Put `data` behind what is there."""
        self._data += data

    # Lines

    def take_line(self, limit: int, *, bare_lf: bool = False) -> bytes | None:
        """Take a line without its end, or None as long as there is none.

        `limit` counts the octets of the line with its CR LF. With `bare_lf`, a bare LF ends a line as well.
        Raises `LineError`, after which everything up to the next line end is skipped.
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
            # A CR at the end may be half of the line end that is sought.
            del data[: len(data) - data.endswith(b"\r")]

    # Runs

    def take_at_most(self, size: int) -> bytes:
        """Take the next `size` octets, or all if there are fewer."""
        run = bytes(memoryview(self._data)[:size])
        del self._data[:size]
        self._searched = 0
        return run

    def search(self, pattern: Callable[[bytearray, int], Match[bytes] | None], start: int = 0) -> int:
        """The position from `start` on at which `pattern`, the `search` of a compiled one, finds something, or -1."""
        found = pattern(self._data, start)
        return found.start() if found else -1

    def find(self, wanted: bytes, start: int) -> int:
        """The position of `wanted` from `start` on, or -1."""
        return self._data.find(wanted, start)

    def startswith(self, wanted: bytes, start: int = 0) -> bool:
        """Whether the octets from `start` on are `wanted`."""
        return self._data.startswith(wanted, start)

    def endswith(self, wanted: bytes | tuple[bytes, ...]) -> bool:
        """Whether the last octets are `wanted`, or one of those."""
        return self._data.endswith(wanted)
