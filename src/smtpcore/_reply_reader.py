"""Parse the octets from a server into replies."""

# RFC 5321 4.2.1: in a reply of several lines all lines have the same code, and all but the last have a hyphen after the
# code. Only the code has a meaning. The text is for people, and servers send any text. So the form is checked strictly,
# and the text is accepted in every form: an octet that is not UTF-8 becomes U+FFFD, a control character becomes "?",
# and text that is too long for one line of `Reply` continues on another line. So every received reply can also be
# passed on.
#
# A peer that speaks another protocol is detected at its first line, or as soon as that line is too long.

import re
from collections.abc import Sequence

from ._buffer import LineError, LineFault, ReceiveBuffer
from ._config import ClientConfig
from ._errors import RemoteProtocolError
from ._replies import MAX_TEXT, Reply, ReplyCode, is_enhanced

_match_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab counts as white space
_UTF8_LENGTH = 4  # maximum octets of a character

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

            # RFC 5321 4.2: a code out of range is fatal. Servers may leave out the text, and even the space before it.
            found = _match_line(line)
            if found is None:
                raise RemoteProtocolError(f"this is not SMTP: {line[:80]!r} is not a reply line")

            code, separator, text = found.groups(b"")
            if self._texts and code != self._code:
                raise RemoteProtocolError(f"a reply changes its code from {self._code.decode()} to {code.decode()}")
            if len(self._texts) == self._max_lines:
                raise RemoteProtocolError(f"a reply has more than {self._max_lines} lines")

            self._code = code
            self._texts.append(_CONTROL.sub("?", text.decode(errors="replace")))
            if separator != b"-":
                texts, self._texts = self._texts, []
                return int(code), texts


def make_reply(code: int, texts: Sequence[str], *, may_be_enhanced: bool) -> Reply:
    """Return the reply with this code and these text lines.

    If the first line begins with an enhanced status code of the same class, this code becomes `enhanced`, and is
    removed from each line that begins with it. The server need not announce ENHANCEDSTATUSCODES, because ordinary text
    does not begin like this.
    """
    first_word = texts[0].partition(" ")[0]
    enhanced = first_word if may_be_enhanced and is_enhanced(first_word, code) else None
    # RFC 4954 section 4: a challenge is always a single line, whatever its length.
    may_fold = code != ReplyCode.AUTHENTICATION_CHALLENGE
    lines: list[str] = []
    for text in texts:
        word, _, rest = text.partition(" ")
        line = rest if word == enhanced else text
        if may_fold and len(line.encode()) > MAX_TEXT:
            longest = MAX_TEXT if line.isascii() else MAX_TEXT // _UTF8_LENGTH
            lines += [line[start : start + longest] for start in range(0, len(line), longest)]
        else:
            lines.append(line)

    return Reply.as_heard(code, *lines, enhanced=enhanced)
