"""The recipes of docs/cookbook.md run as described: each against a client, and the service that it needs."""

import asyncio
import json
import os
import re
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpcore import Rcpt, Reply
from smtpcore.proxy import Endpoint, ProxyCommand, ProxyHeader
from smtpcore.sasl import CheckToken
from smtpcore_adapters import App, ConnectOptions, Session, TlsMode, default_config
from smtpcore_adapters.asyncio import BackgroundServer, serving
from smtpcore_adapters.socket import connect
from smtpcore_adapters.testing import SmtpServer
from smtpcore_adapters.users import hash_password
from tests.adapters.harness import TIMEOUT
from tests.adapters.testing.test_server import pytest_run
from tests.docs.test_readme import run_example, source_of
from tests.interop import relays
from tests.paths import DOCS

PAGE = (DOCS / "cookbook.md").read_text()
START_TIMEOUT = 60.0  # a program of Django on a busy machine
USERS = replace(default_config(), auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)


def mail(subject: str = "Hello", text: str = "Hi!\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@c.example", "b@example.org", subject
    message.set_content(text)
    return message


@contextmanager
def client_of(app: App, **options: Any) -> Iterator[smtplib.SMTP]:
    with BackgroundServer(app, **options) as server, smtp_to(server.address.port) as smtp:
        yield smtp


def smtp_to(port: int) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port, "c.example", timeout=TIMEOUT)


