"""`smtpcore serve --reload` starts the server again when a Python file changes."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from smtpcore_adapters import _hangups
from smtpcore_adapters.cli import _reloader
from tests.adapters.command import TIMEOUT, command, run_in_process


class FakeServer:
    """A process that does not run."""

    started: list["FakeServer"]

    def __init__(self, command: list[str], pass_fds: list[int]) -> None:
        self.command = command
        self.descriptors = pass_fds
        self.calls: list[str] = []
        self.started.append(self)

    def terminate(self) -> None:
        self.calls.append("terminate")

    def kill(self) -> None:
        self.calls.append("kill")

    def wait(self, timeout: float | None = None) -> None:
        self.calls.append("wait")
        if timeout is not None and "--stubborn" in self.command:
            raise subprocess.TimeoutExpired(self.command, timeout)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[FakeServer]:
    """Return the processes that are started. The files change once."""

    def watch(*paths: object, watch_filter: Any, **options: object) -> Iterator[set[tuple[int, str]]]:
        assert watch_filter(watchfiles.Change.modified, "/x/smtpcore.toml")
        assert watch_filter(watchfiles.Change.modified, "/x/server.py")
        assert not watch_filter(watchfiles.Change.added, "/x/Maildir/new/1")
        yield {(2, "/x/server.py"), (2, "/x/other.py")}

    monkeypatch.setattr(watchfiles, "watch", watch)
    monkeypatch.setattr(_reloader.subprocess, "Popen", FakeServer)  # type: ignore[attr-defined]
    FakeServer.started = []
    return FakeServer.started


def test_server_is_started_again_after_a_change(servers: list[FakeServer], tmp_path: Path) -> None:
    done = run_in_process("serve", "server:app", "--reload", "--lmtp", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "other.py, server.py changed: starting the server again\n")
    command = [sys.executable, "-m", "smtpcore", "serve", "server:app", "--reload", "--lmtp", "--no-reload"]
    assert [(server.command, server.calls) for server in servers] == [(command, ["terminate", "wait"])] * 2


def test_server_that_does_not_end_is_killed(servers: list[FakeServer]) -> None:
    _reloader.serve_again_after_changes(["--stubborn"])
    assert [server.calls for server in servers] == [["terminate", "wait", "kill", "wait"]] * 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_stops_the_server(name: str, servers: list[FakeServer], monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(signal, name)

    def watch(*paths: object, stop_event: Any, **options: object) -> Iterator[set[tuple[int, str]]]:
        signal.raise_signal(number)
        assert stop_event.is_set()
        yield from ()

    monkeypatch.setattr(watchfiles, "watch", watch)
    before = signal.getsignal(number)
    _reloader.serve_again_after_changes([])
    assert [server.calls for server in servers] == [["terminate", "wait"]]
    assert signal.getsignal(number) is before


def test_reload_without_watchfiles_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = run_in_process("serve", "server:app", "--reload", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "smtpcore: --reload needs another package: pip install 'smtpcore[reload]'\n",
    )


def test_no_server_is_started_if_the_terminal_was_closed_before(
    servers: list[FakeServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hangups, "_is_noted", True)
    done = run_in_process("serve", "server:app", "--reload", cwd=tmp_path)
    assert (done.returncode, done.stderr, servers) == (0, "", [])


@pytest.mark.skipif(sys.platform == "win32", reason="a process inherits no sockets on Windows")
def test_server_inherits_the_sockets_of_its_listeners(servers: list[FakeServer], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listeners = "".join(f"[[listener]]\nfd = {number}\n" for number in (listening.fileno(), 987, 99999999999))
        (tmp_path / "smtpcore.toml").write_text(listeners)
        assert run_in_process("serve", "--reload", cwd=tmp_path).returncode == 0
        assert [server.descriptors for server in servers] == [[listening.fileno()]] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="a process inherits no sockets on Windows")
def test_mail_arrives_at_an_inherited_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        process = subprocess.Popen(
            command("serve", "--fd", str(number), "--reload"), cwd=tmp_path, pass_fds=[number], stderr=subprocess.PIPE
        )
        try:
            assert process.stderr
            assert any(b"listening on 127.0.0.1" in line for line in process.stderr)
            with socket.create_connection(listening.getsockname(), TIMEOUT) as client:
                assert client.recv(3) == b"220"
        finally:
            process.terminate()
            process.communicate()
