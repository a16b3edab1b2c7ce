"""The destination `nats:` and its parameters."""

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from smtpcore_adapters.cli import _jetstream
from smtpcore_adapters.cli._destinations import make_handlers, parse_destination
from smtpcore_adapters.cli._jetstream import jetstream_of
from smtpcore_adapters.stores import StoreHandler
from smtpcore_adapters.stores.jetstream import JetStream
from tests.adapters.fakes import CONFIG, ENVELOPE, accepting
from tests.adapters.harness import running
from tests.adapters.stores.jetstreams import streams
from tests.adapters.stores.nats_servers import needs_nats


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    return file


def options_of(url: str) -> Any:
    return jetstream_of(parse_destination(url))[1]


def test_parameters_are_options_of_the_store(secret: Path) -> None:
    url, options = jetstream_of(parse_destination("NATS://a,b:42/MAIL?replicas=1&timeout=2.5"))
    assert url == "nats://a,b:42/MAIL"
    assert options == {"replicas": 1, "timeout": 2.5, "tls": None, "tls_first": False}
    options = options_of(f"nats://a/MAIL?user=u&password_file={secret}")
    assert (options["user"], options["password"]) == ("u", "hunter2")
    assert options_of(f"nats://a/MAIL?token_file={secret}")["token"] == "hunter2"
    assert options_of("nats://a/MAIL?credentials=file")["credentials"] == "file"


def test_tls_has_the_certificates_of_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    issued = authority.issue_cert("client.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    options = options_of(f"nats://a/MAIL?tls_ca={tmp_path}/ca&tls_cert={tmp_path}/both")
    assert isinstance(options["tls"], ssl.SSLContext)
    assert options["tls_first"] is False
    assert options_of("nats://a/MAIL?tls=first")["tls_first"] is True
    assert options_of("nats://a/MAIL?tls=none")["tls"] is None
    with pytest.raises(ValueError, match="has no certificate with its key"):
        options_of(f"nats://a/MAIL?tls_cert={tmp_path}/ca")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nats:MAIL", "does not have the form nats://"),
        ("nats://a", "does not have the form nats://"),
        ("nats://a/MAIL/x", "does not have the form nats://"),
        ("nats://u:hunter2@a/MAIL", "a login does not belong in a URL"),
        ("nats://a/MAIL?user=u", "user and password_file need each other"),
        ("nats://a/MAIL?tls=none&tls_ca=x", "tls_ca has no effect with tls=none"),
        ("nats://a/MAIL?tls_key=x", "tls_key has no effect without tls_cert"),
        ("nats://a/MAIL?tls=maybe", "'maybe' is not"),
        ("nats://a/MAIL?replica=3", "'replica' is not a parameter"),
    ],
)
def test_impossible_destination_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as info:
        options_of(url)
    assert "hunter2" not in str(info.value)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jetstream, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'smtpcore\[nats\]'"):
        options_of("nats://a/MAIL")


def test_cluster_that_cannot_be_reached_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_jetstream, "_TIME_TO_START", 0.1)
    caplog.set_level(logging.WARNING)
    (handler,) = make_handlers([parse_destination("nats://127.0.0.1:1/MAIL?timeout=0.1")], None, 1)
    assert "each message gets a 451 until the destination can be used" in caplog.text
    with running("asyncio", accepting(handler), config=CONFIG) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"A: b\r\n.\r\n").expect(451)


def test_unreadable_credentials_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"cannot use the destination .*nowhere"):
        make_handlers([parse_destination("nats://127.0.0.1:1/MAIL?credentials=nowhere")], None, 1)


@needs_nats
def test_message_is_stored_in_the_stream() -> None:
    with streams() as found:
        (handler,) = make_handlers([parse_destination(f"{found.url}?replicas=1")], None, 1)
        assert isinstance(handler, StoreHandler)
        assert isinstance(handler.store, JetStream)
        with running("threads", accepting(handler), config=CONFIG) as server, server.connect() as client:
            client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"A: b\r\n.\r\n").expect(250)
        handler.store.close()
        (record,) = found.records()
        assert record.body.endswith(b"A: b\r\n")
