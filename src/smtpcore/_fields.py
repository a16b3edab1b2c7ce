"""Check the types of the values of a configuration, so that a wrong value fails at once and not in a session."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from functools import lru_cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from ._errors import LocalProtocolError


def check_fields(settings: Any, error: type[Exception] = LocalProtocolError) -> None:
    """Raise `error` if a field of a dataclass has a value that its annotation does not allow.

    The error does not show the value of a field that is left out of the `repr`.
    """
    for name, usual, hint, is_shown in _fields_of(settings.__class__):
        value = getattr(settings, name)
        if value.__class__ not in usual and not _fits(value, hint):
            raise error(_objection(name, value, hint, is_shown=is_shown))


class Checked:
    """Base class of dataclasses whose constructor raises `TypeError` for a field of a wrong type."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self, TypeError)


def check_argument(name: str, value: object, hint: Any) -> None:
    """Raise `TypeError` if an argument of a function has a value that `hint` does not allow."""
    if value.__class__ is not hint and not _fits(value, hint):
        raise TypeError(_objection(name, value, hint))


def check_octets(data: object) -> None:
    """Raise `TypeError` if received data are not octets."""
    check_argument("data", data, bytes | bytearray | memoryview)


def check_values(
    values: Mapping[str, object], kind: Any, error: type[Exception] = TypeError, *, secret: Container[str] = ()
) -> None:
    """Raise `error` if a value has a type that the annotation of its name in `kind` does not allow.

    `kind` is a `TypedDict`, such as the options of a function, or a dataclass. All names have to be known. The error
    does not show the values of the names in `secret`.
    """
    hints = _hints_of(kind)
    for name, value in values.items():
        if value.__class__ is not hints[name] and not _fits(value, hints[name]):
            raise error(_objection(name, value, hints[name], is_shown=name not in secret))


def _objection(name: str, value: object, hint: Any, *, is_shown: bool = True) -> str:
    shown = f"{value!r:.80}, which is" if is_shown else "a value"
    return f"{name} is {shown} of type {type(value).__name__}: use {_name_of(hint)}"


@lru_cache(maxsize=32)
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return hints if is_typeddict(kind) else {field.name: hints[field.name] for field in fields(kind)}


@lru_cache(maxsize=128)
def _fields_of(kind: Any) -> Sequence[tuple[str, Container[type], Any, bool]]:
    """Return for each field its name, the types that fit at first sight, its annotation, and whether it is shown."""
    hints = _hints_of(kind)
    alternatives = {name: _alternatives(hint) for name, hint in hints.items()}
    return [(each.name, frozenset(alternatives[each.name]), hints[each.name], each.repr) for each in fields(kind)]


def _alternatives(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in _UNIONS else (hint,)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        return any(_fits(value, alternative) for alternative in arguments)
    if origin is tuple and ... not in arguments:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in _COLLECTIONS:
        # A text would be taken as a collection of letters. An iterator can be read only once, so it is not read here.
        is_text = isinstance(value, str | bytes)
        items, kind = value if isinstance(value, Collection) else (), arguments[0]
        fitting = (item.__class__ is kind or _fits(item, kind) for item in items)
        return isinstance(value, origin) and not is_text and all(fitting)
    if origin is Callable:
        return callable(value)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)

    return isinstance(value, origin or hint)


def _name_of(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        return " or ".join(map(_name_of, arguments))
    if origin is tuple and ... not in arguments:
        return f"a tuple ({', '.join(map(_name_of, arguments))})"
    if origin in _COLLECTIONS:
        items = "values" if arguments[0] is Any or isinstance(arguments[0], TypeVar) else _name_of(arguments[0])
        return f"{_COLLECTIONS[origin]} of {items}"
    if origin is Callable:
        return "a function"
    if origin is type:
        return "a class"

    return "None" if hint is type(None) else str((origin or hint).__name__)


_UNIONS: Final = (Union, UnionType)
_COLLECTIONS: Mapping[Any, str] = {
    tuple: "a tuple",
    frozenset: "a frozenset",
    Iterable: "an iterable",
    Sequence: "a sequence",
    Mapping: "a mapping",
    Set: "a set",
    Collection: "a collection",
    list: "a list",
}
