"""`smtpcore send` sends a message, and its exit status says for how many recipients the server accepted it."""

import errno
import io
import os
import pty
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from smtpcore import Reply
from smtpcore_adapters import Message, Session
from smtpcore_adapters.cli.send import send as command_of_send
from tests.adapters.clocks import Clock
from tests.adapters.command import TIMEOUT, Running, command, run_in_process, running, split_trace
from tests.adapters.fakes import accepting
from tests.adapters.harness import running as serving_in_process

MESSAGE = b"Subject: hello\n\n.body\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("server")
    with running(directory, "--accept", "example.org", "--allow-plaintext-auth", auth="tim:secret") as server:
        yield server


def send(
    server: Running,
    *arguments: str,
    to: tuple[str, ...] = ("b@example.org",),
    stdin: bytes = MESSAGE,
    password: str = "",
) -> "subprocess.CompletedProcess[str]":
    recipients = [part for each in to for part in ("--to", each)]
    options = ["--server", f"127.0.0.1:{server.port}", "--from", "a@client.example", *recipients]
    return run_in_process("send", *options, *arguments, stdin=stdin, password=password)


def test_message_on_standard_input_is_sent(server: Running) -> None:
    known = server.messages()
    done = send(server)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("accepted for 1 of 1: 250 2.0.0 ")
    (message,) = [each for each in server.messages() if each not in known]
    assert split_trace(message)[1] == MESSAGE


def test_message_in_a_file_is_sent(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    assert send(server, str(path), stdin=b"").returncode == 0


def test_exit_status_is_1_for_some_refused_recipients_and_69_for_all_refused(server: Running) -> None:
    some = send(server, to=("b@example.org", "c@elsewhere.example"))
    none = send(server, to=("c@elsewhere.example", "d@elsewhere.example"))

    assert some.returncode == 1
    assert some.stdout.startswith("accepted for 1 of 2: ")
    assert some.stderr.splitlines() == ["c@elsewhere.example: 550 5.7.1 We do not relay"]
    assert none.returncode == 69
    assert len(none.stderr.splitlines()) == 2


def test_password_is_read_from_the_environment(server: Running) -> None:
    login = ["--auth", "tim", "--allow-plaintext-auth"]
    right = send(server, *login, to=("c@elsewhere.example",), password="secret")
    wrong = send(server, *login, password="wrong")
    none = send(server, *login)

    assert right.returncode == 0
    assert wrong.returncode == 69
    assert "535 5.7.8" in wrong.stderr
    assert none.returncode == 2
    assert none.stderr == "smtpcore: --auth needs a password: set SMTPCORE_PASSWORD, or use a terminal\n"


def test_password_is_prompted_for_on_a_terminal(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    ours, theirs = pty.openpty()
    arguments = ["--server", f"127.0.0.1:{server.port}", "--from", "", "--to", "c@elsewhere.example"]
    process = subprocess.Popen(
        command("send", *arguments, "--auth", "tim", "--allow-plaintext-auth", str(path)),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name != "SMTPCORE_PASSWORD"},
        start_new_session=True,  # without a controlling terminal of its own
    )
    os.close(theirs)
    try:
        shown = b""
        while b"Password" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"secret\n")
        assert process.communicate(timeout=TIMEOUT)[0].startswith(b"accepted for 1 of 1")
    finally:
        os.close(ours)
        process.kill()
    assert process.returncode == 0


def test_missing_starttls_is_a_permanent_failure(server: Running) -> None:
    done = send(server, "--tls", "starttls")
    assert done.returncode == 69
    assert done.stderr == f"smtpcore: 127.0.0.1:{server.port}: the server does not offer STARTTLS\n"


