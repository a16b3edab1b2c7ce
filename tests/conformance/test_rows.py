"""Every requirement of the RFCs is either named by a test or listed with a reason."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

from ._rows import named, requirements, uncovered

ROWS = {row.id: row for row in requirements()}


@pytest.mark.parametrize("number", [row.id for row in ROWS.values() if row.is_checked])
def test_requirement_is_covered_or_listed_as_uncovered(number: str) -> None:
    is_named, is_listed = number in named_once, number in uncovered()
    assert is_named or is_listed, f"no test names {number}: {ROWS[number].requirement}"
    assert not (is_named and is_listed), f"a test names {number}, so remove it from uncovered.csv"


named_once = named()


def test_tests_and_list_name_only_existing_requirements() -> None:
    assert named_once | set(uncovered()) <= set(ROWS)


def test_every_reason_has_at_least_four_words() -> None:
    assert all(len(reason.split()) >= 4 for reason in uncovered().values())


def test_conformance_command_prints_the_counts() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "tests.conformance"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert f"\n     all{len(ROWS):>8}" in output
    assert "\n  server" in output
