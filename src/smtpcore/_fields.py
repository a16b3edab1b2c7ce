"""Check the types of the fields of a configuration, so that a wrong value fails at once and not in a session."""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from ._errors import LocalProtocolError


def check_fields(settings: Any, error: type[Exception] = LocalProtocolError) -> None:
    """Raise `error` if a field of a dataclass has a value that its annotation does not allow."""
    for name, hint in _hints_of(settings.__class__).items():
        value = getattr(settings, name)
        if not _fits(value, hint):
            use = f"use {_name_of(hint)}"
            raise error(f"{name} is {value!r:.80}, which is of type {type(value).__name__}: {use}")


@lru_cache(maxsize=32)
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (tuple, frozenset):
        return isinstance(value, origin) and all(_fits(item, arguments[0]) for item in value)
    if arguments:
        return any(_fits(value, alternative) for alternative in arguments)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)

    return isinstance(value, hint)


def _name_of(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return f"a tuple of {_name_of(get_args(hint)[0])}"
    if get_origin(hint) is frozenset:
        return f"a frozenset of {_name_of(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(_name_of(alternative) for alternative in get_args(hint))

    return "None" if hint is type(None) else str(hint.__name__)
