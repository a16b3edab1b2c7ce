"""Servers in one process or in several worker processes."""

import logging
import os
import re
import signal
import smtplib
import socket
import sys
import time
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock
from urllib.error import HTTPError

import click
import pytest
import trustme

from smtpcore_adapters import Address, App, Limits, _hangups, cli
from smtpcore_adapters.cli._health import Readiness
from smtpcore_adapters.cli._privileges import Account
from smtpcore_adapters.cli._processes import (
    _announce,
    _metrics,
    _work_for_metrics,
    raise_descriptor_limit,
    reloading,
    run_alone,
    run_workers,
)
from smtpcore_adapters.cli._systemd import NO_SYSTEMD
from smtpcore_adapters.cli.serve import _reloading
from smtpcore_adapters.server._listeners import Listener
from tests.adapters.cli.clients import client_context, connect, send
from tests.adapters.command import TIMEOUT, Running, run_in_process, running
from tests.adapters.harness import has_ipv6


@pytest.mark.parametrize("metrics", [None, Address("127.0.0.1", 9)])
def test_listening_addresses_are_announced_on_stderr(
    metrics: Address | None, capsys: pytest.CaptureFixture[str]
) -> None:
    readiness = Readiness()
    _announce(readiness, NO_SYSTEMD, metrics, [Address("127.0.0.1", 2525)])

    announced = capsys.readouterr().err.splitlines()
    assert announced[0] == "listening on 127.0.0.1:2525"
    assert announced[1:] == (["metrics at http://127.0.0.1:9/metrics"] if metrics else [])
    assert readiness()


def test_lines_are_shown_by_a_function() -> None:
    lines: list[str] = []
    _announce(Readiness(), NO_SYSTEMD, None, [Address("127.0.0.1", 2525)], "uvloop", show=lines.append)
    assert lines == ["listening on 127.0.0.1:2525 with uvloop"]


def test_server_starts_when_standard_error_is_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    readiness = Readiness()
    monkeypatch.setattr(click, "echo", Mock(side_effect=OSError(28, "No space left on device")))
    _announce(readiness, NO_SYSTEMD, None, [Address("127.0.0.1", 2525)])
    assert readiness()


def test_worker_that_fails_to_start_gives_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ChildProcessError("a worker failed before it was ready")

    monkeypatch.setattr(sys.modules["smtpcore_adapters.cli.serve"], "run_workers", fail)
    logger = logging.getLogger("smtpcore")
    handlers, level = logger.handlers[:], logger.level
    try:
        assert cli.main(["serve", "--maildir", str(tmp_path / "Maildir"), "--workers", "2"]) == 2
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)

    assert capsys.readouterr().err == "smtpcore: a worker failed before it was ready\n"


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        return str(response.read(), "utf-8")


def readiness_at(url: str) -> int:
    try:
        fetch(url.replace("/metrics", "/ready"))
    except HTTPError as exc:
        with exc:
            return exc.code

    return 200


def begin_message(client: smtplib.SMTP) -> None:
    client.ehlo()
    client.mail("a@c.example")
    client.rcpt("b@s.example")
    client.putcmd("DATA")
    assert client.getreply()[0] == 354


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_address_of_the_server_is_announced(tmp_path: Path, workers: str) -> None:
    with running(tmp_path, "--host", "::", "--accept", "s.example", "--workers", workers) as server:
        hosts = re.findall(r"(\S+):[0-9]+", f"{server.host}:{server.port}")
        for host in hosts:
            address = host.strip("[]").replace("0.0.0.0", "127.0.0.1").replace("::", "::1")
            with smtplib.SMTP(address, server.port, timeout=TIMEOUT) as client:
                assert client.noop()[0] == 250

    assert hosts == (["0.0.0.0", "[::]"] if has_ipv6() else ["0.0.0.0"])


def test_metrics_are_served_on_the_loopback_interface(tmp_path: Path) -> None:
    with running(tmp_path, "--metrics-port", "0") as server:
        send(server)
        assert server.process.stderr
        line = server.process.stderr.readline()
        assert line.startswith("metrics at http://127.0.0.1:")
        url = line.removeprefix("metrics at ").strip()
        text = fetch(url)
        assert readiness_at(url) == 200
        assert fetch(url.replace("/metrics", "/live")) == "ok\n"
        with connect(server) as client:
            begin_message(client)
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + TIMEOUT
            while readiness_at(url) == 200 and time.monotonic() < end:
                time.sleep(0.01)
            assert readiness_at(url) == 503
            client.send(b"Subject: x\r\n\r\n.\r\n")
            assert client.getreply()[0] == 250
        assert server.process.wait(TIMEOUT) == 0

    assert 'smtpcore_messages_total{outcome="accepted"} 1.0' in text
    assert 'smtpcore_replies_total{code="354"} 1.0' in text


def test_metrics_are_served_at_another_address(tmp_path: Path) -> None:
    host = "::1" if has_ipv6() else "127.0.0.2"
    with running(tmp_path, "--metrics-port", "0", "--metrics-host", host) as server:
        assert server.process.stderr
        line = server.process.stderr.readline()
        assert line.startswith("metrics at http://" + str(Address(host, 1)).removesuffix("1"))
        assert "smtpcore_open_sessions 0.0" in fetch(line.removeprefix("metrics at ").strip())


