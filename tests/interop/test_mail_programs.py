"""Real clients deliver to `smtpcore serve`, and the message in the Maildir equals the sent message."""

import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.command import TIMEOUT, Running, running, split_trace

# Typical mistakes of transports: dots at the start of lines, a long line, 8-bit octets, and a final empty line.
MESSAGE = (
    b"From: a@client.example\r\nTo: b@example.org\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <1@client.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n"
    b".\r\n..\r\n.a dot\r\n" + b"x" * 900 + b"\r\n\xc3\xa9\xff\r\nthe last line\r\n\r\n"
)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server"), "--backend", request.param, "--self-signed") as server:
        yield server

    assert server.status == 0
    assert server.errors == []


@pytest.fixture
def message_file(tmp_path: Path) -> Path:
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    return path


def client(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")

    return path


def run_client(*arguments: str, stdin: bytes = b"") -> None:
    done = subprocess.run(arguments, input=stdin, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")


def new_message(server: Running, known: list[bytes]) -> tuple[bytes, bytes]:
    (message,) = [message for message in server.messages() if message not in known]
    return split_trace(message)


def assert_delivered(server: Running, known: list[bytes], protocol: bytes, message: bytes = MESSAGE) -> None:
    trace, content = new_message(server, known)
    assert content == message.replace(b"\r\n", b"\n")
    assert trace.startswith(b"Return-Path: <a@client.example>\nX-Original-To: b@example.org\nReceived: from ")
    assert b" with " + protocol + b" id " in trace
    assert b"([127.0.0.1])" in trace
    assert b"for <b@example.org>" in trace


@pytest.mark.parametrize("tls", [False, True])
def test_swaks_delivers(server: Running, message_file: Path, tls: bool) -> None:
    swaks = client("swaks")
    if tls and subprocess.run(["perl", "-MNet::SSLeay", "-e", "1"], capture_output=True, check=False).returncode:
        pytest.skip("swaks has no TLS here, as Net::SSLeay is not installed")

    known = server.messages()
    arguments = ["--server", f"127.0.0.1:{server.port}", "--from", "a@client.example", "--to", "b@example.org"]
    # swaks adds a line end, and otherwise sends the file unchanged.
    run_client(swaks, *arguments, "--helo", "client.example", "--data", f"@{message_file}", *(["--tls"] if tls else []))
    assert_delivered(server, known, b"ESMTPS" if tls else b"ESMTP", MESSAGE + b"\r\n")


@pytest.mark.parametrize("tls", [False, True])
def test_curl_delivers(server: Running, message_file: Path, tls: bool) -> None:
    curl = client("curl")
    known = server.messages()
    arguments = ["--mail-from", "a@client.example", "--mail-rcpt", "b@example.org", "-T", str(message_file)]
    security = ["--ssl-reqd", "-k"] if tls else []
    run_client(curl, "-sS", *security, f"smtp://127.0.0.1:{server.port}/client.example", *arguments)
    assert_delivered(server, known, b"ESMTPS" if tls else b"ESMTP")


@pytest.mark.parametrize("tls", [False, True])
def test_msmtp_delivers(server: Running, tls: bool) -> None:
    msmtp = client("msmtp")
    known = server.messages()
    arguments = ["--host=127.0.0.1", f"--port={server.port}", "--from=a@client.example", "--auth=off"]
    security = ["--tls=on", "--tls-certcheck=off"] if tls else ["--tls=off"]
    stdin = MESSAGE.replace(b"\r\n", b"\n")  # msmtp expects local line ends
    run_client(msmtp, "-C", "/dev/null", *arguments, *security, "b@example.org", stdin=stdin)
    assert_delivered(server, known, b"ESMTPS" if tls else b"ESMTP")


@pytest.mark.parametrize("tls", [False, True])
def test_smtplib_delivers(server: Running, tls: bool) -> None:
    known = server.messages()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", server.port, "client.example", timeout=TIMEOUT) as smtp:
        if tls:
            smtp.starttls(context=context)
        assert smtp.sendmail("a@client.example", ["b@example.org"], MESSAGE, mail_options=["BODY=8BITMIME"]) == {}

    assert_delivered(server, known, b"ESMTPS" if tls else b"ESMTP")


def test_smtp_source_delivers(server: Running, tmp_path: Path) -> None:
    source = client("smtp-source")
    path = tmp_path / "message"
    path.write_bytes(MESSAGE.replace(b"\r\n", b"\n"))  # smtp-source expects local line ends
    known = server.messages()
    arguments = ["-f", "a@client.example", "-t", "b@example.org", "-M", "client.example", "-F", str(path)]
    run_client(source, *arguments, f"127.0.0.1:{server.port}")
    # smtp-source adds a line end.
    assert_delivered(server, known, b"SMTP", MESSAGE + b"\r\n")


def test_smtp_source_delivers_over_parallel_connections(server: Running) -> None:
    source = client("smtp-source")
    known = len(server.messages())
    run_client(source, "-s", "10", "-m", "100", "-l", "4096", "-r", "3", f"127.0.0.1:{server.port}")
    run_client(source, "-d", "-s", "5", "-m", "50", "-N", f"127.0.0.1:{server.port}")
    assert len(server.messages()) == known + 150


# Authentication


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def submission(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    arguments = ["--backend", request.param, "--self-signed", "--require-auth"]
    with running(tmp_path_factory.mktemp("submission"), *arguments, auth="tim:tans taaf") as server:
        yield server

    assert server.status == 0
    assert server.errors == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks_authenticates(submission: Running, message_file: Path, mechanism: str) -> None:
    swaks = client("swaks")
    modules = ["-MNet::SSLeay", *(["-MDigest::MD5"] if mechanism == "CRAM-MD5" else [])]
    if subprocess.run(["perl", *modules, "-e", "1"], capture_output=True, check=False).returncode:
        pytest.skip(f"swaks lacks {' or '.join(modules)} here")

    known = submission.messages()
    arguments = ["--server", f"127.0.0.1:{submission.port}", "--from", "a@client.example", "--to", "b@example.org"]
    login = ["--tls", "--auth", mechanism, "--auth-user", "tim", "--auth-password", "tans taaf"]
    run_client(swaks, *arguments, *login, "--helo", "client.example", "--data", f"@{message_file}")
    assert_delivered(submission, known, b"ESMTPSA", MESSAGE + b"\r\n")


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"])
def test_msmtp_authenticates(submission: Running, mechanism: str) -> None:
    msmtp = client("msmtp")
    known = submission.messages()
    arguments = ["--host=127.0.0.1", f"--port={submission.port}", "--from=a@client.example"]
    login = [f"--auth={mechanism}", "--user=tim", "--passwordeval=echo tans taaf", "--tls=on", "--tls-certcheck=off"]
    stdin = MESSAGE.replace(b"\r\n", b"\n")
    run_client(msmtp, "-C", "/dev/null", *arguments, *login, "b@example.org", stdin=stdin)
    assert_delivered(submission, known, b"ESMTPSA")


def test_curl_authenticates(submission: Running, message_file: Path) -> None:
    curl = client("curl")
    known = submission.messages()
    arguments = ["--mail-from", "a@client.example", "--mail-rcpt", "b@example.org", "-T", str(message_file)]
    login = ["--ssl-reqd", "-k", "--user", "tim:tans taaf"]
    run_client(curl, "-sS", *login, f"smtp://127.0.0.1:{submission.port}/client.example", *arguments)
    assert_delivered(submission, known, b"ESMTPSA")


def test_smtplib_authenticates(submission: Running) -> None:
    known = submission.messages()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", submission.port, "client.example", timeout=TIMEOUT) as smtp:
        smtp.starttls(context=context)
        with pytest.raises(smtplib.SMTPSenderRefused, match="Authentication required"):
            smtp.sendmail("a@client.example", ["b@example.org"], MESSAGE)
        smtp.login("tim", "tans taaf")
        assert smtp.sendmail("a@client.example", ["b@example.org"], MESSAGE) == {}

    assert_delivered(submission, known, b"ESMTPSA")


# LMTP


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_smtp_source_delivers_over_lmtp(tmp_path: Path, backend: str) -> None:
    source = client("smtp-source")
    with running(tmp_path, "--lmtp", "--backend", backend) as server:
        run_client(source, "-L", "-s", "3", "-m", "20", "-r", "3", f"127.0.0.1:{server.port}")
        messages = server.messages()

    assert len(messages) == 20
    assert all(b" with LMTP id " in message and message.count(b"X-Original-To:") == 3 for message in messages)
