"""What the parameters of MAIL and RCPT can say."""

# Each value's `str` is its form on the wire, and parsing that gives the value back.

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from .._addresses import Mailbox
from .._errors import LocalProtocolError
from .._grammar import ATOM, is_encodable
from ._xtext import decode_unitext, decode_xtext, encode_unitext, encode_xtext

MAX_ENVID = 100  # RFC 3461 4.4
MAX_ORCPT = 500  # RFC 3461 4.2
MAX_BY_TIME = 999_999_999  # RFC 2852 section 4

_match_atom = re.compile(ATOM).fullmatch
_match_printable = re.compile(r"[\t -~]*").fullmatch  # RFC 3461 4.2 and 4.4: graphic and white space

_match_date_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch


class BodyType(Enum):
    """The BODY parameter of MAIL (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARYMIME = "BINARYMIME"
    """Sent with BDAT only (RFC 3030 section 3)."""


class Ret(Enum):
    """The RET parameter of MAIL: what a notification of failure returns (RFC 3461 4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class Notify(Enum):
    """What the NOTIFY parameter of RCPT asks to be told of (RFC 3461 4.1)."""

    NEVER = "NEVER"
    """Stands alone."""
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class EnvelopeId:
    """The ENVID parameter of MAIL, which comes back in notifications (RFC 3461 4.4).

    Raises `LocalProtocolError` for a text that is not xtext, stands for what is not printable, or is too long.
    """

    text: str
    """The identifier as it was sent, in xtext."""

    def __post_init__(self) -> None:
        if not 0 < len(self.text) <= MAX_ENVID or _match_printable(_decode(self.text, decode_xtext)) is None:
            raise LocalProtocolError(f"{self.text!r} is not 1 to {MAX_ENVID} characters of xtext for printable ASCII")

    @classmethod
    def of(cls, value: str) -> "EnvelopeId":
        """The one that stands for `value`."""
        return cls(encode_xtext(value))

    @property
    def value(self) -> str:
        """What the sender wants back, decoded."""
        return decode_xtext(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """The ORCPT parameter of RCPT: the recipient as the sender knew it (RFC 3461 4.2, RFC 6533 section 3).

    Raises `LocalProtocolError` for a text that is not a type, a semicolon and an encoded address.
    """

    text: str
    """The parameter as it was sent; a relay has to pass it on unchanged (RFC 3461 5.2.1 (d))."""

    def __post_init__(self) -> None:
        kind, semicolon, encoded = self.text.partition(";")
        # RFC 3461 4.2: the type is an atom. But RFC 5321 4.1.2 has no "=" in a value.
        is_type = _match_atom(kind) and kind.isascii() and "=" not in kind
        if not semicolon or not is_type or len(self.text) > MAX_ORCPT:
            raise LocalProtocolError(f"{self.text[:100]!r} is not a type of address, a semicolon and an address")

        address = _decode(encoded, decode_unitext if self._is_utf8 else decode_xtext)
        if not (is_encodable(address) if self._is_utf8 else _match_printable(address)):
            raise LocalProtocolError(f"{self.text!r} stands for what is not printable")

    @classmethod
    def of(cls, address_type: str, address: str) -> "OriginalRecipient":
        """The one that stands for `address`, in ASCII, as every server that offers DSN takes it."""
        encode = encode_unitext if address_type.lower() == "utf-8" else encode_xtext
        return cls(f"{address_type};{encode(address)}")

    @property
    def address_type(self) -> str:
        """The type, `rfc822` or `utf-8` for instance, in lower case."""
        return self.text.partition(";")[0].lower()

    @property
    def address(self) -> str:
        """The address, decoded. It need not be a mailbox."""
        encoded = self.text.partition(";")[2]
        return decode_unitext(encoded) if self._is_utf8 else decode_xtext(encoded)

    @property
    def _is_utf8(self) -> bool:
        return self.address_type == "utf-8"

    def __str__(self) -> str:
        return self.text


class ByMode(Enum):
    """What becomes of a message that cannot be delivered in time (RFC 2852 section 4)."""

    NOTIFY = "N"
    """The sender is told, and the message is still tried."""
    RETURN = "R"
    """The message goes back."""


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """The BY parameter of MAIL (RFC 2852 section 4).

    Raises `LocalProtocolError` for more than nine digits, and for `ByMode.RETURN` with a time that is not positive.
    """

    seconds: int
    """From now; negative where the time has passed."""
    mode: ByMode
    """What happens then."""
    trace: bool = False
    """Whether the sender wants to be told of each relay."""

    def __post_init__(self) -> None:
        if abs(self.seconds) > MAX_BY_TIME:
            raise LocalProtocolError(f"{self.seconds} seconds have more than nine digits")
        if self.mode is ByMode.RETURN and self.seconds <= 0:
            raise LocalProtocolError("with mode R the time has to be positive")

    def __str__(self) -> str:
        return f"{self.seconds};{self.mode.value}{'T' if self.trace else ''}"


class NoSupport(Enum):
    """What is done where the next server does not know RRVS (RFC 7293 3.1)."""

    REJECT = "R"
    CONTINUE = "C"


@dataclass(frozen=True, slots=True)
class ValidSince:
    """The RRVS parameter of RCPT: since when the mailbox must have had the same owner (RFC 7293 3.1)."""

    time: datetime
    """In whole seconds, with its offset from UTC."""
    no_support: NoSupport = NoSupport.REJECT
    """What is done where the next server does not know RRVS."""

    def __post_init__(self) -> None:
        format_date_time(self.time)
        if self.time.microsecond:
            raise LocalProtocolError(f"{self.time} has a fraction of a second")

    def __str__(self) -> str:
        return f"{format_date_time(self.time)}{';C' if self.no_support is NoSupport.CONTINUE else ''}"


@dataclass(frozen=True, slots=True)
class Submitter:
    """The AUTH parameter of MAIL: who submitted the message (RFC 4954 section 5). Falsy if that is not known.

    It is a claim: unless the client is authenticated, and trusted to say so, it counts as not known.
    """

    mailbox: Mailbox | None = None
    """None for `<>`."""

    def __bool__(self) -> bool:
        return self.mailbox is not None

    def __str__(self) -> str:
        return encode_xtext(str(self.mailbox)) if self.mailbox else "<>"


# Times, as RFC 3339 writes them


def format_date_time(time: datetime) -> str:
    """`time` on the wire. Raises `LocalProtocolError` if its offset from UTC is not known in whole minutes."""
    text = time.isoformat().replace("+00:00", "Z")
    if _match_date_time(text) is None:
        raise LocalProtocolError(f"{text} does not say how far from UTC it is: give it a tzinfo")

    return text


def parse_date_time(text: str) -> datetime:
    """The time that `text` names. Raises `ValueError`."""
    text = text.upper()
    if _match_date_time(text) is None:
        raise ValueError(f"{text!r} is not a time like 2030-12-31T23:59:59Z")
    if text[17:19] == "60":
        text = f"{text[:17]}59{text[19:]}"  # A leap second has no place in a datetime.

    return datetime.fromisoformat(text)


def _decode(text: str, decode: Callable[[str], str]) -> str:
    try:
        return decode(text)
    except ValueError as exc:
        raise LocalProtocolError(str(exc)) from exc
