"""The choice of checks by their ids."""

from collections.abc import Iterable
from typing import Protocol, TypeVar


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_Check = TypeVar("_Check", bound=_Named)


def chosen(checks: Iterable[_Check], names: Iterable[str]) -> tuple[_Check, ...]:
    """Return the checks with these ids or id prefixes; all checks if `names` is empty.

    The prefix `tls` selects `tls-twice` and every other id that begins with `tls-`.

    Raises:
        ValueError: a name selects no check.
    """
    known, wanted = tuple(checks), tuple(names)
    for name in wanted:
        if not any(_is_called(check, name) for check in known):
            raise ValueError(f"there is no check {name!r}")

    return tuple(check for check in known if not wanted or any(_is_called(check, name) for name in wanted))


def _is_called(check: _Named, name: str) -> bool:
    return check.id == name or check.id.startswith(f"{name}-")
