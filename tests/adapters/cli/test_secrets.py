"""No password, token or key appears in a process list, a log, a transcript, a metric, an error or a traceback."""

import asyncio
import os
import re
import signal
import smtplib
import ssl
import subprocess
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
import trustme

from smtpcore import Reply
from smtpcore.sasl import ScramKeys
from smtpcore_adapters import Address, App, AuthenticationRefused, Client, Timeouts, TlsMode
from smtpcore_adapters.asyncio import BackgroundServer, connect
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.tls import ServerTls, self_signed_context
from smtpcore_adapters.users import Users, hash_password, parse_hash
from tests.adapters.command import TIMEOUT, command, run_in_process
from tests.certificates import context_trusting

KNOWN, WRONG, OF_VARIABLE, OF_RELAY = (f"{name}-pa55word" for name in ("known", "wrong", "variable", "relay"))
PASSWORDS = (KNOWN, WRONG, OF_VARIABLE, OF_RELAY)
USERS = ("tim", "tom", "boom", "mx")
HASH = hash_password(KNOWN)
APP = """
from pathlib import Path
from smtpcore.sasl import CheckPassword
from smtpcore_adapters import App
from smtpcore_adapters.transcript import Transcript, to_directory

app = App()
app.include(Transcript(to_directory(Path("transcripts"))))

@app.on("auth")
async def fail_for_boom(session, question):
    if question.username == "boom":
        raise RuntimeError(f"{question!r} of {session!r} at {session.transaction!r}")
"""


def secrets() -> set[str]:
    """Return each secret in clear, in base64 and in hexadecimal, alone and in the messages of PLAIN."""
    keys: ScramKeys = parse_hash(HASH)
    values = {each.encode() for each in PASSWORDS} | {keys.stored_key, keys.server_key, keys.salt}
    values |= {f"\0{user}\0{each}".encode() for each in PASSWORDS for user in USERS}
    texts = {each for value in values for each in (b64encode(value).decode(), value.hex(), repr(value)[2:-1])}
    return {each.rstrip("=") for each in texts} | {HASH.rpartition("$")[2]} | {HASH}


def check(text: str) -> None:
    assert [secret for secret in sorted(secrets()) if secret in text] == []
    assert [secret for secret in sorted(secrets()) if secret.lower() in text.lower()] == []


# The server


class Server:
    """A server that has had clients of every kind."""

    def __init__(self, directory: Path, process: "subprocess.Popen[str]", context: ssl.SSLContext) -> None:
        self.directory = directory
        self.process = process
        self.context = context
        self.lines: list[str] = []
        self.is_ready = threading.Event()
        self.readers = [threading.Thread(target=self._read, args=(pipe,)) for pipe in (process.stdout, process.stderr)]
        for each in self.readers:
            each.start()
        assert self.is_ready.wait(TIMEOUT), self.lines
        text = "".join(self.lines)
        assert "metrics at" in text, text
        self.ports = [int(each) for each in re.findall(r"127\.0\.0\.1:(\d+)", text)]
        self.metrics = ""
        self.command_line = ""

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.lines.append(line)
            if "metrics at" in line:
                self.is_ready.set()

    def visit(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            for user, password in (
                ("tim", KNOWN),
                ("tom", OF_VARIABLE),
                ("tim", WRONG),
                ("no", WRONG),
                ("boom", KNOWN),
            ):
                with suppress(AuthenticationRefused):
                    asyncio.run(self._log_in(mechanism, user, password))
        for lines in DIALOGUES:
            self._say(*lines)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[-1]}/metrics", timeout=TIMEOUT) as response:
            self.metrics = response.read().decode()
        self.command_line = Path(f"/proc/{self.process.pid}/cmdline").read_bytes().decode()

    async def _log_in(self, mechanism: str, user: str, password: str) -> None:
        mode = TlsMode.REQUIRED
        options = {"auth": (user, password), "auth_mechanisms": (mechanism,), "context": self.context, "tls": mode}
        async with connect("localhost", self.ports[0], **options) as client:  # type: ignore[arg-type]
            await self._send(client)

    async def _send(self, client: Client) -> None:
        await client.send("a@c.example", ["b@s.example"], b"Subject: x\r\n\r\nx\r\n")

    def _say(self, *lines: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.ports[0], "c.example", timeout=TIMEOUT) as client:
            client.ehlo()
            if lines[0] == "STARTTLS":
                client.starttls(context=self.context)
                client.ehlo()
            assert client.sock
            lines = tuple(line for line in lines if line != "STARTTLS")
            client.sock.sendall("".join(f"{line}\r\n" for line in (*lines, "*", "QUIT")).encode())
            while client.sock.recv(65_536):
                pass