def test_certificate_is_verified_against_the_given_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = ["--tls-cert", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with running(tmp_path, *files) as server:
        done = send(server, "--tls", "starttls", "--tls-ca", str(tmp_path / "ca.pem"))
        messages = server.messages()

    assert (done.returncode, done.stderr) == (0, "")
    assert b" with ESMTPS id " in messages[0]


def test_timeout_is_reported_in_one_line() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as silent, clock.of_clients(), clock.skipping_waits():
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run_in_process(
            "send", "--server", server, "--from", "", "--to", "b@s.example", "--timeout", "7", os.devnull
        )

    assert done.returncode == 75
    assert done.stderr == (
        f"smtpcore: {server}: the server did not send its greeting within 7 seconds; "
        "if this port speaks TLS from the start, try --tls implicit\n"
    )


def test_password_is_not_sent_without_tls(server: Running) -> None:
    done = send(server, "--auth", "tim", password="secret")

    assert done.returncode == 69
    assert "AUTH needs TLS" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--allow-plaintext-auth"], "--allow-plaintext-auth has no effect without --auth"),
        (["--tls-ca", "/nonexistent"], "cannot use the CA certificates /nonexistent: No such file or directory"),
        (["/nonexistent"], "cannot read /nonexistent: No such file or directory"),
        (["--to", "no body"], "'no body' is not a path"),
        (["--hostname", "not a name"], "'not a name' is neither a domain nor an address literal"),
        (["--insecure", "--tls-ca", "/nonexistent"], "--tls-ca has no effect"),
        (["--insecure", "--tls", "none"], "no effect with --tls none"),
        (["--data-from-template", "-"], "--data-from-template replaces FILE"),
        (["--tls", "required"], "'required' is not one of 'none', 'opportunistic', 'starttls', 'implicit'"),
    ],
)
def test_error_is_reported_in_one_line(server: Running, arguments: list[str], error: str) -> None:
    done = send(server, *arguments)

    assert done.returncode == 2
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_unreachable_server_is_reported_in_one_line() -> None:
    for server, error, status in [
        ("127.0.0.1:1", "Connection refused", 75),
        ("/nonexistent", "No such file or directory", 69),
        ("nonsense:port", "--server needs HOST:PORT", 2),
    ]:
        done = run_in_process("send", "--server", server, "--from", "a@c.example", "--to", "b@s.example", os.devnull)
        assert done.returncode == status
        assert error in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_invalid_certificate_is_reported_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path, "--self-signed") as server:
        done = send(server, "--timeout", "30")

        again = send(server, "--insecure")
        plain = send(server, "--tls", "implicit")

    assert done.returncode == 69
    assert "the certificate is not valid: its authority is unknown on this machine" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (again.returncode, again.stderr) == (0, "")
    assert plain.returncode == 69
    assert plain.stderr.endswith(": this port speaks plaintext; try --tls starttls\n")


def test_dialogue_is_shown_on_request_with_secrets_masked(server: Running) -> None:
    done = send(server, "-v", "--auth", "tim", "--allow-plaintext-auth", password="secret")

    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[0].startswith("S: 220 ")
    assert "C: RCPT TO:<b@example.org>" in lines
    assert "C: (25 octets of the message)" in lines
    assert [line for line in lines if line.startswith("C: AUTH")] == ["C: AUTH SCRAM-SHA-256 ***"]
    assert "secret" not in done.stderr
    assert lines[-2] == "C: QUIT"


def test_test_message_is_made_from_a_template(server: Running) -> None:
    known = server.messages()
    assert send(server, "--data-from-template", to=("b@example.org", "c@example.org")).returncode == 0
    (message,) = [each for each in server.messages() if each not in known]
    header, _, body = split_trace(message)[1].partition(b"\n\n")
    for field in (b"From: a@client.example", b"To: b@example.org, c@example.org", b"Subject: Test message"):
        assert field in header.splitlines()
    assert body.startswith(b"This is a test message")


@pytest.mark.parametrize(
    ("without", "domain"),
    [
        (("SMTPUTF8",), "xn--bcher-kva.example"),
        (("SMTPUTF8", "8BITMIME"), "xn--bcher-kva.example"),
        ((), "bücher.example"),
    ],
)
def test_test_message_has_the_form_of_domains_that_the_server_takes(
    without: tuple[str, ...], domain: str, tmp_path: Path
) -> None:
    options = [part for name in without for part in ("--without", name)]
    with running(tmp_path, *options) as server:
        assert send(server, "--data-from-template", to=("b@bücher.example",)).returncode == 0
        (message,) = server.messages()
    assert f"To: b@{domain}\n".encode() in split_trace(message)[1]


ADDRESSED = b"""\
From: Tim <tim@client.example>
Sender: a@client.example
To: b@example.org, Team: c@example.org;
Bcc: d@example.org,
 e@example.org
Subject: hello

Bcc: f@example.org
"""


