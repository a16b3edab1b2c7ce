"""The server of docs/running.md runs with the file of the page, and the tables of the page are complete."""

import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import trustme

from smtpcore import Reply
from smtpcore_adapters import App, Listener
from smtpcore_adapters.asyncio import BackgroundServer
from smtpcore_adapters.cli import main
from smtpcore_adapters.cli._destinations import SCHEMES, parse_destination
from smtpcore_adapters.cli._loading import load_app
from smtpcore_adapters.cli._settings import SETTINGS
from smtpcore_adapters.recipients import AnyRecipient, Recipients
from smtpcore_adapters.users import hash_password
from tests.adapters.command import TIMEOUT, as_service, command
from tests.adapters.harness import has_ipv6
from tests.certificates import context_trusting
from tests.docs.test_readme import source_of
from tests.paths import DOCS

PAGE = (DOCS / "running.md").read_text()
MESSAGE = b"Subject: hello\r\n\r\nbody\r\n"


def block(language: str, start: str) -> str:
    """Return the block of the page that begins with `start`."""
    (found,) = [each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if each.startswith(start)]
    return str(found)


@dataclass
class Installed:
    """The server of the page, on free ports, with files in a directory of the test."""

    ports: list[int]
    metrics: str
    delivered: list[tuple[tuple[str, ...], bytes]]
    authority: trustme.CA

    def connect(self, number: int) -> smtplib.SMTP:
        """Connect to a listener by its number, with TLS."""
        context = context_trusting(self.authority)
        context.check_hostname = False
        port = self.ports[number]
        if number == 1:
            return smtplib.SMTP_SSL("127.0.0.1", port, "c.example", timeout=TIMEOUT, context=context)

        client = smtplib.SMTP("127.0.0.1", port, "c.example", timeout=TIMEOUT)
        client.starttls(context=context)
        return client


