"""The page of past vulnerabilities: each section has its parts, and names modules and tests that exist."""

import ast
import re
from functools import cache

import pytest

from tests.paths import DOCS, ROOT, TESTS

PAGE = (DOCS / "security.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ("**History.** ", "**RFC.** ", "**smtpcore.** ", "**Tests.**")


@cache
def names_of_tests(path: str) -> frozenset[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def test_page_has_a_section_for_each_kind_of_vulnerability() -> None:
    assert len(SECTIONS) >= 20


@pytest.mark.parametrize("section", SECTIONS)
def test_section_has_its_parts_in_order(section: str) -> None:
    paragraphs = SECTIONS[section].strip().split("\n\n")

    assert [part for part, paragraph in zip(PARTS, paragraphs, strict=False) if not paragraph.startswith(part)] == []
    assert len(paragraphs) == len(PARTS) + 1


@pytest.mark.parametrize("section", SECTIONS)
def test_section_names_tests_that_exist(section: str) -> None:
    *_, tests = SECTIONS[section].strip().split("\n\n")
    named = [re.fullmatch(r"- `([\w/]+/test_\w+\.py)::(test_\w+)`", line) for line in tests.splitlines()]

    assert all(named)
    assert [match[0] for match in named if match and match[2] not in names_of_tests(match[1])] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_section_names_modules_that_exist(section: str) -> None:
    named = re.findall(r"`(smtpcore(?:_adapters)?/[\w/]*(?:\.py|/))`", SECTIONS[section])

    assert [module for module in named if not (ROOT / "src" / module).exists()] == []