@pytest.mark.parametrize("in_file", [False, True])
def test_envelope_is_that_of_the_header(server: Running, tmp_path: Path, in_file: bool) -> None:
    known = server.messages()
    path = tmp_path / "message.eml"
    path.write_bytes(ADDRESSED)
    target = ["--server", f"127.0.0.1:{server.port}", "-v"]
    done = run_in_process("send", *target, *([str(path)] if in_file else []), stdin=ADDRESSED)
    assert done.returncode == 0
    assert done.stdout.startswith("accepted for 4 of 4")
    assert [line for line in done.stderr.splitlines() if line.startswith(("C: MAIL", "C: RCPT"))] == [
        "C: MAIL FROM:<a@client.example> SIZE=137",
        *(f"C: RCPT TO:<{name}@example.org>" for name in "bcde"),
    ]
    (message,) = [each for each in server.messages() if each not in known]
    assert split_trace(message)[1] == ADDRESSED.replace(b"Bcc: d@example.org,\n e@example.org\n", b"")


@pytest.mark.parametrize(
    ("arguments", "envelope"),
    [
        (["--from", ""], ["MAIL FROM:<>", "RCPT TO:<b@example.org>"]),
        (["--to", "x@example.org"], ["MAIL FROM:<tim@client.example>", "RCPT TO:<x@example.org>"]),
    ],
)
def test_options_replace_the_addresses_of_the_header(
    server: Running, tmp_path: Path, arguments: list[str], envelope: list[str]
) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(b"From: tim@client.example\r\nTo: b@example.org\r\n\r\nhi\r\n")
    done = run_in_process("send", "--server", f"127.0.0.1:{server.port}", "-v", *arguments, str(path))
    commands = [line.removeprefix("C: ") for line in done.stderr.splitlines() if line.startswith(("C: MAIL", "C: RC"))]
    assert [command.replace(" SIZE=51", "") for command in commands] == envelope
    assert done.returncode == 0


def test_missing_envelope_is_a_usage_error() -> None:
    for arguments, error in [
        ([], "the message does not begin with a valid header: give --from and --to"),
        (["--data-from-template"], "--data-from-template needs --from and --to"),
    ]:
        done = run_in_process("send", "--server", "127.0.0.1:1", *arguments, stdin=b"hello\n")
        assert (done.returncode, done.stderr) == (2, f"smtpcore: {error}\n")


def test_message_without_an_envelope_is_not_awaited_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    done = run_in_process("send", "--server", "127.0.0.1:1")
    assert done.returncode == 2
    assert "there is no message: give FILE" in done.stderr


