"""The parts of the command line that all commands share: interrupts, start-up lines, and errors."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from smtpcore import COMPILED, __version__
from smtpcore_adapters import cli
from tests.adapters.command import TIMEOUT

GROUP = BaseExceptionGroup("of a nursery", [BaseExceptionGroup("of another", [KeyboardInterrupt()])])


@pytest.mark.parametrize("reason", [click.Abort(), KeyboardInterrupt(), GROUP])
def test_interrupted_command_gives_status_130(reason: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise reason

    monkeypatch.setattr(cli.cli, "main", interrupt)

    assert cli.main([]) == 130


def test_other_exception_in_a_group_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    group = BaseExceptionGroup("of a nursery", [KeyboardInterrupt(), ValueError("a defect")])
    monkeypatch.setattr(cli.cli, "main", Mock(side_effect=group))
    with pytest.raises(BaseExceptionGroup) as caught:
        cli.main([])
    assert caught.value is group


@pytest.mark.parametrize("module", ["smtpcore", "smtpcore_adapters"])
def test_module_is_the_command_line(module: str) -> None:
    done = run_python("-m", module, "--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"smtpcore, version {__version__}{', compiled' * COMPILED}"


@pytest.mark.parametrize("module", ["smtpcore", "smtpcore_adapters"])
def test_module_names_the_missing_extra_in_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')")
    done = run_python("-m", module, "serve", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr == "smtpcore: the command line needs click: pip install 'smtpcore[cli]'\n"


def test_interrupt_during_the_import_of_the_commands_gives_status_130(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = run_python("-m", "smtpcore", "serve", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_importing_the_main_module_runs_nothing() -> None:
    done = run_python("-c", "import sys, smtpcore.__main__; print('smtpcore_adapters' in sys.modules)")

    assert (done.returncode, done.stdout) == (0, "False\n")


def run_python(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=cwd
    )
