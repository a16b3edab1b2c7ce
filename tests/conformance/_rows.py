"""Read the requirements, and find the requirement numbers in the tests."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHECKED_ROLES = frozenset({"server", "client", "both"})
"""The roles whose requirements must be covered, or listed with a reason."""

_find_ids = re.compile(r"\bR\d+-(?:unverified|[A-Z0-9.]+)-\d\d\b").findall


@dataclass(frozen=True, slots=True)
class Requirement:
    """A row of `requirements.csv`."""

    id: str
    """RFC, section and number, such as `R5321-4.2-01`."""
    role: str
    """The role that has to comply: `server`, `client` or `both`."""
    level: str
    """`MUST`, `MUST NOT`, `SHOULD` or `MAY`."""
    requirement: str
    """The text of the requirement."""

    @property
    def rfc(self) -> int:
        """The number of the RFC."""
        return int(self.id.partition("-")[0][1:])

    @property
    def is_checked(self) -> bool:
        """Whether the requirement must be covered, or listed with a reason."""
        return self.role in CHECKED_ROLES


def requirements() -> tuple[Requirement, ...]:
    """Return all rows, in order."""
    with (HERE / "requirements.csv").open(newline="", encoding="ascii") as file:
        return tuple(Requirement(**row) for row in csv.DictReader(file))


def uncovered() -> dict[str, str]:
    """Return the reasons of uncovered requirements, by number."""
    with (HERE / "uncovered.csv").open(newline="", encoding="ascii") as file:
        rows = [(row["id"], row["reason"]) for row in csv.DictReader(file)]

    assert len(dict(rows)) == len(rows), "a requirement is listed twice"
    return dict(rows)


def named() -> frozenset[str]:
    """Return the requirement numbers that tests name."""
    tests = (path for path in HERE.parent.rglob("test_*.py") if path != HERE / "test_rows.py")
    return frozenset(number for path in tests for number in _find_ids(path.read_text("utf-8")))