class Web:
    """A web server that records the bodies of all requests, and sends the next of its `answers` to each."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self.bodies: list[Any] = []
        left = list(answers)
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = left.pop(0)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/x"

    def __enter__(self) -> "Web":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def refusal(smtp: smtplib.SMTP, message: EmailMessage, *recipients: str) -> tuple[int, bytes]:
    with pytest.raises(smtplib.SMTPDataError) as error:
        smtp.send_message(message, to_addrs=recipients or None)
    return error.value.smtp_code, cast(bytes, error.value.smtp_error)


def test_cookbook_has_at_least_eighteen_recipes_and_links_each() -> None:
    recipes = re.findall("^### (.*)$", PAGE, re.MULTILINE)
    assert len(recipes) >= 18
    anchors = {re.sub(r"[^\w-]", "", recipe.lower().replace(" ", "-")) for recipe in recipes}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE.partition("\n## ")[0])) == anchors


# Receiving


def test_webhook_gets_the_message_and_its_failure_is_temporary() -> None:
    names = run_example("(WEBHOOK, json=values)")
    with Web((200, {}), (500, {})) as web, client_of(names["app"]) as smtp:
        names["WEBHOOK"] = web.url
        smtp.send_message(mail())
        assert json.loads(web.bodies[0]) == {
            "from": "a@c.example",
            "to": ["b@example.org"],
            "subject": "Hello",
            "text": "Hi!\r\n",
        }
        assert refusal(smtp, mail())[0] == 451


def test_catcher_stores_each_message_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_example("CAUGHT = Path")
    names["CAUGHT"] = tmp_path / "caught"
    with client_of(names["app"]) as smtp:
        smtp.send_message(mail("one"))
        smtp.send_message(mail("two"), to_addrs=["b@anywhere.example", "c@anywhere.example"])

    files = list(names["CAUGHT"].iterdir())
    assert sorted(re.findall(r"Subject: (\w+)", "".join(file.read_text() for file in files))) == ["one", "two"]
    assert "a@c.example -> b@anywhere.example, c@anywhere.example: " in capsys.readouterr().out


def test_telegram_bot_sends_each_message_to_the_chat_of_its_recipient() -> None:
    names = run_example("api.telegram.org")
    with Web((200, {}), (200, {}), (429, {})) as web, client_of(names["app"]) as smtp:
        names["BOT"] = web.url
        smtp.send_message(mail("Disk full", "x" * 5000), to_addrs=["Alerts@example.org", "team@example.org"])
        first, second = map(json.loads, web.bodies)
        assert (first["chat_id"], second["chat_id"]) == (4711, 4712)
        assert first["text"] == f"Disk full\n\n{'x' * 5000}"[:4096]
        assert refusal(smtp, mail(), "team@example.org")[0] == 451
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(mail(), to_addrs=["nobody@example.org"])


def test_sms_gateway_sends_short_texts_to_numbers() -> None:
    names = run_example("def send_sms")
    sent: list[tuple[str, str]] = []
    names["send_sms"] = lambda number, text: sent.append((number, text))
    with client_of(names["app"]) as smtp:
        smtp.send_message(mail(), to_addrs=["+4917012345678@sms.example.org"])
        assert refusal(smtp, mail(text="x" * 161), "+4917012345678@sms.example.org")[0] == 554
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(mail(), to_addrs=["tim@sms.example.org"])
    assert sent == [("+4917012345678", "Hi!")]


def test_scanner_without_tls_and_with_broken_commands_stores_a_file(tmp_path: Path) -> None:
    names = run_example("SCANS = Path")
    names["SCANS"] = tmp_path / "scans"
    message = mail()
    message.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="scan.pdf")
    with BackgroundServer(names["app"], **names["OPTIONS"]) as server, smtplib.SMTP(timeout=TIMEOUT) as smtp:
        smtp.connect("127.0.0.1", server.address.port)
        assert smtp.docmd("EHLO", "Scanner 2.OG")[0] == 250
        assert smtp.docmd("MAIL", "FROM: <scanner>")[0] == 530
        assert smtp.docmd("AUTH", "LOGIN c2Nhbm5lcg==")[0] == 334
        assert smtp.docmd("c2VjcmV0")[0] == 235
        assert smtp.docmd("MAIL", "FROM: <scanner>")[0] == 250
        assert smtp.docmd("RCPT", "TO: <office>")[0] == 250
        assert smtp.data(message.as_bytes())[1] == b"2.0.0 Stored 1 files"
    (scan,) = names["SCANS"].iterdir()
    assert scan.read_bytes() == b"%PDF-1.4"


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[dict[str, Any]]:
    names = run_example("def deliver_to_each")
    names["BOXES"] = tmp_path / "boxes"
    names["QUOTA"] = 2_000
    full = names["BOXES"] / "full@example.org"
    full.mkdir(parents=True)
    (full / "old").write_bytes(b"x" * 2_000)
    with TemporaryDirectory(prefix="lmtp-") as directory:
        Path(directory).chmod(0o755)  # the lmtp process of Postfix does not run as root
        names["LISTENER"] = replace(names["LISTENER"], path=f"{directory}/lmtp")
        yield names


def test_lmtp_recipients_get_replies_of_their_own(boxes: dict[str, Any]) -> None:
    with (
        BackgroundServer(boxes["app"], listeners=[boxes["LISTENER"]], lmtp=True),
        connect("", 0, path=boxes["LISTENER"].path, lmtp=True, tls=TlsMode.NONE) as client,
    ):
        result = client.send("a@c.example", ["b@example.org", "full@example.org", "b@elsewhere.example"], b"hi\n")
    assert [reply.code for reply in result.values()] == [250, 452, 550]


def test_postfix_delivers_over_lmtp_and_keeps_mail_for_a_full_mailbox(boxes: dict[str, Any]) -> None:
    hops = {"direct": relays.Hop(path=Path(boxes["LISTENER"].path), lmtp=True)}
    message = mail()
    message["Message-Id"] = "<one@c.example>"
    with (
        BackgroundServer(boxes["app"], listeners=[boxes["LISTENER"]], lmtp=True),
        relays.relay("postfix", hops) as relay,
    ):
        with smtp_to(relay.ports["direct"]) as smtp:
            smtp.send_message(message, to_addrs=["b@example.org", "full@example.org"])
        outcomes = relay.outcomes("one@c.example", ["b@example.org", "full@example.org"])

    assert [(each.recipient, each.verdict, each.code) for each in outcomes] == [
        ("b@example.org", "sent", "250 2.0.0"),
        ("full@example.org", "deferred", "452 4.2.2"),
    ]


def test_fake_server_answers_a_verb_of_its_own() -> None:
    names = run_example("def show_queue")
    with client_of(names["app"], **names["OPTIONS"]) as smtp:
        smtp.send_message(mail())
        assert smtp.has_extn("XQUEUE")
        code, text = smtp.docmd("XQUEUE")
        assert code == 250
        assert re.fullmatch(rb"2\.0\.0 1 messages\n2\.0\.0 \d+ octets", text)


# Deciding


def logins(smtp: smtplib.SMTP, *users: tuple[str, str]) -> list[int]:
    """Log in with PLAIN once for each user, and return the codes of the replies."""
    smtp.ehlo()
    return [smtp.docmd("AUTH", "PLAIN " + b64encode(f"\0{user}\0{word}".encode()).decode())[0] for user, word in users]


class Directory:
    """An LDAP server that knows simple binds (RFC 4511 section 4.2)."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self.passwords = passwords
        self.binds: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> "Directory":
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(TIMEOUT)
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                while request := sock.recv(4096):
                    # SEQUENCE { messageID, [APPLICATION 0] { version, name, [0] password } }, all lengths below 128
                    number, operation = request[2:5], request[5]
                    if operation == 0x60:
                        name_size = request[11]
                        name = request[12 : 12 + name_size].decode()
                        password = request[14 + name_size :].decode()
                        self.binds.append(name)
                        code = 0 if self.passwords.get(name) == password else 49
                        sock.sendall(b"\x30\x0c" + number + b"\x61\x07\x0a\x01" + bytes([code]) + b"\x04\x00\x04\x00")


