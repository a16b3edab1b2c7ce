"""The report of `smtpcore --version`, and the command without the packages of the command line."""

import platform
import re
import sys
import tomllib
from importlib.metadata import version

import pytest

from smtpcore import COMPILED, __version__
from smtpcore_adapters import _installation
from smtpcore_adapters.__main__ import main
from smtpcore_adapters._installation import COMMANDS, EXTRAS, describe, short_help
from smtpcore_adapters.cli import cli
from tests.adapters.command import run_in_process
from tests.paths import ROOT

OWN_EXTRAS = {"all", "bench", "dev", "docs", "qt"}
"""The extras that are made of others, or are for the tests of smtpcore itself."""


def hide(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next import of the command line fail, as if `module` did not exist."""
    for name in [*sys.modules]:
        if name.startswith("smtpcore_adapters.cli"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    hide("click", monkeypatch)


def test_version_has_python_and_the_packages_of_each_extra() -> None:
    done = run_in_process("--version")

    assert (done.returncode, done.stdout) == (0, f"{describe()}\n")
    first, second, *extras = done.stdout.splitlines()
    assert first == f"smtpcore, version {__version__}" + (", compiled" if COMPILED else "")
    assert second.startswith(f"{platform.python_implementation()} {platform.python_version()}, OpenSSL ")
    assert second.endswith(platform.platform())
    assert [line.split(":")[0] for line in extras] == [f"extra {name}" for name in EXTRAS]
    assert f"extra idna: idna {version('idna')}" in extras


def test_version_names_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = {"reload": ("watchfiles-x", "idna"), "trio": ("trio-x", "anyio-x")}
    monkeypatch.setattr(_installation, "EXTRAS", extras)

    assert describe().splitlines()[2:] == [
        f"extra reload: idna {version('idna')}; missing watchfiles-x",
        "extra trio: missing trio-x, anyio-x",
    ]


def test_extras_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: tuple(re.split("[>!<=;]", requirement)[0] for requirement in requirements)
        for name, requirements in project["optional-dependencies"].items()
        if name not in OWN_EXTRAS
    }

    assert extras == EXTRAS
    assert project["dependencies"] == []


def test_commands_are_those_of_the_command_line() -> None:
    assert {name: command.get_short_help_str(100) for name, command in sorted(cli.commands.items())} == COMMANDS


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
@pytest.mark.usefixtures("without_packages")
def test_help_needs_no_packages(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["smtpcore", *arguments])

    main()

    output, errors = capsys.readouterr()
    assert (output, errors) == (f"{short_help()}\n", "")
    assert "  serve    Receive mail" in output
    assert "smtpcore[cli]" in output


@pytest.mark.usefixtures("without_packages")
def test_version_needs_no_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["smtpcore", "--version"])

    main()

    assert capsys.readouterr() == (f"{describe()}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("without_packages")
def test_each_command_names_the_extra_that_it_needs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["smtpcore", name, "--help"])

    with pytest.raises(SystemExit, match=r"^2$"):
        main()

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == "smtpcore: the command line needs click: pip install 'smtpcore[cli]'\n"


def test_other_missing_module_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    hide("smtpcore_adapters.cli", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["smtpcore", "serve"])

    with pytest.raises(ModuleNotFoundError, match=r"smtpcore_adapters\.cli"):
        main()
