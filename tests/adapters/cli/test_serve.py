"""`smtpcore serve` applies each of its options, and reports each error in one line."""

import errno
import json
import os
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from tests.adapters.cli.clients import client_context, connect, send
from tests.adapters.command import TIMEOUT, as_service, run_in_process, running, split_trace
from tests.certificates import context_trusting
from tests.forking import start_python


def test_accepted_message_is_shown_with_sender_recipient_size_and_subject(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        send(server, b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nbody\r\n")

    (line,) = server.output.splitlines()
    assert line.endswith("a@client.example -> b@example.org  46 bytes  Gr\xfc\xdfe")
    assert server.status == 0
    assert server.errors == []


def test_refused_message_is_shown_with_its_reply(tmp_path: Path) -> None:
    with running(tmp_path, "--bare-newlines", "reject") as server, connect(server) as smtp:
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
    # The only test that waits for the real clock of a server in another process. The others move a clock forward.
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
    assert contents == {"reject": [], "normalize": [b"one\ntwo\n"], "accept": [b"one\ntwo\n"]}[choice]


@pytest.mark.parametrize("backend", ["asyncio", "trio", "threads"])
def test_implicit_tls_option_starts_tls_before_the_greeting(tmp_path: Path, backend: str) -> None:
    with (
        running(tmp_path, "--self-signed", "--tls", "implicit", "--backend", backend) as server,
        smtplib.SMTP_SSL("127.0.0.1", server.port, timeout=TIMEOUT, context=client_context()) as smtp,
    ):
        assert smtp.noop()[0] == 250


def test_mail_before_required_tls_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, "--self-signed", "--tls", "starttls") as server, connect(server) as smtp:
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
    context = context_trusting(authority)
    files = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with running(tmp_path, *files) as server, connect(server) as smtp:
        assert smtp.starttls(context=context)[0] == 220


def test_secrets_are_masked_in_all_output(tmp_path: Path) -> None:
    options = ("-v", "--allow-plaintext-auth", "--auth-delay", "0")
    with running(tmp_path, *options, auth="tim:secret") as server:
        for user, mechanism in (("tim", "PLAIN"), ("tom", "PLAIN"), ("tom", "LOGIN"), ("tom", "CRAM-MD5")):
            with connect(server) as smtp:
                smtp.ehlo()
                smtp.user, smtp.password = user, "secret"
                authenticate = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
                with nullcontext() if user == "tim" else pytest.raises(smtplib.SMTPAuthenticationError):
                    smtp.auth(mechanism, authenticate)

    assert server.output.count("S: 235 2.7.0") == 1
    assert server.output.count("S: 535 5.7.8") == 3
    assert "C: AUTH PLAIN ***" in server.output
    assert "S: 334 ***" in server.output
    for text in ("secret", "AHRpbQBzZWNyZXQ", "c2VjcmV0"):
        assert text not in server.output + "".join(server.errors)


def test_server_with_users_may_listen_on_all_addresses_and_relays_for_users_only(tmp_path: Path) -> None:
    arguments = ["--host", "0.0.0.0", "--allow-plaintext-auth"]
    with running(tmp_path, *arguments, auth="tim:secret") as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.example")
        assert smtp.rcpt("b@example.org")[0] == 550
        smtp.rset()
        smtp.login("tim", "secret")
        smtp.mail("a@client.example")
        assert smtp.rcpt("b@example.org")[0] == 250


def test_sigterm_sends_421_to_an_idle_client(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT) as client:
            assert client.recv(1000).startswith(b"220 ")
            server.process.send_signal(signal.SIGTERM)
            assert client.recv(1000).startswith(b"421 4.3.2 ")
            assert client.recv(1000) == b""
        assert server.process.wait(TIMEOUT) == 0


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
        (["--max-size", "100"], ["--max-size: max_size is 100", "65536"]),
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
        (["--auth", "tim", "--self-signed"], ["--auth needs a terminal", "SMTPCORE_AUTH", "smtpcore user add"]),
        (["--auth", "tim:secret", "--self-signed"], ["--auth takes the USER only", "SMTPCORE_AUTH", "process list"]),
        (["--require-auth"], ["--require-auth", "--users"]),
        (["--allow-plaintext-auth"], ["--allow-plaintext-auth has no effect without --users"]),
        (["--trusted", "::1", "--accept", "a.example", "--without", "xclient"], ["--without XCLIENT has no effect"]),
        (["--lmtp", "--port", "25"], ["--lmtp", "25"]),
        (["--proxy", "10.0.0.0/8"], ["--proxy-protocol"]),
        (["--proxy-protocol", "--proxy", "somewhere", "--accept", "example.org"], ["--proxy", "somewhere"]),
        (["--trusted", "somewhere", "--accept", "example.org"], ["--trusted", "somewhere"]),
        (["--proxy-protocol"], ["--proxy-protocol", "other machines", "--accept", "--users"]),
        (["--proxy-protocol", "--deliver", "smtp://127.0.0.1:9", "--workers", "2"], ["--proxy-protocol", "--accept"]),
        (["--trusted", "127.0.0.1"], ["--trusted", "other machines", "--accept", "--users"]),
        (["--tls", "implicit"], ["--tls implicit needs --tls-cert", "--self-signed"]),
        (["--tls", "starttls"], ["--tls starttls needs --tls-cert", "--self-signed"]),
        (["--implicit-tls"], ["No such option '--implicit-tls': use --tls"]),
        (["--max-message-size", "1"], ["No such option '--max-message-size': use --max-size"]),
        (["--maildir", "garbage.pem"], ["garbage.pem"]),
        (["--maildir", "Maildir", "--deliver", "smtp://127.0.0.1"], ["maildir:Maildir", "smtp://127.0.0.1", "one of"]),
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


def test_port_without_the_right_to_use_it_is_reported_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "127.0.0.1:25")

    monkeypatch.setattr(sys.modules["smtpcore_adapters.cli.serve"], "run_alone", refuse)
    done = run_in_process("serve", "--port", "25", cwd=tmp_path)
    assert_error_in_one_line(done, "cannot listen on 127.0.0.1:25: Permission denied; ports below 1024 need CAP_")


