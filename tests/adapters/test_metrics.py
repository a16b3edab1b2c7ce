"""Prometheus metrics."""

import asyncio
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from smtpcore import Path, Reply
from smtpcore_adapters import App, Message, Session, Timeouts, metrics
from smtpcore_adapters.metrics import Metrics, metrics_server
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    SILENCE,
    MessageStore,
    Step,
    accepting,
)
from tests.adapters.playbook import session
from tests.paths import DOCS

END = b".\r\n"


class MetricsReader:
    """An app with metrics; a call returns the value of a metric, named without its prefix."""

    def __init__(self, app: App) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.app = app
        app.include(Metrics(self.registry, clock=lambda: self.now))

    def __call__(self, name: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"smtpcore_{name}", labels)

    def outcomes(self) -> dict[str, float]:
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        return {each.labels["outcome"]: each.value for each in samples if each.name == "smtpcore_messages_total"}


def test_open_and_closed_sessions_are_counted() -> None:
    app = App()
    count = MetricsReader(app)
    seen: list[float | None] = []
    app.on("NOOP")(lambda session, noop: seen.append(count("open_sessions")))
    dialogue = session(app)
    dialogue.send(dialogue.stream.advance(3), b"NOOP\r\n", QUIT)
    session(app).send(SILENCE)
    assert seen == [1]
    assert count("open_sessions") == 0
    assert count("sessions_total") == 2
    assert count("sessions_closed_total", reason="quit") == 1
    assert count("sessions_closed_total", reason="timeout") == 1
    assert count("session_seconds_sum") == 303


