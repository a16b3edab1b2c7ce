"""The tools and packages that the checks install have exact versions and hashes."""

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.paths import ROOT

LOCKS = sorted(ROOT.glob(".ci/*.in"))
pytestmark = pytest.mark.skipif(not LOCKS, reason="the source distribution has no .ci")


def locked(path: Path) -> dict[str, bool]:
    """Return the packages of a lock, each with whether it has a hash."""
    found = re.findall(r"^([\w.-]+)==\S+(.*)\n(?:    (--hash=sha256:[0-9a-f]{64}))?", path.read_text(), re.MULTILINE)
    return {name.lower(): bool(sum_) for name, _, sum_ in found}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_lock_has_each_tool_with_a_hash_and_no_host(path: Path) -> None:
    wanted = re.findall(r"^([\w-]+)", path.read_text(), re.MULTILINE)
    lock = path.with_suffix(".txt")

    assert wanted
    assert [name for name in wanted if not locked(lock).get(name)] == []
    assert [name for name, has_hash in locked(lock).items() if not has_hash] == []
    assert "://" not in lock.read_text()


def test_each_lock_is_installed_with_its_hashes() -> None:
    scripts = "\n".join(path.read_text() for path in (ROOT / ".ci").iterdir() if not path.suffix)

    for path in LOCKS:
        assert re.search(rf"--require-hashes .*-r \.ci/{path.stem}\.txt", scripts)


@pytest.fixture
def npm(tmp_path: Path) -> dict[str, str]:
    """Return the environment with an npm that makes an archive, and with the sum of the archive as SUM."""
    archive = tmp_path / "thing-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        (tmp_path / "main.js").write_text("run()")
        tar.add(tmp_path / "main.js", "package/main.js")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text(f'#!/bin/sh\n[ "$3" = thing@1.0.0 ] && cp {archive} . && echo {archive.name}\n')
    (programs / "npm").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SUM": hashlib.sha256(archive.read_bytes()).hexdigest()}


def unpack(target: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run .ci/npm."""
    command = ["bash", str(ROOT / ".ci" / "npm"), str(target), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_package_of_npm_with_the_right_sum_is_unpacked(npm: dict[str, str], tmp_path: Path) -> None:
    result = unpack(tmp_path / "to", npm, "thing@1.0.0", npm["SUM"])

    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "to" / "node_modules" / "thing" / "main.js").read_text() == "run()"


def test_package_of_npm_with_another_sum_is_an_error(npm: dict[str, str], tmp_path: Path) -> None:
    result = unpack(tmp_path / "to", npm, "thing@1.0.0", "0" * 64)

    assert result.returncode == 1
    assert not (tmp_path / "to" / "node_modules").exists()


def test_package_that_npm_cannot_download_is_skipped_with_a_message(npm: dict[str, str], tmp_path: Path) -> None:
    result = unpack(tmp_path / "to", npm, "other@2.0.0", npm["SUM"])

    assert (result.returncode, result.stdout) == (0, "skipped: npm could not download other@2.0.0\n")
    assert not (tmp_path / "to" / "node_modules").exists()
