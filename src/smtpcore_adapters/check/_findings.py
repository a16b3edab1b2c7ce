"""What a check has found out."""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How bad it is where a check fails."""

    SECURITY = "security"
    """Someone can do harm with it."""
    FAULT = "fault"
    """An RFC demands it; correct clients may fail."""
    WARNING = "warning"
    """An RFC recommends it, or real clients count on it."""


class Outcome(Enum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    """The server does not offer what is checked."""
    INCONCLUSIVE = "inconclusive"
    """What has to come before the check did not succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    id: str
    """The name of the check."""
    title: str
    """What should be true of a server."""
    severity: Severity
    """How bad it is where it is not."""
    section: str
    """Where that is written."""
    outcome: Outcome
    """Whether it is true."""
    expected: str
    """What a server should answer."""
    sent: str
    """What was sent, unprintable octets escaped and long runs shortened."""
    seen: str
    """What was answered, in the same form."""
    note: str
    """Why the outcome is what it is; empty where the check has passed."""

    @property
    def is_fault(self) -> bool:
        """Whether the server does what it must not do."""
        return self.outcome is Outcome.FAIL and self.severity is not Severity.WARNING


class Failed(Exception):
    """The server did not do what was expected; the text says what it did."""


class NotApplicable(Exception):
    """There is nothing to check; the text says why."""


class Inconclusive(Exception):
    """The check could not be made; the text says why."""
