"""Checks of a body: line ends, line lengths, and size."""

import re

from .. import _rules as rules
from .._config import BareNewlines, ClientConfig, Config
from .._rules import Refusal

_find_bare_cr = re.compile(rb"\r(?!\n)").search
_find_bare = re.compile(rb"\r(?!\n)|(?<!\r)\n").search
_MOST_CR = 8
"""Maximum CRs that form one line end with the LF after them. The limit bounds the octets that are held back."""
_normalize = re.compile(rb"\r(?:\r{0,%d}\n)?|\n" % (_MOST_CR - 1)).sub


class BodyCheck:
    """Checks a body block by block, and returns its octets up to the first `fault`."""

    __slots__ = ("_bare_newlines", "_held", "_line_length", "_max_line", "_room", "_text", "fault")

    def __init__(self, config: Config | ClientConfig, *, binary: bool = False, fixed_size: bool = False) -> None:
        self._text = not binary
        self._bare_newlines = BareNewlines.REJECT if fixed_size else config.bare_newlines
        self._max_line = config.max_text_line
        self._held = b""
        self._line_length = 0
        # A client needs no limit here: the server has accepted or refused the SIZE parameter of MAIL.
        self._room = config.max_message_size if isinstance(config, Config) else None
        self.fault: Refusal | None = None

    def continue_from(self, other: "BodyCheck") -> None:
        """Take over the state after the last block of `other`."""
        self._held, self._line_length, self.fault = other._held, other._line_length, other.fault

    def pass_on(self, run: bytes, *, is_paired: bool = False, is_end: bool = False) -> bytes:
        """Return the part of `run` before the first fault.

        CRs at the end of `run` are held back until the next call, unless `is_end` marks the end of the body.
        `is_paired` states that each CR in `run` is followed by LF, so that this need not be checked again.
        """
        if self.fault:
            return b""
        if self._held:
            run = self._held + run
            self._held = b""
            is_paired = False  # the held CR may lack its LF
        if run.endswith(b"\r") and not is_end:
            last = run[-_MOST_CR:]
            self._held = last[len(last.rstrip(b"\r")) :]
            run = run[: -len(self._held)]
        if self._text:  # RFC 3030 section 3: a binary body may have no lines
            run = self._check_lines(self._check_newlines(run, is_paired=is_paired))
        if self._room is not None:
            # RFC 1870 section 5: the size includes every CR LF, but not the dots of dot-stuffing or the end of data.
            if len(run) > self._room:
                self.fault = rules.BODY_TOO_LARGE
                run = run[: self._room]

            self._room -= len(run)

        return run

    def _check_newlines(self, run: bytes, *, is_paired: bool) -> bytes:
        if self._bare_newlines is BareNewlines.ACCEPT:
            return run
        if (is_paired or _find_bare_cr(run) is None) and run.count(b"\r") == run.count(b"\n"):
            return run

        if self._bare_newlines is BareNewlines.NORMALIZE:
            return _normalize(b"\r\n", run)

        bare = _find_bare(run)
        assert bare, "a CR or LF without its partner exists, because the counts differ"
        self.fault = rules.BODY_BARE_NEWLINE
        return run[: bare.start()]

    def _check_lines(self, run: bytes) -> bytes:
        if self._max_line is None:
            return run

        # Each search finds the last line end within the limit, so that many short lines take a single search.
        start = 0
        reach = self._max_line - self._line_length
        while len(run) - start > reach:
            end = run.rfind(b"\r\n", start, start + reach)
            if end < 0:
                self.fault = rules.BODY_LINE_TOO_LONG.fill(octets=self._max_line)
                return run[: start + reach]

            start = end + len(b"\r\n")
            reach = self._max_line

        end = run.rfind(b"\r\n")
        self._line_length = self._line_length + len(run) if end < 0 else len(run) - end - len(b"\r\n")
        return run
