"""Each block of the README runs as printed, in a fresh virtual environment with the packages that its text installs."""

import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.long import long
from tests.paths import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CREATES = "python3 -m venv"
"""The beginning of a block that makes a fresh environment."""
CHECKOUT = ("src", "man", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
MAX_SECONDS = 240.0
NO_INDEX = re.compile(r"No matching distribution|Could not find a version|Connection|timed out|Name or service", re.I)


class Environment:
    """A copy of the checkout, in which a reader of the README runs the blocks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in CHECKOUT:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, directory / name)
        (directory / "bin").mkdir()
        (directory / "bin" / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
        foreign = ("COVERAGE", "PYTEST", "PYTHON", "VIRTUAL_ENV")
        self._variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._variables["PATH"] = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._variables |= {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "20", "PIP_QUIET": "1"}

    def install(self, line: str) -> None:
        """Run a line that makes an environment. Skip the test if packages cannot be downloaded."""
        done = self.run(line)
        if done.returncode and NO_INDEX.search(done.stderr):
            pytest.skip(f"the packages cannot be installed: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-ec", script],
            cwd=self.directory,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )

    @contextmanager
    def serving(self, command: str, output: Path) -> Iterator[None]:
        """Run a server until the end of the block, and end it with SIGINT."""
        with (
            output.open("wb") as file,
            subprocess.Popen(
                ["bash", "-ec", f"exec {command}"], cwd=self.directory, env=self._variables, stdout=file, stderr=file
            ) as process,
        ):
            watchdog = threading.Timer(MAX_SECONDS, process.kill)
            watchdog.start()
            try:
                yield
                process.send_signal(signal.SIGINT)
                assert process.wait(MAX_SECONDS) == 0, output.read_text()
            finally:
                watchdog.cancel()
                process.kill()


def wait_for_port(port: int) -> None:
    """Wait until a server listens: each refused connection takes a moment, and the watchdog ends the server."""
    for _ in range(3000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            return
        except ConnectionRefusedError:
            threading.Event().wait(0.02)
    pytest.fail("the server does not listen")


def lines_of(position: int) -> list[str]:
    """Return the lines of a block of shell commands."""
    language, text = BLOCKS[position]
    assert language == "sh"
    return text.splitlines()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_readme_has_the_blocks_that_the_tests_run() -> None:
    assert [(language, text.startswith(CREATES)) for language, text in BLOCKS] == [
        ("sh", True),  # serve
        ("sh", False),  # send
        ("sh", True),  # the first program
        ("python", False),
        ("python", False),  # send mail
        ("sh", True),  # the tests, which .ci/run starts with this line
    ]


@long
def test_commands_of_the_readme_receive_and_send_mail(tmp_path: Path, port: int) -> None:
    environment = Environment(tmp_path)
    install, serve = lines_of(0)
    environment.install(install)
    create, send, curl = lines_of(1)
    if shutil.which("curl") is None:
        curl = ""

    with environment.serving(f"{serve} --port {port}", tmp_path / "output"):
        wait_for_port(port)
        done = environment.run("\n".join((create, send, curl)).replace("2525", str(port)))
        assert done.returncode == 0, done.stderr

    output = (tmp_path / "output").read_text()
    assert output.count("\n\nSubject: Hello\n\nHi!\n") == 1 + bool(curl)
    assert not (tmp_path / "Maildir").exists()
    for command in (".venv/bin/smtpcore", ".venv/bin/python -m smtpcore"):
        assert environment.run(f"{command} --version").stdout.startswith("smtpcore, version")


@long
def test_programs_of_the_readme_need_no_extra_packages(tmp_path: Path, port: int) -> None:
    environment = Environment(tmp_path)
    (install,) = lines_of(2)
    environment.install(install)
    (tmp_path / "server.py").write_text(BLOCKS[3][1].replace("2525", str(port)))
    call = f"import asyncio; asyncio.run(deliver('127.0.0.1', {port}, 'server.py'))"
    (tmp_path / "send.py").write_text(f"{BLOCKS[4][1]}\n\n{call}")

    assert "run `.venv/bin/python server.py`" in README
    with environment.serving(".venv/bin/python server.py", tmp_path / "output"):
        wait_for_port(port)
        done = environment.run(".venv/bin/python send.py")
        assert done.returncode == 0, done.stderr
        with smtplib.SMTP("127.0.0.1", port, "c.example", timeout=60) as smtp:
            smtp.sendmail("a@c.example", ["b@example.org"], b"Subject: hello\r\n")
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@c.example", ["b@elsewhere.example"], b"hello\r\n")

    done = environment.run(".venv/bin/smtpcore serve")
    assert (done.returncode, done.stderr) == (
        2,
        "smtpcore: the command line needs click: pip install 'smtpcore[cli]'\n",
    )
