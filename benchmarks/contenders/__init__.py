"""The servers that are compared: how to start each server, and which software the server requires.

Each server is a process that listens on 127.0.0.1, at the port in its command line. Each server accepts every
recipient, and discards every message after reading all of it. All protocol checks that the server has are switched on.
"""

import importlib.util
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..ports import reserved_ports

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smtpcore-benchmarks"
"""The directory for Node.js packages and for the compiled server in Go."""
COMPILED = "SMTPCORE_COMPILED_PYTHON"
"""The environment variable with the interpreter of an environment with the compiled build of smtpcore."""
GO_PACKAGES = Path("/usr/share/gocode")
"""The directory of the packages of Go that Debian has installed: a GOPATH."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is listening."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that can be started."""

    title: str
    command: Callable[[int], list[str]]
    """A function that returns the command line for a port."""
    missing: Callable[[], str | None]
    """A function that returns the reason why the server cannot be started, or None."""


def _python(
    script: str, *arguments: str, needs: tuple[str, ...]
) -> tuple[Callable[[int], list[str]], Callable[[], str | None]]:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.contenders.{script}", *arguments, str(port)]

    def missing() -> str | None:
        absent = [name for name in needs if not _is_there(name)]
        return f"pip install {' '.join(absent)}" if absent else None

    return command, missing


def _compiled(adapter: str) -> tuple[Callable[[int], list[str]], Callable[[], str | None]]:
    """Return the command of our server on the compiled build, and the reason why it cannot be started."""

    def command(port: int) -> list[str]:
        return [os.environ[COMPILED], "-m", "benchmarks.contenders.ours", adapter, str(port)]

    def missing() -> str | None:
        if not os.environ.get(COMPILED):
            return "name the interpreter of an environment with the compiled build: --compiled PYTHON"
        needs = "import smtpcore" + (", uvloop" if adapter == "uvloop" else "")
        code = f"{needs}; print(smtpcore.COMPILED)"
        done = subprocess.run([os.environ[COMPILED], "-c", code], capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip().rpartition("\n")[2]
        return None if done.stdout.strip() == "True" else f"{os.environ[COMPILED]} has the pure build of smtpcore"

    return command, missing


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _sink(port: int) -> list[str]:
    # As root, smtp-sink needs the name of another user.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return [_sink_path() or "smtp-sink", "-4", "-m", "10000", *user, f"127.0.0.1:{port}", "1024"]


def _sink_path() -> str | None:
    return shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _node(port: int) -> list[str]:
    return ["node", str(HERE / "nodemailer.js"), str(CACHE), str(port)]


def _missing_node() -> str | None:
    if not (shutil.which("node") and shutil.which("npm")):
        return "node with npm is not installed"
    if (CACHE / "node_modules" / "smtp-server").is_dir():
        return None

    CACHE.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "smtp-server"]
    done = subprocess.run(install, cwd=CACHE, capture_output=True, text=True)
    return f"npm install smtp-server: {done.stderr.strip()[-200:]}" if done.returncode else None


def _go(port: int) -> list[str]:
    return [str(CACHE / "go-smtp-server"), str(port)]


def _missing_go() -> str | None:
    if not shutil.which("go"):
        return "go is not installed"
    if not (GO_PACKAGES / "src/github.com/emersion/go-smtp").is_dir():
        return "go-smtp is not installed: apt install golang-github-emersion-go-{smtp,sasl}-dev"

    CACHE.mkdir(parents=True, exist_ok=True)
    build = ["go", "build", "-o", str(CACHE / "go-smtp-server"), str(HERE / "go_smtp_server.go")]
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PACKAGES)}
    done = subprocess.run(build, env=environment, capture_output=True, text=True)
    return f"go build: {done.stderr.strip()[-200:]}" if done.returncode else None


def _postfix(port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.contenders.postfix_server", str(port)]


def _missing_postfix() -> str | None:
    if not Path("/usr/lib/postfix/sbin/master").exists():
        return "Postfix is not installed"
    return "Postfix has to be started by root" if os.geteuid() else None


CONTENDERS = {
    "asyncio": Contender("smtpcore, asyncio", *_python("ours", "asyncio", needs=())),
    "uvloop": Contender("smtpcore, asyncio on uvloop", *_python("ours", "uvloop", needs=("uvloop",))),
    "compiled": Contender("smtpcore compiled, asyncio", *_compiled("asyncio")),
    "compiled-uvloop": Contender("smtpcore compiled, asyncio on uvloop", *_compiled("uvloop")),
    "trio": Contender("smtpcore, trio", *_python("ours", "trio", needs=("trio", "smtpcore_adapters.trio"))),
    "anyio": Contender("smtpcore, anyio on asyncio", *_python("ours", "anyio", needs=("anyio",))),
    "anyio-trio": Contender("smtpcore, anyio on trio", *_python("ours", "anyio-trio", needs=("anyio", "trio"))),
    "threads": Contender("smtpcore, threads", *_python("ours", "threads", needs=("smtpcore_adapters.socket",))),
    "aiosmtpd": Contender("aiosmtpd", *_python("aiosmtpd_server", needs=("aiosmtpd",))),
    "aiosmtpd-uvloop": Contender(
        "aiosmtpd on uvloop", *_python("aiosmtpd_server", "--uvloop", needs=("aiosmtpd", "uvloop"))
    ),
    "twisted": Contender("Twisted", *_python("twisted_server", needs=("twisted",))),
    "smtp-sink": Contender(
        "Postfix's smtp-sink (C)", _sink, lambda: None if _sink_path() else "smtp-sink (Postfix) is not installed"
    ),
    "nodemailer": Contender("nodemailer's smtp-server", _node, _missing_node),
    "go-smtp": Contender("go-smtp", _go, _missing_go),
}
POSTFIX = Contender("Postfix's smtpd (C)", _postfix, _missing_postfix)
"""A mail server that puts each message into its queue. So it is compared under TLS only."""


@contextmanager
def running(contender: Contender, cpu: int | None, *files: str) -> Iterator[Running]:
    """Run the server during the block, on one CPU if `cpu` is given. Raises `OSError` if it does not start.

    With `files`, the certificate chain and its key, TLS starts before the greeting.
    """
    pin = partial(os.sched_setaffinity, 0, {cpu}) if cpu is not None else None
    with (
        reserved_ports(1) as (port,),
        subprocess.Popen([*contender.command(port), *files], preexec_fn=pin, stdout=subprocess.DEVNULL) as process,
    ):
        try:
            _wait_until_it_listens(process, port, greets=not files)
            yield Running(process.pid, port)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_it_listens(
    process: "subprocess.Popen[bytes]", port: int, timeout: float = 20.0, *, greets: bool = True
) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise OSError(f"{process.args!r} ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port)) as client:
                if greets:
                    client.recv(1)
            return
        except ConnectionRefusedError:
            time.sleep(0.02)

    raise OSError(f"{process.args!r} does not listen")


def allow_many_files() -> None:
    """Raise the limit of open files to the maximum, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
