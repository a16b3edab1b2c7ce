"""Every requirement of the RFCs is either named by a test or listed with a reason."""

import subprocess
import sys

from tests.paths import ROOT

from ._rows import named, requirements, uncovered

ROWS = {row.id: row for row in requirements()}


NAMED = named()
CHECKED = [row for row in ROWS.values() if row.is_checked]


def test_each_requirement_is_covered_or_listed_as_uncovered() -> None:
    listed = uncovered()

    assert [(row.id, row.requirement) for row in CHECKED if row.id not in NAMED and row.id not in listed] == []
    assert [row.id for row in CHECKED if row.id in NAMED and row.id in listed] == [], "remove these from uncovered.csv"


def test_tests_and_list_name_only_existing_requirements() -> None:
    assert NAMED | set(uncovered()) <= set(ROWS)


def test_every_reason_has_at_least_four_words() -> None:
    assert all(len(reason.split()) >= 4 for reason in uncovered().values())


def test_conformance_command_prints_the_counts() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "tests.conformance"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert f"\n     all{len(ROWS):>8}" in output
    assert "\n  server" in output
