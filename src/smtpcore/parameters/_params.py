"""The parameters that MAIL and RCPT carry."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TypeVar

from .._errors import LocalProtocolError
from .._grammar import is_encodable, match_keyword, match_param_value
from . import BodyType, DeliverBy, EnvelopeId, Notify, OriginalRecipient, Ret, Submitter, ValidSince, format_date_time

_T = TypeVar("_T")


class Params(Mapping[str, object]):
    """An immutable mapping from keyword, in any letter case, to value; known keywords have typed properties.

    A keyword without value maps to True, one whose extension is not known to its text (RFC 5321 4.1.1.11). The typed
    properties bear the keywords' names; each is None if its parameter is absent or of another type.

    Raises `LocalProtocolError` for a malformed keyword, and `str` does for a value that cannot be sent.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        for keyword in values or ():
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
        # As they stand behind a path, with a space before each of them.
        return "".join(f" {keyword}{_format(value)}" for keyword, value in self._values.items())

    def __repr__(self) -> str:
        return f"Params({self._values!r})"

    def get_as(self, keyword: str, kind: type[_T]) -> _T | None:
        """The value of `keyword` if it is a `kind`."""
        value = self._values.get(keyword.upper())
        return value if isinstance(value, kind) else None

    # Of MAIL

    @property
    def size(self) -> int | None:
        """The octets that the client expects to send (RFC 1870)."""
        return self.get_as("SIZE", int)

    @property
    def body(self) -> BodyType | None:
        """What octets and lines the body consists of (RFC 6152)."""
        return self.get_as("BODY", BodyType)

    @property
    def smtputf8(self) -> bool:
        """Whether addresses and headers may be UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self._values

    @property
    def ret(self) -> Ret | None:
        """What a notification of failure shall return (RFC 3461). With `requiretls` it is `Ret.HDRS`, always."""
        return Ret.HDRS if self.requiretls else self.get_as("RET", Ret)  # RFC 8689 section 5

    @property
    def envid(self) -> EnvelopeId | None:
        """What notifications shall say of the message (RFC 3461)."""
        return self.get_as("ENVID", EnvelopeId)

    @property
    def by(self) -> DeliverBy | None:
        """Until when the message shall be delivered (RFC 2852)."""
        return self.get_as("BY", DeliverBy)

    @property
    def holdfor(self) -> int | None:
        """For how many seconds the message shall be held (RFC 4865)."""
        return self.get_as("HOLDFOR", int)

    @property
    def holduntil(self) -> datetime | None:
        """Until when the message shall be held (RFC 4865)."""
        return self.get_as("HOLDUNTIL", datetime)

    @property
    def mt_priority(self) -> int:
        """The priority that the client asks for, from -9 to 9, 0 by default (RFC 6710).

        Only a trusted client may be granted more than 0: see `Transaction.priority`.
        """
        return self.get_as("MT-PRIORITY", int) or 0

    @property
    def requiretls(self) -> bool:
        """Whether the message may be passed on under TLS only, and only to who promises the same (RFC 8689)."""
        return "REQUIRETLS" in self._values

    @property
    def solicit(self) -> tuple[str, ...] | None:
        """The classes of solicitation to which the message belongs (RFC 3865)."""
        return self.get_as("SOLICIT", tuple)

    @property
    def auth(self) -> Submitter | None:
        """Who is said to have submitted the message (RFC 4954 section 5)."""
        return self.get_as("AUTH", Submitter)

    # Of RCPT

    @property
    def notify(self) -> frozenset[Notify] | None:
        """Of what the sender wants to be told; None leaves it to the server (RFC 3461)."""
        return self.get_as("NOTIFY", frozenset)

    @property
    def orcpt(self) -> OriginalRecipient | None:
        """The recipient as the sender knew it (RFC 3461)."""
        return self.get_as("ORCPT", OriginalRecipient)

    @property
    def rrvs(self) -> ValidSince | None:
        """Since when the mailbox must have had the same owner (RFC 7293)."""
        return self.get_as("RRVS", ValidSince)


def _format(value: object) -> str:
    if value is True:
        return ""

    text = _format_value(value)
    if match_param_value(text) is None or not is_encodable(text):
        raise LocalProtocolError(f"{text!r} cannot be sent as a value: it has to be without spaces, controls and =")

    return f"={text}"


def _format_value(value: object) -> str:
    match value:
        case Enum():
            return str(value.value)
        case datetime():
            return format_date_time(value)
        case tuple():
            return ",".join(map(_format_value, value))
        case frozenset():
            return ",".join(sorted(map(_format_value, value)))
        case _:
            return str(value)


NO_PARAMS = Params()
