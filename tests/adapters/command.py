"""Run the command line, as a process or in this process."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from smtpcore_adapters.cli import main
from tests.forking import start_python

TIMEOUT = 60.0


@dataclass
class Running:
    """A `smtpcore serve` process that is listening."""

    process: subprocess.Popen[str]
    host: str
    port: int
    maildir: Path
    errors: list[str] = field(default_factory=list)
    status: int | None = None
    output: str = ""

    def messages(self) -> list[bytes]:
        """Return the delivered messages, oldest first."""
        return [path.read_bytes() for path in sorted((self.maildir / "new").iterdir(), key=lambda path: path.name)]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "smtpcore_adapters", *arguments]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as a process."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=cwd, env=_environment()
    )


def run_in_process(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", password: str = "", auth: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in this process, which is much quicker than `run`."""
    logger = logging.getLogger("smtpcore")
    handlers, level = logger.handlers[:], logger.level
    output, errors = io.StringIO(), io.StringIO()
    # A server that starts although the test expects an error would run forever.
    watchdog = threading.Timer(TIMEOUT, os.kill, [os.getpid(), signal.SIGINT])
    watchdog.start()
    try:
        with (
            chdir(cwd or os.curdir),
            _standard_input(stdin) as file,
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(output),
            redirect_stderr(errors),
        ):
            patch.setattr(sys, "stdin", file)
            patch.setenv("SMTPCORE_PASSWORD", password)
            if auth is not None:
                patch.setenv("SMTPCORE_AUTH", auth)
            status = main(arguments)
    finally:
        watchdog.cancel()
        logger.handlers[:] = handlers
        logger.setLevel(level)
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


@contextmanager
def _standard_input(data: bytes) -> Iterator[io.TextIOWrapper]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(data)
    with open(reading) as input_file:
        yield input_file


@contextmanager
def running(
    directory: Path, *arguments: str, stores: bool = True, stdout: int = subprocess.PIPE, auth: str = ""
) -> Iterator[Running]:
    """Run `smtpcore serve` until the end of the block, on a free port or with `--unix`, and end it with SIGTERM.

    Messages are stored in `directory`, unless `stores` is false or the messages are forwarded. `auth` is a user, as
    USER:PASSWORD. The process is forked (`tests.forking`), so its command line in a list of processes is another one.
    """
    stores = stores and "--deliver" not in arguments
    directory.mkdir(parents=True, exist_ok=True)
    maildir = directory / "Maildir"
    place = [] if "--unix" in arguments else ["--port", "0"]
    process = start_python(
        command("serve", *place, *(["--maildir", str(maildir)] if stores else []), *arguments),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=_environment() | ({"SMTPCORE_AUTH": auth} if auth else {}),
    )
    watchdog = threading.Timer(10 * TIMEOUT, process.kill)
    watchdog.start()
    try:
        assert process.stderr
        line = process.stderr.readline()
        if "as root" in line:  # a warning, because the tests run as root
            line = process.stderr.readline()
        if line.startswith("{"):
            line = json.loads(line)["message"]
        assert line.startswith("listening on "), line + process.stderr.read()
        host, _, port = line.removeprefix("listening on ").partition(" with ")[0].rpartition(":")
        server = Running(process, host, int(port) if host else 0, maildir)  # a Unix socket has no port
        yield server
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=TIMEOUT)
        server.output = output or ""
        server.errors = errors.splitlines()
        server.status = process.returncode
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


_LAUNCHER = """
import os, sys
count = int(sys.argv[1])
numbers = [os.dup(int(each)) for each in sys.argv[2:2 + count]]  # above the numbers that they get now
for number, source in enumerate(numbers, 3):
    os.dup2(source, number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.executable, [sys.executable, "-m", "smtpcore_adapters", *sys.argv[2 + count:]])
"""


@contextmanager
def as_service(
    directory: Path, addresses: Sequence[tuple[str, int]], *arguments: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], list[int], socket.socket]]:
    """Run the command as a service of systemd, with open sockets at `addresses`.

    Yield the process, the ports of the sockets, and the socket that receives the reports of the service.
    """
    with ExitStack() as stack:
        passed = [
            stack.enter_context(socket.create_server(each, dualstack_ipv6=each[0] == "::", family=_family(each[0])))
            for each in addresses
        ]
        reports = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        reports.settimeout(TIMEOUT)
        reports.bind(str(directory / "notify"))
        numbers = [each.fileno() for each in passed]
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, str(len(numbers)), *map(str, numbers), *arguments],
                pass_fds=numbers,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=directory,
                env=_environment() | {"NOTIFY_SOCKET": str(directory / "notify"), **variables},
            )
        )
        stack.callback(process.kill)
        yield process, [each.getsockname()[1] for each in passed], reports


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def split_trace(message: bytes) -> tuple[bytes, bytes]:
    """Split a stored message, which has LF line ends, into the trace fields added by the server and the message."""
    lines: Sequence[bytes] = message.split(b"\n")
    received = next(number for number, line in enumerate(lines) if line.startswith(b"Received:"))
    end = next(number for number in range(received + 1, len(lines)) if not lines[number].startswith(b"\t"))
    return b"\n".join(lines[:end]) + b"\n", b"\n".join(lines[end:])


def _environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