def test_metrics_port_in_use_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_in_process("serve", "--port", "0", "--maildir", str(tmp_path / "M"), "--metrics-port", str(port))

    assert done.returncode == 2
    assert done.stderr.startswith(f"smtpcore: cannot serve metrics at 127.0.0.1:{port}: ")


def test_metrics_without_the_prometheus_package_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smtpcore_adapters.metrics", None)
    with pytest.raises(click.UsageError, match=r"pip install 'smtpcore\[metrics\]'"):
        _metrics(App(), Address("127.0.0.1"), ExitStack(), lambda: True)


def children_of(server: Running) -> set[int]:
    pid = server.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc"
)


@needs_proc
@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_workers_share_a_port_and_a_killed_worker_is_replaced(tmp_path: Path, backend: str) -> None:
    with running(tmp_path, "--workers", "2", "--backend", backend) as server:
        workers = children_of(server)
        assert len(workers) == 2
        for _ in range(5):
            send(server)
        os.kill(min(workers), signal.SIGKILL)
        end = time.monotonic() + TIMEOUT
        while len(children_of(server) - workers) < 1 and time.monotonic() < end:
            time.sleep(0.01)
        for _ in range(5):
            send(server)

    assert len(server.messages()) == 10
    assert server.status == 0
    assert any("ended with SIGKILL" in line for line in server.errors)


