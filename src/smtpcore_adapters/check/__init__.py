"""Check whether any SMTP or LMTP server complies with the RFCs and is safe.

`run_checks(Target(...))` yields a `Finding` for each of `CHECKS`. Each check opens its own connection and sends a small
amount of data. Test messages go only to the target's recipient.
"""

from collections.abc import Iterable, Iterator

from smtpcore import show_texts

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
"""All checks, in the order in which they run."""


def choose(names: Iterable[str]) -> tuple[Check, ...]:
    """Return the checks with these ids or id prefixes; all checks if `names` is empty.

    The prefix `tls` selects `tls-twice` and every other id that begins with `tls-`.

    Raises:
        ValueError: a name selects no check.
    """
    wanted = tuple(names)
    for name in wanted:
        if not any(_is_called(check, name) for check in CHECKS):
            raise ValueError(f"there is no check {name!r}")

    return tuple(check for check in CHECKS if not wanted or any(_is_called(check, name) for name in wanted))


def _is_called(check: Check, name: str) -> bool:
    return check.id == name or check.id.startswith(f"{name}-")


def run_checks(target: Target, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Run `checks` against `target`, and yield the finding of each. Raise `CannotCheck` if no session can be opened."""
    reach(target)
    for check in checks:
        yield check.run(target)


show_texts(globals())
