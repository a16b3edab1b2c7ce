"""The manual page `man/smtpcore.1`: current, complete, and free of errors."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smtpcore_adapters.cli import cli
from tools import man_page
from tools.man_page import PAGE, date_of, page


def commands(group: click.Group) -> Iterator[click.Command]:
    """Yield a group and all commands below it."""
    yield group
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date_of(text))
    assert text == page(date_of(text)), "run: python -m tools.man_page"


def test_page_has_every_command_and_option() -> None:
    text = PAGE.read_text(encoding="utf-8").replace(r"\-", "-")
    found = set(re.findall(r"\\fB(-.*?)\\fR", text))
    options = [option for command in commands(cli) for option in command.params if isinstance(option, click.Option)]

    assert len(options) > 100
    assert {name for option in options for name in (*option.opts, *option.secondary_opts)} <= found
    for command in commands(cli):
        assert command is cli or re.search(rf'^\.SS "smtpcore (\w+ )?{command.name}\b', text, re.MULTILINE)


def test_special_characters_are_escaped() -> None:
    assert [*man_page._text('.a "b" \\c -d')] == [r"\&.a \(dqb\(dq \ec \-d"]


@pytest.mark.parametrize("checker", ["mandoc -T lint", "groff -man -ww -z"])
def test_checkers_of_manual_pages_accept_the_page(checker: str) -> None:
    program, *options = checker.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")

    done = subprocess.run([program, *options, PAGE], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_date_changes_with_the_text_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "smtpcore.1"
    monkeypatch.setattr(man_page, "PAGE", path)
    for old, is_same in [(page("2001-02-03"), True), (page("2001-02-03") + "more", False), ("", False)]:
        path.write_text(old)
        man_page.write()
        assert (date_of(path.read_text()) == "2001-02-03") is is_same