CHUNKS = EHLO + MAIL + RCPT + b"BDAT 2\r\nab"
OUTCOMES: dict[str, tuple[tuple[Step, ...], dict[str, float]]] = {
    "accepted": ((ENVELOPE, b"x\r\n", END + QUIT), {"accepted": 1}),
    "empty": ((ENVELOPE, END + QUIT), {"accepted": 1}),
    "two": ((ENVELOPE, END + MAIL + RCPT + DATA, END + QUIT), {"accepted": 2}),
    "refused by a handler": ((ENVELOPE, b"spam\r\n", END + QUIT), {"refused": 1}),
    "refused for what it is": ((ENVELOPE, b"a\nb\r\n", END + QUIT), {"refused": 1}),
    "lost": ((ENVELOPE, b"x\r\n", ConnectionResetError()), {"aborted": 1}),
    "too slow": ((ENVELOPE, b"x\r\n", SILENCE), {"aborted": 1}),
    "in chunks": ((CHUNKS, b"BDAT 2 LAST\r\ncd" + QUIT), {"accepted": 1}),
    "lost before its first octet": ((ENVELOPE, ConnectionResetError()), {"aborted": 1}),
    "lost between chunks": ((CHUNKS,), {"aborted": 1}),
    "given up before its first octet": ((EHLO + MAIL + RCPT + b"BDAT 0\r\n", b"RSET\r\n", QUIT), {"aborted": 1}),
    "given up between chunks": ((CHUNKS, b"RSET\r\n", QUIT), {"aborted": 1}),
    "none": ((EHLO + MAIL + RCPT + QUIT,), {}),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_messages_are_counted_by_outcome(case: str) -> None:
    script, expected = OUTCOMES[case]
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        return Reply(554, "Spam") if b"spam" in await message.read() else Reply(250)

    count = MetricsReader(app)
    session(app).send(*script).end()
    assert count.outcomes() == expected
    assert count("message_seconds_count") == sum(expected.values())


def test_message_that_is_refused_at_a_chunk_is_counted_as_refused() -> None:
    app = accepting()

    @app.on("message")
    async def refuse(session: Session, message: Message) -> Reply:
        async for _ in message:
            break
        return Reply(554, "Spam")

    count = MetricsReader(app)
    session(app).send(CHUNKS, b"BDAT 2\r\ncd", b"NOOP\r\n", QUIT)
    assert count.outcomes() == {"refused": 1}


def test_message_of_a_cancelled_handler_is_counted_as_aborted() -> None:
    app = accepting()
    count = MetricsReader(app)
    dialogue = session(app)

    @app.on("message")
    async def store(session: Session, message: Message) -> None:
        await message.read()
        dialogue.stream.cancellation = asyncio.CancelledError()
        raise dialogue.stream.cancellation

    with pytest.raises(asyncio.CancelledError):
        dialogue.send(ENVELOPE, b"x\r\n", END)
    assert count.outcomes() == {"aborted": 1}


def test_lmtp_message_is_counted_once_for_all_recipients() -> None:
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> dict[Path, Reply]:
        await message.read()
        return {message.forward_paths[1]: Reply(250)}

    count = MetricsReader(app)
    lmtp = replace(CONFIG, lmtp=True)
    envelope = b"LHLO c.example\r\n" + MAIL + RCPT + RCPT.replace(b"u@", b"v@") + DATA
    session(app, config=lmtp).send(envelope, b"x\r\n" + END, envelope, b"x\r\n" + END).end()
    assert count.outcomes() == {"accepted": 2}


def test_octets_replies_and_handlers_are_counted() -> None:
    app = accepting(MessageStore())
    count = MetricsReader(app)
    session(app).send(ENVELOPE, b"12345678\r\n" * 3, END + b"XX\r\n" + QUIT)
    assert count("message_bytes_total") == 30
    assert [count("replies_total", code=code) for code in ("220", "250", "354", "500", "221", "550")] == [
        *(1, 4, 1, 1, 1, None)
    ]
    assert count("handler_seconds_count", name="RCPT") == 1
    assert count("handler_seconds_count", name="message") == 1
    assert count("handler_seconds_count", name="XX") is None


def test_message_seconds_measure_the_body() -> None:
    app = accepting(MessageStore())
    count = MetricsReader(app)

    def pass_time() -> None:
        count.now += 7

    session(app).send(ENVELOPE, b"x\r\n", pass_time, END).end()
    assert count("message_seconds_sum") == 7


def test_tls_handshakes_and_failures_are_counted() -> None:
    app = App()
    count = MetricsReader(app)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for failure in (None, ssl.SSLError(1, "no")):
        dialogue = session(app, config=replace(CONFIG, starttls=True), tls=context, implicit_tls=True)
        dialogue.stream.handshake_error = failure
        dialogue.send(QUIT)
    assert count("tls_handshakes_total", version="TLSv1.3") == 1
    assert count("tls_failures_total") == 1


def test_refusals_are_counted_by_the_rule_that_decided() -> None:
    app = App()
    count = MetricsReader(app)
    session(app).send(EHLO + RCPT + MAIL + RCPT + RCPT + b"XFOO\r\nXBAR\r\n" + QUIT)
    assert count("refusals_total", decided_by="rule", rule="sequence") == 1
    assert count("refusals_total", decided_by="default", rule="RCPT") == 2
    assert count("refusals_total", decided_by="default", rule="default") == 2  # a verb of the client is no label


def test_limits_are_counted_by_name() -> None:
    app = App()
    count = MetricsReader(app)
    session(app, timeouts=Timeouts(greeting_delay=1)).send(EHLO).end()
    assert count("limits_reached_total", limit="greeting_delay") == 1
    assert count("sessions_closed_total", reason="early_talker") == 1


def test_second_set_of_metrics_in_a_registry_is_a_value_error() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_client_that_resets_its_connection_is_only_logged_for_debugging(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "smtpcore"), metrics_server(0) as server:  # the server waits for its threads
        with socket.create_connection(server.server_address[:2], timeout=10) as client:  # type: ignore[arg-type]
            client.sendall(b"GET /live")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        server.daemon_threads = False  # type: ignore[attr-defined]
        server.handle_request()
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "the request of ('127.0.0.1', " in caplog.text
    assert capfd.readouterr().err == ""


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """Serve metrics during the test, and return the address."""
    with metrics_server(0) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def ask_live(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        return b"".join(iter(partial(client.recv, 1000), b""))


def test_silent_clients_do_not_use_up_the_threads(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_MAX_CONNECTIONS", 2)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(5)]
        assert ask_live(address).endswith(b"ok\n")
        assert [each.recv(1) for each in silent[:4]] == [b""] * 4
        silent[4].sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert silent[4].recv(1) == b"H"


def test_connection_for_metrics_ends_after_some_time(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(address, timeout=10) as slow:
        slow.sendall(b"GET /live HTTP/1.0\r\nX: ")
        assert ask_live(address).endswith(b"ok\n")  # the connection before has been accepted
        monkeypatch.setattr(metrics, "_MAX_SECONDS", -1.0)
        assert slow.recv(1) == b""


def test_client_that_is_gone_when_its_connection_is_ended_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_MAX_SECONDS", -1.0)
    with metrics_server(0) as server, socket.socket() as never_connected:
        server._begun[never_connected] = 0.0  # type: ignore[attr-defined]
        server.service_actions()
        assert server._begun == {}  # type: ignore[attr-defined]


def test_each_metric_is_documented() -> None:
    text = (DOCS / "server.md").read_text()
    registry = CollectorRegistry()
    Metrics(registry)
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"`{name}" in text
