"""The results of checks."""

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """The severity of a failed check."""

    SECURITY = "security"
    """An attacker can exploit the failure."""
    FAULT = "fault"
    """The server violates a requirement of an RFC; correct clients may fail."""
    WARNING = "warning"
    """The server ignores a recommendation of an RFC, or behaves in a way that real clients do not expect."""


class Outcome(Enum):
    """The outcome of a check."""

    PASS = "pass"  # noqa: S105 - no password
    """The server behaves correctly."""
    FAIL = "fail"
    """The server behaves incorrectly."""
    NOT_APPLICABLE = "not applicable"
    """The server does not offer the feature that the check is about."""
    INCONCLUSIVE = "inconclusive"
    """A step before the tested step failed, or a policy of the server refused the tested step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    id: str
    """The id of the check."""
    title: str
    """The correct behaviour of a server."""
    severity: Severity
    """The severity of a failure."""
    section: str
    """The section of the RFC that requires the behaviour."""
    outcome: Outcome
    """The outcome."""
    expected: str
    """The expected replies."""
    sent: str
    """The octets sent; unprintable octets are escaped, long runs are shortened."""
    seen: str
    """The octets received, in the same form as `sent`."""
    note: str
    """The reason for the outcome; empty if the check passed."""

    @property
    def is_fault(self) -> bool:
        """Whether the check failed and is more than a warning."""
        return self.outcome is Outcome.FAIL and self.severity is not Severity.WARNING


class Failed(Exception):
    """The server did not behave as expected; the text describes its behaviour."""


class Objected(Failed):
    """The server refused a valid command or message. The check failed if a new session accepts plain commands."""


class NotApplicable(Exception):
    """The check does not apply to this server; the text gives the reason."""


class Inconclusive(Exception):
    """The check could not be completed; the text gives the reason."""
