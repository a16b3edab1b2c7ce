"""`smtpcore serve` obeys each of its options, and reports each error in one line."""

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
import trustme

from smtpcore_adapters import App
from smtpcore_adapters.cli._processes import _metrics, _work_for_metrics, run_workers
from smtpcore_adapters.server._listeners import Listener
from tests.adapters.command import TIMEOUT, Running, run_in_process, running, split_trace


def connect(server: Running, address: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=TIMEOUT, source_address=(address, 0))


def send(server: Running, message: bytes = b"Subject: hello\r\n\r\nbody\r\n", to: str = "b@example.org") -> None:
    with connect(server) as smtp:
        smtp.sendmail("a@client.example", [to], message)


def test_accepted_message_is_shown_with_sender_recipient_size_and_subject(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        send(server, b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nbody\r\n")

    (line,) = server.output.splitlines()
    assert line.endswith("a@client.example -> b@example.org  46 bytes  Gr\xfc\xdfe")
    assert server.status == 0
    assert server.errors == []


def test_refused_message_is_shown_with_its_reply(tmp_path: Path) -> None:
    with running(tmp_path) as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.example")
        smtp.rcpt("b@example.org")
        smtp.putcmd("data")
        assert smtp.getreply()[0] == 354
        smtp.send(b"Subject: bare\r\n\r\none\ntwo\r\n.\r\n")
        assert smtp.getreply()[0] == 550

    assert "refused: 550 5.6.0" in server.output
    assert server.messages() == []


def test_control_characters_of_a_client_never_reach_the_terminal(tmp_path: Path) -> None:
    with running(tmp_path, "-v") as server:
        send(server, b"Subject: =?utf-8?q?red=1B=5B31m_[bold]=C2=9B?=\r\n\r\nbody\r\n")
        with connect(server) as smtp:
            smtp.docmd("X\x1b[31m")

    assert "\x1b" not in server.output
    assert "\x9b" not in server.output
    assert "[bold]" in server.output


def test_verbose_option_shows_the_dialogue(tmp_path: Path) -> None:
    with running(tmp_path, "-v", "--hostname", "mx.example.org") as server:
        send(server)

    for line in (
        "S: 220 mx.example.org ESMTP",
        "C: EHLO client.example",
        "C: MAIL FROM:<a@client.example> SIZE=24",
        "C: RCPT TO:<b@example.org>",
        "C: DATA",
        "C: .",
        "C: QUIT",
        "S: 221 2.0.0 mx.example.org closing",
    ):
        assert line in server.output


def test_json_log_without_verbose_has_messages_only(tmp_path: Path) -> None:
    with running(tmp_path, "--log-json") as server, connect(server) as smtp:
        smtp.sendmail("a@client.example", ["b@example.org"], b"hello\r\n")

    assert [json.loads(line)["message"] for line in server.errors] == ["message accepted"]


def test_verbose_json_log_has_messages_and_dialogue(tmp_path: Path) -> None:
    with running(tmp_path, "--log-json", "-v") as server:
        send(server)

    entries = [json.loads(line) for line in server.errors]
    (entry,) = [entry for entry in entries if entry["message"] == "message accepted"]
    assert entry["sender"] == "a@client.example"
    assert entry["recipients"] == ["b@example.org"]
    assert entry["size"] == 24
    assert entry["subject"] == "hello"
    assert entry["level"] == "info"
    assert any(entry["message"] == "C: EHLO client.example" for entry in entries)
    assert server.output == ""


def test_accept_option_allows_the_named_recipients_and_postmaster_only(tmp_path: Path) -> None:
    with running(tmp_path, "--accept", "b@example.org", "--accept", "example.net") as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.example")
        codes = {
            address: smtp.docmd(f"RCPT TO:<{address}>")
            for address in (
                "b@example.org",
                "B@EXAMPLE.ORG",
                "anyone@example.net",
                "postmaster",
                "PostMaster@example.org",
                "c@example.org",
                "b@elsewhere.example",
                "postmaster@elsewhere.example",
            )
        }

    accepted = [address for address, (code, _) in codes.items() if code == 250]
    assert accepted == ["b@example.org", "B@EXAMPLE.ORG", "anyone@example.net", "postmaster", "PostMaster@example.org"]
    assert codes["c@example.org"][1].startswith(b"5.1.1")
    assert codes["b@elsewhere.example"][1].startswith(b"5.7.1")


def test_size_and_recipient_limits_follow_the_options(tmp_path: Path) -> None:
    with running(tmp_path, "--max-size", "70000", "--max-recipients", "100") as server, connect(server) as smtp:
        assert smtp.ehlo()[0] == 250
        assert smtp.esmtp_features["size"] == "70000"
        assert smtp.docmd("MAIL FROM:<a@client.example> SIZE=70001")[0] == 552
        smtp.mail("a@client.example")
        assert [smtp.rcpt(f"b{number}@example.org")[0] for number in range(101)] == [250] * 100 + [452]


def test_silent_client_is_disconnected_with_421(tmp_path: Path) -> None:
    with running(tmp_path, "--timeout", "0.1") as server, connect(server) as smtp:
        code, text = smtp.getreply()
        assert (code, text[:5]) == (421, b"4.4.2")


@pytest.mark.parametrize(("choice", "code"), [("reject", 550), ("normalize", 250), ("accept", 250)])
def test_bare_newlines_option_rejects_normalizes_or_accepts(tmp_path: Path, choice: str, code: int) -> None:
    with running(tmp_path, "--bare-newlines", choice) as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.example")
        smtp.rcpt("b@example.org")
        smtp.docmd("DATA")
        smtp.send(b"one\ntwo\r\n.\r\n")
        assert smtp.getreply()[0] == code

    contents = [split_trace(message)[1] for message in server.messages()]
    assert contents == {"reject": [], "normalize": [b"one\r\ntwo\r\n"], "accept": [b"one\ntwo\r\n"]}[choice]


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_implicit_tls(tmp_path: Path, backend: str) -> None:
    with (
        running(tmp_path, "--self-signed", "--implicit-tls", "--backend", backend) as server,
        smtplib.SMTP_SSL("127.0.0.1", server.port, timeout=TIMEOUT, context=client_context()) as smtp,
    ):
        assert smtp.noop()[0] == 250


def test_mail_before_required_tls_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, "--self-signed", "--require-tls") as server, connect(server) as smtp:
        smtp.ehlo()
        assert smtp.mail("a@client.example")[0] == 530
        smtp.starttls(context=client_context())
        smtp.ehlo()
        assert smtp.mail("a@client.example")[0] == 250


def test_certificate_is_read_from_the_given_files(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with running(tmp_path, *files) as server, connect(server) as smtp:
        assert smtp.starttls(context=context)[0] == 220


def test_secrets_are_masked_in_all_output(tmp_path: Path) -> None:
    def log_in(user: str, mechanism: str, address: str) -> None:
        with connect(server, address) as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = user, "secret"
            authenticate = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
            with nullcontext() if user == "tim" else pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.auth(mechanism, authenticate)

    users, mechanisms = ("tim", "tom", "tom", "tom"), ("PLAIN", "PLAIN", "LOGIN", "CRAM-MD5")
    # The server delays further replies to an address with failed logins.
    addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
    with (
        running(tmp_path, "-v", "--auth", "tim:secret", "--allow-plaintext-auth") as server,
        ThreadPoolExecutor(len(users)) as pool,
    ):
        list(pool.map(log_in, users, mechanisms, addresses))

    assert server.output.count("S: 235 2.7.0") == 1
    assert server.output.count("S: 535 5.7.8") == 3
    assert "C: AUTH PLAIN ***" in server.output
    assert "S: 334 ***" in server.output
    for text in ("secret", "AHRpbQBzZWNyZXQ", "c2VjcmV0"):
        assert text not in server.output + "".join(server.errors)


def test_server_with_users_may_listen_on_all_addresses_and_relays_for_users_only(tmp_path: Path) -> None:
    arguments = ["--host", "0.0.0.0", "--auth", "tim:secret", "--allow-plaintext-auth"]
    with running(tmp_path, *arguments) as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.example")
        assert smtp.rcpt("b@example.org")[0] == 550
        smtp.rset()
        smtp.login("tim", "secret")
        smtp.mail("a@client.example")
        assert smtp.rcpt("b@example.org")[0] == 250


def test_sigterm_sends_421_to_an_idle_client(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        greeting = client.recv(1000)
        assert greeting.startswith(b"220 ")

    with client:
        assert client.recv(1000).startswith(b"421 4.3.2 ")
        assert client.recv(1000) == b""

    assert server.status == 0


# Errors


def assert_error_in_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("smtpcore: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], ["--no-such-option"]),
        (["--port", "many"], ["--port", "many"]),
        (["--port", "65536"], ["--port"]),
        (["--backend", "gevent"], ["--backend"]),
        (["--timeout", "0"], ["--timeout"]),
        (["--max-size", "100"], ["max_message_size", "65536"]),
        (["--max-recipients", "99"], ["max_recipients", "100"]),
        (["--hostname", "two words"], ["two words"]),
        (["--accept", "not a domain"], ["--accept", "not a domain"]),
        (["--host", "0.0.0.0"], ["0.0.0.0", "--accept"]),
        (["--host", "::"], ["::", "--accept"]),
        (["--host", "mx.example.org"], ["mx.example.org", "--accept"]),
        (["--tls-cert", "missing.pem"], ["--tls-key"]),
        (["--tls-cert", "missing.pem", "--tls-key", "missing.pem"], ["missing.pem", "No such file"]),
        (["--tls-cert", "garbage.pem", "--tls-key", "garbage.pem"], ["garbage.pem"]),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem", "--self-signed"], ["--self-signed"]),
        (["--auth", "tim", "--self-signed"], ["--auth", "USER:PASSWORD"]),
        (["--auth", ":secret", "--self-signed"], ["--auth", "USER:PASSWORD"]),
        (["--auth", "tim:", "--self-signed"], ["--auth", "USER:PASSWORD"]),
        (["--auth", "tim:a", "--auth", "tim:b", "--self-signed"], ["--auth", "once"]),
        (["--auth", "tim:secret"], ["--auth needs TLS", "--allow-plaintext-auth"]),
        (["--require-auth"], ["--require-auth", "--auth"]),
        (["--lmtp", "--port", "25"], ["--lmtp", "25"]),
        (["--proxy", "10.0.0.0/8"], ["--proxy-protocol"]),
        (["--proxy-protocol", "--proxy", "somewhere"], ["--proxy", "somewhere"]),
        (["--trusted", "somewhere"], ["--trusted", "somewhere"]),
        (["--implicit-tls"], ["--implicit-tls", "--self-signed"]),
        (["--require-tls"], ["--require-tls", "--self-signed"]),
        (["--maildir", "garbage.pem"], ["garbage.pem"]),
        (["--host", "192.0.2.1", "--accept", "example.org", "--port", "0"], ["192.0.2.1"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_error_is_one_line_and_gives_status_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    assert_error_in_one_line(run_in_process("serve", *arguments, cwd=tmp_path), *words)


@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_port_in_use_is_reported_in_one_line(tmp_path: Path, backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_in_process("serve", "--backend", backend, "--port", port, cwd=tmp_path)

    assert_error_in_one_line(done, port, "in use")


def test_unknown_command_is_reported_in_one_line() -> None:
    assert_error_in_one_line(run_in_process("receive"), "receive")


def test_missing_cli_packages_are_named_in_one_line(tmp_path: Path) -> None:
    code = "import sys; sys.modules['click'] = None; from smtpcore_adapters.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert_error_in_one_line(done, "click", "smtpcore[cli]")


def test_missing_trio_package_is_named_in_one_line(tmp_path: Path) -> None:
    code = (
        "import importlib.util as util; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'trio' else find(name, *rest);"
        "import sys; sys.argv[1:] = ['serve', '--backend', 'trio', '--port', '0'];"
        "from smtpcore_adapters.__main__ import main; main()"
    )
    arguments = [sys.executable, "-c", code]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False, cwd=tmp_path)
    assert_error_in_one_line(done, "smtpcore[trio]")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["serve", "--help"], ["--version"]])
def test_help_and_version_give_status_0(arguments: list[str]) -> None:
    done = run_in_process(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "smtpcore" in done.stdout


def test_maildir_is_created_in_the_working_directory(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "empty")
    done = run_in_process("serve", "--host", "192.0.2.1", "--accept", "example.org", cwd=tmp_path / "empty")
    assert done.returncode == 2
    assert sorted(path.name for path in (tmp_path / "empty" / "Maildir").iterdir()) == ["cur", "new", "tmp"]


# Limits and metrics


def test_connection_limit_per_address_follows_the_option(tmp_path: Path) -> None:
    with running(tmp_path, "--max-connections-per-address", "1") as server, connect(server) as first:
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as second:
            assert b" closing: too many connections from your address" in second.recv(1000)
        assert first.noop()[0] == 250


def test_client_that_talks_before_the_greeting_is_rejected(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--greeting-delay", "60") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as client,
    ):
        client.sendall(b"EHLO client.example\r\n")
        assert client.recv(100).startswith(b"554 ")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        return str(response.read(), "utf-8")


def test_metrics_are_served_on_the_loopback_interface(tmp_path: Path) -> None:
    with running(tmp_path, "--metrics-port", "0") as server:
        send(server)
        assert server.process.stderr
        line = server.process.stderr.readline()
        assert line.startswith("metrics at http://127.0.0.1:")
        text = fetch(line.removeprefix("metrics at ").strip())

    assert 'smtpcore_messages_total{outcome="accepted"} 1.0' in text
    assert 'smtpcore_replies_total{code="354"} 1.0' in text


def test_metrics_port_in_use_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_in_process("serve", "--port", "0", "--maildir", str(tmp_path / "M"), "--metrics-port", str(port))

    assert done.returncode == 2
    assert done.stderr.startswith(f"smtpcore: cannot serve metrics on port {port}: ")


def test_metrics_without_the_prometheus_package_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smtpcore_adapters.metrics", None)
    with pytest.raises(click.UsageError, match=r"pip install 'smtpcore\[metrics\]'"):
        _metrics(App(), 0, ExitStack())


# Workers


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
    assert done.stderr.startswith(f"smtpcore: cannot listen on 127.0.0.1 port {port}: ")


def test_workers_on_a_system_without_fork_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(click.UsageError, match="can fork"):
        run_workers(lambda **options: None, Listener(), 2, App(), None)


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

    def renew() -> None:
        made = trustme.CA().issue_cert("s.example")
        made.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))

    renew()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--implicit-tls", "--workers", workers)
    with running(tmp_path, *options) as server:
        old = served_certificate(server.port)
        renew()
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + TIMEOUT
        while served_certificate(server.port) == old and time.monotonic() < end:
            time.sleep(0.01)
        new = {served_certificate(server.port) for _ in range(10)} - {old}
        key.write_text("no key")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr
        assert "cannot reload the certificate, the old one stays" in server.process.stderr.readline()
        assert served_certificate(server.port) != old

    assert len(new) == 1


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


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_trusted_option_enables_xclient(tmp_path: Path, backend: str) -> None:
    arguments = ["--trusted", "127.0.0.0/8", "--auth", "tim:tans", "--require-auth", "--allow-plaintext-auth"]
    with running(tmp_path, *arguments, "--backend", backend) as server:
        with smtplib.SMTP("127.0.0.1", server.port, "proxy.example", timeout=TIMEOUT) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("xclient")
            assert smtp.docmd("XCLIENT", "ADDR=IPV6:2001:db8::7 LOGIN=tom")[0] == 220
            smtp.ehlo("c.example")
            smtp.sendmail("a@c.example", ["b@s.example"], b"hello\r\n")
        (message,) = server.messages()

    trace, content = split_trace(message)
    assert content == b"hello\r\n"
    assert b"Received: from c.example ([IPv6:2001:db8::7])\r\n" in trace
    assert b" with ESMTPA id " in trace


def test_xclient_is_disabled_by_default_on_the_command_line(tmp_path: Path) -> None:
    with running(tmp_path) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("xclient")
        assert smtp.docmd("XCLIENT", "ADDR=192.0.2.7")[0] == 502