def test_ldap_directory_decides_about_logins() -> None:
    ldap3 = pytest.importorskip("ldap3", reason="ldap3 is not installed")
    names = run_example("from ldap3 import")
    with Directory({"uid=tim,ou=people,dc=example,dc=org": "secret"}) as directory:
        names["DIRECTORY"] = ldap3.Server("127.0.0.1", directory.port, get_info=ldap3.NONE)
        with client_of(names["app"], config=USERS) as smtp:
            assert logins(smtp, ("tim", "wrong"), ("x,ou=admins", "secret"), ("tim", "secret")) == [535, 535, 235]

    # A name cannot change the DN.
    assert [name.partition(",ou=people")[0] for name in directory.binds] == ["uid=tim", r"uid=x\,ou\=admins", "uid=tim"]


def test_sql_table_of_hashes_decides_about_logins(tmp_path: Path) -> None:
    names = run_example("sqlite3.connect(DATABASE)")
    names["DATABASE"] = str(tmp_path / "users.sqlite")
    with closing(sqlite3.connect(names["DATABASE"])) as database:
        database.execute("CREATE TABLE users (name TEXT PRIMARY KEY, hash TEXT)")
        database.execute("INSERT INTO users VALUES ('tim', ?)", [hash_password("secret")])
        database.commit()
    with client_of(names["app"], config=USERS) as smtp:
        assert logins(smtp, ("tim", "wrong"), ("tom", "secret"), ("tim", "secret")) == [535, 535, 235]


def test_oauth_token_is_checked_by_introspection() -> None:
    names = run_example("INTROSPECTION =")
    session = cast(Session, None)
    with Web((200, {"active": True, "username": "tim"}), (200, {"active": False}), (503, {})) as web:
        names["INTROSPECTION"] = web.url

        async def ask() -> object:
            return await names["introspect"](session, CheckToken("tim", "abc"))

        assert asyncio.run(ask()) == "tim"
        assert parse_qs(web.bodies[0].decode()) == {"token": ["abc"]}
        refused: Any = asyncio.run(ask())
        assert refused.scope == "mail.send"
        with pytest.raises(Exception, match="503"):
            asyncio.run(ask())
    with BackgroundServer(names["app"], config=replace(USERS, auth_mechanisms=names["MECHANISMS"])):
        pass


