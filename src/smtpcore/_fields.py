"""Check the types of the values of a configuration, so that a wrong value fails at once and not in a session."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from ._errors import LocalProtocolError


def check_fields(settings: Any, error: type[Exception] = LocalProtocolError) -> None:
    """Raise `error` if a field of a dataclass has a value that its annotation does not allow."""
    kind = settings.__class__
    check_values({name: getattr(settings, name) for name in _hints_of(kind)}, kind, error)


def check_values(
    values: Mapping[str, object], kind: Any, error: type[Exception] = TypeError, *, secret: Container[str] = ()
) -> None:
    """Raise `error` if a value has a type that the annotation of its name in `kind` does not allow.

    `kind` is a `TypedDict`, such as the options of a function, or a dataclass. All names have to be known. The error
    does not show the values of the names in `secret`.
    """
    hints = _hints_of(kind)
    for name, value in values.items():
        if type(value) is not hints[name] and not _fits(value, hints[name]):
            shown = "a value" if name in secret else f"{value!r:.80}, which is"
            raise error(f"{name} is {shown} of type {type(value).__name__}: use {_name_of(hints[name])}")


@lru_cache(maxsize=32)
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return hints if is_typeddict(kind) else {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and ... not in arguments:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in _COLLECTIONS:
        # A text would be taken as a collection of letters. An iterator can be read only once, so it is not read here.
        is_text = isinstance(value, str | bytes)
        items = value if isinstance(value, Collection) else ()
        return isinstance(value, origin) and not is_text and all(_fits(item, arguments[0]) for item in items)
    if origin is Callable:
        return callable(value)
    if arguments:
        return any(_fits(value, alternative) for alternative in arguments)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)

    return isinstance(value, hint)


def _name_of(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and ... not in arguments:
        return f"a tuple ({', '.join(map(_name_of, arguments))})"
    if origin in _COLLECTIONS:
        return f"{_COLLECTIONS[origin]} of {_name_of(arguments[0])}"
    if origin is Callable:
        return "a function"
    if arguments:
        return " or ".join(map(_name_of, arguments))

    return "None" if hint is type(None) else str(hint.__name__)


_COLLECTIONS: Mapping[Any, str] = {
    tuple: "a tuple",
    frozenset: "a frozenset",
    Iterable: "an iterable",
    Sequence: "a sequence",
    Mapping: "a mapping",
    Set: "a set",
}
