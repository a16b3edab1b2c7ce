"""The documentation site: the reference has every public name and option, and each link leads to a page."""

import pkgutil
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import smtpcore
import smtpcore_adapters
from tools.reference import OPTIONS, options_page
from tools.site import configuration, site_pages, write_site


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return site_pages()


def modules() -> list[ModuleType]:
    """Return every public module of both packages, except the commands."""
    found = [
        import_module(each.name)
        for package in (smtpcore, smtpcore_adapters)
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not re.search(r"\._|\.cli\b", each.name)
    ]
    return [smtpcore, smtpcore_adapters, *found]


def test_reference_has_every_public_name(pages: dict[str, str]) -> None:
    shown = set(re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE))
    public = {
        f"{module.__name__}.{name}"
        for module in modules()
        for name, value in vars(module).items()
        if name in getattr(module, "__all__", [])
        or (
            not hasattr(module, "__all__")
            and not name.startswith("_")
            and getattr(value, "__module__", "") == module.__name__
        )
    }

    assert len(public) > 400
    assert sorted(public - shown) == []


@pytest.mark.parametrize("path", OPTIONS)
def test_page_of_options_has_every_option_and_its_default(path: str) -> None:
    module, _, name = path.rpartition(".")
    kind: Any = getattr(import_module(module), name)
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", options_page(), re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    names = {each.name for each in fields(kind)} if is_dataclass(kind) else {*kind.__annotations__}

    assert names - {*rows} == set()
    assert [each for each, default in rows.items() if is_dataclass(kind) and not default] == []


def test_page_of_options_has_the_reply_of_each_limit() -> None:
    rows = options_page().splitlines()

    for option, reply in {
        "max_recipients": "452 4.5.3",
        "max_header": "552 5.3.4",
        "connections": "421 4.7.0",
        "greeting_delay": "554 5.7.1",
        "body_rate": "421 4.4.2",
    }.items():
        assert any(row.startswith(f"| `{option}` |") and f"| {reply} |" in row for row in rows)


def test_search_shows_the_pages_of_modules_after_the_guides(pages: dict[str, str]) -> None:
    later = {path for path, text in pages.items() if text.startswith("---\nsearch:\n  boost: 0.4\n---\n")}

    assert len(later) > 30
    assert later == {path for path in pages if path.startswith("reference/")} - {
        "reference/index.md",
        "reference/options.md",
    }


def test_search_shows_the_pages_for_users_of_other_libraries_after_the_guides(pages: dict[str, str]) -> None:
    for page, text in pages.items():
        assert text.startswith("---\nsearch:\n  boost: 0.2\n---\n") is page.startswith("from-")


def test_navigation_has_every_page_once(pages: dict[str, str]) -> None:
    shown = re.findall(r"[-:] ([\w./-]+\.md)$", configuration(), re.MULTILINE)

    assert sorted(shown) == sorted(pages), "change `nav` in mkdocs.yml"


def test_each_link_leads_to_a_page_or_a_file_of_the_site(pages: dict[str, str], tmp_path: Path) -> None:
    write_site(tmp_path)
    links = [
        (page, target)
        for page, text in pages.items()
        for target in re.findall(r"(?<!`)\]\((?!https?:|#)([^)#\s]+)", without_code(text))
    ]

    assert len(links) > 100
    assert [each for each in links if not (tmp_path / "docs" / each[0]).parent.joinpath(each[1]).is_file()] == []


def test_texts_of_links_are_titles_and_not_names_of_files(pages: dict[str, str]) -> None:
    texts = re.findall(r"\[([^][]+)\]\((?!https?:)[^)\s]+\)", without_code("\n".join(pages.values())))

    assert "Running a server" in texts
    assert [text for text in texts if text.endswith(".md")] == []


def without_code(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def test_front_page_has_the_first_program(pages: dict[str, str]) -> None:
    assert "async def only_us(session, rcpt):" in pages["index.md"]
    assert "<!-- README" not in pages["index.md"]


def test_diagrams_are_text_without_the_script_that_draws_them(tmp_path: Path) -> None:
    script = tmp_path / "mermaid.js"
    script.write_text("draw()")
    write_site(tmp_path / "drawn", script)
    write_site(tmp_path / "text")

    assert "```mermaid" in (tmp_path / "drawn" / "docs" / "state-machine.md").read_text()
    assert (tmp_path / "drawn" / "docs" / "assets" / "mermaid.min.js").read_text() == "draw()"
    assert "```mermaid" not in (tmp_path / "text" / "docs" / "state-machine.md").read_text()