def test_workers_send_421_on_sigint(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as server:
        clients = [connect(server) for _ in range(4)]
        server.process.send_signal(signal.SIGINT)
        for client in clients:
            code, text = client.getreply()
            assert (code, text[:5]) == (421, b"4.3.2")
            client.close()

    assert server.status == 0
    assert server.errors == []


def test_metrics_of_all_workers_are_summed_up(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "3", "--metrics-port", "0") as server:
        assert server.process.stderr
        url = server.process.stderr.readline().removeprefix("metrics at ").strip()
        clients = [connect(server) for _ in range(10)]
        for client in clients:
            client.ehlo()
        during = fetch(url)
        for client in clients:
            client.quit()
        send(server)
        end = time.monotonic() + TIMEOUT
        while "smtpcore_open_sessions 0.0" not in (after := fetch(url)) and time.monotonic() < end:
            time.sleep(0.01)

    assert "smtpcore_open_sessions 10.0" in during
    assert "smtpcore_open_sessions 0.0" in after
    assert "smtpcore_sessions_total 11.0" in after
    assert 'smtpcore_messages_total{outcome="accepted"} 1.0' in after
    assert server.status == 0
    assert server.errors == []


def test_metrics_are_served_while_the_workers_finish_their_sessions(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", "--metrics-port", "0") as server:
        assert server.process.stderr
        url = server.process.stderr.readline().removeprefix("metrics at ").strip()
        assert readiness_at(url) == 200
        with connect(server) as client:
            begin_message(client)
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + TIMEOUT
            while _accepts(server.port) and time.monotonic() < end:
                time.sleep(0.01)
            # The last connections of the loop may still be open sessions.
            while (metrics := fetch(url)) and "smtpcore_open_sessions 1.0" not in metrics and time.monotonic() < end:
                time.sleep(0.01)
            assert "smtpcore_open_sessions 1.0" in metrics
            assert readiness_at(url) == 503
            client.send(b"Subject: x\r\n\r\n.\r\n")
            assert client.getreply()[0] == 250
        assert server.process.wait(TIMEOUT) == 0

    assert server.errors == []


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except OSError:
        return False

    return True


def test_metrics_process_reports_ready_before_it_serves() -> None:
    calls: list[str] = []
    server = SimpleNamespace(serve_forever=lambda: calls.append("serve"))
    _work_for_metrics(cast(Any, server), lambda: calls.append("ready"))
    assert calls == ["ready", "serve"]


def test_port_in_use_with_workers_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_in_process("serve", "--port", str(port), "--maildir", str(tmp_path / "M"), "--workers", "2")

    assert done.returncode == 2
    assert done.stderr.startswith(f"smtpcore: cannot listen on 127.0.0.1:{port}: ")


def test_workers_on_a_system_without_fork_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(click.UsageError, match="can fork"):
        run_workers(lambda **options: None, [Listener()], 2, App(), limits=Limits())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_reports_that_it_is_not_ready_before_it_stops_listening(tmp_path: Path, workers: str) -> None:
    with running(tmp_path, "--metrics-port", "0", "--drain-delay", "100", "--workers", workers) as server:
        assert server.process.stderr
        url = server.process.stderr.readline().removeprefix("metrics at ").strip()
        with connect(server) as client:
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + TIMEOUT
            while readiness_at(url) == 200 and time.monotonic() < end:
                time.sleep(0.001)
            assert readiness_at(url) == 503
            send(server)
            assert client.noop()[0] == 250
        # The second signal, which ends the delay, is that of the end of this block.
    assert server.status == 0
    assert len(server.messages()) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_server_becomes_its_account_when_it_listens_and_before_it_runs(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    class FakeAccount(Account):
        def become(self) -> None:
            steps.append("account")

    class FakeSupervisor:
        def __init__(self, works: list[object], **options: object) -> None:
            assert len(works) == count

        def run(self) -> None:
            steps.append("run")

    monkeypatch.setattr("smtpcore_adapters.server._workers.Supervisor", FakeSupervisor)
    account = FakeAccount(os.getuid(), os.getgid(), ())
    on_open = partial(steps.append, "open")
    if count == 1:
        run_alone(lambda **_: steps.append("run"), [Listener()], App(), account=account, on_open=on_open)
    else:
        how: dict[str, Any] = {"limits": Limits(), "account": account, "on_open": on_open}
        run_workers(lambda **_: None, [Listener()], count, App(), **how)
    assert steps == ["open", "account", "run"]


def renew(certificate: Path, key: Path) -> None:
    made = trustme.CA().issue_cert("s.example")
    made.private_key_pem.write_to_path(str(key))
    certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))


def served_certificate(port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client,
        client_context().wrap_socket(client) as encrypted,
    ):
        certificate = encrypted.getpeercert(binary_form=True)
        assert certificate
        return certificate


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_reloads_the_certificate(tmp_path: Path, workers: str) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    renew(certificate, key)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls", "implicit", "--workers", workers)
    with running(tmp_path, *options) as server:
        old = served_certificate(server.port)
        renew(certificate, key)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + TIMEOUT
        while served_certificate(server.port) == old and time.monotonic() < end:
            time.sleep(0.01)
        new = {served_certificate(server.port) for _ in range(10)} - {old}
        key.write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        line = server.process.stderr.readline()
        assert f"cannot reload the certificate {certificate} with {key}, the old one stays in use: use a cert" in line
        assert served_certificate(server.port) != old

    assert len(new) == 1


def wait_for_lines(server: Running, word: str, count: int) -> None:
    """Read the log up to the line that completes `count` lines with `word`."""
    assert server.process.stderr
    while count:
        line = server.process.stderr.readline()
        assert line, "the server has ended"
        count -= word in line


def wait_for_listener(port: int) -> None:
    end = time.monotonic() + TIMEOUT
    while True:
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                return
        assert time.monotonic() < end, "no worker listens"
        time.sleep(0.01)


@needs_proc
def test_worker_that_is_replaced_after_sighup_has_the_new_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    renew(certificate, key)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls", "implicit", "--workers", "2")
    with running(tmp_path, *options, "--log-level", "info") as server:
        old, workers = served_certificate(server.port), children_of(server)
        renew(certificate, key)
        server.process.send_signal(signal.SIGHUP)
        wait_for_lines(server, "reloaded", len(workers))
        for each in workers:
            os.kill(each, signal.SIGKILL)
        wait_for_lines(server, "reloaded", len(workers))
        wait_for_listener(server.port)  # a new worker reads the files before it listens
        assert old not in {served_certificate(server.port) for _ in range(10)}
    assert server.status == 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_during_the_start_reads_the_files_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    with reloading([("file", lambda: read.append("file"))]):
        assert read == []
    monkeypatch.setattr(_hangups, "_is_noted", True)
    with reloading([("file", lambda: read.append("file"))]):
        assert read == ["file"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize("options", [(), ("--self-signed",), ("--backend", "threads"), ("--backend", "trio")])
def test_server_without_certificate_file_continues_after_sighup(options: tuple[str, ...], tmp_path: Path) -> None:
    with running(tmp_path, *options, "-v") as server, smtplib.SMTP(server.host, server.port) as client:
        client.ehlo("c.example")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        while "no certificate file" not in server.process.stderr.readline():
            assert server.process.poll() is None
        assert client.noop()[0] == 250
    assert server.status == 0


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [(1024, 4096, 2000), (1024, 1500, 1500), (1024, -1, 2000), (4096, 4096, None), (-1, -1, None), (1024, 1024, None)],
)
def test_descriptor_limit_is_raised_as_far_as_needed(
    soft: int, hard: int, raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda name: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda name, pair: limits.append(pair))
    raise_descriptor_limit(2000)
    assert limits == ([(raised, hard)] if raised else [])


def test_descriptor_limit_that_cannot_be_raised_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda name: (1024, 4096))
    monkeypatch.setattr("resource.setrlimit", Mock(side_effect=ValueError("not allowed")))
    raise_descriptor_limit(2000)


def test_raising_the_descriptor_limit_does_nothing_on_a_system_without_such_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_descriptor_limit(2000)


def test_workers_share_one_socket_without_so_reuseport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A system without SO_REUSEPORT.
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\nif hasattr(socket, 'SO_REUSEPORT'):\n    del socket.SO_REUSEPORT\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with running(tmp_path, "--workers", "2") as server:
        for _ in range(5):
            send(server)

    assert len(server.messages()) == 5
    assert server.status == 0


def test_server_runs_on_a_system_without_sighup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    served: list[object] = []
    plan: Any = SimpleNamespace(app="the app", listeners=[], users=None)
    _reloading(served.append, plan)()
    assert served == ["the app"]