def test_unknown_command_is_reported_in_one_line() -> None:
    assert_error_in_one_line(run_in_process("receive"), "receive")


def test_missing_cli_packages_are_named_in_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = ['serve']; sys.modules['click'] = None;"
        "from smtpcore_adapters.__main__ import main; main()"
    )
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


def serve_without_uvloop(*options: str) -> list[str]:
    """Return a command that runs `smtpcore serve` as if uvloop were not installed."""
    code = (
        "import importlib.util as util; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'uvloop' else find(name, *rest);"
        f"import sys; sys.argv[1:] = ['serve', '--port', '0', *{options!r}];"
        "from smtpcore_adapters.__main__ import main; main()"
    )
    return [sys.executable, "-c", code]


def test_missing_uvloop_is_named_in_one_line_if_it_was_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        serve_without_uvloop("--loop", "uvloop"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=tmp_path,
    )
    assert_error_in_one_line(done, "--loop uvloop", "smtpcore[speed]")


def test_server_uses_the_event_loop_of_python_without_uvloop(tmp_path: Path) -> None:
    # Not `start_python`, whose process has imported the package already.
    with subprocess.Popen(serve_without_uvloop(), stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            line = listening_line(process)
            assert " with " not in line
            with smtplib.SMTP(line.removeprefix("listening on ").strip(), timeout=TIMEOUT) as smtp:
                assert smtp.noop()[0] == 250
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


@pytest.mark.parametrize("backend", ["trio", "threads"])
def test_event_loop_has_no_effect_on_other_backends(backend: str) -> None:
    done = run_in_process("serve", "--backend", backend, "--loop", "uvloop")
    assert_error_in_one_line(done, "--loop has no effect", f"--backend {backend}")


@pytest.mark.parametrize(
    ("options", "event_loop"),
    [
        ([], " with uvloop"),
        (["--loop", "uvloop", "--workers", "2"], " with uvloop"),
        (["--loop", "asyncio"], ""),
        (["--loop", "asyncio", "--workers", "2"], ""),
        (["--backend", "threads"], ""),
    ],
)
def test_first_line_names_the_event_loop(tmp_path: Path, options: list[str], event_loop: str) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    listeners = "[[listener]]\nport = 0\n[[listener]]\nunix = 'smtp'\n"
    (tmp_path / "smtpcore.toml").write_text(listeners)
    command = [sys.executable, "-m", "smtpcore_adapters", "serve", *options]
    with start_python(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            places, with_loop, name = listening_line(process).rstrip().partition(" with ")
            assert with_loop + name == event_loop
            place, path = places.removeprefix("listening on ").split(" and ")
            with smtplib.SMTP(place, timeout=TIMEOUT) as smtp:
                assert smtp.noop()[0] == 250
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT)
                client.connect(str(tmp_path / path))
                client.sendall(b"QUIT\r\n")
                assert b"\r\n221 " in client.makefile("rb").read()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


def listening_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr
    line = process.stderr.readline()
    if "as root" in line:  # a warning, because the tests run as root
        line = process.stderr.readline()
    assert line.startswith("listening on "), line + process.stderr.read()
    return line


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


# Workers


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_trusted_option_enables_xclient(tmp_path: Path, backend: str) -> None:
    arguments = ["--trusted", "127.0.0.0/8", "--require-auth", "--allow-plaintext-auth", "--backend", backend]
    with running(tmp_path, *arguments, auth="tim:tans") as server:
        with smtplib.SMTP("127.0.0.1", server.port, "proxy.example", timeout=TIMEOUT) as smtp:
            smtp.ehlo()
            assert smtp.has_extn("xclient")
            assert smtp.docmd("XCLIENT", "ADDR=IPV6:2001:db8::7 LOGIN=tom")[0] == 220
            smtp.ehlo("c.example")
            smtp.sendmail("a@c.example", ["b@s.example"], b"hello\r\n")
        (message,) = server.messages()

    trace, content = split_trace(message)
    assert content == b"hello\n"
    assert b"Received: from c.example ([IPv6:2001:db8::7])\n" in trace
    assert b" with ESMTPA id " in trace


def test_client_behind_a_proxy_cannot_relay_without_login(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--proxy-protocol", "--allow-plaintext-auth", auth="tim:tans") as server,
        socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as client,
    ):
        client.sendall(
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4444 25\r\nEHLO c.example\r\n"
            b"MAIL FROM:<spam@example.net>\r\nRCPT TO:<victim@elsewhere.example>\r\nQUIT\r\n"
        )
        replies = client.makefile("rb").read()
    assert b"\r\n550 5.7.1" in replies
    assert b" 354 " not in replies


def test_xclient_is_disabled_by_default_on_the_command_line(tmp_path: Path) -> None:
    with running(tmp_path) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("xclient")
        assert smtp.docmd("XCLIENT", "ADDR=192.0.2.7")[0] == 502


# The log


@pytest.mark.parametrize("options", [(), ("--log-json",)])
@pytest.mark.parametrize("evil", ["\x9b31m", "\u202e", "\x85"])
def test_text_of_the_next_server_cannot_control_the_terminal(
    tmp_path: Path, evil: str, options: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(f"554 5.7.1 red{evil}text\r\n".encode())
                connection.recv(99)

        next_server = threading.Thread(target=refuse)
        next_server.start()
        port = listener.getsockname()[1]
        with (
            running(tmp_path, "--deliver", f"smtp://127.0.0.1:{port}", *options) as server,
            smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp,
            suppress(smtplib.SMTPException),
        ):
            smtp.sendmail("a@c.example", ["b@s.example"], b"x\r\n")
        next_server.join(TIMEOUT)
    text = "\n".join(server.errors)
    assert "5.7.1 red" in text
    assert evil not in text


@pytest.mark.parametrize("options", [(), ("-v",), ("--log-json",)])
def test_failed_login_is_logged_with_the_name_and_the_address(tmp_path: Path, options: tuple[str, ...]) -> None:
    with (
        running(tmp_path, "--allow-plaintext-auth", "--auth-delay", "0", *options, auth="tim:secret") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT, source_address=("127.0.0.3", 0)) as smtp,
    ):
        smtp.ehlo("c.example")
        for name in ("tim", "nobody"):
            assert smtp.docmd("AUTH", "PLAIN " + b64encode(f"\0{name}\0wrong".encode()).decode())[0] == 535
    assert "wrong" not in "".join(server.errors)
    for name in ("tim", "nobody"):
        # A program such as fail2ban reads single lines.
        assert [
            line for line in server.errors if f"failed to authenticate as '{name}' by PLAIN from 127.0.0.3:" in line
        ]


# Listeners, extensions and passwords


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--backend", "threads"), ("--lmtp",)])
def test_serve_listens_on_a_unix_socket_with_its_mode(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = str(tmp_path / "smtp")
    with serving_at(tmp_path, "--unix", path, "--unix-mode", "660", *options):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(path)
            client.sendall(b"QUIT\r\n")
            assert client.makefile("rb").read().split(b"\r\n")[1].startswith(b"221 ")
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("backend", "workers"), [("asyncio", "1"), ("asyncio", "2"), ("trio", "1"), ("threads", "1"), ("threads", "2")]
)
def test_service_of_systemd_takes_sockets_and_reports_its_state(tmp_path: Path, backend: str, workers: str) -> None:
    options = ["--backend", backend, "--workers", workers, "--maildir", str(tmp_path / "Maildir")]
    with as_service(tmp_path, [("127.0.0.1", 0), ("127.0.0.1", 0)], "serve", *options) as (service, ports, reports):
        assert reports.recv(4096) == b"READY=1"
        for port in ports:
            with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as smtp:
                assert smtp.noop()[0] == 250
        service.send_signal(signal.SIGHUP)
        assert reports.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert reports.recv(4096) == b"READY=1"
        service.send_signal(signal.SIGTERM)
        assert reports.recv(4096) == b"STOPPING=1"
        assert service.wait(TIMEOUT) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_service_that_cannot_listen_is_never_ready(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        (tmp_path / "smtpcore.toml").write_text(f"[[listener]]\nport = 0\n[[listener]]\nport = {port}\n")
        with as_service(tmp_path, [], "serve", "--workers", workers) as (service, _, reports):
            assert service.wait(TIMEOUT) == 2
            reports.setblocking(False)
            with pytest.raises(BlockingIOError):
                reports.recv(4096)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_address_may_have_brackets(tmp_path: Path, host: str) -> None:
    with running(tmp_path, "--host", host) as server:
        assert server.host == "[::1]"
        with socket.create_connection(("::1", server.port), timeout=TIMEOUT) as client:
            assert client.recv(100).startswith(b"220 ")


def test_maximum_size_0_means_no_limit(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--max-size", "0") as server,
        smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp,
    ):
        smtp.ehlo()
        assert smtp.esmtp_features["size"] == ""


def test_extensions_are_switched_on_and_off(tmp_path: Path) -> None:
    options: tuple[str, ...] = ("--extension", "dsn", "--without", "CHUNKING", "--without", "BINARYMIME")
    options += ("--extension", "XFORWARD", "--trusted", "127.0.0.1", "--accept", "s.example")
    with running(tmp_path, *options) as server, smtplib.SMTP("127.0.0.1", server.port, timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("dsn")
        assert smtp.has_extn("xforward")
        assert not smtp.has_extn("chunking")


def test_users_of_the_variable_and_of_the_file_can_log_in(tmp_path: Path) -> None:
    users = tmp_path / "users"
    for name, password in (("tim", "s3cret:with colon"), ("old", "x")):
        done = run_in_process("user", "add", name, "--users", str(users), stdin=f"{password}\n".encode())
        assert (done.returncode, done.stderr) == (0, "")

    options = ("--users", str(users), "--allow-plaintext-auth", "--auth-delay", "0", "--log-level", "info")
    with running(tmp_path, *options, auth="tom:other\nann:with space") as server:
        for name, password in (("tim", "s3cret:with colon"), ("tom", "other"), ("ann", "with space"), ("old", "x")):
            with connect(server) as smtp:
                smtp.ehlo()
                assert smtp.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
                smtp.login(name, password)

        assert run_in_process("user", "remove", "old", "--users", str(users)).returncode == 0
        logs = (
            (users.read_text(), f"file of users {users} reloaded"),
            ("oops", f"cannot reload the file of users {users}"),
        )
        for content, log in logs:
            users.write_text(content)
            server.process.send_signal(signal.SIGHUP)
            assert server.process.stderr
            assert any(log in line for line in iter(server.process.stderr.readline, ""))
            for name, password in (("tim", "s3cret:with colon"), ("tom", "other"), ("old", "x")):
                with connect(server) as smtp, nullcontext() if name != "old" else pytest.raises(smtplib.SMTPException):
                    smtp.login(name, password)


@pytest.mark.parametrize("auth", ["tim", ":secret", "tim:", "tim:secret\ntim:secret"])
def test_wrong_user_in_the_variable_is_an_error_without_the_password(tmp_path: Path, auth: str) -> None:
    done = run_in_process("serve", "--self-signed", cwd=tmp_path, auth=auth)
    assert (done.returncode, done.stderr) == (
        2,
        "smtpcore: SMTPCORE_AUTH needs USER:PASSWORD, and each user only once\n",
    )


def test_users_without_tls_are_refused(tmp_path: Path) -> None:
    done = run_in_process("serve", cwd=tmp_path, auth="tim:secret")
    assert (done.returncode, done.stderr) == (
        2,
        "smtpcore: SMTPCORE_AUTH needs TLS: give SMTPCORE_TLS_CERT and SMTPCORE_TLS_KEY, or SMTPCORE_SELF_SIGNED; "
        "or give SMTPCORE_ALLOW_PLAINTEXT_AUTH\n",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unix", "/no/such/directory/smtp"], ["/no/such/directory/smtp", "No such file"]),
        (["--unix", "x", "--unix-mode", "9"], ["--unix-mode", "660"]),
        (["--users", "missing", "--self-signed"], ["--users", "missing", "No such file"]),
        (["--extension", "DNS"], ["DNS", "DSN"]),
        (["--extension", "xclient"], ["--extension XCLIENT", "--trusted"]),
        (["--extension", "STARTTLS"], ["--extension STARTTLS", "--tls-cert or --self-signed"]),
        (["--extension", "BURL"], ["--extension BURL", "without a handler"]),
        (["--extension", "DSN", "--without", "dsn"], ["--extension", "--without", "DSN"]),
        (["--without", "CHUNKING"], ["--without CHUNKING needs --without BINARYMIME"]),
        (["--without", "8bitmime"], ["--without 8BITMIME needs --without SMTPUTF8"]),
        (["--without", "pipelining", "--lmtp"], ["--without", "--lmtp", "PIPELINING"]),
        (["--max-size", "-1"], ["--max-size"]),
    ],
)
def test_serve_reports_wrong_addresses_and_extensions_in_one_line(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    assert_error_in_one_line(run_in_process("serve", *arguments, cwd=tmp_path), *words)


@pytest.mark.parametrize("options", ["workers = 2", "backend = 'threads'", "backend = 'trio'"])
def test_each_listener_of_a_file_has_its_own_settings(tmp_path: Path, options: str) -> None:
    listeners = "[[listener]]\nport = 0\naccept = 'a.example'\n[[listener]]\nunix = 'smtp'\nlmtp = true\n"
    (tmp_path / "smtpcore.toml").write_text(f"{options}\nmax_size = 70_000\n{listeners}")
    command = [sys.executable, "-m", "smtpcore_adapters", "serve"]
    with start_python(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stderr
            place, path = process.stderr.readline().removeprefix("listening on ").partition(" with ")[0].split(" and ")
            with smtplib.SMTP(place, timeout=TIMEOUT) as smtp:
                smtp.ehlo()
                assert smtp.esmtp_features["size"] == "70000"
                smtp.mail("a@client.example")
                assert [smtp.rcpt(f"b@{domain}.example")[0] for domain in ("a", "b")] == [250, 550]
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT)
                client.connect(str(tmp_path / path.strip()))
                client.sendall(b"LHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@b.example>\r\nQUIT\r\n")
                assert b"\r\n250 2.1.5 " in client.makefile("rb").read()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


@contextmanager
def serving_at(directory: Path, *options: str) -> Iterator[None]:
    """Run `smtpcore serve` with options that say where it listens."""
    command = [sys.executable, "-m", "smtpcore_adapters", "serve", "--maildir", str(directory / "Maildir"), *options]
    with start_python(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert process.stderr.readline().startswith("listening on ")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
