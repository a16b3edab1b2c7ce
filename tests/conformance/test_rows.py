"""Every requirement of the RFCs is covered by a test that names it, or listed with the reason why none does."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

from ._rows import named, requirements, uncovered

ROWS = {row.id: row for row in requirements()}


@pytest.mark.parametrize("number", [row.id for row in ROWS.values() if row.is_checked])
def test_a_requirement_is_covered_or_listed(number: str) -> None:
    is_named, is_listed = number in named_once, number in uncovered()
    assert is_named or is_listed, f"no test names it: {ROWS[number].requirement}"
    assert not (is_named and is_listed), "a test names it, so it need not be listed"


named_once = named()


def test_only_requirements_that_exist_are_named_and_listed() -> None:
    assert named_once | set(uncovered()) <= set(ROWS)


def test_every_reason_is_one() -> None:
    assert all(len(reason.split()) >= 4 for reason in uncovered().values())


def test_the_counts_are_printed() -> None:
    output = subprocess.run(
        [sys.executable, "-m", "tests.conformance"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert f"\n     all{len(ROWS):>8}" in output
    assert "\n  server" in output
