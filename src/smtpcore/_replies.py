"""Replies: the lines that a server sends in answer to commands."""

# RFC 5321 4.2: a reply is three digits and one or more lines of text. A `Reply` is checked when it is constructed, so
# its text cannot inject further reply lines, and `encode` needs no checks.

import re
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

from ._base64 import decode_base64, encode_base64
from ._errors import LocalProtocolError
from ._grammar import find_control, is_encodable

MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, code and CRLF included
MAX_CHALLENGE = 12_288  # RFC 4954 section 4 (12), for the base64 of a challenge
MAX_TEXT = MAX_REPLY_LINE - len("250-") - len("2.999.999 ") - len("\r\n")

_NUMBER = "(?:0|[1-9][0-9]{0,2})"  # RFC 3463 section 2: no leading zeros
_match_enhanced = re.compile(rf"([245])\.{_NUMBER}\.{_NUMBER}").fullmatch  # RFC 2034 section 4


class ReplyCode(IntEnum):
    """The reply codes of RFC 5321, 4954, 3207 and 7504, by name."""

    SYSTEM_STATUS = 211
    HELP_MESSAGE = 214
    SERVICE_READY = 220
    SERVICE_CLOSING = 221
    AUTHENTICATION_SUCCEEDED = 235
    OK = 250
    WILL_FORWARD = 251
    CANNOT_VERIFY = 252
    AUTHENTICATION_CHALLENGE = 334
    START_MAIL_INPUT = 354
    SERVICE_NOT_AVAILABLE = 421
    PASSWORD_TRANSITION_NEEDED = 432
    MAILBOX_BUSY = 450
    LOCAL_ERROR = 451
    INSUFFICIENT_STORAGE = 452
    TEMPORARILY_NOT_SECURED = 454
    """TLS (RFC 3207) or authentication (RFC 4954) is temporarily not available."""
    PARAMETERS_NOT_ACCOMMODATED = 455
    SYNTAX_ERROR = 500
    ARGUMENT_SYNTAX_ERROR = 501
    NOT_IMPLEMENTED = 502
    BAD_SEQUENCE = 503
    PARAMETER_NOT_IMPLEMENTED = 504
    HOST_ACCEPTS_NO_MAIL = 521
    SECURITY_REQUIRED = 530
    """TLS must be started first (RFC 3207), or authentication is required (RFC 4954)."""
    MECHANISM_TOO_WEAK = 534
    CREDENTIALS_INVALID = 535
    ENCRYPTION_REQUIRED = 538
    MAILBOX_UNAVAILABLE = 550
    USER_NOT_LOCAL = 551
    STORAGE_EXCEEDED = 552
    MAILBOX_NAME_NOT_ALLOWED = 553
    TRANSACTION_FAILED = 554
    NO_SERVICE = 554
    """The same number as TRANSACTION_FAILED. As a greeting it means that there is no mail service here."""
    PARAMETERS_NOT_RECOGNIZED = 555
    DOMAIN_ACCEPTS_NO_MAIL = 556


class ReplyClass(Enum):
    """The effect of a reply on the dialogue: given by the first digit (RFC 5321 4.2.1), except for 421 and 521."""

    if not TYPE_CHECKING:  # pragma: no branch - no annotation fits for type checkers
        __hash__ = object.__hash__  # faster than Enum's own, and each reply is looked up in several tables

    COMPLETION = 2
    INTERMEDIATE = 3
    TRANSIENT = 4
    PERMANENT = 5
    GOODBYE = 0
    """421 and 521 end the dialogue, whatever command they answer (RFC 5321 4.2.2, RFC 7504 section 3)."""


