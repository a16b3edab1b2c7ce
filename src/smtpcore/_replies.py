"""Replies: the lines that a server sends in answer to commands."""

# RFC 5321 4.2: a reply is three digits and one or more lines of text. The code is a decision of the caller, and is
# checked when a `Reply` is made. The text may come from anywhere, such as an exception or another server. So a `Reply`
# can have any text; a connection refuses to send text that SMTP cannot carry, and `fitting` changes such text. Every
# line of `octets` begins with the code, so that no text can look like another reply.

import re
from dataclasses import dataclass, field
from enum import IntEnum

from ._base64 import decode_base64, encode_base64
from ._errors import LocalProtocolError
from ._fields import check_argument
from ._grammar import substitute_controls
from ._states import Key

MAX_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, code and CRLF included
MAX_CHALLENGE = 12_288  # RFC 4954 section 4 (12), for the base64 of a challenge
MAX_TEXT = MAX_REPLY_LINE - len("250-") - len("2.999.999 ") - len("\r\n")

_UTF8_LENGTH = 4  # maximum octets of a character

_NUMBER = "(?:0|[1-9][0-9]{0,2})"  # RFC 3463 section 2: no leading zeros
_split_lines = re.compile(r"\r\n|\r|\n").split
_match_line = re.compile(r"([2-5][0-5][0-9])(?:([ -])(.*))?").fullmatch  # RFC 5321 4.2
_match_enhanced = re.compile(rf"([245])\.{_NUMBER}\.{_NUMBER}").fullmatch  # RFC 2034 section 4


class ReplyCode(IntEnum):
    """The reply codes of RFC 5321, 4954, 3207 and 7504, by name."""

    SYSTEM_STATUS = 211
    """The status of the system, or a reply to HELP."""
    HELP_MESSAGE = 214
    """The reply to HELP."""
    SERVICE_READY = 220
    """The greeting, or the reply to STARTTLS after which the TLS handshake begins."""
    SERVICE_CLOSING = 221
    """The reply to QUIT. The connection is then closed."""
    AUTHENTICATION_SUCCEEDED = 235
    """The client has authenticated (RFC 4954)."""
    OK = 250
    """The command is accepted; after a body, the message is accepted."""
    WILL_FORWARD = 251
    """The recipient is not local, and the server will forward the message."""
    CANNOT_VERIFY = 252
    """VRFY cannot verify the address, but the server will accept messages and try to deliver them."""
    AUTHENTICATION_CHALLENGE = 334
    """A SASL challenge in base64 (RFC 4954)."""
    START_MAIL_INPUT = 354
    """The body may be sent; CRLF.CRLF ends it."""
    SERVICE_NOT_AVAILABLE = 421
    """The server closes the connection. The client may try again later."""
    PASSWORD_TRANSITION_NEEDED = 432
    """The user has to log in with PLAIN once, to transfer the password (RFC 4954)."""
    MAILBOX_BUSY = 450
    """The mailbox is temporarily unavailable, for example locked or greylisted."""
    LOCAL_ERROR = 451
    """The command is aborted after an error of the server."""
    INSUFFICIENT_STORAGE = 452
    """Storage is temporarily insufficient, or there are too many recipients."""
    TEMPORARILY_NOT_SECURED = 454
    """TLS (RFC 3207) or authentication (RFC 4954) is temporarily not available."""
    PARAMETERS_NOT_ACCOMMODATED = 455
    """The server temporarily cannot fulfil the parameters of MAIL or RCPT."""
    SYNTAX_ERROR = 500
    """The verb is unknown, or the line is malformed or too long."""
    ARGUMENT_SYNTAX_ERROR = 501
    """The arguments are malformed."""
    NOT_IMPLEMENTED = 502
    """The verb is known, but not implemented."""
    BAD_SEQUENCE = 503
    """The command is not allowed at this point of the session."""
    PARAMETER_NOT_IMPLEMENTED = 504
    """A parameter is not implemented."""
    HOST_ACCEPTS_NO_MAIL = 521
    """This host never accepts mail (RFC 7504). The connection is then closed."""
    SECURITY_REQUIRED = 530
    """TLS must be started first (RFC 3207), or authentication is required (RFC 4954)."""
    MECHANISM_TOO_WEAK = 534
    """The SASL mechanism is too weak for this user (RFC 4954)."""
    CREDENTIALS_INVALID = 535
    """The credentials are invalid (RFC 4954)."""
    ENCRYPTION_REQUIRED = 538
    """The SASL mechanism needs TLS (RFC 4954)."""
    MAILBOX_UNAVAILABLE = 550
    """The mailbox does not exist, or a policy refuses the command."""
    USER_NOT_LOCAL = 551
    """The recipient is not local; the text names the path to use."""
    STORAGE_EXCEEDED = 552
    """The storage of the mailbox or the maximum size of a message is exceeded."""
    MAILBOX_NAME_NOT_ALLOWED = 553
    """The syntax of the mailbox is not allowed."""
    TRANSACTION_FAILED = 554
    """The message is refused. As a greeting: there is no mail service here."""
    NO_SERVICE = 554
    """Another name of TRANSACTION_FAILED (554), for a greeting."""
    PARAMETERS_NOT_RECOGNIZED = 555
    """A parameter of MAIL or RCPT is unknown."""
    DOMAIN_ACCEPTS_NO_MAIL = 556
    """The domain of the recipient accepts no mail (RFC 7504)."""


