"""What XCLIENT and XFORWARD tell of a client (Postfix XCLIENT_README and XFORWARD_README)."""

from collections.abc import Callable, Iterator, Mapping

from .._errors import LocalProtocolError
from .._grammar import find_control, is_encodable, match_number, parse_literal
from ._xtext import decode_xtext, encode_xtext

_UNAVAILABLE = "[UNAVAILABLE]"
_NOT_KNOWN = frozenset({_UNAVAILABLE, "[TEMPUNAVAIL]"})


class Attributes(Mapping[str, str | None]):
    """An immutable mapping from the name of an attribute, in upper case, to its value, decoded.

    None stands for what the peer says that it does not know.
    Raises `LocalProtocolError` for a value that cannot be sent.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is not None and not _is_attribute(value):
                raise LocalProtocolError(f"{value!r} cannot be the value of {name}: it has to be text without controls")

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
        return " ".join(f"{name}={_encode(value)}" for name, value in self._values.items())

    def __repr__(self) -> str:
        return f"Attributes({self._values!r})"

    def check_forms(self) -> None:
        """Raise `LocalProtocolError` for an address, a port or a protocol that is none, as XFORWARD may name it."""
        for name, value in self._values.items():
            if value is not None and name in _FORMS and not _FORMS[name](value):
                raise LocalProtocolError(f"{value!r} cannot be the {name} of a client")


def parse_attributes(text: str) -> Attributes:
    """What stands behind the verb. Raises `ValueError` or `LocalProtocolError`."""
    values: dict[str, str | None] = {}
    for item in text.split(" "):
        name, value = item.split("=", 1)
        values[name.upper()] = None if value.upper() in _NOT_KNOWN else decode_xtext(value)

    return Attributes(values)


def _encode(value: str | None) -> str:
    return _UNAVAILABLE if value is None else encode_xtext(value)


def _is_attribute(value: str) -> bool:
    # What stands for "not known" cannot be a value as well.
    return is_encodable(value) and not find_control(value) and value.upper() not in _NOT_KNOWN


def _is_ip_address(text: str) -> bool:
    # An IPv6 address stands behind `IPV6:`, as in an address literal.
    try:
        parse_literal(f"[{text}]")
    except ValueError:
        return False
    else:
        return True


def _is_port(text: str) -> bool:
    return match_number(text) is not None and int(text) < 65_536


_FORMS: Mapping[str, Callable[[str], bool]] = {
    "ADDR": _is_ip_address,
    "DESTADDR": _is_ip_address,
    "PORT": _is_port,
    "DESTPORT": _is_port,
    "PROTO": lambda value: value.upper() in ("SMTP", "ESMTP"),
}