def test_closed_standard_input_is_a_usage_error_unless_there_is_a_file(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    address = ["--server", f"127.0.0.1:{server.port}", "--from", "a@client.example", "--to", "b@example.org"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        for arguments in ([], ["-"]):
            with pytest.raises(click.UsageError, match="standard input is closed, so give FILE"):
                command_of_send.main([*address, *arguments], standalone_mode=False)
        for arguments in ([str(path)], ["--data-from-template"]):
            assert command_of_send.main([*address, *arguments], standalone_mode=False) == 0


class Full(io.StringIO):
    """An output on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_output_that_fails_changes_neither_the_delivery_nor_the_exit_status(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    address = ["--server", f"127.0.0.1:{server.port}", "--from", "a@client.example"]
    known = len(server.messages())
    for recipients, status in ((["--to", "b@example.org"], 0), (["--to", "c@elsewhere.example"], 69)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, output, Full())
            assert command_of_send.main([*address, *recipients, "-v", str(path)], standalone_mode=False) == status
    assert len(server.messages()) == known + 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_exit_status_of_the_process_is_that_of_the_delivery_if_the_disk_is_full(
    server: Running, tmp_path: Path
) -> None:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    arguments = ["--server", f"127.0.0.1:{server.port}", "--from", "a@client.example", "--to", "b@example.org"]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "smtpcore", "send", *arguments, "-v", str(path)]
        assert subprocess.run(command, stdout=full, stderr=full, timeout=TIMEOUT, check=False).returncode == 0


def test_message_has_parameters_for_notifications_and_tls(server: Running) -> None:
    done = send(server, "--dsn", "success", "--dsn", "failure")
    assert done.returncode == 69
    assert "does not offer DSN, which the parameter NOTIFY needs" in done.stderr
    done = send(server, "--requiretls")
    assert done.returncode == 69
    assert "550 5.7.30" in done.stderr


def test_progress_bar_is_shown_for_a_long_message_on_a_terminal(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "long.eml"
    path.write_bytes(b"Subject: long\n\n" + b"x" * 70 + b"\n" * 2_000_000)
    ours, theirs = pty.openpty()
    arguments = ["--server", f"127.0.0.1:{server.port}", "--from", "", "--to", "b@example.org", str(path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command("send", *arguments), stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # Linux reports the end of a terminal as an error
    finally:
        os.close(ours)

    assert process.communicate(timeout=TIMEOUT)[0].startswith(b"accepted for 1 of 1")
    assert process.returncode == 0
    assert b"sending" in shown


# Forwarding by `smtpcore serve`


def test_serve_forwards_mail_and_returns_the_replies_of_the_next_server(server: Running, tmp_path: Path) -> None:
    known = server.messages()
    arguments = [
        "--deliver",
        f"smtp://127.0.0.1:{server.port}",
        "--accept",
        "example.org",
        "--accept",
        "elsewhere.example",
    ]
    with running(tmp_path, *arguments) as relay:
        done = send(relay, to=("b@example.org", "c@elsewhere.example", "d@nowhere.example"))

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "c@elsewhere.example: 550 5.7.1 We do not relay",
        "d@nowhere.example: 550 5.7.1 We do not relay",
    ]
    (message,) = [each for each in server.messages() if each not in known]
    assert message.count(b"Received: ") == 2
    assert not (tmp_path / "Maildir").exists()


def test_serve_forwards_mail_over_lmtp(tmp_path: Path) -> None:
    with running(tmp_path / "store", "--lmtp") as store:
        arguments = ["--deliver", f"lmtp://127.0.0.1:{store.port}?tls=none"]
        with running(tmp_path, *arguments) as relay:
            done = send(relay, to=("b@example.org", "c@example.org"))
        messages = store.messages()

    assert (done.returncode, done.stderr) == (0, "")
    (message,) = messages
    assert [address in message for address in (b"b@example.org", b"c@example.org")] == [True, True]


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("xclient", {"trusted": ["127.0.0.0/8"]}),
        ("proxy_protocol", {"proxies": ["127.0.0.0/8"]}),
        ("xforward", {"trusted": ["127.0.0.0/8"]}),
    ],
)
def test_serve_sends_the_client_attributes_to_the_next_server(
    option: str, options: dict[str, Any], tmp_path: Path
) -> None:
    seen: list[str | None] = []

    async def record(session: Session, message: Message) -> Reply:
        peer = session.peer.host if session.peer else None
        seen.append(session.forwarded.get("ADDR") if option == "xforward" else peer)
        return Reply(250, "taken")

    app = accepting()
    app.on("message")(record)
    with serving_in_process("asyncio", app, **options) as store:
        arguments = [
            "--deliver",
            f"smtp://127.0.0.1:{store.server.address.port}?{option}=true",
            "--trusted",
            "127.0.0.0/8",
        ]
        with (
            running(tmp_path, *arguments, "--accept", "example.org") as relay,
            smtplib.SMTP("127.0.0.1", relay.port, "c.example", timeout=TIMEOUT) as smtp,
        ):
            smtp.ehlo()
            verb = "XFORWARD" if option == "xforward" else "XCLIENT"
            assert smtp.docmd(verb, "ADDR=203.0.113.5 PORT=99")[0] in (220, 250)
            smtp.ehlo()
            smtp.sendmail("a@client.example", ["b@example.org"], b"Subject: x\r\n\r\n")

    assert seen == ["203.0.113.5"]


def test_serve_offers_the_extensions_of_the_next_server(tmp_path: Path) -> None:
    with running(tmp_path / "store", "--max-size", "70000") as store:
        arguments = ["--deliver", f"smtp://127.0.0.1:{store.port}?announce=true"]
        with running(tmp_path, *arguments) as relay, smtplib.SMTP("127.0.0.1", relay.port, timeout=TIMEOUT) as smtp:
            smtp.ehlo()
            assert smtp.esmtp_features["size"] == "70000"


def test_serve_forwards_mail_of_authenticated_users_only(server: Running, tmp_path: Path) -> None:
    arguments = ["--deliver", f"smtp://127.0.0.1:{server.port}", "--allow-plaintext-auth"]
    with running(tmp_path, *arguments, auth="tom:other") as relay:
        done = send(relay, "--auth", "tom", "--allow-plaintext-auth", password="other")
        refused = send(relay)

    assert done.returncode == 0
    assert refused.stderr == "b@example.org: 550 5.7.1 We do not relay\n"
