"""Cut a body out of the octets around it."""

# RFC 5321 4.5.2: a body sent with DATA ends at CR LF . CR LF, whose first CR LF is the end of its last line, and each
# line of it that starts with a dot was given one more. A body may be empty, so the place behind the 354 counts as the
# start of a line.
#
# Two facts make this fast. The search for the five octets of the end is one `find` for a whole block; and behind the
# start of the body, an added dot is a dot behind CR LF, so that one `replace` removes them all. Only a suffix that may
# be the beginning of the end has to wait for more input, at most four octets.
#
# What may be in a body is checked on the unstuffed blocks. Each check cuts the block at the first octet that it
# refuses and so decides the same however the input was segmented: the earliest fault wins.

import re
from collections import deque
from collections.abc import Iterable, Iterator

from ._buffer import ReceiveBuffer
from ._config import BareNewlines, Bodies, Config
from ._replies import Reply

_END = b"\r\n.\r\n"
_EMPTY = b".\r\n"
_BEGINNINGS_OF_END = tuple(_END[:size] for size in range(len(_END) - 1, 0, -1))

_find_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_normalize = re.compile(rb"\r\n?|\n").sub


class DotFraming:
    """Finds the end of a body that was sent with DATA, and removes the dot-stuffing before it."""

    __slots__ = ("_at_start", "ended")

    def __init__(self) -> None:
        self._at_start = True
        self.ended = False

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take the next run of the body, which is empty if there is not enough input or the body has `ended`."""
        if self._at_start and not self._start(buffer):
            return b""

        end = buffer.find(_END)
        if end < 0:
            return self._unstuff(buffer.take_at_most(len(buffer) - self._undecided(buffer)))

        run = buffer.take_at_most(end + len(b"\r\n"))
        buffer.take_at_most(len(_EMPTY))
        self.ended = True
        return self._unstuff(run)

    def _start(self, buffer: ReceiveBuffer) -> bool:
        if buffer.startswith(_EMPTY):
            buffer.take_at_most(len(_EMPTY))
            self.ended = True
            self._at_start = False
            return False

        if len(buffer) < len(_EMPTY) and _EMPTY.startswith(bytes(buffer)):
            return False

        if buffer.startswith(b"."):
            buffer.take_at_most(1)

        self._at_start = False
        return True

    @staticmethod
    def _undecided(buffer: ReceiveBuffer) -> int:
        return next((len(beginning) for beginning in _BEGINNINGS_OF_END if buffer.endswith(beginning)), 0)

    @staticmethod
    def _unstuff(run: bytes) -> bytes:
        return run.replace(b"\r\n.", b"\r\n")


class ChunkFraming:
    """Counts the octets of one BDAT chunk (RFC 3030 section 2), of which nothing is stuffed."""

    __slots__ = ("_left",)

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

    def __init__(self) -> None:
        self.complete = False
        self.ended = False

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take what there is of the part."""
        self.ended = self.complete
        return buffer.take_at_most(len(buffer))


class BodyCheck:
    """Passes on what may be in a body, up to its first `fault`."""

    __slots__ = ("_bare_newlines", "_held", "_line_length", "_max_line", "_room", "_text", "fault")

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._text = not binary
        self._bare_newlines = config.bare_newlines
        self._max_line = config.max_text_line
        self._held = b""
        self._line_length = 0
        self._room = config.max_message_size
        self.fault: Reply | None = None

    def pass_on(self, run: bytes) -> bytes:
        """The part of `run` before the first fault. A CR at its end is held back until the next octet is known."""
        if self.fault:
            return b""

        run = self._held + run
        self._held = b"\r" if run.endswith(b"\r") else b""
        return self._check(run[:-1] if self._held else run)

    def finish(self) -> bytes:
        """What was held back, at the end of the body."""
        held, self._held = self._held, b""
        return self._check(held) if held and not self.fault else b""

    def _check(self, run: bytes) -> bytes:
        # RFC 3030 section 3: a binary body need not have lines.
        if self._text:
            run = self._check_newlines(run)
            run = self._check_lines(run)

        return self._check_size(run)

    def _check_newlines(self, run: bytes) -> bytes:
        if self._bare_newlines is BareNewlines.ACCEPT or run.count(b"\r") == run.count(b"\n") == run.count(b"\r\n"):
            return run

        if self._bare_newlines is BareNewlines.NORMALIZE:
            return _normalize(b"\r\n", run)

        bare = _find_bare(run)
        assert bare, "the counts differ only if there is one"
        self.fault = Reply(550, "A line of the message ends in a bare CR or LF instead of CR LF", enhanced="5.6.0")
        return run[: bare.start()]

    def _check_lines(self, run: bytes) -> bytes:
        # Jumps from the last line end within reach to the next, so that short lines cost nothing.
        start = 0
        reach = self._max_line - self._line_length
        while len(run) - start > reach:
            end = run.rfind(b"\r\n", start, start + reach)
            if end < 0:
                self.fault = Reply(554, f"A line of the message exceeds {self._max_line} octets", enhanced="5.6.0")
                return run[: start + reach]

            start = end + len(b"\r\n")
            reach = self._max_line
            self._line_length = 0

        end = run.rfind(b"\r\n", start)
        self._line_length = self._line_length + len(run) - start if end < 0 else len(run) - end - len(b"\r\n")
        return run

    def _check_size(self, run: bytes) -> bytes:
        if self._room is None:
            return run

        # RFC 1870 section 5: the size counts CR LF, but neither added dots nor the end of data.
        if len(run) > self._room:
            self.fault = Reply(552, "The message exceeds the maximum size", enhanced="5.3.4")
            run = run[: self._room]

        self._room -= len(run)
        return run


