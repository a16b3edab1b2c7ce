"""DSN: delivery status notifications (RFC 3461)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .._errors import LocalProtocolError
from .._fields import check_fields
from .._grammar import is_encodable, match_atom
from .._replies import Reply
from .._xtext import decode_carried, decode_unitext, decode_xtext, encode_unitext, encode_xtext
from ._definition import Extension, NextHop, Parameter, relay_or_drop
from ._parsing import one_of, parse_nothing

MAX_ENVID = 100  # RFC 3461 4.4
MAX_ORCPT = 500  # RFC 3461 4.2

_match_printable = re.compile(r"[\t -~]*").fullmatch  # RFC 3461 4.2 and 4.4: graphic and white space characters


class Ret(Enum):
    """The RET parameter of MAIL: the part of the message that a notification of failure returns (RFC 3461 4.3)."""

    FULL = "FULL"
    """The whole message."""
    HDRS = "HDRS"
    """Only the header."""


class Notify(Enum):
    """A value of the NOTIFY parameter of RCPT: an event to notify the sender of (RFC 3461 4.1)."""

    NEVER = "NEVER"
    """No notification at all. This value excludes the other values."""
    SUCCESS = "SUCCESS"
    """The message was delivered."""
    FAILURE = "FAILURE"
    """The delivery failed."""
    DELAY = "DELAY"
    """The delivery is delayed."""


@dataclass(frozen=True, slots=True)
class EnvelopeId:
    """The ENVID parameter of MAIL, which notifications repeat (RFC 3461 4.4).

    Raises `LocalProtocolError` for a text that is not xtext, encodes control characters, or is too long.
    """

    text: str
    """The identifier as it was sent, in xtext."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not 0 < len(self.text) <= MAX_ENVID:
            raise LocalProtocolError(f"{self.text!r} is not 1 to {MAX_ENVID} characters")

        _decode(self.text, decode_carried)

    @classmethod
    def of(cls, value: str) -> "EnvelopeId":
        """Return the identifier that encodes `value`. Raises `LocalProtocolError` unless `value` is printable ASCII."""
        return cls.parse(encode_xtext(value))

    @classmethod
    def parse(cls, text: str) -> "EnvelopeId":
        """Return the identifier in a parameter. Raises `LocalProtocolError` unless it encodes printable ASCII."""
        if _match_printable(_decode(text, decode_xtext)) is None:
            raise LocalProtocolError(f"{text!r} is not xtext for printable ASCII")

        return cls(text)

    @property
    def value(self) -> str:
        """The identifier, decoded."""
        return decode_carried(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class OriginalRecipient:
    """The ORCPT parameter of RCPT: the recipient as the sender named it (RFC 3461 4.2, RFC 6533 section 3).

    Raises `LocalProtocolError` for a text that is not an address type, a semicolon and an encoded address. The address
    may be any text without control characters, because a relay only passes it on.
    """

    text: str
    """The parameter as it was sent, which a relay has to pass on unchanged (RFC 3461 5.2.1 (d))."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        kind, semicolon, encoded = self.text.partition(";")
        # RFC 3461 4.2: the type is an atom. But RFC 5321 4.1.2 allows no "=" in a value.
        is_type = match_atom(kind) and kind.isascii() and "=" not in kind
        if not semicolon or not is_type or len(self.text) > MAX_ORCPT:
            raise LocalProtocolError(f"{self.text[:100]!r} is not an address type, a semicolon and an address")

        _decode(encoded, self._decode)

    @classmethod
    def of(cls, address_type: str, address: str) -> "OriginalRecipient":
        """Return the value that encodes `address`, in ASCII, which every server with DSN accepts."""
        encode = encode_unitext if address_type.lower() == "utf-8" else encode_xtext
        return cls.parse(f"{address_type};{encode(address)}")

    @classmethod
    def parse(cls, text: str) -> "OriginalRecipient":
        """Return the value in a parameter. Raises `LocalProtocolError` unless the encoding fits the address type."""
        recipient = cls(text)
        encoded = text.partition(";")[2]
        address = _decode(encoded, decode_unitext if recipient._is_utf8 else decode_xtext)
        if not (is_encodable(address) if recipient._is_utf8 else _match_printable(address)):
            raise LocalProtocolError(f"{text!r} encodes unprintable characters")

        return recipient

    @property
    def address_type(self) -> str:
        """The address type in lower case, for instance `rfc822` or `utf-8`."""
        return self.text.partition(";")[0].lower()

    @property
    def address(self) -> str:
        """The address, decoded. Not every address is a mailbox."""
        return self._decode(self.text.partition(";")[2])

    def _decode(self, encoded: str) -> str:
        if not self._is_utf8:
            return decode_carried(encoded)
        if encoded and "\\" not in encoded and encoded.isascii():
            return decode_carried(encoded)  # some senders use xtext for this type too

        return decode_unitext(encoded)

    @property
    def _is_utf8(self) -> bool:
        return self.address_type == "utf-8"

    def __str__(self) -> str:
        return self.text


def _decode(text: str, decode: Callable[[str], str]) -> str:
    try:
        return decode(text)
    except ValueError as exc:
        raise LocalProtocolError(str(exc)) from exc


_parse_event = one_of(Notify)


def _parse_notify(text: str) -> frozenset[Notify]:
    wanted = frozenset(map(_parse_event, text.split(",")))
    if Notify.NEVER in wanted and len(wanted) > 1:
        raise ValueError("the value NEVER excludes all others")

    return wanted


def _relay_notify(notify: frozenset[Notify], hop: NextHop) -> frozenset[Notify] | Reply | None:
    if "DSN" in hop.offers:
        return notify
    if Notify.SUCCESS in notify:
        # RFC 3461 5.2.2 (b): without this value a relay has to send a "relayed" notification, so RCPT is refused.
        return Reply(554, "The next server does not notify of success", enhanced="5.3.3")

    return None


_drop = relay_or_drop("DSN")  # RFC 3461 5.2.2 (a)
# RFC 3461 5.4: ENVID has up to 100 characters, ORCPT up to 500.
RET = Parameter("RET", Ret, one_of(Ret), octets=9, relay=_drop, examples=tuple(Ret))
_IDS = (EnvelopeId("QQ314159"), EnvelopeId.of("a+b = c"))
ENVID = Parameter("ENVID", EnvelopeId, EnvelopeId.parse, octets=107, relay=_drop, carry=EnvelopeId, examples=_IDS)
NOTIFY = Parameter[frozenset[Notify]](
    "NOTIFY",
    frozenset,
    _parse_notify,
    octets=29,
    relay=_relay_notify,
    examples=(frozenset({Notify.NEVER}), frozenset({Notify.FAILURE}), frozenset(Notify) - {Notify.NEVER}),
)
ORCPT = Parameter(
    "ORCPT",
    OriginalRecipient,
    OriginalRecipient.parse,
    octets=507,
    relay=_drop,
    carry=OriginalRecipient,
    examples=(OriginalRecipient.of("rfc822", "a+b@example.com"), OriginalRecipient.of("utf-8", "\u00e9@example.com")),
)

EXTENSION: Extension = Extension(keyword="DSN", parse_arguments=parse_nothing, mail=(RET, ENVID), rcpt=(NOTIFY, ORCPT))
