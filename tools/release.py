"""Run the checklist of a release, and print the steps that remain for a person. It tags and uploads nothing.

python3 -m tools.release [--checked]

With `--checked`, `.ci/run` has already passed for this commit and does not run again. Afterwards `dist` has the wheel,
the source distribution, the bill of materials and their sums, and `build/site` has the documentation site.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parent.parent

PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "src/smtpcore/__init__.py": (r'^__version__ = "(.*)"$', "{0}.{1}.{2}"),
    "man/smtpcore.1": (r'^\.TH .* "smtpcore (\S+)"', "{0}.{1}.{2}"),
    "CHANGELOG.md": (r"^## \[(.*?)\]", "{0}.{1}.{2}"),
    "docs/stability.md": (r"`smtpcore~=(.*?)`", "{0}.{1}.0"),
}
"""Files with a version: an expression that finds the version, and the form of the version there."""

TODO: Final = """\
Everything is ready. These steps remain:
  1. Read the section {version} of CHANGELOG.md once more as a user.
  2. git tag --sign --message "smtpcore {version}" v{version} {commit}
  3. git push origin v{version}
  4. twine upload dist/*.whl dist/*.tar.gz
  5. Publish the other files of dist with the tag: the bill of materials and SHA256SUMS.
  6. mike deploy --push --update-aliases -F build/mkdocs.yml {minor} latest
     The first time also: mike set-default --push -F build/mkdocs.yml latest
  7. Install smtpcore {version} from the index, and send a message.
  8. Begin the next section of CHANGELOG.md: ## [Unreleased]"""


class Unready(Exception):
    """A point of the checklist that is not fulfilled."""


def read(root: Path, path: str) -> str:
    """Return the text of a file."""
    return (root / path).read_text(encoding="utf-8")


def version_of(root: Path) -> str:
    """Return the version of the source. It needs three numbers, without a suffix."""
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', read(root, "src/smtpcore/__init__.py"), re.MULTILINE)
    if not found:
        raise Unready("__version__ in src/smtpcore/__init__.py is not a release, such as 1.2.3")
    return found[1]


def wrong_versions(root: Path) -> Iterator[str]:
    """Yield the places that have another version than the source."""
    numbers = version_of(root).split(".")
    for path, (expression, form) in PLACES.items():
        found = re.search(expression, read(root, path), re.MULTILINE)
        wanted, actual = form.format(*numbers), found[1] if found else "no version"
        if actual != wanted:
            yield f"{path} has {actual} and not {wanted}"


def wrong_section(changelog: str, date: str) -> Iterator[str]:
    """Yield the faults of the first section of the CHANGELOG; its date has to be that of the last commit, in UTC."""
    _, *sections = re.split(r"^(?=## )", changelog, flags=re.MULTILINE)
    title, _, text = (sections[0] if sections else "").partition("\n")
    found = re.fullmatch(r"## \[.+\] - (\d{4}-\d\d-\d\d)", title)
    if not found:
        yield f"the first section of CHANGELOG.md has no date: {title}"
    elif found[1] != date:
        yield f"the first section of CHANGELOG.md has the date {found[1]}, and the last commit {date}"
    if not re.search(r"^- \w", text.replace("`", ""), re.MULTILINE):
        yield "the first section of CHANGELOG.md has no entries"


def wrong_addresses(pyproject: str) -> Iterator[str]:
    """Yield the metadata that still need an address."""
    if ".invalid" in pyproject:
        yield "pyproject.toml: the authors have no address for mail"
    if not re.search(r"^Source = ", pyproject, re.MULTILINE):
        yield "pyproject.toml: project.urls has no Source, so the index page has no links to the documents"


def git(root: Path, *arguments: str) -> str:
    """Return the output of git."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def wrong_repository(root: Path) -> Iterator[str]:
    """Yield the faults of the checkout: changes without a commit, and an existing tag."""
    tag = f"v{version_of(root)}"
    if changes := git(root, "status", "--porcelain"):
        yield f"the checkout has changes without a commit:\n{changes}"
    remote = git(root, "ls-remote", "--tags", "origin", tag) if "origin" in git(root, "remote").split() else ""
    if remote or git(root, "tag", "--list", tag):
        yield f"the tag {tag} exists"


def check_source(root: Path) -> None:
    """Check everything that needs no program except git. Raise Unready with all faults."""
    date = datetime.fromtimestamp(int(git(root, "log", "-1", "--format=%ct")), UTC).date().isoformat()
    faults = [*wrong_repository(root), *wrong_versions(root), *wrong_section(read(root, "CHANGELOG.md"), date)]
    if faults:
        raise Unready("\n".join(faults))


def check_artefacts(root: Path) -> None:
    """Check that `dist` has the files of this version only, and that their sums are right."""
    version = version_of(root)
    artefacts = {f"smtpcore-{version}{end}" for end in ("-py3-none-any.whl", ".tar.gz", ".cdx.json")}
    found = {path.name for path in (root / "dist").iterdir()}
    if found != artefacts | {"SHA256SUMS"}:
        raise Unready(f"dist has other files than those of {version}: {', '.join(sorted(found ^ artefacts))}")

    sums = {name: hashlib.sha256((root / "dist" / name).read_bytes()).hexdigest() for name in artefacts}
    if {*read(root, "dist/SHA256SUMS").splitlines()} != {f"{digest}  {name}" for name, digest in sums.items()}:
        raise Unready("the sums in dist/SHA256SUMS are not those of the files")


def run(root: Path, *command: str | Path) -> None:
    """Run a program in the checkout. Raise Unready if it fails."""
    if subprocess.run(command, cwd=root, check=False).returncode:  # noqa: S603
        raise Unready(f"this command failed: {' '.join(map(str, command))}")


def check_installations(root: Path) -> None:
    """Install the wheel, and then the source distribution, and run the first programs of the README with each."""
    for pattern in ("*.whl", "*.tar.gz"):
        (package,) = (root / "dist").glob(pattern)
        with TemporaryDirectory() as directory:
            python = new_environment(root, Path(directory), package)
            # Isolated, so that the installed package is imported and not the checkout.
            run(root, python, "-I", root / "tools" / "first_programs.py", root / "README.md")


def build_site(root: Path) -> None:
    """Build the documentation site with the wheel and the locked tools."""
    (wheel,) = (root / "dist").glob("*.whl")
    with TemporaryDirectory() as directory:
        python = new_environment(root, Path(directory), f"{wheel}[all,testing]")
        run(root, python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", ".ci/checks.txt")
        run(root, "bash", "-c", f'PATH="{python.parent}:$PATH" .ci/docs')


def new_environment(root: Path, directory: Path, package: str | Path) -> Path:
    """Make a virtual environment with a package, and return the path of its Python."""
    run(root, sys.executable, "-m", "venv", directory)
    python = directory / "bin" / "python"
    run(root, python, "-m", "pip", "install", "--quiet", package)
    return python


Step = tuple[str, Callable[[Path], None]]

CHECKS: Final[Step] = ("all checks, with .ci/run", lambda root: run(root, "bash", ".ci/run"))
STEPS: Final[Sequence[Step]] = (
    ("the repository, the versions and the CHANGELOG", check_source),
    CHECKS,
    ("the package, with .ci/package", lambda root: run(root, "bash", ".ci/package")),
    ("the files in dist and their sums", check_artefacts),
    ("the first programs of the README, from the wheel and from the source distribution", check_installations),
    ("the documentation site", build_site),
    ("the repository once more", check_source),
)


def release(root: Path, steps: Sequence[Step]) -> str:
    """Run the steps of the checklist, and return the text with the steps that remain."""
    for number, (title, step) in enumerate(steps, 1):
        print(f"=== {number} of {len(steps)}: {title}", flush=True)  # noqa: T201
        step(root)

    version = version_of(root)
    minor = version.rpartition(".")[0]
    todo = TODO.format(version=version, minor=minor, commit=git(root, "rev-parse", "--short", "HEAD"))
    missing = [f"  First: {fault}" for fault in wrong_addresses(read(root, "pyproject.toml"))]
    return "\n".join([todo, *missing])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the checklist. Exit with status 1 at the first point that is not fulfilled."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.release", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--checked", action="store_true", help=".ci/run has passed for this commit: do not run it again"
    )
    checked = parser.parse_args(arguments).checked
    try:
        print(release(ROOT, [step for step in STEPS if not (checked and step is CHECKS)]))  # noqa: T201
    except Unready as error:
        sys.exit(f"not ready for a release: {error}")


if __name__ == "__main__":
    main()