def encoded(password: str) -> str:
    return b64encode(f"\0tim\0{password}".encode()).decode()


DIALOGUES = [
    (f"AUTH PLAIN {encoded(KNOWN)}",),  # without TLS
    ("AUTH LOGIN", b64encode(b"tim").decode(), b64encode(KNOWN.encode()).decode()),
    ("AUTH PLAIN", encoded(KNOWN)),
    ("STARTTLS", f"AUTH PLAIN {encoded(KNOWN)} x"),
    ("STARTTLS", f"AUTH  PLAIN  {encoded(WRONG)}"),
    ("STARTTLS", f"AUTH\tPLAIN\t{encoded(WRONG)}"),
    ("STARTTLS", f"auth plain {encoded(WRONG)}="),
    ("STARTTLS", f"AUTH FOO {encoded(KNOWN)}", encoded(KNOWN)),
    ("STARTTLS", "AUTH LOGIN", KNOWN, KNOWN),  # not in base64
    ("STARTTLS", "AUTH CRAM-MD5", encoded(KNOWN)),
    ("STARTTLS", f"AUTHPLAIN {encoded(KNOWN)}"),
    ("STARTTLS", f"AUTH {encoded(KNOWN)}"),
    ("STARTTLS", f"AUTH PLAIN {'x' * 13_000}{encoded(KNOWN)}"),
]


