"""Turn the octets of a server into replies."""

# RFC 5321 4.2.1: a reply is a line, or several of which all but the last have a hyphen behind the code, and all have
# the same code. What it says is in the code; the text is for people, and servers put anything there. So the form is
# taken strictly and the text as it comes: an octet that is no UTF-8 becomes U+FFFD, a control character "?", and what
# does not fit into a line of `Reply` goes on in a further one. Nothing a server says makes a `Reply` that could not be
# passed on.
#
# Whoever speaks another protocol is found out at its first line, or at the first octets that are too many for one.

import re
from collections.abc import Iterable, Iterator, Sequence

from ._buffer import LineError, LineFault, ReceiveBuffer
from ._config import ClientConfig
from ._errors import RemoteProtocolError
from ._replies import MAX_TEXT, Reply, ReplyCode, is_enhanced

_match_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab is white space
_UTF8_LENGTH = 4  # octets of a character at most

_FAULTS = {
    LineFault.TOO_LONG: "a line of a reply is too long",
    LineFault.BARE_NEWLINE: "a line of a reply has a bare CR or LF",
}


class ReplyReader:
    """Takes replies out of a buffer, whose lines it checks and collects."""

    __slots__ = ("_code", "_max_line", "_max_lines", "_texts")

    def __init__(self, config: ClientConfig) -> None:
        self._max_line = config.max_reply_line
        self._max_lines = config.max_reply_lines
        self._code = b""
        self._texts: list[str] = []

    @property
    def is_amid(self) -> bool:
        """Whether some lines of a reply were taken, but not its last."""
        return bool(self._texts)

    def take(self, buffer: ReceiveBuffer, *, least_limit: int = 0) -> tuple[int, Sequence[str]] | None:
        """Take the code and the texts of the next reply, or None as long as there is none.

        A line may have `least_limit` octets even where the configuration allows for fewer.
        Raises `RemoteProtocolError` for what is no reply.
        """
        while (line := self._take_line(buffer, max(self._max_line, least_limit))) is not None:
            if self._add(line):
                texts, self._texts = self._texts, []
                return int(self._code), texts

        return None

    @staticmethod
    def _take_line(buffer: ReceiveBuffer, limit: int) -> bytes | None:
        try:
            return buffer.take_line(limit)
        except LineError as exc:
            raise RemoteProtocolError(f"{_FAULTS[exc.fault]}: {exc.line[:80]!r}") from None

    def _add(self, line: bytes) -> bool:
        # RFC 5321 4.2: a code that is out of range is fatal; servers may leave out the text, and even the space.
        found = _match_line(line)
        if found is None:
            raise RemoteProtocolError(f"this is not SMTP: {line[:80]!r} is no line of a reply")

        code, separator, text = found.groups(b"")
        if self._texts and code != self._code:
            raise RemoteProtocolError(f"a reply changes its code from {self._code.decode()} to {code.decode()}")
        if len(self._texts) == self._max_lines:
            raise RemoteProtocolError(f"a reply has more than {self._max_lines} lines")

        self._code = code
        self._texts.append(_CONTROL.sub("?", text.decode(errors="replace")))
        return separator != b"-"


def make_reply(code: int, texts: Sequence[str], *, may_be_enhanced: bool) -> Reply:
    """The reply with this code and these texts.

    Where the first text begins with an enhanced status code whose class is that of the code, the reply has it, whether
    the server has announced that or not: no sentence begins so. It is removed from all texts that begin with it.
    """
    enhanced = texts[0].partition(" ")[0] if may_be_enhanced else ""
    if not is_enhanced(enhanced, code):
        return Reply.as_heard(code, *_fold(code, texts))

    return Reply.as_heard(code, *_fold(code, [_without(enhanced, text) for text in texts]), enhanced=enhanced)


def _without(enhanced: str, text: str) -> str:
    word, _, rest = text.partition(" ")
    return rest if word == enhanced else text


def _fold(code: int, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        # RFC 4954 section 4: a challenge is one line, however long.
        if len(text.encode()) <= MAX_TEXT or code == ReplyCode.AUTHENTICATION_CHALLENGE:
            yield text
            continue

        longest = MAX_TEXT if text.isascii() else MAX_TEXT // _UTF8_LENGTH
        yield from (text[start : start + longest] for start in range(0, len(text), longest))
