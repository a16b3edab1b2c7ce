"""Start Python programs by forking a process that has already imported the packages.

A new Python process needs a third of a second to import the command line or an adapter, and the tests start hundreds
of them. `start_python` and `run_python` take arguments of `subprocess.Popen` and `subprocess.run`. They ask a process
of `template.py`, which each test process starts once, to fork. The child has the arguments, the environment, the
directory and the standard streams of a new process, and ends as one. But its modules are already imported, and `ps`
shows the command of the template. Use `subprocess` for a test of the start itself or of the list of processes.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, overload

from .forked import Forked, read_at_start
from .program import parse

File = int | IO[bytes] | IO[str] | None


@overload
def start_python(
    command: Sequence[str],
    *,
    text: Literal[True],
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
) -> "subprocess.Popen[str]": ...


@overload
def start_python(
    command: Sequence[str],
    *,
    text: Literal[False] = False,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    start_new_session: bool = False,
) -> "subprocess.Popen[bytes]": ...


def start_python(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Start a Python program, by forking if a fork behaves as a new process does."""
    environment = dict(os.environ if env is None else env)
    can_fork = (
        sys.platform == "linux"
        and command[0] == sys.executable
        and parse(command[1:]) is not None
        and read_at_start(environment) == AT_START
    )
    kind = Forked if can_fork else subprocess.Popen
    return kind(command, env=environment, **options)


def run_python(
    command: Sequence[str], *, timeout: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program to its end, and capture its output."""
    with start_python(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env=env) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


AT_START = read_at_start(os.environ)
