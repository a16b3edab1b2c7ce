"""Check whether any SMTP or LMTP server complies with the RFCs and is safe.

`run_checks(Target(...))` yields a `Finding` for each of `CHECKS`. Each check opens its own connection and sends a small
amount of data. Test messages go only to the target's recipient.
"""

from collections.abc import Iterable, Iterator

from smtpcore import show_texts

from ._bodies import BODIES
from ._checks import CannotCheck, Check, ServerLost, expect_alive, reach
from ._choice import chosen
from ._extensions import EXTENSIONS
from ._findings import Finding, Outcome, Severity
from ._limits import LIMITS
from ._raw_client import Target
from ._replies import REPLIES
from ._security import SECURITY
from ._sequence import SEQUENCE
from ._syntax import SYNTAX

__all__ = [
    "CHECKS",
    "CannotCheck",
    "Check",
    "Finding",
    "Outcome",
    "ServerLost",
    "Severity",
    "Target",
    "choose",
    "run_checks",
]

CHECKS: tuple[Check, ...] = (*REPLIES, *SYNTAX, *SEQUENCE, *LIMITS, *BODIES, *EXTENSIONS, *SECURITY)
"""All checks, in the order in which they run."""


def choose(names: Iterable[str]) -> tuple[Check, ...]:
    """Return the checks with these ids or id prefixes; all checks if `names` is empty.

    The prefix `tls` selects `tls-twice` and every other id that begins with `tls-`.

    Raises:
        ValueError: a name selects no check.
    """
    return chosen(CHECKS, names)


def run_checks(target: Target, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Run `checks` against `target`, and yield the finding of each.

    Raises:
        CannotCheck: no session can be opened.
        ServerLost: after a check, no session can be opened any more: the server may have died.
    """
    reach(target)
    last: Check | None = None
    is_known = True
    for last in checks:
        finding = last.run(target)
        yield finding
        # A check that is cut short is inconclusive. Any check may pass although the server dies of it.
        is_known = finding.outcome is not Outcome.INCONCLUSIVE
        if not is_known:
            expect_alive(target, last)
    if last and is_known:
        expect_alive(target, last)


show_texts(globals())
