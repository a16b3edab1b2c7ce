"""Cut a body out of the octets around it."""

# RFC 5321 4.5.2: a body sent with DATA ends at CR LF . CR LF, whose first CR LF is the end of its last line, and each
# line of it that starts with a dot was given one more. A body may be empty, so the place behind the 354 counts as the
# start of a line.
#
# Behind the start of the body, the end and an added dot both begin with CR LF and a dot. So one search through a block
# tells that there is neither, which is true of most; where it is not, another one looks for the end, and the dots are
# removed. Only a suffix that may be the beginning of the end has to wait for more input, at most four octets. These
# searches also tell that each CR is followed by LF, which the check of the newlines need not find out again.
#
# What may be in a body is checked on the unstuffed blocks. Each check cuts the block at the first octet that it
# refuses and so decides the same however the input was segmented: the earliest fault wins.

import re
from typing import Final

from .._buffer import ReceiveBuffer

_END = b"\r\n.\r\n"
_EMPTY = b".\r\n"
_BEGINNINGS_OF_END = tuple(_END[:size] for size in range(len(_END) - 1, 0, -1))

_find_dot_or_bare_cr = re.compile(rb"\r(?!\n(?!\.))").search
_find_end_or_bare_cr = re.compile(rb"\r(?!\n(?!\.\r))").search


class DotFraming:
    """Finds the end of a body that was sent with DATA, and removes the dot-stuffing before it."""

    __slots__ = ("_at_start", "ended", "is_paired")

    def __init__(self) -> None:
        self._at_start = True
        self.ended = False
        self.is_paired = False
        """Whether it is known that in the last run each CR was followed by LF."""

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take the next run of the body, which is empty if there is not enough input or the body has `ended`."""
        if not len(buffer) or (self._at_start and not self._start(buffer)):
            return b""

        dot = buffer.search(_find_dot_or_bare_cr)
        # The first dot may be that of the end, and is so in most bodies.
        suspect = dot if dot < 0 or buffer.startswith(_END, dot) else buffer.search(_find_end_or_bare_cr, dot)
        end = buffer.find(_END, suspect) if suspect >= 0 else -1
        self.is_paired = suspect == end
        if end < 0:
            run = buffer.take_at_most(len(buffer) - self._undecided(buffer))
        else:
            run = buffer.take_at_most(end + len(b"\r\n"))
            buffer.take_at_most(len(_EMPTY))
            self.ended = True

        return run if dot == end else self._unstuff(run)

    def _start(self, buffer: ReceiveBuffer) -> bool:
        if not buffer.startswith(b"."):
            self._at_start = False
            return True

        if buffer.startswith(_EMPTY):
            buffer.take_at_most(len(_EMPTY))
            self.ended = True
            return False

        if len(buffer) < len(_EMPTY) and _EMPTY.startswith(bytes(buffer)):
            return False

        buffer.take_at_most(1)
        self._at_start = False
        return True

    @staticmethod
    def _undecided(buffer: ReceiveBuffer) -> int:
        if not buffer.endswith(_BEGINNINGS_OF_END):
            return 0

        return next(len(beginning) for beginning in _BEGINNINGS_OF_END if buffer.endswith(beginning))

    @staticmethod
    def _unstuff(run: bytes) -> bytes:
        return b"\r\n".join(run.split(b"\r\n."))  # `replace` says the same, in half as much time again


class ChunkFraming:
    """Counts the octets of one BDAT chunk (RFC 3030 section 2), of which nothing is stuffed."""

    __slots__ = ("_left",)

    is_paired: Final = False
    """Whether it is known that in the last run each CR was followed by LF."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def ended(self) -> bool:
        """Whether the chunk was taken whole."""
        return not self._left

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take what there is of the chunk, which is empty if there is not enough input or it has `ended`."""
        run = buffer.take_at_most(self._left)
        self._left -= len(run)
        return run


class PartFraming:
    """Passes on what the program has fetched for a BURL (RFC 4468), until it is told that this was all."""

    __slots__ = ("complete", "ended")

    is_paired: Final = False
    """Whether it is known that in the last run each CR was followed by LF."""

    def __init__(self) -> None:
        self.complete = False
        self.ended = False

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take what there is of the part."""
        self.ended = self.complete
        return buffer.take_at_most(len(buffer))