_GOODBYES = (ReplyCode.SERVICE_NOT_AVAILABLE, ReplyCode.HOST_ACCEPTS_NO_MAIL)
# RFC 5321 4.2: the first digit is 2 to 5, the second 0 to 5.
_CLASS_OF_CODE = {
    code: ReplyClass.GOODBYE if code in _GOODBYES else ReplyClass(code // 100)
    for code in range(200, 600)
    if code % 100 < 60
}


class Reply:
    """An immutable reply: `Reply(250, "Queued", enhanced="2.0.0")`.

    `code` is a number or a `ReplyCode`. Each of `lines` is one line of text with at most 496 octets. `enhanced` is an
    enhanced status code (RFC 3463). Without `enhanced`, the connection adds a general one where RFC 2034 requires it.
    Raises `LocalProtocolError` for a reply that RFC 5321 4.2 does not allow, such as one with a line break in a line.
    """

    __slots__ = ("_code", "_encoded", "_enhanced", "_lines", "_reply_class")
    __match_args__ = ("code", "lines", "enhanced")

    def __init__(self, code: int, *lines: str, enhanced: str | None = None) -> None:
        _check_code(code, enhanced)
        for line in lines:
            _check_text(line, MAX_CHALLENGE if code == ReplyCode.AUTHENTICATION_CHALLENGE else MAX_TEXT)

        self._code = int(code)
        self._lines = lines or ("",)
        self._enhanced = enhanced
        self._reply_class = _CLASS_OF_CODE[self._code]
        self._encoded: bytes | None = None

    @classmethod
    def as_heard(cls, code: int, *lines: str, enhanced: str | None = None) -> "Reply":
        """Make a reply from one that a server sent: the first digit of any code from 200 to 599 counts (RFC 5321 4.2).

        521 is treated in the same way, since a server may continue or close after it (RFC 7504 section 3). The text is
        checked as for any other reply. `Connection.send` refuses a code that RFC 5321 does not define.
        """
        reply = cls(code if code in _CLASS_OF_CODE else code // 100 * 100, *lines, enhanced=enhanced)
        reply._code = code
        if code == ReplyCode.HOST_ACCEPTS_NO_MAIL:
            reply._reply_class = ReplyClass.PERMANENT

        return reply

    @property
    def code(self) -> int:
        """The three-digit code. It compares equal to the `ReplyCode` of the same number."""
        return self._code

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of text, at least one."""
        return self._lines

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code, such as `"5.7.1"` (RFC 3463)."""
        return self._enhanced

    @property
    def reply_class(self) -> ReplyClass:
        """The effect of this reply on the dialogue."""
        return self._reply_class

    @property
    def is_positive(self) -> bool:
        """Whether this reply accepts the command: 2yz or 3yz."""
        return self._code < 400

    @property
    def challenge(self) -> bytes | None:
        """The decoded challenge of a 334. None for other codes, or if the text is not base64.

        A client that cannot decode a challenge must cancel the authentication (RFC 4954 section 4).
        """
        if self._code != ReplyCode.AUTHENTICATION_CHALLENGE or len(self._lines) != 1:
            return None

        try:
            return decode_base64(self._lines[0].encode())
        except ValueError:
            return None

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included."""
        if self._encoded is None:  # most servers send the same few replies again and again
            prefix = f"{self._enhanced} " if self._enhanced else ""
            *first, last = self._lines
            lines = [f"{self._code}-{prefix}{line}\r\n" for line in first]
            self._encoded = "".join([*lines, f"{self._code} {prefix}{last}\r\n"]).encode()

        return self._encoded

    def __str__(self) -> str:
        return self.encode().decode().rstrip("\r\n").replace("\r\n", "\n")

    def __repr__(self) -> str:
        enhanced = f", enhanced={self._enhanced!r}" if self._enhanced else ""
        return f"Reply({self._code}, {', '.join(map(repr, self._lines))}{enhanced})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reply):
            return NotImplemented

        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, tuple[str, ...], str | None]:
        return (self._code, self._lines, self._enhanced)


def Challenge(data: bytes) -> Reply:  # noqa: N802 - it makes a value, so it is named like a class
    """Return a 334 reply with a SASL challenge (RFC 4954 section 4). Raises `LocalProtocolError` if it is too long."""
    return Reply(ReplyCode.AUTHENTICATION_CHALLENGE, encode_base64(data))


def is_enhanced(text: str, code: int) -> bool:
    """Return whether `text` is an enhanced status code whose class matches `code` (RFC 2034 section 4)."""
    match = _match_enhanced(text)
    # The class is the first digit of the code: 2, 4 or 5. A 3yz therefore has no enhanced status code.
    return match is not None and int(match[1]) == code // 100


def _check_code(code: int, enhanced: str | None) -> None:
    if code not in _CLASS_OF_CODE:
        raise LocalProtocolError(f"{code!r} is not a reply code: it should be a number such as 250 or 550")
    if enhanced is None:
        return

    if not is_enhanced(enhanced, code):
        raise LocalProtocolError(f"enhanced status code {enhanced!r} does not go with {code}: use {code // 100}.x.y")


def _check_text(line: str, longest: int) -> None:
    # RFC 5321 4.2. The connection checks whether text beyond ASCII may be sent (RFC 6531 3.7.4).
    if (not line.isprintable() and find_control(line)) or not is_encodable(line):
        raise LocalProtocolError(f"reply line {line!r} has control characters: give each line as its own argument")
    if len(line) * 4 > longest and len(line.encode()) > longest:
        raise LocalProtocolError(f"reply line {line[:40]!r}... exceeds {longest} octets: split it into several lines")
