"""Parse the octets from a server into replies."""

# RFC 5321 4.2.1: in a reply of several lines all lines have the same code, and all but the last have a hyphen after the
# code. Only the code has a meaning. The text is for people, and servers send any text. So codes and hyphens are checked
# strictly, and any text is accepted: an octet that is not UTF-8 becomes U+FFFD, a control character becomes "?", and
# text that is too long for one line of `Reply` continues on another line. So every received reply can also be passed
# on.
#
# A peer that speaks another protocol is detected at its first line, or as soon as that line is too long.

import re
from collections.abc import Sequence

from ._buffer import LineError, LineFault, ReceiveBuffer
from ._config import ClientConfig
from ._errors import RemoteProtocolError
from ._grammar import substitute_controls

_match_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch

_FAULTS = {LineFault.TOO_LONG: "is too long", LineFault.BARE_NEWLINE: "has a bare CR or LF"}


class ReplyReader:
    """Takes reply lines from a buffer, checks them, and collects them into replies."""

    __slots__ = ("_code", "_max_line", "_max_lines", "_texts")

    def __init__(self, config: ClientConfig) -> None:
        self._max_line = config.max_reply_line
        self._max_lines = config.max_reply_lines
        self._code = b""
        self._texts: list[str] = []

    @property
    def is_amid(self) -> bool:
        """Whether the first lines of a reply were taken, but not its last line."""
        return bool(self._texts)

    def take(self, buffer: ReceiveBuffer, *, least_limit: int = 0) -> tuple[int, Sequence[str]] | None:
        """Take the code and the text lines of the next reply, or return None while no reply is complete.

        A line may have up to `least_limit` octets even if the configured limit is lower.
        Raises `RemoteProtocolError` if the octets are not a reply.
        """
        limit = max(self._max_line, least_limit)
        while True:
            try:
                line = buffer.take_line(limit)
            except LineError as exc:
                raise RemoteProtocolError(f"a line of a reply {_FAULTS[exc.fault]}: {exc.line[:80]!r}") from None

            if line is None:
                return None

            # RFC 5321 4.2: a code out of range is fatal. Servers may leave out the text and the space before it.
            found = _match_line(line)
            if found is None:
                raise RemoteProtocolError(f"this is not SMTP: {line[:80]!r} is not a reply line")

            code, separator, text = found.groups(b"")
            if self._texts and code != self._code:
                raise RemoteProtocolError(f"a reply changes its code from {self._code.decode()} to {code.decode()}")
            if len(self._texts) == self._max_lines:
                raise RemoteProtocolError(f"a reply has more than {self._max_lines} lines")

            self._code = code
            self._texts.append(substitute_controls("?", text.decode(errors="replace")))
            if separator != b"-":
                texts, self._texts = self._texts, []
                return int(code), texts