@pytest.fixture(scope="module", params=["json", "lines"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(directory / "chain.pem"))
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    (directory / "users").write_text(f"tim:{HASH}\n")
    (directory / "relay-password").write_text(f"{OF_RELAY}\n")
    (directory / "app.py").write_text(APP)
    context = context_trusting(authority)
    relay = App()
    relay.include(Users({"mx": OF_RELAY}))
    relay.include(AnyRecipient())
    relay.on("message")(_store)
    tls = ServerTls(directory / "chain.pem", directory / "key.pem").context
    with BackgroundServer(relay, tls=tls) as next_server:
        url = f"smtp://localhost:{next_server.address.port}?tls=starttls&tls_ca=ca.pem&user=mx&password_file="
        arguments = ["app:app", "--port", "0", "--metrics-port", "0", "--tls-cert", "chain.pem", "--tls-key", "key.pem"]
        arguments += ["--users", "users", "--deliver", f"{url}relay-password", "--verbose", "--log-level", "debug"]
        arguments += ["--auth-delay", "0", "--max-auth-failures-per-hour", "0", "--max-account-failures-per-hour", "0"]
        arguments += ["--log-json"] if request.param == "json" else []
        environment = os.environ | {"SMTPCORE_AUTH": f"tom:{OF_VARIABLE}", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command("serve", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=directory,
            env=environment,
        ) as process:
            watchdog = threading.Timer(TIMEOUT, process.kill)
            watchdog.start()
            try:
                found = Server(directory, process, context)
                found.visit()
            finally:
                watchdog.cancel()
                process.send_signal(signal.SIGTERM)
                process.wait(TIMEOUT)
            for each in found.readers:
                each.join(TIMEOUT)
            yield found


async def _store(session: object, message: object) -> Reply:
    await message.read()  # type: ignore[attr-defined]
    return Reply(250, "Stored", enhanced="2.0.0")


def test_log_shows_no_secret(server: Server) -> None:
    text = "".join(server.lines)
    assert "AUTH PLAIN ***" in text
    assert "RuntimeError" in text
    check(text)


def test_transcripts_show_no_secret(server: Server) -> None:
    text = "".join(path.read_text() for path in (server.directory / "transcripts").iterdir())
    assert "AUTH PLAIN ***" in text
    check(text)


def test_metrics_show_no_secret(server: Server) -> None:
    assert "smtpcore" in server.metrics
    check(server.metrics)


def test_process_list_shows_no_secret(server: Server) -> None:
    assert "serve" in server.command_line
    check(server.command_line)


# The other commands


@pytest.fixture(scope="module")
def login_server() -> Iterator[Address]:
    app = App()
    app.include(Users({"tim": KNOWN}))
    app.on("message")(_store)
    context = self_signed_context(["localhost"])
    with BackgroundServer(app, tls=context, hostname="s.example", timeouts=Timeouts(auth_delay=0)) as server:
        yield server.address


@pytest.mark.parametrize("password", [KNOWN, WRONG])
def test_client_shows_no_secret(login_server: Address, password: str) -> None:
    login = ["--tls", "starttls", "--insecure", "--auth", "tim"]
    envelope = ["--server", str(login_server), "--from", "tim@s.example", "--to", "tim@s.example"]
    sent = run_in_process(
        "send", *envelope, *login, "--allow-plaintext-auth", "-v", "--data-from-template", password=password
    )
    assert "C: AUTH PLAIN ***" in sent.stderr
    checked = run_in_process("check", str(login_server), *login, "--to", "tim@s.example", "--json", password=password)
    assert checked.stdout or checked.stderr
    check(sent.stdout + sent.stderr + checked.stdout + checked.stderr)


DESTINATIONS = [
    f"smtp://tim:{KNOWN}@relay.example",
    f"smtp://tim:{KNOWN}@relay.example:99999",
    f"smtpp://tim:{KNOWN}@relay.example",
    f"smtp:tim:{KNOWN}@relay.example",
    f"tim:{KNOWN}@relay.example:25",
    f"smtp://relay.example?user=tim&password={KNOWN}",
]


@pytest.mark.parametrize("url", DESTINATIONS)
def test_login_in_a_destination_is_an_error_and_never_shown(url: str, tmp_path: Path) -> None:
    checked = run_in_process("config", "--check", "--deliver", url, cwd=tmp_path)
    assert checked.returncode == 2
    shown = run_in_process("config", "--deliver", url, cwd=tmp_path)
    assert "***" in shown.stdout
    check(checked.stderr + shown.stdout)


@pytest.mark.parametrize(
    "text",
    [
        f'auth = ["tim:{KNOWN}", 3]',
        f'auth = {{ tim = "{KNOWN}" }}',
        f'auth = ["tim:{KNOWN}", "tim:{WRONG}"]',
        f'[deliver]\nurl = "smtp://relay.example"\npassword = "{KNOWN}"',
        f'[deliver]\nurl = ["smtp://relay.example"]\npassword = "{KNOWN}"',
    ],
)
def test_wrong_file_is_an_error_without_its_password(text: str, tmp_path: Path) -> None:
    (tmp_path / "smtpcore.toml").write_text(text)
    checked = run_in_process("config", "--check", cwd=tmp_path)
    assert checked.returncode == 2
    shown = run_in_process("config", cwd=tmp_path)
    check(checked.stderr + shown.stdout + shown.stderr)


@pytest.mark.parametrize("command", ["serve", "config", "send", "check"])
def test_password_in_an_option_is_an_error_that_does_not_repeat_it(command: str, tmp_path: Path) -> None:
    others = ["--from", "a@c.example", "--to", "b@s.example", "--tls", "starttls"]
    arguments = {"send": ["--server", "s.example", *others], "check": ["s.example", *others], "config": ["--check"]}
    done = run_in_process(command, *arguments.get(command, []), "--auth", f"tim:{KNOWN}", cwd=tmp_path)
    assert done.returncode == 2
    check(done.stderr)


def test_wrong_line_in_the_file_of_users_is_not_shown(tmp_path: Path) -> None:
    for line in (f"tim:{KNOWN}", f"tim {KNOWN}", HASH, f"tim:{HASH[:-3]}"):
        (tmp_path / "users").write_text(line)
        done = run_in_process("config", "--check", "--users", "users", "--self-signed", cwd=tmp_path)
        assert done.returncode == 2
        check(done.stderr)
