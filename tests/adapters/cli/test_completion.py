"""Completion of commands, options and values in bash, zsh and fish."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from smtpcore_adapters.cli import cli
from tests.adapters.command import TIMEOUT
from tests.paths import DOCS

SCRIPTS = {
    "bash": """
eval "$(_SMTPCORE_COMPLETE=bash_source smtpcore)"
completed() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _smtpcore_completion smtpcore; echo "${COMPREPLY[@]}"; }
completed smtpcore ser
completed smtpcore serve --log-level err
""",
    "zsh": r"""
zmodload zsh/zpty
zpty shell 'zsh -f -i'
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D; eval "$(_SMTPCORE_COMPLETE=zsh_source smtpcore)"'
zpty -w shell 'print REA""DY'
zpty -r shell text '*READY*'
zpty -w -n shell $'smtpcore ser\t--log-level err\t'
zpty -r shell text '*--log-level error*'
print -r -- "${text##*READY}"
zpty -d shell
""",
    "fish": """
_SMTPCORE_COMPLETE=fish_source smtpcore | source
complete -C 'smtpcore ser'
complete -C 'smtpcore serve --log-level err'
""",
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_documentation_has_the_line_of_each_shell(shell: str) -> None:
    (row,) = re.findall(rf"^\| {shell} \|.*", (DOCS / "running.md").read_text(), re.MULTILINE)
    line = row.rsplit(" | ", 1)[1].strip(" |`").replace("\\|", "|")

    assert line.count("_SMTPCORE_COMPLETE") == 1
    assert line in SCRIPTS[shell]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_shell_completes_commands_and_values(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "smtpcore"
    # A shell that ran the completed line would start a server, which could outlive the test.
    program.write_text(f'#!/bin/sh\n[ "$_SMTPCORE_COMPLETE" ] && exec {sys.executable} -m smtpcore "$@"\n')
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}

    done = subprocess.run(
        [shell, "-c", SCRIPTS[shell]], env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\bserve\b.*\berror\b", done.stdout, re.DOTALL)


@pytest.mark.parametrize(
    ("words", "start", "completions"),
    [
        ("", "se", ["send", "serve"]),
        ("serve", "--log-l", ["--log-level"]),
        ("serve --log-level", "", ["debug", "info", "warning", "error"]),
        ("config --backend", "t", ["trio", "threads"]),
        ("send --tls", "st", ["starttls"]),
        ("user", "", ["add", "list", "remove"]),
        ("check", "--lis", ["--listen", "--list"]),
        ("check --only", "pipelining-order", ["pipelining-order"]),
        ("check --listen --only", "quit", ["quit-sent", "quit-last"]),
    ],
)
def test_values_of_a_choice_are_completed(words: str, start: str, completions: list[str]) -> None:
    assert [value for value, _ in complete(words, start)] == completions


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("serve --config", "file"),
        ("serve --tls-cert", "file"),
        ("serve --unix", "file"),
        ("serve --maildir", "dir"),
        ("user add --users", "file"),
        ("send --tls-ca", "file"),
        ("explain", "file"),
    ],
)
def test_paths_are_completed_by_the_shell(words: str, kind: str) -> None:
    assert complete(words, "/etc/ho") == [("/etc/ho", kind)]


def test_free_text_is_not_completed() -> None:
    assert complete("serve --hostname", "") == []


def complete(words: str, start: str) -> list[tuple[str, str]]:
    completion = ShellComplete(cli, {}, "smtpcore", "_SMTPCORE_COMPLETE")
    return [(item.value, item.type) for item in completion.get_completions(words.split(), start)]