class ReplyClass(Key):
    """The effect of a reply on the dialogue: given by the first digit (RFC 5321 4.2.1), except for 421 and 521."""

    COMPLETION = 2
    """2yz: the command is done."""
    INTERMEDIATE = 3
    """3yz: the server waits for more, such as a body or a SASL response."""
    TRANSIENT = 4
    """4yz, except 421: the command is refused, and may succeed later."""
    PERMANENT = 5
    """5yz, except 521: the command is refused, and will fail again."""
    GOODBYE = 0
    """421 and 521 end the dialogue, as the reply to any command (RFC 5321 4.2.2, RFC 7504 section 3)."""


NAMES_HOST = frozenset({ReplyCode.SERVICE_CLOSING, ReplyCode.SERVICE_NOT_AVAILABLE})
"""Codes whose text starts with the name of the host (RFC 5321 4.2)."""

_CHALLENGE = ReplyCode.AUTHENTICATION_CHALLENGE
# RFC 5321 4.2: the first digit is 2 to 5, the second 0 to 5.
_CLASS_OF_CODE = {code: ReplyClass(code // 100) for code in range(200, 600) if code % 100 < 60}
_CLASS_OF_CODE[ReplyCode.SERVICE_NOT_AVAILABLE] = _CLASS_OF_CODE[ReplyCode.HOST_ACCEPTS_NO_MAIL] = ReplyClass.GOODBYE


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Reply:
    """An immutable reply: `Reply(250, "Queued", enhanced="2.0.0")`.

    `code` is a number or a `ReplyCode`. Each of `lines` is one line of text with at most 496 octets. `enhanced` is an
    enhanced status code (RFC 3463), which may also be the first word of the text: `Reply(550, "5.7.1 Denied")`. Without
    this code, the connection adds a general code where RFC 2034 requires one. Raises `LocalProtocolError` for a code
    that RFC 5321 4.2 does not allow, and for an enhanced status code of another class.
    """

    __match_args__ = ("code", "lines", "enhanced")

    code: int
    """The three-digit code, which compares equal to the `ReplyCode` of the same number."""
    lines: tuple[str, ...]
    """The lines of text, at least one."""
    enhanced: str | None
    """The enhanced status code, such as `"5.7.1"` (RFC 3463)."""
    reply_class: ReplyClass = field(compare=False)
    """The effect of this reply on the dialogue."""
    is_positive: bool = field(compare=False)
    """Whether this reply accepts the command: 2yz or 3yz."""
    text_error: str | None = field(compare=False)
    """The reason why a connection cannot send the text, such as a line break; None if the text can be sent."""
    is_relayed: bool = field(compare=False)
    """Whether another server has decided. A refusal then counts for `Config.max_refusals` instead of `max_errors`."""
    octets: bytes = field(compare=False)
    """The octets for the wire, CR LF included. If the text cannot be sent, the octets of `fitting()`."""
    is_complete: bool = field(compare=False)
    """Whether `octets` can answer most commands as they are: ASCII text that can be sent, an enhanced status code where
    RFC 2034 requires one, and no need for the name of the host."""

    def __init__(self, code: int, *lines: str, enhanced: str | None = None, is_relayed: bool = False) -> None:
        reply_class = _CLASS_OF_CODE.get(code)
        if reply_class is None:
            raise LocalProtocolError(f"{code!r} is not a reply code: it should be a number such as 250 or 550")
        if enhanced is not None and enhanced.__class__ is not str:
            check_argument("enhanced", enhanced, str)
        if enhanced is not None and not is_enhanced(enhanced, code):
            use = f"use {code // 100}.x.y"
            raise LocalProtocolError(f"enhanced status code {enhanced!r} does not go with {code}: {use}")

        for line in lines:
            if line.__class__ is not str:
                check_argument("the text of a reply", line, str)
        if is_relayed is not False:
            check_argument("is_relayed", is_relayed, bool)

        lines = lines or ("",)
        texts, status = _take_status(code, lines)
        if enhanced in (None, status):
            lines, enhanced = texts, status
        self._set(int(code), lines, enhanced, reply_class, is_relayed)

    def _set(
        self, code: int, lines: tuple[str, ...], enhanced: str | None, reply_class: ReplyClass, is_relayed: bool = False
    ) -> None:
        longest = MAX_CHALLENGE if code == _CHALLENGE else MAX_TEXT
        fitting, error = lines, None
        if not all(len(line) <= longest and line.isascii() and line.isprintable() for line in lines):
            fitting = _fit(lines, longest)
        if fitting != lines:
            error = f"reply text {lines!s:.99} has control characters, or a line that exceeds {longest} octets"

        prefix = f"{enhanced} " if enhanced else ""
        *first, last = fitting
        text = "".join([*[f"{code}-{prefix}{line}\r\n" for line in first], f"{code} {prefix}{last}\r\n"])

        assign = object.__setattr__  # a frozen dataclass has no other way to set a field
        assign(self, "code", code)
        assign(self, "lines", lines)
        assign(self, "enhanced", enhanced)
        assign(self, "reply_class", reply_class)
        assign(self, "is_positive", code < 400)
        assign(self, "text_error", error)
        assign(self, "is_relayed", is_relayed)
        assign(self, "octets", text.encode())
        has_status = enhanced is not None or reply_class is ReplyClass.INTERMEDIATE
        assign(self, "is_complete", has_status and error is None and code not in NAMES_HOST and text.isascii())

    @classmethod
    def parse(cls, text: str) -> "Reply":
        """Return the reply with the form that it has on the wire: `Reply.parse("550 5.7.1 Not here")`.

        The lines end with LF or CR LF, except the last line, whose line end is optional. Raises `LocalProtocolError` if
        the text is not exactly one reply.
        """
        found = [_match_line(line) for line in _split_lines(text.removesuffix("\n").removesuffix("\r"))]
        lines = [line.groups() for line in found if line]
        *continued, (code, mark, _) = lines or [("", "", "")]
        if len(lines) < len(found) or mark == "-" or any(line[:2] != (code, "-") for line in continued):
            raise LocalProtocolError(f"{text!r:.99} is not a reply: it should look like '550 5.7.1 Not here'")

        return cls(int(code), *(line[2] or "" for line in lines))

    @classmethod
    def as_heard(cls, code: int, *lines: str, may_be_enhanced: bool = True) -> "Reply":
        """Make a `Reply` from the code and the text that a server sent.

        For a code that RFC 5321 does not define, the first digit counts (4.2). 521 counts as an ordinary 5yz, because a
        server may continue after it (RFC 7504 section 3). A server must not send the result: its code may be invalid.
        """
        reply = object.__new__(cls)
        # Other text does not begin like an enhanced status code, so the code is recognized without ENHANCEDSTATUSCODES.
        texts, enhanced = _take_status(code, lines) if may_be_enhanced else (lines, None)
        kind = ReplyClass.GOODBYE if code == ReplyCode.SERVICE_NOT_AVAILABLE else ReplyClass(code // 100)
        # RFC 4954 section 4: a challenge is always a single line.
        reply._set(code, _fit(texts, MAX_CHALLENGE if code == _CHALLENGE else MAX_TEXT), enhanced, kind)
        return reply

    def fitting(self, *, ascii_only: bool = False) -> "Reply":
        """Return a reply with the same code and a text that can be sent.

        Line breaks begin new lines, long lines are continued on further lines, and control characters become "?". With
        `ascii_only`, characters beyond ASCII also become "?" (RFC 6531 3.7.4).
        """
        codec = "ascii" if ascii_only else "utf-8"
        lines = [line.encode(codec, "replace").decode() for line in _fit(self.lines)]
        return Reply(self.code, *lines, enhanced=self.enhanced, is_relayed=self.is_relayed)

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
        """Return `octets`. Raises `LocalProtocolError` if the text cannot be sent."""
        if self.text_error:
            raise LocalProtocolError(self.text_error)

        return self.octets

    def __str__(self) -> str:
        return self.octets.decode().rstrip("\r\n").replace("\r\n", "\n")

    def __repr__(self) -> str:
        enhanced = f", enhanced={self.enhanced!r}" if self.enhanced else ""
        return f"Reply({self.code}, {', '.join(map(repr, self.lines))}{enhanced})"


def Challenge(data: bytes) -> Reply:  # noqa: N802 - it makes a value, so it is named like a class
    """Return a 334 reply with a SASL challenge (RFC 4954 section 4). Raises `LocalProtocolError` if it is too long."""
    reply = Reply(_CHALLENGE, encode_base64(data))
    reply.encode()
    return reply


def is_enhanced(text: str, code: int) -> bool:
    """Return whether `text` is an enhanced status code whose class matches `code` (RFC 2034 section 4)."""
    match = _match_enhanced(text)
    # The class is the first digit of the code: 2, 4 or 5. A 3yz therefore has no enhanced status code.
    return match is not None and int(match[1]) == code // 100


def _take_status(code: int, texts: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Return the texts without the enhanced status code at their beginning, and the code, or None without a code."""
    status = texts[0].partition(" ")[0]
    if status[1:2] != "." or not is_enhanced(status, code):
        return texts, None

    return tuple(_without(status, text) for text in texts), status


def _without(status: str, text: str) -> str:
    prefix, start = f"{status} ", 0
    while text.startswith(prefix, start):
        start += len(prefix)
    return "" if text[start:] == status else text[start:]


def _fit(texts: tuple[str, ...], longest: int = MAX_TEXT) -> tuple[str, ...]:
    """Return the texts as lines that can be sent (RFC 5321 4.2): without controls, of at most `longest` octets."""
    lines: list[str] = []
    for text in texts:
        for part in _split_lines(text):
            line = substitute_controls("?", part.encode(errors="replace").decode())
            fits = len(line.encode()) <= longest
            size = len(line) if fits else longest if line.isascii() else longest // _UTF8_LENGTH
            lines += [line[start : start + size] for start in range(0, len(line), size or 1)] or [""]
    return tuple(lines)
