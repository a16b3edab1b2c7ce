"""Refuse unknown names, and suggest the nearest known name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def unknown_name(name: str, kind: str, known: Iterable[str]) -> str:
    """Return the error text for a name that is not in `known`. `kind` describes a known name: "an option of send"."""
    names = {each.casefold(): each for each in sorted(known)}
    (nearest,) = get_close_matches(name.casefold(), names, n=1, cutoff=0)
    return f"{name!r} is not {kind}. The nearest is {names[nearest]!r}; use one of {', '.join(names.values())}"


def check_options(
    kind: str, options: Iterable[str], known: Iterable[str], hints: Mapping[str, str] | None = None
) -> None:
    """Raise `TypeError` if one of the names in `options` is unknown. `hints` has the error texts for some names."""
    names = frozenset(known)
    for name in options:
        if name not in names:
            hint = (hints or {}).get(name)
            raise TypeError(f"{name!r} is not {kind}: {hint}" if hint else unknown_name(name, kind, names))
