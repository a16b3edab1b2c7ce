"""The parameters that MAIL and RCPT carry."""

from collections.abc import Iterator, Mapping
from enum import Enum

from ._errors import LocalProtocolError
from ._grammar import match_keyword


class BodyType(Enum):
    """The BODY parameter of MAIL (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Params(Mapping[str, object]):
    """An immutable mapping from keyword, in any letter case, to value; known keywords have typed properties.

    A keyword without value maps to True, one whose extension is not known to its text (RFC 5321 4.1.1.11).
    Raises `LocalProtocolError` for a malformed keyword.
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

    @property
    def size(self) -> int | None:
        """The octets that the client expects to send (RFC 1870)."""
        value = self._values.get("SIZE")
        return value if isinstance(value, int) else None

    @property
    def body(self) -> BodyType | None:
        """What octets and lines the body consists of (RFC 6152)."""
        value = self._values.get("BODY")
        return value if isinstance(value, BodyType) else None

    @property
    def smtputf8(self) -> bool:
        """Whether addresses and headers may be UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self._values


def _format(value: object) -> str:
    if value is True:
        return ""

    return f"={value.value if isinstance(value, Enum) else value}"


NO_PARAMS = Params()
