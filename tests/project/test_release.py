"""The checklist of a release: each fault is found and named, and nothing is tagged or uploaded."""

import hashlib
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.paths import ROOT
from tools import release
from tools.first_programs import codes_of, main
from tools.release import PLACES, STEPS, Step, Unready

CHANGELOG = "# Changelog\n\n## [1.2.3] - 2026-05-04\n\n### Added\n\n- `serve`: an option.\n\n## [1.2.2] - 2026-01-01\n"
FILES = {
    "src/smtpcore/__init__.py": '"""A package."""\n\n__version__ = "1.2.3"\n',
    "man/smtpcore.1": '.\\" Written\n.TH SMTPCORE 1 "2026-05-04" "smtpcore 1.2.3" "User Commands"\n',
    "CHANGELOG.md": CHANGELOG,
    "docs/stability.md": "Pin the minor version: `smtpcore~=1.2.0`.\n",
    "pyproject.toml": '[project]\nauthors = [{ email = "authors@example.org" }]\n[project.urls]\nSource = "https://example.org"\n',
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a repository whose only commit, of 4 May 2026, is ready for the release 1.2.3."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / ".gitignore").write_text("dist/\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    return release.git(
        root, "-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "tag.gpgSign=false", *arguments
    )


def commit(root: Path) -> None:
    git(root, "add", "-A")
    variables = [
        "env",
        "GIT_COMMITTER_DATE=2026-05-04T23:30:00Z",
        "GIT_AUTHOR_NAME=T",
        "GIT_AUTHOR_EMAIL=t@example.org",
    ]
    variables += ["GIT_COMMITTER_NAME=T", "GIT_COMMITTER_EMAIL=t@example.org"]
    subprocess.run([*variables, "git", "commit", "-qm", "Release", "--no-gpg-sign"], cwd=root, check=True)


def change(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new))
    commit(root)


def test_this_repository_has_one_version_in_all_places() -> None:
    assert [*release.wrong_versions(ROOT)] == []


def test_repository_in_order_has_no_fault(checkout: Path) -> None:
    release.check_source(checkout)


@pytest.mark.parametrize("path", [path for path in PLACES if not path.startswith("src")])
def test_place_with_another_version_is_named(checkout: Path, path: str) -> None:
    change(checkout, path, "1.2.", "1.1.")

    with pytest.raises(Unready, match=f"{re.escape(path)} has 1.1.. and not 1.2.."):
        release.check_source(checkout)


@pytest.mark.parametrize("version", ["1.2", "1.2.3rc1", "1.2.3.dev0"])
def test_version_without_three_numbers_is_no_release(checkout: Path, version: str) -> None:
    change(checkout, "src/smtpcore/__init__.py", "1.2.3", version)

    with pytest.raises(Unready, match="is not a release"):
        release.check_source(checkout)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (" - 2026-05-04", "", "has no date: ## [1.2.3]"),
        ("2026-05-04", "2026-05-03", "has the date 2026-05-03, and the last commit 2026-05-04"),
        ("- `serve`: an option.\n", "", "has no entries"),
        ("## [1.2.3]", "## [Unreleased]\n\n## [1.2.3]", "has no date: ## [Unreleased]"),
    ],
)
def test_fault_of_the_changelog_is_named(checkout: Path, old: str, new: str, fault: str) -> None:
    change(checkout, "CHANGELOG.md", old, new)

    with pytest.raises(Unready, match=re.escape(fault)):
        release.check_source(checkout)


def test_changelog_without_sections_has_two_faults() -> None:
    assert len([*release.wrong_section("# Changelog\n", "2026-05-04")]) == 2


def test_change_without_a_commit_is_named(checkout: Path) -> None:
    (checkout / "docs" / "new.md").write_text("new")

    with pytest.raises(Unready, match=r"changes without a commit:\n.*docs/new.md"):
        release.check_source(checkout)