def test_allow_list_refuses_other_clients_and_senders() -> None:
    names = run_example("def only_our_networks")
    with client_of(names["app"]) as smtp:
        smtp.helo()
        assert smtp.mail("a@example.org")[0] == 250
        smtp.rset()
        assert smtp.mail("")[0] == 250
        smtp.rset()
        assert smtp.mail("a@elsewhere.example")[0] == 550
    names["NETWORKS"].clear()
    with BackgroundServer(names["app"]) as server, pytest.raises(smtplib.SMTPConnectError) as error:
        smtp_to(server.address.port)
    assert error.value.smtp_code == 554


def test_allow_list_refuses_clients_whose_address_is_unknown() -> None:
    names = run_example("def only_our_networks")
    with (
        BackgroundServer(names["app"], proxies=["127.0.0.0/8"]) as server,
        socket.create_connection(server.address, timeout=10) as client,
    ):
        client.sendall(b"PROXY UNKNOWN\r\n")
        assert client.recv(100).startswith(b"554 ")


def test_greylist_accepts_the_second_attempt_after_the_delay() -> None:
    names = run_example("self.first_seen = {}")
    now = 1000.0
    app = App()
    app.include(names["Greylist"](lambda: now))
    app.on("RCPT")(lambda session, rcpt: Reply(250, "OK"))
    with client_of(app) as smtp:
        smtp.ehlo()
        smtp.mail("a@c.example")
        assert [smtp.rcpt("b@example.org")[0] for _ in range(2)] == [451, 451]
        now += 60
        assert [smtp.rcpt("b@example.org")[0], smtp.rcpt("c@example.org")[0]] == [250, 451]


def test_dkim_signature_is_required_for_some_domains() -> None:
    dkim = pytest.importorskip("dkim", reason="dkimpy is not installed")
    names = run_example("async def refuse_forged")
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    content = mail().as_bytes().replace(b"\n", b"\r\n")
    signed = dkim.sign(content, b"s1", b"bank.example", private, include_headers=[b"from", b"subject"]) + content
    record = b"v=DKIM1; k=rsa; p=" + b64encode(public)
    real = names["dkim"].verify
    names["dkim"] = SimpleNamespace(verify=lambda content: real(content, dnsfunc=lambda name, timeout=5: record))
    with client_of(names["app"]) as smtp:
        assert smtp.sendmail("a@bank.example", ["b@example.org"], signed) == {}
        assert smtp.sendmail("a@elsewhere.example", ["b@example.org"], content) == {}
        for forged in (content, signed.replace(b"Hi!", b"Pay!")):
            with pytest.raises(smtplib.SMTPDataError) as error:
                smtp.sendmail("a@bank.example", ["b@example.org"], forged)
            assert error.value.smtp_code == 550


def test_honeypot_shows_a_foreign_banner_and_records_logins() -> None:
    names = run_example("Microsoft ESMTP MAIL Service")
    with BackgroundServer(names["app"], **names["OPTIONS"]) as server, smtplib.SMTP(timeout=TIMEOUT) as smtp:
        greeting = smtp.connect("127.0.0.1", server.address.port)
        assert greeting == (220, b"mail.example.com Microsoft ESMTP MAIL Service ready")
        assert smtp.ehlo()[1].startswith(b"mail.example.com Hello [127.0.0.1]\n")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("root", "123456")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(mail())
    assert names["seen"] == [("127.0.0.1", "root", "123456"), ("127.0.0.1", "b@example.org")]


