"""A server in several worker processes."""

import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smtpcore_adapters import App, Listener
from smtpcore_adapters.server._counts import MemoryCounts
from smtpcore_adapters.shared_limits import RedisCounts
from smtpcore_adapters.workers import run_workers
from tests.adapters.command import TIMEOUT, Running
from tests.adapters.command import running as serving
from tests.paths import DOCS

if not hasattr(os, "fork"):  # pragma: no cover
    pytest.skip("this system cannot fork", allow_module_level=True)

from smtpcore_adapters.server._shared_counts import WorkerCounts
from smtpcore_adapters.server._workers import Work


def greeting(port: int, stack: ExitStack) -> tuple[int, smtplib.SMTP]:
    """Connect, and return the code of the greeting."""
    client = stack.enter_context(_Client(timeout=TIMEOUT))
    return client.connect("127.0.0.1", port)[0], client


class _Client(smtplib.SMTP):
    def __exit__(self, *args: object) -> None:
        self.close()


def log_in_wrongly(client: smtplib.SMTP) -> int:
    client.ehlo()
    return client.docmd("AUTH", "PLAIN " + b64encode(b"\0tim\0wrong").decode())[0]


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc"
)


def children_of(server: Running) -> set[int]:
    pid = server.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_four_workers_admit_together_as_many_connections_of_an_address_as_one(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "4") as server, ExitStack() as stack:
        clients = [greeting(server.port, stack) for _ in range(100)]
        assert {code for code, _ in clients} == {220}
        assert greeting(server.port, stack)[0] == 421
        clients[0][1].quit()
        end = time.monotonic() + TIMEOUT
        while (code := greeting(server.port, stack)[0]) == 421 and time.monotonic() < end:
            pass  # the worker counts the connection until it has closed it
        assert (code, greeting(server.port, stack)[0]) == (220, 421)


@needs_proc
def test_connections_of_a_killed_worker_are_free_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "4", "--max-connections-per-address", "20") as server, ExitStack() as stack:
        clients = [greeting(server.port, stack) for _ in range(20)]
        os.kill(min(children_of(server)), signal.SIGKILL)
        lost = 0
        for _, client in clients:
            try:
                client.noop()
            except smtplib.SMTPServerDisconnected:
                lost += 1
        end = time.monotonic() + TIMEOUT
        again = Counter[int]()
        while again[220] < lost and time.monotonic() < end:
            with suppress(smtplib.SMTPServerDisconnected):  # the system resets what waited for the killed worker
                again[greeting(server.port, stack)[0]] += 1
        assert greeting(server.port, stack)[0] == 421
        assert again[220] == lost

    assert any("ended with SIGKILL" in line for line in server.errors)


@pytest.mark.parametrize("limit", ["--max-auth-failures-per-hour", "--max-account-failures-per-hour"])
def test_rates_and_failed_logins_are_counted_over_all_workers(tmp_path: Path, limit: str) -> None:
    limits = ("--max-connections-per-minute", "20", limit, "8", "--max-auth-delay", "0.001")
    options = ("--workers", "4", "--allow-plaintext-auth", "--auth-delay", "0", *limits)
    with serving(tmp_path, *options, auth="tim:secret") as server, ExitStack() as stack:
        clients = [greeting(server.port, stack) for _ in range(22)]
        assert Counter(code for code, _ in clients) == {220: 20, 421: 2}
        assert Counter(log_in_wrongly(client) for _, client in clients[:12]) == {535: 8, 454: 4}


(PROGRAM,) = re.findall(r"```python\n([^`]*run_workers[^`]*)```", (DOCS / "server.md").read_text())


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-u", "-W", "error", "-c", program], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
        watchdog.cancel()


@pytest.mark.parametrize("backend", ["asyncio", "socket"])
def test_workers_of_a_program_share_a_port_and_the_limits(backend: str) -> None:
    program = PROGRAM.replace("asyncio", backend).replace("2525", "0").replace("=20", "=2")
    with running(program) as process, ExitStack() as stack:
        assert process.stdout
        port = int(process.stdout.readline().rpartition(":")[2])
        assert [greeting(port, stack)[0] for _ in range(3)] == [220, 220, 421]

    assert process.returncode == 0


def no_run(**options: object) -> None:
    raise AssertionError("no worker is started")


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker_is_needed(workers: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        run_workers(no_run, App(), workers=workers)


def test_wrong_option_is_reported_before_a_worker_starts() -> None:
    with pytest.raises(ValueError, match="implicit_tls needs an SSLContext"):
        run_workers(no_run, App(), workers=2, implicit_tls=True)


def test_system_without_fork_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(ValueError, match="a system that can fork, such as Linux or macOS: call run without workers"):
        run_workers(no_run, App(), workers=2)


class FakeSupervisor:
    """Runs the first worker in this process."""

    def __init__(self, works: Sequence[Work], **options: object) -> None:
        self._work = works[0]

    def run(self) -> None:
        self._work(lambda: None)


@pytest.mark.parametrize("has_counts", [True, False])
def test_each_worker_gets_listeners_and_shared_counts_or_those_of_the_program(
    has_counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._workers.Supervisor", FakeSupervisor)
    monkeypatch.setattr("smtpcore_adapters.workers.current_process", SimpleNamespace)
    own = MemoryCounts()
    passed: dict[str, Any] = {}

    def run(app: App, **options: Any) -> None:
        passed.update(options)

    options: dict[str, Any] = {"counts": own} if has_counts else {}
    run_workers(run, App(), workers=2, host="127.0.0.1", hostname="s.example", **options)
    assert passed.keys() == {"hostname", "listeners", "on_ready", "counts"}
    (listener,) = passed["listeners"]
    assert isinstance(listener, Listener)
    assert listener.port
    assert (passed["counts"] is own) == has_counts


def test_counts_of_several_machines_get_the_counts_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._workers.Supervisor", FakeSupervisor)
    monkeypatch.setattr("smtpcore_adapters.workers.current_process", SimpleNamespace)
    own = RedisCounts("redis://127.0.0.1:1")
    passed: dict[str, Any] = {}
    run_workers(lambda app, **options: passed.update(options), App(), workers=2, host="127.0.0.1", counts=own)
    assert passed["counts"] is own
    assert isinstance(own.local, WorkerCounts)