class Body:
    """A body on its way from the buffer to the program, in the form that the configuration asks for."""

    __slots__ = (
        "_check",
        "_finished",
        "_framing",
        "_last",
        "_lines",
        "_longest",
        "_partial",
        "_partial_size",
        "_splits",
        "_text",
    )

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._framing: DotFraming | ChunkFraming | PartFraming = DotFraming()
        self._last = True
        self._finished = False
        self._check = BodyCheck(config, binary=binary)
        self._splits = config.bodies is Bodies.LINES
        self._text = not binary
        self._longest = config.max_text_line
        self._lines: deque[bytes] = deque()
        self._partial: list[bytes] = []
        self._partial_size = 0

    def begin_chunk(self, size: int, *, last: bool) -> None:
        """Go on with a chunk of `size` octets, where the body is sent with BDAT."""
        self._begin(ChunkFraming(size), last=last)

    def begin_part(self, *, last: bool) -> None:
        """Go on with a part that the program fetches."""
        self._begin(PartFraming(), last=last)

    def end_part(self) -> None:
        """Tell that nothing more of the part will come."""
        assert isinstance(self._framing, PartFraming), "a part has begun"
        self._framing.complete = True

    @property
    def takes_part(self) -> bool:
        """Whether more of a part may come."""
        return isinstance(self._framing, PartFraming) and not self._framing.complete

    def _begin(self, framing: ChunkFraming | PartFraming, *, last: bool) -> None:
        self._framing = framing
        self._last = last
        self._finished = False

    @property
    def ended(self) -> bool:
        """Whether the end of the body, or of its chunk, was found and everything before it handed out."""
        return self._finished and not self._lines

    @property
    def fault(self) -> Reply | None:
        """The answer to a body that cannot be accepted."""
        return self._check.fault

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take the next line or run, which is empty if there is not enough input or the body has `ended`."""
        while not self._lines and not self._finished:
            run = self._framing.take(buffer)
            self._finished = self._framing.ended
            if not run and not self._finished:
                break

            passed = self._check.pass_on(run)
            if self._finished and self._last:
                passed += self._check.finish()
            if self._splits:
                self._split(passed)
            elif passed:
                return passed

        return self._lines.popleft() if self._lines else b""

    def _split(self, run: bytes) -> None:
        *complete, partial = run.split(b"\r\n")
        if complete:
            complete[0] = self._take_partial() + complete[0]
            self._lines.extend([line + b"\r\n" for line in complete] if self._text else self._pieces(complete))
        if partial:
            self._partial.append(partial)
            self._partial_size += len(partial)
        if self._partial_size > self._longest:
            *pieces, last = self._cut(self._take_partial())
            self._lines.extend(pieces)
            self._partial.append(last)
            self._partial_size = len(last)

        # Only a body that was sent with BDAT may end in the middle of a line.
        if self._partial and self._finished and self._last and not self.fault:
            self._lines.append(self._take_partial())

    def _take_partial(self) -> bytes:
        partial = b"".join(self._partial)
        self._partial.clear()
        self._partial_size = 0
        return partial

    # A binary body need not have lines: what exceeds one is cut, or it would have to be held whole.

    def _pieces(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            *pieces, last = self._cut(line)
            yield from pieces
            yield last + b"\r\n"

    def _cut(self, line: bytes) -> list[bytes]:
        return [line[start : start + self._longest] for start in range(0, len(line) or 1, self._longest)]
