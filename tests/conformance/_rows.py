"""Read the requirements, and find what the tests name."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CHECKED_ROLES = frozenset({"server", "client", "both"})
"""Whose requirements have to be covered, or listed with a reason."""

_find_ids = re.compile(r"\bR\d+-(?:unverified|[A-Z0-9.]+)-\d\d\b").findall


@dataclass(frozen=True, slots=True)
class Requirement:
    """A row of `requirements.csv`."""

    id: str
    """Such as `R5321-4.2-01`: RFC, section, number."""
    role: str
    """Who has to comply: `server`, `client` or `both`."""
    level: str
    """`MUST`, `MUST NOT`, `SHOULD` or `MAY`."""
    requirement: str
    """What it says."""

    @property
    def rfc(self) -> int:
        """The number of the RFC."""
        return int(self.id.partition("-")[0][1:])

    @property
    def is_checked(self) -> bool:
        """Whether it has to be covered, or listed with a reason."""
        return self.role in CHECKED_ROLES


def requirements() -> tuple[Requirement, ...]:
    """All rows, in order."""
    with (HERE / "requirements.csv").open(newline="", encoding="ascii") as file:
        return tuple(Requirement(**row) for row in csv.DictReader(file))


def uncovered() -> dict[str, str]:
    """The reasons of what no test covers, by number."""
    with (HERE / "uncovered.csv").open(newline="", encoding="ascii") as file:
        rows = [(row["id"], row["reason"]) for row in csv.DictReader(file)]

    assert len(dict(rows)) == len(rows), "a requirement is listed twice"
    return dict(rows)


def named() -> frozenset[str]:
    """The numbers that tests name."""
    tests = (path for path in HERE.parent.rglob("test_*.py") if path != HERE / "test_rows.py")
    return frozenset(number for path in tests for number in _find_ids(path.read_text("utf-8")))
