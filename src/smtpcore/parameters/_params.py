"""The parameters that MAIL and RCPT carry."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import TypeVar

from .._errors import LocalProtocolError
from .._extensions._auth import AUTH, Submitter
from .._extensions._body import BODY, BodyType
from .._extensions._deliverby import BY, DeliverBy
from .._extensions._dsn import ENVID, NOTIFY, ORCPT, RET, EnvelopeId, Notify, OriginalRecipient, Ret
from .._extensions._futurerelease import HOLDFOR, HOLDUNTIL
from .._extensions._mt_priority import MT_PRIORITY
from .._extensions._no_soliciting import SOLICIT
from .._extensions._parsing import format_date_time
from .._extensions._rrvs import RRVS, ValidSince
from .._extensions._size import SIZE
from .._grammar import is_encodable, match_keyword, match_param_value

_T = TypeVar("_T")


class Params(Mapping[str, object]):
    """An immutable mapping from keyword, in any letter case, to value, with typed properties for built-in parameters.

    A keyword without value maps to True, and one of an unknown extension to its text (RFC 5321 4.1.1.11). The typed
    properties have the names of the keywords. A property is None if its parameter is absent or has another type.
    `Parameter.of` is the typed access to the parameters of your own extensions.

    Raises `LocalProtocolError` for a malformed keyword. `str` raises it for a value that cannot be sent.
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
        # The form after a path, with a space before each parameter.
        return "".join(f" {keyword}{_format(value)}" for keyword, value in self._values.items())

    def __repr__(self) -> str:
        return f"Params({self._values!r})"

    def get(self, keyword: str, default: object = None, /) -> object:
        """Return the value of `keyword`, or `default` if the parameter is absent."""
        return self._values.get(keyword.upper(), default)

    def get_as(self, keyword: str, kind: type[_T]) -> _T | None:
        """Return the value of `keyword` if it is a `kind`, otherwise None."""
        value = self._values.get(keyword.upper())
        return value if isinstance(value, kind) else None

    # MAIL

    @property
    def size(self) -> int | None:
        """The octets that the client expects to send (RFC 1870)."""
        return SIZE.of(self._values)

    @property
    def body(self) -> BodyType | None:
        """The octets and lines that the body may contain (RFC 6152)."""
        return BODY.of(self._values)

    @property
    def smtputf8(self) -> bool:
        """Whether addresses and headers may be UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self._values

    @property
    def ret(self) -> Ret | None:
        """The part of the message that a notification of failure returns (RFC 3461). `Ret.HDRS` with `requiretls`."""
        return Ret.HDRS if self.requiretls else RET.of(self._values)  # RFC 8689 section 5

    @property
    def envid(self) -> EnvelopeId | None:
        """The identifier that notifications repeat (RFC 3461)."""
        return ENVID.of(self._values)

    @property
    def by(self) -> DeliverBy | None:
        """The deadline for the delivery of the message (RFC 2852)."""
        return BY.of(self._values)

    @property
    def holdfor(self) -> int | None:
        """The number of seconds to hold the message (RFC 4865)."""
        return HOLDFOR.of(self._values)

    @property
    def holduntil(self) -> datetime | None:
        """The time until which to hold the message (RFC 4865)."""
        return HOLDUNTIL.of(self._values)

    @property
    def mt_priority(self) -> int:
        """The priority that the client asks for, from -9 to 9, by default 0 (RFC 6710).

        Only trusted clients may be granted more than 0: see `Transaction.priority`.
        """
        return MT_PRIORITY.of(self._values) or 0

    @property
    def requiretls(self) -> bool:
        """Whether the message may only be passed on under TLS, to servers that promise the same (RFC 8689)."""
        return "REQUIRETLS" in self._values

    @property
    def solicit(self) -> tuple[str, ...] | None:
        """The classes of solicitation to which the message belongs (RFC 3865)."""
        return SOLICIT.of(self._values)

    @property
    def auth(self) -> Submitter | None:
        """The submitter of the message, as the client claims (RFC 4954 section 5)."""
        return AUTH.of(self._values)

    # RCPT

    @property
    def notify(self) -> frozenset[Notify] | None:
        """The events that cause a notification. None leaves the choice to the server (RFC 3461)."""
        return NOTIFY.of(self._values)

    @property
    def orcpt(self) -> OriginalRecipient | None:
        """The recipient as the sender named it (RFC 3461)."""
        return ORCPT.of(self._values)

    @property
    def rrvs(self) -> ValidSince | None:
        """The time since which the mailbox must have had the same owner (RFC 7293)."""
        return RRVS.of(self._values)


def _format(value: object) -> str:
    if value is True:
        return ""

    text = _format_value(value)
    if match_param_value(text) is None or not is_encodable(text):
        raise LocalProtocolError(f"{text!r} cannot be sent as a value: use text without spaces, controls and =")

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
