"""The metadata of the package: the README for a package index, addresses, the license, and the marker for types."""

import re
import tomllib
from typing import Any

import pytest

from tests.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()


def index_page() -> str:
    """Return the README as a package index shows it."""
    text = README
    for each in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_page_of_a_package_index_has_no_relative_link_and_no_local_image() -> None:
    targets = re.findall(r"\]\(([^)]*)\)", index_page())

    assert targets != []
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "<img" not in README


def test_page_of_a_package_index_names_each_linked_page() -> None:
    pages = re.findall(r"\]\((?!https:)([^)]*)\)", README)

    assert len(pages) > 20
    assert [page for page in pages if f"`{page}`" not in index_page() or not (ROOT / page).is_file()] == []


def test_links_of_a_package_index_lead_to_the_address_of_the_source() -> None:
    source = PROJECT["project"]["urls"].get("Source", "`")
    replacements = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]

    assert [each for each in replacements if source not in each["replacement"]] == []


def test_license_is_an_expression_with_its_file() -> None:
    project = PROJECT["project"]

    assert (project["license"], project["license-files"]) == ("MIT", ["LICENSE"])
    assert [text for text in project["classifiers"] if text.startswith("License")] == []


@pytest.mark.parametrize("package", ["smtpcore", "smtpcore_adapters", "pytest_smtpcore"])
def test_each_package_is_in_the_wheel_and_has_the_marker_for_types(package: str) -> None:
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]

    assert f"src/{package}" in targets["wheel"]["packages"]
    assert (ROOT / "src" / package / "py.typed").read_bytes() == b""
    assert package in PROJECT["tool"]["check-wheel-contents"]["toplevel"]