def test_existing_tag_is_named(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.3")

    with pytest.raises(Unready, match=r"the tag v1\.2\.3 exists"):
        release.check_source(checkout)


def test_tag_of_the_remote_repository_is_named(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clone = tmp_path_factory.mktemp("clone")
    git(checkout, "clone", "-q", str(checkout), str(clone))
    release.check_source(clone)
    git(checkout, "tag", "v1.2.3")

    with pytest.raises(Unready, match=r"the tag v1\.2\.3 exists"):
        release.check_source(clone)


@pytest.fixture
def artefacts(checkout: Path) -> Path:
    """Return the directory with the artefacts of the repository and their sums."""
    dist = checkout / "dist"
    dist.mkdir()
    lines = []
    for end in ("-py3-none-any.whl", ".tar.gz", ".cdx.json"):
        (dist / f"smtpcore-1.2.3{end}").write_text(end)
        lines.append(f"{hashlib.sha256(end.encode()).hexdigest()}  smtpcore-1.2.3{end}\n")
    (dist / "SHA256SUMS").write_text("".join(lines))
    return dist


def change_wheel(dist: Path) -> None:
    (dist / "smtpcore-1.2.3-py3-none-any.whl").write_text("other")


def test_artefacts_with_their_sums_are_in_order(checkout: Path, artefacts: Path) -> None:
    release.check_artefacts(checkout)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda dist: (dist / "smtpcore-1.2.2.tar.gz").touch(), "smtpcore-1.2.2.tar.gz"),
        (lambda dist: (dist / "smtpcore-1.2.3.cdx.json").unlink(), "smtpcore-1.2.3.cdx.json"),
        (change_wheel, "are not those of the files"),
    ],
    ids=["file of another version", "missing file", "another sum"],
)
def test_fault_of_the_artefacts_is_named(
    checkout: Path, artefacts: Path, damage: Callable[[Path], None], fault: str
) -> None:
    damage(artefacts)

    with pytest.raises(Unready, match=re.escape(fault)):
        release.check_artefacts(checkout)


def test_failing_program_is_named(tmp_path: Path) -> None:
    release.run(tmp_path, "true")

    with pytest.raises(Unready, match="this command failed: false now"):
        release.run(tmp_path, "false", "now")


def test_first_fault_ends_the_checklist(checkout: Path) -> None:
    ran: list[str] = []

    def fail(root: Path) -> None:
        raise Unready("a fault")

    with pytest.raises(Unready, match="a fault"):
        release.release(checkout, [("one", lambda _: ran.append("one")), ("two", fail), ("three", fail)])
    assert ran == ["one"]


def test_remaining_steps_name_the_version_the_commit_and_missing_addresses(checkout: Path) -> None:
    change(checkout, "pyproject.toml", "Source", "Origin")
    text = release.release(checkout, [])

    assert f"v1.2.3 {git(checkout, 'rev-parse', '--short', 'HEAD')}" in text
    assert "build/mkdocs.yml 1.2 latest" in text
    assert "First: pyproject.toml: project.urls has no Source" in text
    assert "authors" not in text


def test_option_leaves_out_only_the_checks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    counts: list[int] = []

    def count(root: Path, steps: Sequence[Step]) -> str:
        counts.append(len(steps))
        return "ready"

    monkeypatch.setattr(release, "release", count)
    release.main([])
    release.main(["--checked"])

    assert counts == [len(STEPS), len(STEPS) - 1]
    assert capsys.readouterr().out == "ready\nready\n"


def test_fault_ends_the_command_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, steps: object) -> str:
        raise Unready("a fault")

    monkeypatch.setattr(release, "release", fail)

    with pytest.raises(SystemExit, match="not ready for a release: a fault"):
        release.main([])


def test_first_programs_of_the_readme_accept_and_refuse() -> None:
    assert codes_of((ROOT / "README.md").read_text()) == (250, 550)


def test_first_programs_with_wrong_replies_are_an_error(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text().replace("return Reply(550", "return Reply(553"))

    with pytest.raises(SystemExit, match="but are 250 and 553"):
        main(str(readme))
