"""The extensions of the next server, offered to the clients of the relay."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import OFF_BY_DEFAULT, ClientBudgets, Config, Connection
from smtpcore_adapters import App, Listener, TlsMode
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.forward._announcing import announced, shortened
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, MessageStore, accepting
from tests.adapters.harness import TIMEOUT, Running, running
from tests.adapters.peers import Peer, serving
from tests.playbook import GREETING, offer

ALL = ("8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS", "RRVS")


def keywords_of(config: Config) -> set[str]:
    """Return the forwarded extensions that a server with this configuration offers under TLS."""
    Connection(config)  # raises if an extension needs an extension that is missing
    return set(ALL) - config.disabled


def adapted(*keywords: str, config: Config = CONFIG, is_verified: bool = True, **terms: object) -> Config:
    return announced(config, {**dict.fromkeys(keywords, True), **terms}, is_verified=is_verified)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ((), {"CHUNKING"}),
        (("8BITMIME",), {"8BITMIME", "CHUNKING"}),
        (("SMTPUTF8",), {"CHUNKING"}),
        (ALL, set(ALL)),
        (("8BITMIME", "SMTPUTF8", "DSN"), {"8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"}),
    ],
)
def test_extensions_of_the_next_server_are_offered(keywords: tuple[str, ...], expected: set[str]) -> None:
    assert keywords_of(adapted(*keywords)) == expected


def test_extension_is_not_offered_without_an_extension_that_it_needs() -> None:
    config = replace(CONFIG, disabled=OFF_BY_DEFAULT | {"CHUNKING", "BINARYMIME"})
    assert keywords_of(adapted(*ALL, config=config)) == set(ALL) - {"CHUNKING", "BINARYMIME"}


def test_requiretls_needs_verified_tls_to_the_next_server() -> None:
    assert "REQUIRETLS" in adapted(*ALL, is_verified=False).disabled


def test_extensions_that_are_not_forwarded_stay_as_configured() -> None:
    config = adapted("PIPELINING", "XCLIENT", "BURL", "ETRN")
    assert config.disabled >= {"XCLIENT", "BURL", "ETRN"}
    assert "PIPELINING" not in config.disabled


@pytest.mark.parametrize(
    ("limit", "ours", "expected"),
    [
        (1_000_000, 2_000_000, 1_000_000),
        (2_000_000, 1_000_000, 1_000_000),
        (1_000_000, None, 1_000_000),
        (None, 1_000_000, 1_000_000),
        (1000, 1_000_000, 65_536),
    ],
)
def test_smaller_size_limit_is_announced(limit: int | None, ours: int | None, expected: int) -> None:
    assert adapted(config=replace(CONFIG, max_message_size=ours), SIZE=limit).max_message_size == expected


def test_terms_of_extensions_are_announced() -> None:
    config = announced(CONFIG, {"DELIVERBY": 120, "MT-PRIORITY": "MIXER"}, is_verified=False)
    assert (config.min_by_time, config.priority_policy) == (120, "MIXER")
    assert announced(replace(CONFIG, min_by_time=300), {"DELIVERBY": 120}, is_verified=False).min_by_time == 300
    assert announced(CONFIG, {"DELIVERBY": None}, is_verified=False).min_by_time is None


def test_next_server_is_asked_with_short_timeouts_at_the_start() -> None:
    assert shortened(ClientBudgets()).greeting == 5
    assert shortened(ClientBudgets(greeting=2)).greeting == 2


@contextmanager
def relay_to(backend: str, port: int, **options: Any) -> Iterator[Running]:
    app = App()
    app.include(Forward("127.0.0.1", port, tls=TlsMode.NONE, announce=True, **options))
    with running(backend, app, config=CONFIG) as relay:
        yield relay


def offers_of(relay: Running) -> set[str]:
    with relay.connect() as client:
        client.expect(220).send(EHLO)
        lines = client.read().split("\n")
        client.send(QUIT).expect(221)
    return {line[4:] for line in lines[1:]}


def test_relay_offers_the_extensions_of_the_next_server(backend: str) -> None:
    config = replace(CONFIG, disabled=OFF_BY_DEFAULT - {"DSN"} | {"SMTPUTF8"}, max_message_size=70_000)
    with (
        running("asyncio", accepting(MessageStore()), config=config) as following,
        relay_to(backend, following.server.address.port) as relay,
    ):
        offers = offers_of(relay)
    assert offers >= {"DSN", "8BITMIME", "SIZE 70000"}
    assert "SMTPUTF8" not in offers


def test_relay_no_longer_offers_an_extension_that_the_next_server_no_longer_offers(backend: str) -> None:
    offered = ["8BITMIME", "SMTPUTF8"]

    def serve(peer: Peer) -> None:
        peer.send(GREETING)
        while line := peer.until(b"\r\n"):
            peer.send(offer(*offered) if line.startswith(b"EHLO") else b"250 2.0.0 ok\r\n")

    with serving(serve) as address, relay_to(backend, address.port) as relay:
        assert "SMTPUTF8" in offers_of(relay)
        offered.remove("SMTPUTF8")
        with relay.connect() as client:
            client.send(EHLO + MAIL + RCPT).expect(220, 250, 250, 250)
        assert "SMTPUTF8" not in offers_of(relay)


def test_unreachable_next_server_is_asked_at_the_first_recipient(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = [True]

    def serve(peer: Peer) -> None:
        peer.send(b"554 no\r\n" if refused else GREETING)
        while line := peer.until(b"\r\n"):
            peer.send(offer("DSN") if line.startswith(b"EHLO") else b"250 2.0.0 ok\r\n")

    with serving(serve) as address, relay_to(backend, address.port) as relay:
        assert "are unknown until the first message" in caplog.text
        assert "SMTPUTF8" in offers_of(relay)
        refused.clear()
        with relay.connect() as client:
            client.send(EHLO + MAIL + RCPT).expect(220, 250, 250, 250)
        offers = offers_of(relay)
    assert "DSN" in offers
    assert "SMTPUTF8" not in offers


def test_start_does_not_wait_for_a_slow_next_server(
    backend: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpcore_adapters.forward._announcing._MOST_WAIT", 0.01)
    may_answer = threading.Event()

    def serve(peer: Peer) -> None:
        may_answer.wait(TIMEOUT)
        peer.send(GREETING)
        while line := peer.until(b"\r\n"):
            peer.send(offer("DSN") if line.startswith(b"EHLO") else b"250 2.0.0 ok\r\n")

    with serving(serve) as address:
        app = App()
        app.include(forward := Forward("127.0.0.1", address.port, tls=TlsMode.NONE, announce=True))
        listeners = [Listener(), Listener()]  # each has its configuration, but the next server is asked only once
        begun = time.monotonic()
        with running(backend, app, config=CONFIG, listeners=listeners) as relay:
            assert time.monotonic() - begun < 4
            assert caplog.text.count("127.0.0.1 has not answered yet: its extensions are unknown until then") == 1
            assert "DSN" not in offers_of(relay)
            may_answer.set()
            assert forward._announcement
            while forward._announcement.is_pending:
                time.sleep(0.01)
            assert "DSN" in offers_of(relay)


def test_next_server_is_asked_with_a_proxy_header_without_a_client() -> None:
    with (
        running("asyncio", accepting(MessageStore()), config=CONFIG, proxies=["127.0.0.0/8"]) as following,
        relay_to("asyncio", following.server.address.port, proxy_protocol=True) as relay,
    ):
        with relay.connect() as client:
            client.send(EHLO + MAIL + RCPT + DATA).expect(220, 250, 250, 250, 354)
            client.send(b"A: b\r\n\r\n.\r\n").expect(250)
        assert "8BITMIME" in offers_of(relay)


def test_nothing_is_announced_by_default() -> None:
    forward = Forward("127.0.0.1", 9)
    assert forward.on_config(CONFIG) is CONFIG
    assert forward.on_session_config(CONFIG) is CONFIG
