"""The parameters of `https:` and `http:` are the options of a webhook."""

import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore_adapters import Address
from smtpcore_adapters.cli import _webhook
from smtpcore_adapters.cli._destinations import make_handlers, parse_destination
from smtpcore_adapters.stores import webhook
from smtpcore_adapters.stores.webhook import Webhook
from tests.adapters.command import running as serving
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, RCPT, accepting
from tests.adapters.harness import Client, running
from tests.adapters.stores.endpoint import running_endpoint


@pytest.fixture
def certificate_authority(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def webhooks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return the arguments of each `Webhook` that is made."""
    made: list[tuple[str, dict[str, Any]]] = []

    def make(url: str, **options: Any) -> Webhook:
        made.append((url, options))
        return Webhook(url, **options)

    monkeypatch.setattr(webhook, "Webhook", make)
    return made


def test_parameters_are_options_of_a_webhook(
    tmp_path: Path,
    webhooks: list[tuple[str, dict[str, Any]]],
    certificate_authority: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    monkeypatch.setenv("HOOK_TOKEN", "letmein")
    query = f"format=multipart&secret_file={tmp_path}/secret&token_env=HOOK_TOKEN&tls_ca={certificate_authority}"
    make_handlers([parse_destination(f"https://a.example/mail?{query}&timeout=5&connect_timeout=1.5")], None, 1)
    ((url, options),) = webhooks
    assert url == "https://a.example/mail"
    assert options.pop("context").cert_store_stats()["x509_ca"] == 1
    assert options == {
        "format": "multipart",
        "secret": "from the file",
        "token": "letmein",
        "timeout": 5.0,
        "connect_timeout": 1.5,
    }


def test_webhook_needs_no_parameters(webhooks: list[tuple[str, dict[str, Any]]]) -> None:
    make_handlers([parse_destination("http://127.0.0.1:8080/mail")], None, 1)
    assert webhooks == [("http://127.0.0.1:8080/mail", {"secret": None, "token": None})]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("https://a.example?secret_file=empty", "the first line of empty has to be the secret"),
        ("https://a.example?token_file=missing", "No such file"),
        ("https://a.example?token_env=MISSING_TOKEN", "token_env: the environment has no variable MISSING_TOKEN"),
        ("https://a.example?token_file=empty&token_env=X", "token_file and token_env exclude each other"),
        ("https://a.example?timeout=0", "connect_timeout and timeout must be greater than 0"),
        ("http://a.example/", "http:// is allowed for loopback addresses only"),
    ],
)
def test_wrong_parameters_of_a_webhook_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match=re.escape(error)):
        make_handlers([parse_destination(url)], None, 1)


def test_webhook_without_its_package_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_webhook, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=re.escape("https://a.example/ needs another package: pip install 'smtpcore[web")
    ):
        make_handlers([parse_destination("https://a.example/?secret_file=x")], None, 1)


def test_endpoint_that_is_away_is_a_warning_at_the_start_and_a_451_later(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as endpoint:
        endpoint.bind(("127.0.0.1", 0))  # not listening yet: connections are refused
        url = f"http://127.0.0.1:{endpoint.getsockname()[1]}/mail"
        app = accepting(*make_handlers([parse_destination(url)], None, 1))

        def answer() -> None:
            connection, _ = endpoint.accept()
            with connection:
                while not connection.recv(65536).endswith(b"0\r\n\r\n"):
                    pass
                connection.sendall(b"HTTP/1.1 204 X\r\n\r\n")

        with running("asyncio", app, config=CONFIG) as server, server.connect() as client:
            assert "cannot be reached; messages get a 451 until it can" in caplog.text
            client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"x\r\n.\r\n").expect(451)
            endpoint.listen()
            thread = threading.Thread(target=answer)
            thread.start()
            client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(b"x\r\n.\r\n").expect(250)
            thread.join(10)


def test_serve_delivers_to_an_endpoint(tmp_path: Path) -> None:
    with running_endpoint() as (endpoint, url, path):
        with (
            serving(tmp_path, "--deliver", f"{url}?format=multipart") as server,
            Client(Address(server.host, server.port)) as client,
        ):
            client.send(EHLO + MAIL + RCPT + DATA).expect(220, 250, 250, 250, 354).send(b"A: b\r\n.\r\n").expect(250)
        (message,) = endpoint.messages[path]
    assert message.endswith(b"A: b\r\n")