def test_octets_of_the_honeypot_are_those_on_the_page() -> None:
    shown = PAGE[PAGE.index("has received exactly these octets:") :].split("```")[1].removeprefix("text\n")
    names = run_example("Microsoft ESMTP MAIL Service")
    with (
        BackgroundServer(names["app"], **names["OPTIONS"]) as server,
        socket.create_connection(server.address, TIMEOUT) as client,
    ):
        client.sendall(b"EHLO client.example\r\n")
        client.shutdown(socket.SHUT_WR)
        received = client.makefile("rb").read().decode()
    assert received == shown.replace("\n", "").replace("\\r\\n", "\r\n").replace("192.0.2.1", "127.0.0.1")


def test_log_has_the_lines_of_the_watched_client_only(caplog: pytest.LogCaptureFixture) -> None:
    names = run_example("def write_watched")
    caplog.set_level("INFO", "dialogue")
    with BackgroundServer(names["app"]) as server:
        with smtp_to(server.address.port) as smtp:
            smtp.send_message(mail())
        first = [record.getMessage().split(" ", 1)[1] for record in caplog.records if record.name == "dialogue"]
        names["write_watched"].__globals__["WATCHED"] = "192.0.2.1"
        with smtp_to(server.address.port) as smtp:
            smtp.noop()
    assert "C: EHLO c.example" in first
    assert [record for record in caplog.records if "NOOP" in record.getMessage()] == []


# Running


def test_server_stops_after_the_number_of_messages() -> None:
    collect = run_example("async def collect(count")["collect"]

    async def main() -> list[bytes]:
        listening = asyncio.get_running_loop().create_future()

        @asynccontextmanager
        async def serving_anywhere(app: App, port: int) -> AsyncIterator[None]:
            async with serving(app, 0) as server:
                listening.set_result(server.address.port)
                yield

        collect.__globals__["serving"] = serving_anywhere
        collected = asyncio.create_task(collect(2))
        await asyncio.to_thread(send_two, await listening)
        messages: list[bytes] = await collected
        return messages

    def send_two(port: int) -> None:
        with smtp_to(port) as smtp:
            smtp.send_message(mail("first"))
            smtp.send_message(mail("second"))

    assert [b"first" in content for content in asyncio.run(main())] == [True, False]


def test_gui_gets_messages_in_its_own_thread() -> None:
    names = run_example("def poll(window, show)")
    shown: list[tuple[str, threading.Thread]] = []

    class Window:
        def after(self, milliseconds: int, function: Any, *arguments: object) -> None:
            if not shown:
                time.sleep(0.01)
                function(*arguments)

    with client_of(names["app"]) as smtp:
        smtp.send_message(mail())
        names["poll"](Window(), lambda sender, content: shown.append((sender, threading.current_thread())))
    assert shown == [("a@c.example", threading.current_thread())]


