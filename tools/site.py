"""Write the pages of the documentation site into `build/docs`, and the file `build/mkdocs.yml`.

python -m tools.site [MERMAID]

The pages are those of `docs`, some files of the repository, and the reference. Links between these are changed to links
of the site. MERMAID is the file `mermaid.min.js`, which draws the diagrams. Without it the diagrams are shown as text.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Final

from smtpcore import __version__

from .reference import public_modules, reference_pages

ROOT: Final = Path(__file__).parent.parent
TARGET: Final = ROOT / "build"
ASSETS: Final = ROOT / "docs" / "assets"

OF_REPOSITORY: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""The pages outside of `docs`, with their path in the site. The front page contains sections of README."""

HIDDEN: Final = {"state-machine.md": "navigation, toc", "reference/options.md": "navigation"}
"""Pages with diagrams or wide tables, and the columns beside them that would take their place."""

_link = re.compile(r"(\[[\w./-]+\.md)?\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_section = re.compile(r"^<!-- README: (.+) -->$", re.MULTILINE)


def site_pages() -> dict[str, str]:
    """Return the pages of the site in Markdown, by their path."""
    docs = ROOT / "docs"
    pages = {path.name: _changed(path.read_text(encoding="utf-8"), "docs") for path in sorted(docs.glob("*.md"))}
    readme = _changed((ROOT / "README.md").read_text(encoding="utf-8"), ".")
    pages["index.md"] = _section.sub(lambda match: _section_of(readme, match[1]), pages["index.md"])
    for path, page in OF_REPOSITORY.items():
        if path != "README.md":
            source = ROOT / path
            pages[page] = _changed(source.read_text(encoding="utf-8"), Path(path).parent.as_posix())
    pages["deploy/index.md"] = _deploy_page(docs / "deploy")
    pages |= reference_pages()
    for page, columns in HIDDEN.items():
        pages[page] = f"---\nhide: [{columns}]\n---\n\n{pages[page]}"
    for page, text in pages.items():
        if page.startswith("from-"):  # their titles have "smtp" and "server" in them, and would come first in searches
            pages[page] = f"---\nsearch:\n  boost: 0.2\n---\n\n{text}"
    return pages


def _section_of(readme: str, title: str) -> str:
    (text,) = re.findall(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    return str(text).rstrip()


def _changed(text: str, directory: str) -> str:
    """Return the text of a file in `directory` with links that are right in the site.

    A reader of the site knows no file names. So a link whose text is the name of a page gets the title of this page.
    """

    def change(match: re.Match[str]) -> str:
        source = (ROOT / directory / match[2]).resolve()
        path = source.relative_to(ROOT).as_posix()
        if path.startswith("docs/"):
            page = path.removeprefix("docs/")
            page = "deploy/index.md" if page == "deploy" else page
        else:
            page = OF_REPOSITORY.get(path, path)
        words = f"[{_title_of(source)}" if match[1] else ""
        return f"{words}]({page}{match[3] or ''})"

    return _link.sub(change, text)


def _title_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _deploy_page(directory: Path) -> str:
    lines = [
        "# Deploy",
        "",
        "Files for a server in production. [Running `smtpcore serve`](../running.md) explains how to use them, and "
        "[security](../security-policy.md) has the threat model.",
    ]
    for path in sorted(directory.iterdir()):
        language = "dockerfile" if path.name == "Containerfile" else "ini"
        lines += ["", f"## {path.name}", "", f"``` {language}", path.read_text(encoding="utf-8").rstrip(), "```"]
    return "\n".join([*lines, ""])


def configuration() -> str:
    """Return `mkdocs.yml` with the version, and with the modules of the reference in its navigation."""
    parts: dict[str, list[str]] = {"The core": [], "The adapters": [], "Tests": []}
    for name in (*(module.__name__ for module in public_modules()), "pytest_smtpcore"):
        is_core = name.partition(".")[0] == "smtpcore"
        part = "The core" if is_core else "Tests" if re.search(r"\.testing|^pytest", name) else "The adapters"
        parts[part].append(f"          - {name}: reference/{name}.md")

    lines = [line for part, modules in parts.items() for line in (f"      - {part}:", *modules)]
    place = "      # tools/site.py adds the modules here"
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return text.replace(place, "\n".join(lines)).replace("smtpcore VERSION", f"smtpcore {__version__}")


def write_site(build: Path, mermaid: Path | None = None) -> None:
    """Write the pages, the files that they show, and the configuration into a directory."""
    target = build / "docs"
    shutil.rmtree(target, ignore_errors=True)
    for path, text in site_pages().items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # Without a script of its own, the theme would load the script from another host.
        file.write_text(text if mermaid else text.replace("```mermaid", "```text"), encoding="utf-8")

    shutil.copytree(ROOT / "docs" / "deploy", target / "deploy", dirs_exist_ok=True)
    shutil.copytree(ROOT / "benchmarks" / "plots", target / "plots")
    shutil.copytree(ASSETS, target / "assets")
    script = target / "assets" / "mermaid.min.js"
    script.write_bytes(mermaid.read_bytes() if mermaid else b"")
    (build / "mkdocs.yml").write_text(configuration(), encoding="utf-8")


if __name__ == "__main__":
    write_site(TARGET, Path(sys.argv[1]) if sys.argv[1:] else None)
