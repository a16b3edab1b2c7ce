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

from ._buffer import ReceiveBuffer
from ._config import BareNewlines, Bodies, ClientConfig, Config
from ._replies import Reply

_END = b"\r\n.\r\n"
_EMPTY = b".\r\n"
_BEGINNINGS_OF_END = tuple(_END[:size] for size in range(len(_END) - 1, 0, -1))

_find_dot_or_bare_cr = re.compile(rb"\r(?!\n(?!\.))").search
_find_end_or_bare_cr = re.compile(rb"\r(?!\n(?!\.\r))").search
_find_bare_cr = re.compile(rb"\r(?!\n)").search
_find_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_normalize = re.compile(rb"\r\n?|\n").sub


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


class BodyCheck:
    """Passes on what may be in a body, up to its first `fault`."""

    __slots__ = ("_bare_newlines", "_held", "_line_length", "_max_line", "_room", "_text", "fault")

    def __init__(self, config: Config | ClientConfig, *, binary: bool = False) -> None:
        self._text = not binary
        self._bare_newlines = config.bare_newlines
        self._max_line = config.max_text_line
        self._held = b""
        self._line_length = 0
        # A client has declared its size, and been told whether that is too much.
        self._room = config.max_message_size if isinstance(config, Config) else None
        self.fault: Reply | None = None

    def copy(self) -> "BodyCheck":
        """One that has passed on the same, to try what may come next."""
        other = BodyCheck.__new__(BodyCheck)
        for name in BodyCheck.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def pass_on(self, run: bytes, *, is_paired: bool = False) -> bytes:
        """The part of `run` before the first fault. A CR at its end is held back until the next octet is known.

        `is_paired` tells that in `run` each CR is known to be followed by LF.
        """
        if self.fault:
            return b""

        is_paired = is_paired and not self._held  # of a CR that was held back nothing was known
        run = self._held + run
        self._held = b"\r" if run.endswith(b"\r") else b""
        return self._check(run[:-1] if self._held else run, is_paired=is_paired)

    def finish(self) -> bytes:
        """What was held back, at the end of the body."""
        held, self._held = self._held, b""
        return self._check(held, is_paired=False) if held and not self.fault else b""

    def _check(self, run: bytes, *, is_paired: bool) -> bytes:
        # RFC 3030 section 3: a binary body need not have lines.
        if self._text:
            run = self._check_newlines(run, is_paired=is_paired)
            run = self._check_lines(run)

        return self._check_size(run)

    def _check_newlines(self, run: bytes, *, is_paired: bool) -> bytes:
        if self._bare_newlines is BareNewlines.ACCEPT:
            return run
        if (is_paired or _find_bare_cr(run) is None) and run.count(b"\r") == run.count(b"\n"):
            return run

        if self._bare_newlines is BareNewlines.NORMALIZE:
            return _normalize(b"\r\n", run)

        bare = _find_bare(run)
        assert bare, "the counts differ only if there is one"
        self.fault = Reply(550, "A line of the message ends in a bare CR or LF instead of CR LF", enhanced="5.6.0")
        return run[: bare.start()]

    def _check_lines(self, run: bytes) -> bytes:
        if self._max_line is None:
            return run

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


class LineSplitter:
    """Cuts runs into lines, each with its CR LF; and those of a binary body, which need not have any, into pieces."""

    __slots__ = ("_binary", "_has_bare_newlines", "_longest", "_partial")

    def __init__(self, config: Config, *, binary: bool) -> None:
        self._binary = binary
        self._has_bare_newlines = binary or config.bare_newlines is BareNewlines.ACCEPT
        self._longest = config.max_text_line
        self._partial = bytearray()  # not a list: an octet in an object of its own takes the room of forty

    def split(self, run: bytes) -> list[bytes]:
        """The lines that are complete now."""
        lines = _split_at_crlf(run) if self._has_bare_newlines else run.splitlines(keepends=True)
        if lines and self._partial and lines[0].endswith(b"\r\n"):
            lines[0] = self._take_partial() + lines[0]
        if lines and not lines[-1].endswith(b"\r\n"):
            self._partial += lines.pop()

        return self._cut(lines) if self._binary else lines

    def finish(self) -> list[bytes]:
        """What is left at the end of the body: only one that was sent with BDAT may end in the middle of a line."""
        return [self._take_partial()] if self._partial else []

    def _take_partial(self) -> bytes:
        partial = bytes(self._partial)
        self._partial.clear()
        return partial

    def _cut(self, lines: list[bytes]) -> list[bytes]:
        # Else a line without end would have to be held whole.
        if len(self._partial) > self._longest:
            lines.append(self._take_partial())

        pieces = [piece for line in lines for piece in self._pieces(line)]
        if pieces and not pieces[-1].endswith(b"\r\n"):
            self._partial += pieces.pop()

        return pieces

    def _pieces(self, line: bytes) -> list[bytes]:
        # The CR LF does not count, so that it stays with the end of its line.
        cuts = range(self._longest, len(line.removesuffix(b"\r\n")), self._longest)
        return [line[start:end] for start, end in zip((0, *cuts), (*cuts, len(line)), strict=True)]


def _split_at_crlf(run: bytes) -> list[bytes]:
    *lines, rest = run.split(b"\r\n")
    return [line + b"\r\n" for line in lines] + [rest] * bool(rest)


class Body:
    """A body on its way from the buffer to the program, in the form that the configuration asks for."""

    __slots__ = ("_check", "_framing", "_last", "_splitter", "ended")

    def __init__(self, config: Config, *, binary: bool = False) -> None:
        self._framing: DotFraming | ChunkFraming | PartFraming = DotFraming()
        self._last = True
        self._check = BodyCheck(config, binary=binary)
        self._splitter = LineSplitter(config, binary=binary) if config.bodies is Bodies.LINES else None
        self.ended = False
        """Whether the end of the body, or of its chunk, was found."""

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
        self.ended = False

    @property
    def fault(self) -> Reply | None:
        """The answer to a body that cannot be accepted."""
        return self._check.fault

    def take(self, buffer: ReceiveBuffer) -> list[bytes]:
        """Take the next lines, or the next run: none if there is not enough input, or if the body has `ended`."""
        pieces: list[bytes] = []
        while not pieces and not self.ended:
            run = self._framing.take(buffer)
            self.ended = self._framing.ended
            if not run and not self.ended:
                break

            passed = self._check.pass_on(run, is_paired=self._framing.is_paired)
            if self.ended and self._last:
                passed += self._check.finish()

            pieces = self._split(passed) if self._splitter else [passed] * bool(passed)

        return pieces

    def _split(self, run: bytes) -> list[bytes]:
        assert self._splitter, "bodies are asked for in lines"
        lines = self._splitter.split(run)
        return lines + self._splitter.finish() if self.ended and self._last and not self.fault else lines