def test_main_window_of_the_gui_shows_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_example("def poll(window, show)")
    lines: list[str] = []

    class Window:
        pending: Any

        def mainloop(self) -> None:
            with smtp_to(servers[0].address.port) as smtp:
                smtp.send_message(mail())
            function, *arguments = self.pending
            function(*arguments)

        def after(self, milliseconds: int, *call: object) -> None:
            self.pending = call

    class Listbox:
        def __init__(self, window: Window) -> None: ...

        def pack(self) -> None: ...

        def insert(self, index: str, line: str) -> None:
            lines.append(line)

    servers: list[BackgroundServer] = []

    def background(app: App, port: int) -> BackgroundServer:
        servers.append(BackgroundServer(app))
        return servers[0]

    monkeypatch.setitem(sys.modules, "tkinter", cast(Any, SimpleNamespace(Tk=Window, Listbox=Listbox)))
    names["BackgroundServer"] = background
    names["main"]()
    assert len(lines) == 1
    assert re.fullmatch(r"a@c\.example: \d+ octets", lines[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fastapi_application_receives_mail() -> None:
    testclient = pytest.importorskip("fastapi.testclient", reason="FastAPI is not installed")
    names = run_example("def list_subjects")
    serving = names["serving"]
    names["serving"] = lambda app, port, **options: serving(app, 0, **options)
    with testclient.TestClient(names["api"]) as web:
        with smtp_to(names["api"].state.smtp_port) as smtp:
            smtp.send_message(mail("Hello\r\n  again"[:5]))
        assert web.get("/subjects").json() == ["Hello"]


DJANGO = {
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
""",
    "settings.py": """
INSTALLED_APPS = ["tickets"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
""",
    "tickets/models.py": """
from django.db import models
class Ticket(models.Model):
    sender = models.CharField(max_length=254)
    content = models.BinaryField()
""",
}


@contextmanager
def program(directory: Path, *arguments: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a Python program until the end of the block, stop it with SIGTERM, and require a clean end."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            yield process
            process.terminate()
            output, errors = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, output + errors
        finally:
            process.kill()


def wait_for_port(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    process.kill()  # otherwise its output has no end
    raise AssertionError(process.communicate())


def test_django_command_stores_mail_as_tickets(tmp_path: Path, port: int) -> None:
    pytest.importorskip("django", reason="Django is not installed")
    commands = tmp_path / "tickets" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands / "receivemail.py").write_text(source_of("class Command(BaseCommand)"))
    for name, text in DJANGO.items():
        (tmp_path / name).write_text(text)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--run-syncdb"], cwd=tmp_path, check=True, capture_output=True
    )
    with program(tmp_path, "manage.py", "receivemail", str(port)) as process:
        wait_for_port(port, process)
        with smtp_to(port) as smtp:
            smtp.send_message(mail(), to_addrs=["support@example.org"])
    with closing(sqlite3.connect(tmp_path / "db.sqlite")) as database:
        ((sender, content),) = database.execute("SELECT sender, content FROM tickets_ticket").fetchall()
    assert sender == "a@c.example"
    assert b"Subject: Hello" in content


def test_program_uses_the_socket_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "mail.py").write_text(source_of("goes to the journal"))
    launcher = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.execv(sys.executable, [sys.executable, 'mail.py'])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        descriptor = inherited.fileno()
        with program(tmp_path, "-c", launcher, str(descriptor), pass_fds=[descriptor]) as process:
            with smtp_to(inherited.getsockname()[1]) as smtp:
                smtp.send_message(mail())
            assert process.stdout
            assert process.stdout.readline().endswith(" octets\n")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become another user")
def test_program_listens_as_root_and_serves_as_nobody(tmp_path: Path, port: int) -> None:
    tmp_path.chmod(0o755)
    added = (
        "\n@app.on('NOOP')\n"
        "def show_user(session, noop):\n"
        "    from smtpcore import Reply\n"
        "    return Reply(250, f'{os.getuid()} {os.getgid()} {os.getgroups()}')\n"
        "import sys\n"
        "main(int(sys.argv[1]))\n"
    )
    (tmp_path / "example.py").write_text(source_of("def become(name)") + added)
    with program(tmp_path, "example.py", str(port)) as process:
        wait_for_port(port, process)
        nobody = run_example("def become(name)")["pwd"].getpwnam("nobody")
        with smtp_to(port) as smtp:
            assert smtp.noop()[1].decode() == f"2.0.0 {nobody.pw_uid} {nobody.pw_gid} []"


def test_server_behind_a_proxy_sees_the_address_of_the_client() -> None:
    names = run_example("def show_client")
    header = ProxyHeader(
        ProxyCommand.PROXY, Endpoint(ip_address("198.51.100.7"), 1234), Endpoint(ip_address("192.0.2.25"), 25)
    )
    unknown = replace(header, source=None, destination=None)
    with BackgroundServer(names["app"], **names["OPTIONS"]) as server:
        for sent, client in ((header, "198.51.100.7"), (unknown, "an unknown address")):
            options: ConnectOptions = {"proxy": sent, "tls": TlsMode.NONE}
            with connect("127.0.0.1", server.address.port, **options) as connection:
                result = connection.send("a@c.example", ["b@example.org"], b"hi\n")
            assert result.final == Reply(250, f"Taken from {client}", enhanced="2.0.0")


def test_pytest_fixture_runs_the_server(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, source_of("def test_every_recipient_is_refused"))
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


# Sending


def test_each_user_sends_through_an_account_of_their_own() -> None:
    names = run_example("class RelayPerUser")
    accounts = {"tim": ("tim-remote", "one"), "ann": ("ann-remote", "two")}
    with SmtpServer(auth={"tim-remote": "one"}) as tims, SmtpServer(auth={"ann-remote": "two"}) as anns:
        forward = names["Forward"]
        names["Forward"] = lambda *args, **options: forward(
            *args, **{**options, "tls": TlsMode.NONE, "plaintext_auth": True}
        )
        app = names["make_app"](
            {"tim": "secret", "ann": "geheim"},
            {user: (server.host, server.port, *accounts[user]) for user, server in (("tim", tims), ("ann", anns))},
        )
        with BackgroundServer(app, config=USERS) as server:
            for user, password in (("tim", "secret"), ("ann", "geheim")):
                with smtp_to(server.address.port) as smtp:
                    smtp.login(user, password)
                    smtp.send_message(mail(user))
        assert [(each.identity, each.message["Subject"]) for each in tims.messages] == [("tim-remote", "tim")]
        assert [(each.identity, each.message["Subject"]) for each in anns.messages] == [("ann-remote", "ann")]


def test_oauth_proxy_logs_in_with_a_new_token_for_each_connection() -> None:
    names = run_example("def make_proxy")
    tokens = iter(["first", "second"])
    checked: list[str] = []

    async def fetch_token() -> str:
        token = next(tokens, None)
        if token is None:
            raise OSError("the token endpoint is down")
        return token

    provider = App()

    @provider.on("auth")
    def check(session: Session, question: object) -> str:
        assert isinstance(question, CheckToken)
        checked.append(question.token)
        return question.username or ""

    provider.on("RCPT")(lambda session, rcpt: Reply(250, "OK") if session.identity else None)

    @provider.on("message")
    async def take(session: Session, message: Any) -> Reply:
        return Reply(250, f"{len(await message.read())} octets")

    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("localhost").configure_cert(theirs)
    with BackgroundServer(provider, config=replace(USERS, auth_mechanisms=("XOAUTH2",)), tls=theirs) as there:
        app = names["make_proxy"](fetch_token, "localhost", there.address.port, context=ours)
        with BackgroundServer(app, config=USERS) as here:
            for code in (250, 250, 451):
                with smtp_to(here.address.port) as smtp:
                    smtp.login("scanner", "secret")
                    smtp.mail("a@c.example")
                    assert smtp.rcpt("b@example.org")[0] == code
    assert checked == ["first", "second"]


def test_newsletter_is_sent_over_a_pool_of_connections() -> None:
    send_newsletter = run_example("async def send_newsletter")["send_newsletter"]
    subscribers = [f"reader{number}@example.org" for number in range(9)]
    app = App()
    peers: set[object] = set()

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        peers.add(session.peer)
        return Reply(451, "later") if rcpt.forward_path == "reader3@example.org" else Reply(250, "taken")

    app.on("message", blocking=True)(lambda session, message: Reply(250, "taken"))
    with BackgroundServer(app) as server:
        host, port = server.address
        assert asyncio.run(send_newsletter(host, port, "News!", subscribers, tls=TlsMode.NONE)) == [subscribers[3]]
        assert len(peers) <= 4
    assert len(asyncio.run(send_newsletter(host, port, "News!", subscribers[:2], tls=TlsMode.NONE))) == 2
