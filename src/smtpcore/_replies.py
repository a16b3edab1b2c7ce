"""Replies: the lines that a server sends in answer to commands."""

# RFC 5321 4.2: a reply is three digits and one or more lines of text. A `Reply` is checked when it is constructed, so
# its text cannot inject further reply lines.

import re
from dataclasses import dataclass, field
from enum import IntEnum

from ._base64 import decode_base64, encode_base64
from ._errors import LocalProtocolError
from ._grammar import find_control, is_encodable
from ._states import Key

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


class ReplyClass(Key):
    """The effect of a reply on the dialogue: given by the first digit (RFC 5321 4.2.1), except for 421 and 521."""

    COMPLETION = 2
    INTERMEDIATE = 3
    TRANSIENT = 4
    PERMANENT = 5
    GOODBYE = 0
    """421 and 521 end the dialogue, whatever command they answer (RFC 5321 4.2.2, RFC 7504 section 3)."""


# RFC 5321 4.2: the first digit is 2 to 5, the second 0 to 5.
_CLASS_OF_CODE = {code: ReplyClass(code // 100) for code in range(200, 600) if code % 100 < 60}
_CLASS_OF_CODE[ReplyCode.SERVICE_NOT_AVAILABLE] = _CLASS_OF_CODE[ReplyCode.HOST_ACCEPTS_NO_MAIL] = ReplyClass.GOODBYE


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Reply:
    """An immutable reply: `Reply(250, "Queued", enhanced="2.0.0")`.

    `code` is a number or a `ReplyCode`. Each of `lines` is one line of text with at most 496 octets. `enhanced` is an
    enhanced status code (RFC 3463). Without `enhanced`, the connection adds a general code where RFC 2034 requires it.
    Raises `LocalProtocolError` for a reply that RFC 5321 4.2 does not allow, such as one with a line break in a line.
    """

    __match_args__ = ("code", "lines", "enhanced")

    code: int
    """The three-digit code. It compares equal to the `ReplyCode` of the same number."""
    lines: tuple[str, ...]
    """The lines of text, at least one."""
    enhanced: str | None
    """The enhanced status code, such as `"5.7.1"` (RFC 3463)."""
    reply_class: ReplyClass = field(compare=False)
    """The effect of this reply on the dialogue."""
    is_positive: bool = field(compare=False)
    """Whether this reply accepts the command: 2yz or 3yz."""
    octets: bytes = field(compare=False)
    """The octets for the wire, CR LF included. Most servers send the same few replies again and again."""

    def __init__(self, code: int, *lines: str, enhanced: str | None = None) -> None:
        reply_class = _CLASS_OF_CODE.get(code)
        if reply_class is None:
            raise LocalProtocolError(f"{code!r} is not a reply code: it should be a number such as 250 or 550")
        if enhanced is not None and not is_enhanced(enhanced, code):
            use = f"use {code // 100}.x.y"
            raise LocalProtocolError(f"enhanced status code {enhanced!r} does not go with {code}: {use}")
        for line in lines:
            if len(line) > MAX_TEXT or not (line.isascii() and line.isprintable()):
                _check_text(line, MAX_CHALLENGE if code == ReplyCode.AUTHENTICATION_CHALLENGE else MAX_TEXT)

        self._set(int(code), lines or ("",), enhanced, reply_class)

    def _set(self, code: int, lines: tuple[str, ...], enhanced: str | None, reply_class: ReplyClass) -> None:
        prefix = f"{enhanced} " if enhanced else ""
        *first, last = lines
        text = "".join([*[f"{code}-{prefix}{line}\r\n" for line in first], f"{code} {prefix}{last}\r\n"])

        assign = object.__setattr__  # a frozen dataclass has no other way to set a field
        assign(self, "code", code)
        assign(self, "lines", lines)
        assign(self, "enhanced", enhanced)
        assign(self, "reply_class", reply_class)
        assign(self, "is_positive", code < 400)
        assign(self, "octets", text.encode())

    @classmethod
    def as_heard(cls, code: int, *lines: str, enhanced: str | None = None) -> "Reply":
        """Make a `Reply` from the code and the text that a server sent.

        For a code that RFC 5321 does not define, the first digit counts (4.2). 521 counts as an ordinary 5yz, because a
        server may continue after it (RFC 7504 section 3). The text is checked. A server must not send such replies.
        """
        reply = cls(code if code in _CLASS_OF_CODE else code // 100 * 100, *lines, enhanced=enhanced)
        if reply.code != code or code == ReplyCode.HOST_ACCEPTS_NO_MAIL:
            reply._set(code, reply.lines, enhanced, ReplyClass(code // 100))

        return reply

    @property
    def challenge(self) -> bytes | None:
        """The decoded challenge of a 334. None for other codes, or if the text is not base64.

        A client that cannot decode a challenge must cancel the authentication (RFC 4954 section 4).
        """
        if self.code != ReplyCode.AUTHENTICATION_CHALLENGE or len(self.lines) != 1:
            return None

        try:
            return decode_base64(self.lines[0].encode())
        except ValueError:
            return None

    def encode(self) -> bytes:
        """Return `octets`. Commands have a method of the same name."""
        return self.octets

    def __str__(self) -> str:
        return self.octets.decode().rstrip("\r\n").replace("\r\n", "\n")

    def __repr__(self) -> str:
        enhanced = f", enhanced={self.enhanced!r}" if self.enhanced else ""
        return f"Reply({self.code}, {', '.join(map(repr, self.lines))}{enhanced})"


def Challenge(data: bytes) -> Reply:  # noqa: N802 - it makes a value, so it is named like a class
    """Return a 334 reply with a SASL challenge (RFC 4954 section 4). Raises `LocalProtocolError` if it is too long."""
    return Reply(ReplyCode.AUTHENTICATION_CHALLENGE, encode_base64(data))


def is_enhanced(text: str, code: int) -> bool:
    """Return whether `text` is an enhanced status code whose class matches `code` (RFC 2034 section 4)."""
    match = _match_enhanced(text)
    # The class is the first digit of the code: 2, 4 or 5. A 3yz therefore has no enhanced status code.
    return match is not None and int(match[1]) == code // 100


def _check_text(line: str, longest: int) -> None:
    # RFC 5321 4.2. The connection checks whether text beyond ASCII may be sent (RFC 6531 3.7.4).
    if (not line.isprintable() and find_control(line)) or not is_encodable(line):
        raise LocalProtocolError(f"reply line {line!r} has control characters: give each line as its own argument")
    if len(line.encode()) > longest:
        raise LocalProtocolError(f"reply line {line[:40]!r}... exceeds {longest} octets: split it into several lines")
