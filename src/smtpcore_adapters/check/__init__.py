"""Check whether an SMTP server, of whatever make, does what the RFCs ask of it.

`run_checks(Target(...))` yields a `Finding` for each of `CHECKS`. Each check has a connection of its own, sends little,
and sends messages to the recipient of the target only.
"""

from collections.abc import Iterable, Iterator

from ._bodies import BODIES
from ._checks import CannotCheck, Check, reach
from ._extensions import EXTENSIONS
from ._findings import Finding, Outcome, Severity
from ._limits import LIMITS
from ._raw_client import Target
from ._replies import REPLIES
from ._security import SECURITY
from ._sequence import SEQUENCE
from ._syntax import SYNTAX

__all__ = ["CHECKS", "CannotCheck", "Check", "Finding", "Outcome", "Severity", "Target", "choose", "run_checks"]

CHECKS: tuple[Check, ...] = (*REPLIES, *SYNTAX, *SEQUENCE, *LIMITS, *BODIES, *EXTENSIONS, *SECURITY)
"""All checks, in the order in which they are made."""


def choose(names: Iterable[str]) -> tuple[Check, ...]:
    """The checks with these names, or whose names begin with one of them and a hyphen; all if none is given.

    Raises `ValueError` for what is the name of none.
    """
    wanted = tuple(names)
    for name in wanted:
        if not any(_is_called(check, name) for check in CHECKS):
            raise ValueError(f"there is no check {name!r}")

    return tuple(check for check in CHECKS if not wanted or any(_is_called(check, name) for name in wanted))


def _is_called(check: Check, name: str) -> bool:
    return check.id == name or check.id.startswith(f"{name}-")


def run_checks(target: Target, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Check `target`. Raises `CannotCheck` if there is no server there that lets its client in."""
    reach(target)
    for check in checks:
        yield check.run(target)