@pytest.fixture(scope="module", params=["service", "process"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory = tmp_path_factory.mktemp("etc")
    authority = trustme.CA()
    certificate = authority.issue_cert("mx.example.org")
    certificate.cert_chain_pems[0].write_to_path(str(directory / "fullchain.pem"))
    certificate.private_key_pem.write_to_path(str(directory / "privkey.pem"))
    (directory / "users").write_text(f"tim:{hash_password('tanstaaftanstaaf')}\n")

    text = block("toml", "hostname").replace("/etc/smtpcore", str(directory)).replace("/run/dovecot", str(directory))
    text = text.replace("metrics_port = 9125", "metrics_port = 0")
    delivered: list[tuple[tuple[str, ...], bytes]] = []
    start = serving_as_service if request.param == "service" else serving
    with lmtp_server(directory / "lmtp", delivered), start(directory, text) as lines:
        ports = list(dict.fromkeys(map(int, re.findall(r":(\d+)\b", lines[0]))))
        yield Installed(ports, lines[1].removeprefix("metrics at ").strip(), delivered, authority)


@contextmanager
def lmtp_server(path: Path, delivered: list[tuple[tuple[str, ...], bytes]]) -> Iterator[None]:
    app = App()
    app.include(Recipients(["example.org"]))

    @app.on("message")
    async def store(session: object, message: object) -> Reply:
        delivered.append((message.recipients, await message.read()))  # type: ignore[attr-defined]
        return Reply(250, "Stored", enhanced="2.0.0")

    with BackgroundServer(app, listeners=[Listener(path=str(path))], lmtp=True):
        yield


@contextmanager
def serving(directory: Path, text: str) -> Iterator[list[str]]:
    """Run `smtpcore serve` with the file in `directory`, at free ports, and yield its first two lines."""
    (directory / "smtpcore.toml").write_text(re.sub(r"\bport = \d+", "port = 0", text))
    arguments = command("serve", "--config", "smtpcore.toml")
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=directory) as process:
        watchdog = threading.Timer(TIMEOUT, process.kill)
        watchdog.start()
        try:
            yield first_lines(process)
        finally:
            watchdog.cancel()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


@contextmanager
def serving_as_service(directory: Path, text: str) -> Iterator[list[str]]:
    """Run the command of smtpcore.service with the sockets of smtpcore.socket, which have other ports here."""
    unit = (DOCS / "deploy" / "smtpcore.service").read_text()
    variables = dict(re.findall(r"^Environment=(\w+)=(.+)$", unit, re.MULTILINE))
    credentials = directory / "credentials"
    credentials.mkdir()
    for name, source in re.findall(r"^LoadCredential=(.+):/etc/smtpcore/(.+)$", unit, re.MULTILINE):
        (directory / source).rename(credentials / name)
    variables = {
        name: place.replace("/run/credentials/smtpcore.service", str(credentials)) for name, place in variables.items()
    }
    (start,) = re.findall(r"^ExecStart=/opt/smtpcore/bin/smtpcore (.+)$", unit, re.MULTILINE)
    arguments = start.replace("/etc/smtpcore", str(directory)).split()
    passed = re.findall(r"^ListenStream=(\d+)$", (DOCS / "deploy" / "smtpcore.socket").read_text(), re.MULTILINE)
    place = ("::" if has_ipv6() else "127.0.0.1", 0)
    with as_service(directory, [place] * len(passed), *arguments, **variables) as (service, ports, reports):
        for number, port in zip(passed, ports, strict=True):
            text = re.sub(rf"\bport = {number}$", f"port = {port}", text, flags=re.MULTILINE)
        (directory / "smtpcore.toml").write_text(text)
        lines = first_lines(service)
        assert reports.recv(4096) == b"READY=1"
        yield lines
        service.send_signal(signal.SIGTERM)
        assert reports.recv(4096) == b"STOPPING=1"
        assert service.wait(TIMEOUT) == 0


def first_lines(process: "subprocess.Popen[str]") -> list[str]:
    """Return the messages with the addresses. The file of the page asks for a log in JSON."""
    assert process.stderr
    records = map(json.loads, process.stderr)
    first = next(records)["message"]
    if "as root" in first:  # a warning, because the tests run as root
        first = next(records)["message"]
    assert first.startswith("listening on "), first
    return [first, next(records)["message"]]


def test_server_of_the_page_accepts_mail_for_its_domain_only(installed: Installed) -> None:
    known = len(installed.delivered)
    with installed.connect(0) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        client.sendmail("a@c.example", ["tim@example.org"], MESSAGE)
        client.mail("a@c.example")
        assert client.rcpt("victim@elsewhere.example")[0] == 550
    ((recipients, content),) = installed.delivered[known:]
    assert list(recipients) == ["tim@example.org"]
    assert content.endswith(MESSAGE)


@pytest.mark.parametrize("number", [1, 2])
def test_users_of_the_page_submit_mail_after_a_login(installed: Installed, number: int) -> None:
    known = len(installed.delivered)
    with installed.connect(number) as client:
        client.ehlo()
        assert client.mail("tim@example.org")[0] == 530
        client.login("tim", "tanstaaftanstaaf")
        client.sendmail("tim@example.org", ["tom@example.org"], MESSAGE)
        client.mail("tim@example.org")
        assert client.rcpt("a@elsewhere.example")[0] == 550  # the reply of the LMTP server
    assert len(installed.delivered) == known + 1


def test_submission_of_the_page_needs_tls(installed: Installed) -> None:
    with smtplib.SMTP("127.0.0.1", installed.ports[2], "c.example", timeout=TIMEOUT) as client:
        client.ehlo()
        assert client.mail("tim@example.org")[0] == 530


def test_metrics_of_the_page_are_served(installed: Installed) -> None:
    with urllib.request.urlopen(installed.metrics, timeout=TIMEOUT) as response:
        assert b"smtpcore_sessions_total" in response.read()


def test_table_of_the_destination_is_valid() -> None:
    table = tomllib.loads(block("toml", "[deliver]"))["deliver"]
    assert parse_destination(table).parameters.keys() == table.keys() - {"url"}


def test_url_of_a_destination_with_a_parameter_is_valid() -> None:
    urls = re.findall(r"`(\w+://\S+\?\S+)`", PAGE)
    assert urls
    assert all(parse_destination(url).parameters for url in urls)


def test_table_of_destinations_is_complete() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for scheme in SCHEMES.values():
        (row,) = [each for each in rows if f"`{scheme.form}`" in each.split("|")[1]]
        if "as for" not in row:
            assert [name for name in scheme.parameters if f"`{name}`" not in row] == []
            values = [value for kind in scheme.parameters.values() for value in get_args(kind)]
            assert [value for value in values if f"`{value}`" not in row] == []


def test_each_key_of_the_page_is_a_setting() -> None:
    start, end = PAGE.index("## Listeners"), PAGE.index("## Destinations")
    rows = re.findall(r"^\| (`.*?`) \|", PAGE[start:end], re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert keys
    assert [key for key in keys if not SETTINGS[key].in_listener] == []


def test_app_of_the_page_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "running_server.py").write_text(source_of("smtpcore serve server:app"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    app = load_app("running_server:app")
    del sys.modules["running_server"]
    app.include(AnyRecipient())
    with (
        BackgroundServer(app) as server,
        smtplib.SMTP("127.0.0.1", server.address.port, "c.example", timeout=TIMEOUT) as client,
    ):
        client.ehlo()
        client.mail("a@c.example")
        assert client.rcpt("nobody@example.org")[0] == 550
        assert client.rcpt("tim@example.org")[0] == 250
        assert client.data(MESSAGE) == (250, b"2.0.0 24 octets")


def test_commands_of_the_page_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    names = set(re.findall(r"smtpcore (?:--\S+ )?(serve|send|ping|config|user)\b", PAGE))
    assert names == {"serve", "send", "ping", "config", "user"}
    for name in names:
        assert main([name, "--help"]) == 0
    assert capsys.readouterr().err == ""
