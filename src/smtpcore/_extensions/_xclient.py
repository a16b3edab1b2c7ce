"""XCLIENT: a trusted proxy names the client that it acts for (Postfix XCLIENT_README)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from .._errors import LocalProtocolError
from .._fields import check_argument, check_fields
from .._grammar import find_control, is_domain, is_encodable, match_number
from .._replies import Reply
from .._states import State
from .._xtext import decode_xtext, encode_xtext
from ._definition import Extension, ExtensionCommand

_UNAVAILABLE = "[UNAVAILABLE]"
_UNKNOWN = frozenset({_UNAVAILABLE, "[TEMPUNAVAIL]"})


class Attributes(Mapping[str, str | None]):
    """The attributes of XCLIENT or XFORWARD: an immutable mapping from upper-case name to decoded value.

    None means that the peer does not know the value. Raises `LocalProtocolError` for a value that cannot be sent.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str | None]) -> None:
        check_argument("values", values, Mapping[str, object])
        for name, value in values.items():
            check_argument(name, value, str | None)
            # The words in `_UNKNOWN` mean an unknown value, so they cannot be values.
            if value is not None and (not is_encodable(value) or find_control(value) or value.upper() in _UNKNOWN):
                raise LocalProtocolError(f"{value!r} cannot be the value of {name}: use text without controls")

        self._values = dict(values)

    def __getitem__(self, name: str) -> str | None:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __str__(self) -> str:
        return " ".join(
            f"{name}={_UNAVAILABLE if value is None else encode_xtext(value)}" for name, value in self._values.items()
        )

    def __repr__(self) -> str:
        return f"Attributes({self._values!r})"


@dataclass(frozen=True, slots=True)
class AttributesCommand(ExtensionCommand):
    """Base class of XCLIENT and XFORWARD."""

    states: ClassVar[frozenset[State]] = frozenset({State.GREETED, State.READY})
    before_auth: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ()
    """The names of the possible attributes, in the order in which EHLO announces them."""

    attributes: Attributes
    """The attributes by name."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not self.attributes or not set(self.attributes) <= set(self.names):
            raise LocalProtocolError(f"{self.verb} takes one or more of {', '.join(self.names)}")

    @classmethod
    def parse(cls, argument: str) -> "AttributesCommand":
        """Parse the attributes."""
        values: dict[str, str | None] = {}
        for item in argument.split(" "):
            name, equals, value = item.partition("=")
            if not equals:
                raise ValueError("attributes have the form NAME=value")

            values[name.upper()] = None if value.upper() in _UNKNOWN else decode_xtext(value)

        return cls(Attributes(values))

    def __str__(self) -> str:
        return f"{self.verb} {self.attributes}"


@dataclass(frozen=True, slots=True)
class Xclient(AttributesCommand):
    """`XCLIENT name=value ...`: the client that a trusted proxy acts for (Postfix XCLIENT_README).

    Raises `LocalProtocolError` for unknown attributes, and for a malformed address, port or protocol.
    """

    default_reply: ClassVar[Reply] = Reply(550, "XCLIENT is not permitted for this client", enhanced="5.7.0")
    names: ClassVar[tuple[str, ...]] = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")

    def __post_init__(self) -> None:
        AttributesCommand.__post_init__(self)
        # Access control may depend on these attributes. The attributes of XFORWARD are for logs, and may have any form.
        for name, value in self.attributes.items():
            if value is not None and name in _FORMS and not _FORMS[name](value):
                raise LocalProtocolError(f"{value!r} cannot be the {name} of a client")


_FORMS: Mapping[str, Callable[[str], bool]] = {
    # An IPv6 address follows `IPV6:`, as in an address literal.
    **dict.fromkeys(("ADDR", "DESTADDR"), lambda value: is_domain(f"[{value}]")),
    **dict.fromkeys(("PORT", "DESTPORT"), lambda value: match_number(value) is not None and int(value) < 65_536),
    "PROTO": lambda value: value.upper() in ("SMTP", "ESMTP"),
}

EXTENSION: Extension = Extension(
    keyword="XCLIENT",
    arguments=lambda config: " ".join(Xclient.names),
    parse_arguments=lambda text: tuple(text.split()),
    commands=(Xclient,),
)
