"""The parameters that MAIL and RCPT carry: their typed values, and tools for the parameters of your own extensions.

A value checks itself when it is constructed, and its `str` is its form on the wire. `Params.by.parse` parses a BY.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TypeGuard

from ._errors import LocalProtocolError
from ._extensions._auth import AUTH, Submitter
from ._extensions._body import BODY, BodyType
from ._extensions._deliverby import BY, ByMode, DeliverBy
from ._extensions._dsn import ENVID, NOTIFY, ORCPT, RET, EnvelopeId, Notify, OriginalRecipient, Ret
from ._extensions._futurerelease import HOLDFOR, HOLDUNTIL
from ._extensions._mt_priority import MT_PRIORITY
from ._extensions._no_soliciting import SOLICIT
from ._extensions._parsing import format_date_time, number, one_of, parse_date_time, parse_flag
from ._extensions._rrvs import RRVS, NoSupport, ValidSince
from ._extensions._size import SIZE
from ._extensions._xclient import Attributes
from ._fields import check_argument
from ._grammar import is_encodable, match_keyword, match_param_value
from ._xtext import decode_unitext, decode_xtext, encode_unitext, encode_xtext

__all__ = ["Attributes", "BodyType", "ByMode", "DeliverBy", "EnvelopeId", "NoSupport", "Notify", "OriginalRecipient"]
__all__ += ["Params", "Ret", "Submitter", "ValidSince", "decode_unitext", "decode_xtext", "encode_unitext"]
__all__ += ["encode_xtext", "format_date_time", "number", "one_of", "parse_date_time", "parse_flag"]


class Params(Mapping[str, object]):
    """An immutable mapping from keyword, in any letter case, to value, with typed properties for built-in parameters.

    A keyword without value maps to True, and a keyword of an unknown extension to its text (RFC 5321 4.1.1.11). The
    typed properties have the names of the keywords. A property is None if its parameter is absent or has another type.
    For parameters of your own extensions, `Parameter.of` returns the typed value.

    Raises `LocalProtocolError` for a malformed keyword. `str` raises this error for a value that cannot be sent.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        if values.__class__ is not dict:
            check_argument("values", values, Mapping[str, object] | None)
        for keyword in values or ():
            if keyword.__class__ is not str:
                check_argument("values: a keyword", keyword, str)
            if match_keyword(keyword) is None:
                raise LocalProtocolError(f"{keyword!r} is not a parameter keyword: use letters, digits and hyphens")

        self._values = {keyword.upper(): value for keyword, value in values.items()} if values else {}

    def __getitem__(self, keyword: str) -> object:
        return self._values[keyword.upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values))

    def __str__(self) -> str:
        # As written after a path: a space precedes each parameter.
        return "".join(f" {keyword}{_format(value)}" for keyword, value in self._values.items())

    def __repr__(self) -> str:
        return f"Params({self._values!r})"

    def get(self, keyword: str, default: object = None, /) -> object:
        """Return the value of `keyword`, or `default` if the parameter is absent."""
        return self._values.get(keyword.upper(), default)

    # Each `Parameter` is a property that returns its value, or None.

    size = SIZE
    """The octets that the client expects to send (RFC 1870)."""
    body = BODY
    """The octets and lines that the body may contain (RFC 6152)."""
    envid = ENVID
    """The identifier that notifications repeat (RFC 3461)."""
    by = BY
    """The deadline for the delivery of the message (RFC 2852)."""
    holdfor = HOLDFOR
    """The number of seconds to hold the message (RFC 4865)."""
    holduntil = HOLDUNTIL
    """The time until which to hold the message (RFC 4865)."""
    solicit = SOLICIT
    """The classes of solicitation to which the message belongs (RFC 3865)."""
    auth = AUTH
    """The submitter of the message, as the client claims (RFC 4954 section 5)."""
    notify = NOTIFY
    """The events that cause a notification to the sender. None leaves the choice to the server (RFC 3461)."""
    orcpt = ORCPT
    """The recipient as the sender named it (RFC 3461)."""
    rrvs = RRVS
    """The time since which the mailbox must have had the same owner (RFC 7293)."""

    @property
    def smtputf8(self) -> bool:
        """Whether addresses and headers may be UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self._values

    @property
    def requiretls(self) -> bool:
        """Whether the message may only be relayed under TLS, to servers that offer REQUIRETLS (RFC 8689)."""
        return "REQUIRETLS" in self._values

    @property
    def ret(self) -> Ret | None:
        """The part of the message that a notification of failure returns (RFC 3461). `Ret.HDRS` with `requiretls`."""
        return Ret.HDRS if self.requiretls else RET.of(self)  # RFC 8689 section 5

    @property
    def mt_priority(self) -> int:
        """The priority that the client asks for, from -9 to 9, by default 0 (RFC 6710).

        A client that is not authenticated gets at most 0: see `Transaction.priority`.
        """
        return MT_PRIORITY.of(self) or 0 if self._values else 0

    @property
    def is_binary(self) -> bool:
        """Whether the body may contain any octets, and has to be sent with BDAT (RFC 3030 section 3)."""
        return self._values.get(BODY.keyword) is BodyType.BINARYMIME


def _format(value: object) -> str:
    if value is True:
        return ""

    text = _format_value(value)
    if match_param_value(text) is None or not is_encodable(text):
        raise LocalProtocolError(f"{text!r} cannot be sent as a value: use text without spaces, controls and =")

    return f"={text}"


def _format_value(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return format_date_time(value)
    if _is_collection(value):
        texts = map(_format_value, value)
        return ",".join(texts if isinstance(value, tuple) else sorted(texts))

    return str(value)


def _is_collection(value: object) -> TypeGuard[tuple[object, ...] | frozenset[object]]:
    return isinstance(value, tuple | frozenset)


NO_PARAMS = Params()
