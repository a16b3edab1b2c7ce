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


class BodyCheck:
    """Passes on what may be in a body, up to its first `fault`."""

    __slots__ = ("_bare_newlines", "_line_length", "_max_line", "_room", "fault")

    def __init__(self, config: Config) -> None:
        self._bare_newlines = config.bare_newlines
        self._max_line = config.max_text_line
        self._line_length = 0
        self._room = config.max_message_size
        self.fault: Reply | None = None

    def pass_on(self, run: bytes) -> bytes:
        """The part of `run` before the first fault. No run ends between CR and LF, or behind a CR at all."""
        if self.fault:
            return b""

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

    __slots__ = ("_check", "_framing", "_lines", "_partial", "_splits")

    def __init__(self, config: Config) -> None:
        self._framing = DotFraming()
        self._check = BodyCheck(config)
        self._splits = config.bodies is Bodies.LINES
        self._lines: deque[bytes] = deque()
        self._partial: list[bytes] = []

    @property
    def ended(self) -> bool:
        """Whether the end was found and everything before it handed out."""
        return self._framing.ended and not self._lines

    @property
    def fault(self) -> Reply | None:
        """The answer to a body that cannot be accepted."""
        return self._check.fault

    def take(self, buffer: ReceiveBuffer) -> bytes:
        """Take the next line or run, which is empty if there is not enough input or the body has `ended`."""
        while not self._lines and not self._framing.ended:
            run = self._framing.take(buffer)
            if not run:
                break

            passed = self._check.pass_on(run)
            if self._splits:
                self._split(passed)
            elif passed:
                return passed

        return self._lines.popleft() if self._lines else b""

    def _split(self, run: bytes) -> None:
        *complete, partial = run.split(b"\r\n")
        if complete:
            complete[0] = b"".join((*self._partial, complete[0]))
            self._partial.clear()
            self._lines.extend([line + b"\r\n" for line in complete])

        if partial:
            self._partial.append(partial)
