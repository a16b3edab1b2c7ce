"""Behaviour that all adapters share, over real sockets: asyncio, trio, anyio, and threads."""

import asyncio
import errno
import gc
import logging
import math
import os
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trustme

from smtpcore import Budgets, Command, ConnectionOpened, DataChunk, Reply
from smtpcore_adapters import (
    Address,
    App,
    Limits,
    Listener,
    Message,
    MessageAborted,
    Server,
    Session,
    Timeouts,
    TlsFailed,
)
from smtpcore_adapters.tls import ServerTls
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, MessageStore, accepting, register
from tests.adapters.harness import TIMEOUT, Client, Running, module_of, run_in, running, within
from tests.certificates import context_trusting
from tests.forking import start_python

EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<u@s.example>\r\n"
BODY = b"Subject: x\r\n\r\nHello\r\n"
MESSAGE = MAIL + RCPT + b"DATA\r\n"
END = b".\r\n"

Start = Callable[..., Running]

pytestmark = pytest.mark.usefixtures("frozen_heap")


@pytest.fixture
def start(backend: str, caplog: pytest.LogCaptureFixture) -> Iterator[Start]:
    """Start servers, and check that they leave no tasks, no open sockets, and no errors in the log."""
    with ExitStack() as stack:

        def start(app: App, **options: Any) -> Running:
            options.setdefault("config", CONFIG)
            options.setdefault("timeouts", Timeouts(close=1))
            return stack.enter_context(running(backend, app, **options))

        yield start

    gc.collect()
    noise = [record for record in caplog.get_records("call") if record.exc_info or record.name != "smtpcore"]
    assert noise == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("s.example").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return context_trusting(authority)


mark: ContextVar[str] = ContextVar("mark")


class Gate:
    """Blocks handlers until the test calls `open`."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    async def hold(self, session: Session) -> None:
        assert await session.run_blocking(self._hold)

    def _hold(self) -> bool:
        self._reached.set()
        return self._open.wait(TIMEOUT)

    def reached(self) -> bool:
        return self._reached.wait(TIMEOUT)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


# Dialogues


def test_message_is_received(start: Start) -> None:
    server = start(accepting(store := MessageStore()))
    with server.connect() as client:
        client.expect("220 s.example ESMTP")
        client.send(b"EHLO c.example\r\n").expect(250)
        client.send(b"MAIL FROM:<a@c.example>\r\n").expect(250)
        client.send(b"RCPT TO:<u@s.example>\r\n").expect(250)
        client.send(b"DATA\r\n").expect(354)
        client.send(BODY + END).expect("250 2.0.0 Stored")
        client.send(b"QUIT\r\n").expect(221)
        assert client.rest() == b""
    assert store.bodies == [BODY]
    assert server.reason() == "QUIT"


def test_session_has_both_addresses(start: Start) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, str(session.peer), str(session.local)))
    server = start(app)
    with server.connect() as client:
        client.read()
        client.send(b"NOOP\r\n")
        host, port = client.socket.getsockname()
        client.expect(f"250-2.0.0 {host}:{port}\n250 2.0.0 {server.server.address}")


def test_server_listens_on_an_ipv6_address(start: Start) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, str(session.peer)))
    try:
        server = start(app, host="::1")
    except OSError:  # pragma: no cover
        pytest.skip("there is no IPv6 here")
    assert server.server.address.host == "::1"
    with server.connect() as client:
        client.read()
        client.send(b"NOOP\r\n").expect(f"250 2.0.0 [::1]:{client.socket.getsockname()[1]}")


def test_large_message_is_received_completely(start: Start) -> None:
    app = accepting()
    size = 0

    @app.on("message")
    async def count(session: Session, message: Message) -> Reply:
        nonlocal size
        async for piece in message:
            size += len(piece)
        return Reply(250)

    block = (b"x" * 998 + b"\r\n") * 1000
    with start(app).connect() as client:
        client.send(EHLO + MESSAGE + block * 20 + END + b"QUIT\r\n").expect(220, 250, 250, 250, 354, 250, 221)
    assert size == 20 * len(block)


def test_handler_may_stop_reading_a_body_early(start: Start) -> None:
    # trio warns about asynchronous generators that are not exhausted; a body must not cause that warning.
    app = accepting()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        async for _ in message:
            break
        return Reply(554, "Seen enough")

    with start(app).connect() as client:
        client.send(EHLO + MESSAGE + BODY * 50_000 + END + b"QUIT\r\n").expect(220, 250, 250, 250, 354, 554, 221)


def test_many_clients_are_served_concurrently(start: Start) -> None:
    server = start(accepting(store := MessageStore()))
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            client.send(EHLO + MESSAGE + BODY)
        for client in reversed(clients):
            client.send(END).expect(220, 250, 250, 250, 354, 250)
    assert store.bodies == [BODY] * 20


def test_client_that_closed_its_sending_side_receives_all_replies(start: Start) -> None:
    # A half-closed connection: the client's end of stream does not end the server's.
    server = start(accepting(store := MessageStore()), config=replace(CONFIG, max_idle_commands=None))
    with server.connect() as client:
        client.send(EHLO + MESSAGE + BODY + END + (MAIL + RCPT + b"RSET\r\n") * 300)
        client.socket.shutdown(socket.SHUT_WR)
        codes = [line[:3] for line in client.rest().splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", *[b"250"] * 901]
    assert store.bodies == [BODY]
    assert server.reason() == "closed"


def test_end_of_stream_in_a_body_aborts_the_message(start: Start) -> None:
    app = accepting()
    seen: Queue[object] = Queue()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        try:
            seen.put(await message.read())
        except MessageAborted as exc:
            seen.put(exc)
        return Reply(250)

    server = start(app)
    with server.connect() as client:
        client.send(EHLO + MESSAGE).expect(220, 250, 250, 250, 354)
        client.send(BODY)
        client.socket.shutdown(socket.SHUT_WR)
        assert isinstance(seen.get(timeout=TIMEOUT), MessageAborted)
        assert client.is_closed()
    assert server.reason() == "lost"


# Handlers that block


def test_blocking_handler_reads_the_body_in_a_thread(start: Start) -> None:
    app = accepting()
    seen: list[object] = []

    @app.on("MAIL")
    async def mark_session(session: Session, mail: Command) -> None:
        mark.set("of the session")

    @app.on("message", blocking=True)
    def look(session: Session, message: Message) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        seen.append(mark.get())
        if session.messages == 1:
            seen.append(message.read_blocking())

    @app.on("message", blocking=True)
    def store(session: Session, message: Message) -> Reply:
        seen.append(b"".join(message))
        assert session.messages == 2 or message.read_blocking() == seen[-1]
        return Reply(250, "Stored")

    with start(app).connect() as client:
        client.send(EHLO + (MESSAGE + BODY * 20_000 + END) * 2 + b"QUIT\r\n").expect(
            220, 250, *[250, 250, 354, 250] * 2, 221
        )
    assert seen == ["of the session", BODY * 20_000, BODY * 20_000, "of the session", BODY * 20_000]


def test_end_of_stream_in_a_body_aborts_the_message_in_a_thread(start: Start) -> None:
    app = accepting()
    seen: Queue[object] = Queue()

    @app.on("message", blocking=True)
    def look(session: Session, message: Message) -> Reply:
        try:
            seen.put(message.read_blocking())
        except MessageAborted as exc:
            seen.put(exc)
        return Reply(250)

    server = start(app)
    with server.connect() as client:
        client.send(EHLO + MESSAGE + BODY)
        client.socket.shutdown(socket.SHUT_WR)
        assert isinstance(seen.get(timeout=TIMEOUT), MessageAborted)
    assert server.reason() == "lost"


def test_other_clients_are_served_while_a_handler_blocks(start: Start, gate: Gate) -> None:
    app = App()

    @app.on("NOOP", blocking=True)
    def wait(session: Session, noop: Command) -> None:
        gate._hold()

    server = start(app)
    with server.connect() as blocked, server.connect() as other:
        blocked.send(b"NOOP\r\n")
        assert gate.reached()
        other.expect(220).send(b"QUIT\r\n").expect(221)
        gate.open()
        blocked.expect(220, 250)


def test_blocking_handler_is_cancelled_while_it_waits_for_the_body(start: Start) -> None:
    app = accepting()
    reached = threading.Event()
    raised: list[BaseException] = []

    @app.on("message", blocking=True)
    def look(session: Session, message: Message) -> Reply:
        for _ in range(2):
            try:
                for _ in message:
                    reached.set()
            except Exception:  # a badly written handler ignores exceptions
                continue
            except BaseException as exc:
                raised.append(exc)
                raise
        return Reply(250)

    server = start(app, grace=0)
    with server.connect() as client:
        client.send(EHLO + MESSAGE + BODY)
        assert reached.wait(TIMEOUT)
        server.leave().result(TIMEOUT)
        assert server.reason() == "cancelled"
    assert len(raised) == 1


def test_blocking_read_outside_a_thread_gives_451(loop_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("message")
    def store(session: Session, message: Message) -> Reply:
        message.read_blocking()
        return Reply(250)

    with running(loop_backend, app, config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MESSAGE + BODY + END).expect(220, 250, 250, 250, 354, 451)
    assert "use `async def`, or register it with `blocking=True`" in caplog.text


def test_coroutine_handler_that_awaits_an_event_loop_fails_in_the_thread_adapter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App()

    class Later:
        def __await__(self) -> Generator[None, None, None]:
            yield

    @app.on("NOOP")
    async def wait(session: Session, noop: Command) -> None:
        await Later()

    with running("threads", app, config=CONFIG) as server, server.connect() as client:
        client.expect(220).send(b"NOOP\r\n").expect(451).send(b"HELP\r\n").expect(214)
    assert "a handler awaits an event loop, but there is none" in caplog.text


# Listeners


def test_one_server_has_several_listeners(
    start: Start, tmp_path: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, f"{session.local} {session.config.hostname}"))
    path = str(tmp_path / "smtp")
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = start(
            app,
            tls=server_tls,
            listeners=[
                Listener(),
                Listener(implicit_tls=True, config=replace(CONFIG, hostname="submission.example")),
                Listener(path=path, config=replace(CONFIG, hostname="local.example")),
                Listener(bound=bound, proxies=("127.0.0.0/8",)),
            ],
        )
        plain, encrypted, local, proxied = server.server.addresses
        assert local == Address(path)
        assert proxied == Address(*bound.getsockname())
        assert server.server.address == plain
        with Client(plain) as client:
            client.expect(220)
            client.send(b"NOOP\r\n").expect(f"250 2.0.0 {plain} s.example")
        with Client(encrypted) as client:
            client.start_tls(client_tls)
            client.expect("220 submission.example ESMTP")
        with Client(local) as client:
            client.expect("220 local.example ESMTP")
            client.send(b"NOOP\r\n").expect(f"250 2.0.0 {path} local.example")
            client.send(b"QUIT\r\n").expect(221)
            assert client.rest() == b""
        with Client(proxied) as client:
            client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").expect(220)
            client.send(b"NOOP\r\n").expect("250 2.0.0 192.0.2.2:2 s.example")
        server.leave().result(TIMEOUT)
        assert not os.path.exists(path)
        for address in (plain, encrypted, proxied):
            with pytest.raises(ConnectionRefusedError):
                Client(address)


def test_message_is_received_over_a_unix_socket(start: Start, tmp_path: Path) -> None:
    store = MessageStore()
    server = start(accepting(store), listeners=[Listener(path=str(tmp_path / "smtp"))])
    with server.connect() as client:
        client.send(EHLO + MESSAGE + BODY * 50_000 + END + b"QUIT\r\n").expect(220, 250, 250, 250, 354, 250, 221)
        assert client.rest() == b""
    with server.connect() as idle:
        idle.expect(220)
        server.leave()
        assert idle.rest().startswith(b"421 4.3.2 ")
    assert store.bodies == [BODY * 50_000]


def test_server_is_reached_over_ipv6_and_ipv4(start: Start) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, str(session.peer and session.peer.host)))
    server = start(app, host=None)
    port = server.server.address.port
    assert {address.port for address in server.server.addresses} == {port}
    hosts = ["127.0.0.1", *(["::1"] if len(server.server.addresses) > 1 else [])]
    for host in hosts:
        with Client(Address(host, port)) as client:
            client.send(b"NOOP\r\n").expect(220, f"250 2.0.0 {host}")


# Timeouts


def test_silent_client_gets_421(start: Start) -> None:
    server = start(App(), clock=Clock())
    with server.connect() as client:
        client.expect("220 s.example ESMTP")
        server.clock.advance(301)
        client.expect("421 4.4.2 s.example closing: you took too long")
        assert client.rest() == b""
    assert server.reason() == "timeout"


def test_client_that_reads_no_replies_times_out(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("NOOP")(lambda session, noop: Reply(250, *text))
    server = start(app, clock=Clock())
    with server.connect(receive_buffer=4096) as client:
        client.send(b"NOOP\r\n" * 90)
        server.clock.advance(299)
        assert server.reasons.empty()
        # The system may take more of the replies later, and then another wait begins.
        end = time.monotonic() + TIMEOUT
        while server.reasons.empty() and time.monotonic() < end:
            server.clock.advance(301)
        assert server.reason() == "timeout"
        server.clock.advance(2)  # the time for the client to close its end


def test_slow_reader_receives_all_replies(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("NOOP")(lambda session, noop: Reply(250, *text))
    with start(app).connect(receive_buffer=4096) as client:
        client.send(b"NOOP\r\n" * 90 + b"QUIT\r\n").expect(220, *[250] * 90, 221)


# Back-pressure


MAX_SENT = 100_000_000


def test_client_is_blocked_while_the_handler_reads_nothing(start: Start, gate: Gate) -> None:
    app = accepting()
    size = 0

    @app.on("message")
    async def read_late(session: Session, message: Message) -> Reply:
        nonlocal size
        await gate.hold(session)
        async for piece in message:
            size += len(piece)
        return Reply(250)

    block = (b"x" * 998 + b"\r\n") * 1000
    with start(app).connect() as client:
        client.send(EHLO + MESSAGE).expect(220, 250, 250, 250, 354)
        assert gate.reached()
        sent = client.send_until_blocked(block, MAX_SENT)
        assert sent < MAX_SENT
        gate.open()
        client.send(block[sent % len(block) :] + END).expect(250)
    assert size == sent + len(block) - sent % len(block)


@pytest.mark.parametrize("encrypted", [False, True])
def test_client_that_sends_early_is_blocked(
    encrypted: bool, start: Start, gate: Gate, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    app = App()

    @app.on("connect")
    async def look_up(session: Session, opened: ConnectionOpened) -> None:
        await gate.hold(session)

    server = start(app, tls=server_tls, implicit_tls=encrypted, limits=Limits())
    with server.connect() as client:
        if encrypted:
            client.start_tls(client_tls)
        assert gate.reached()
        assert client.send_until_blocked(b"x" * 65536, MAX_SENT) < MAX_SENT
    gate.open()
    assert server.reason() in ("lost", "421", "closed")


def test_no_more_of_a_body_is_received_than_the_handler_reads(start: Start, gate: Gate) -> None:
    # The amount sent by the client includes the socket buffers; `taken` counts the octets read by the handler.
    app = accepting()
    taken = 0

    @app.on("message")
    async def read_a_little(session: Session, message: Message) -> Reply:
        nonlocal taken
        async for piece in message:
            taken += len(piece)
            if taken >= 100_000:
                break
        await gate.hold(session)
        return Reply(250)

    block = (b"x" * 998 + b"\r\n") * 1000
    with start(app).connect() as client:
        client.send(EHLO + MESSAGE).expect(220, 250, 250, 250, 354)
        sent = client.send_until_blocked(block, MAX_SENT)
        assert gate.reached()
        assert sent < MAX_SENT
        assert taken <= 100_000 + 2 * 65_536
        gate.open()
        client.send(block[sent % len(block) :] + END).expect(250)


# Lost clients


INPUTS = {
    "connected": b"",
    "greeted": b"",
    "a part of a line": b"EHL",
    "EHLO": EHLO,
    "MAIL": EHLO + MAIL,
    "RCPT": EHLO + MAIL + RCPT,
    "DATA": EHLO + MESSAGE,
    "in the body": EHLO + MESSAGE + BODY,
    "after the body": EHLO + MESSAGE + BODY + END,
    "with pending replies": EHLO + b"NOOP\r\n" * 90,
    "QUIT": EHLO + b"QUIT\r\n",
    "421": b"XX\r\n" * 60,
    "STARTTLS": EHLO + b"STARTTLS\r\n",
    "plaintext after STARTTLS": EHLO + b"STARTTLS\r\nNOOP\r\n",
}


@pytest.mark.parametrize("state", INPUTS)
def test_connection_reset_in_any_state_ends_the_session(state: str, start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(accepting(MessageStore()), tls=server_tls)
    client = server.connect()
    if state != "connected":
        client.read()
    if INPUTS[state]:
        client.send(INPUTS[state])
    client.reset()
    assert server.reason() in ("lost", "closed", "QUIT", "421")


def test_connection_reset_while_a_handler_runs_ends_the_session(start: Start, gate: Gate) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: gate.hold(session))
    server = start(app)
    client = server.connect()
    client.send(b"NOOP\r\n" * 50)
    assert gate.reached()
    client.reset()
    gate.open()
    assert server.reason() == "lost"


@pytest.mark.parametrize("politely", [False, True])
def test_end_and_reset_of_a_connection_under_tls_have_different_reasons(
    politely: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(accepting(MessageStore()), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.start_tls(client_tls)
        client.expect(220)
        if politely:
            assert isinstance(client.socket, ssl.SSLSocket)
            client.socket.unwrap().close()
    assert server.reason() == "closed"

    client = server.connect()
    client.start_tls(client_tls)
    client.expect(220)
    client.reset()
    assert server.reason() == "lost"


# TLS


def test_session_continues_under_tls_after_starttls(
    start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    app = accepting(store := MessageStore())
    app.on("NOOP")(lambda session, noop: Reply(250, f"{session.tls} {session.helo}"))
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO).expect("220 s.example ESMTP")
        assert "STARTTLS" in client.read()
        client.send(b"MAIL FROM:<a@c.example>\r\n").expect(250)
        client.send(b"STARTTLS\r\n").expect(220)
        client.start_tls(client_tls)
        client.send(b"RCPT TO:<u@s.example>\r\n").expect(503)
        client.send(b"NOOP\r\n")
        assert isinstance(client.socket, ssl.SSLSocket)
        cipher = client.socket.cipher()
        assert cipher
        client.expect(f"250 2.0.0 {client.socket.version()} {cipher[0]} None")
        client.send(EHLO)
        assert "STARTTLS" not in client.read()
        client.send(b"STARTTLS\r\n").expect(503)
        client.send(MESSAGE + BODY * 50_000 + END + b"QUIT\r\n").expect(250, 250, 354, 250, 221)
        assert client.rest() == b""
    assert store.bodies == [BODY * 50_000]
    assert server.reason() == "QUIT"


def test_session_begins_with_implicit_tls(start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    server = start(accepting(store := MessageStore()), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.start_tls(client_tls)
        client.send(EHLO + MESSAGE + BODY + END + b"QUIT\r\n").expect("220 s.example ESMTP")
        assert "STARTTLS" not in client.read()
        client.expect(250, 250, 354, 250, 221)
        assert client.rest() == b""
    assert store.bodies == [BODY]


def test_commands_in_the_last_segment_of_the_handshake_are_processed(
    start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(App(), tls=server_tls, implicit_tls=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_tls.wrap_bio(incoming, outgoing, server_hostname="s.example")
    with server.connect() as client:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                incoming.write(client.socket.recv(65536))
        tls.write(EHLO)
        client.send(outgoing.read())

        def more() -> bytes:
            data = client.socket.recv(65536)
            assert data, "the connection was closed"
            return data

        text = b""
        for line in (b"NOOP\r\n", b"QUIT\r\n", b""):
            code = {b"NOOP\r\n": b"250 ", b"QUIT\r\n": b"\r\n250 2.0.0", b"": b"\r\n221 "}[line]
            while code not in text:
                try:
                    text += tls.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(more())
            tls.write(line or b"\r\n")
            client.send(outgoing.read())
    assert server.reason() == "QUIT"


Files = tuple[Path, Path]


def write_files(directory: Path, certificate: trustme.LeafCert) -> Files:
    files = directory / "chain.pem", directory / "key.pem"
    directory.mkdir(exist_ok=True)
    files[0].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(files[1]))
    return files


def tls_reporting_app() -> App:
    """Return an application that replies to NOOP with the client's TLS details."""
    app = App()

    @app.on("NOOP")
    def tell(session: Session, noop: Command) -> Reply:
        assert session.tls
        shown = session.tls.peer_certificate
        return Reply(250, f"{session.tls.server_name} {shown and (shown.subject, shown.alternative_names)}")

    return app


def tls_details(client: Client) -> str:
    client.send(b"NOOP\r\n")
    return client.read().removeprefix("250 2.0.0 ")


def own_name(client: Client) -> str:
    """Return the name in the certificate shown by the server."""
    assert isinstance(client.socket, ssl.SSLSocket)
    certificate: Any = client.socket.getpeercert()
    return str(certificate["subjectAltName"][0][1])


def test_certificate_is_chosen_by_server_name(
    start: Start, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    certificates = {name: authority.issue_cert(name) for name in ("s.example", "a.example", "*.b.example")}
    files = {name: write_files(tmp_path / name, each) for name, each in certificates.items()}
    tls = ServerTls(*files.pop("s.example"), names=files)
    server = start(tls_reporting_app(), tls=tls.context, implicit_tls=True)
    for name, shown in {"s.example": None, "A.example": "a.example", "mx.b.example": "*.b.example"}.items():
        with server.connect() as client:
            client.start_tls(client_tls, name)
            client.expect(220)
            assert own_name(client) == (shown or name)
            assert tls_details(client).lower() == f"{name.lower()} none"


def test_certificate_is_reloaded_while_the_server_runs(
    start: Start, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    tls = ServerTls(*write_files(tmp_path, old.issue_cert("s.example")))
    server = start(tls_reporting_app(), tls=tls.context, implicit_tls=True)
    trusts = [context_trusting(issuer) for issuer in (old, new)]
    with server.connect() as before:
        before.start_tls(trusts[0])
        before.expect(220)
        write_files(tmp_path, new.issue_cert("s.example", key_type=trustme.KeyType.RSA))
        tls.reload()
        with server.connect() as after:
            after.start_tls(trusts[1])
            after.expect(220).send(b"NOOP\r\n").expect(250)
        before.send(b"NOOP\r\n").expect(250)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("required", [False, True])
def test_client_certificate_is_requested_and_verified(
    required: bool,
    implicit: bool,
    start: Start,
    authority: trustme.CA,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="smtpcore")
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    tls = ServerTls(
        *write_files(tmp_path, authority.issue_cert("s.example")),
        client_ca=tmp_path / "clients.pem",
        require_client_certificate=required,
    )
    app = tls_reporting_app()
    failures: Queue[str] = Queue()
    app.observe(lambda session, item: failures.put(item.error) if isinstance(item, TlsFailed) else None)
    server = start(app, tls=tls.context, implicit_tls=implicit)

    def connect(certificate: trustme.LeafCert | None) -> Client:
        context = context_trusting(authority)
        if certificate:
            certificate.configure_cert(context)
        client = server.connect()
        if not implicit:
            client.expect(220).send(b"EHLO c.example\r\n").expect(250).send(b"STARTTLS\r\n").expect(220)
        client.start_tls(context)
        return client

    with connect(issuer.issue_cert("relay@c.example", common_name="relay")) as client:
        if implicit:
            client.expect(220)
        about = tls_details(client)
        assert "'commonName': 'relay'" in about
        assert "('email', 'relay@c.example')" in about

    if required:
        with connect(None) as client, pytest.raises(OSError, match=r"CERTIFICATE_REQUIRED"):
            client.send(b"NOOP\r\n").read()
        assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in failures.get(timeout=TIMEOUT).replace(" ", "_").upper()
    else:
        with connect(None) as client:
            if implicit:
                client.expect(220)
            assert tls_details(client) == "s.example None"

    stranger = trustme.CA().issue_cert("relay@c.example")
    with connect(stranger) as client, pytest.raises(OSError, match=r"UNKNOWN_CA"):
        client.send(b"NOOP\r\n").read()
    assert "verify failed" in failures.get(timeout=TIMEOUT).lower().replace("_", " ")
    server.leave().result(TIMEOUT)
    assert "the TLS handshake failed: " in caplog.text
    assert "Traceback" not in caplog.text


def test_client_with_an_old_tls_version_receives_an_alert(
    start: Start, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    tls = ServerTls(*write_files(tmp_path, authority.issue_cert("s.example")))
    server = start(App(), tls=tls.context, implicit_tls=True)
    old = context_trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with server.connect() as client, pytest.raises(OSError, match=r"PROTOCOL_VERSION"):
        client.start_tls(old)
    assert server.reason() == "lost"


@pytest.mark.parametrize("implicit", [False, True])
def test_handshake_succeeds_byte_by_byte(
    implicit: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(App(), tls=server_tls, implicit_tls=implicit)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_tls.wrap_bio(incoming, outgoing, server_hostname="s.example")

    def call(function: Callable[[], Any]) -> Any:
        while True:
            try:
                return function()
            except ssl.SSLWantReadError:
                send()
                incoming.write(client.socket.recv(65536))

    def send() -> None:
        for octet in outgoing.read():
            client.send(bytes([octet]))

    with server.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not implicit:
            client.expect(220).send(b"EHLO c.example\r\n").expect(250).send(b"STARTTLS\r\n").expect(220)
        call(tls.do_handshake)
        tls.write(b"QUIT\r\n")
        send()
        text = b""
        while b"221 " not in text:
            text += call(lambda: tls.read(65536))
    assert server.reason() == "QUIT"


def executed(app: App, *names: str) -> list[str]:
    calls: list[str] = []
    for name in names:
        register(app, name, lambda session, command, name=name: calls.append(name))
    return calls


def test_commands_in_the_segment_of_starttls_end_the_session(start: Start, server_tls: ssl.SSLContext) -> None:
    app = App()
    calls = executed(app, "NOOP", "RSET", "STARTTLS")
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.read()
        client.send(EHLO + b"STARTTLS\r\nNOOP\r\n" + b"RSET\r\n").expect(250, 421)
        assert client.rest() == b""
    assert calls == []
    assert server.reason() == "421"


def test_plaintext_after_the_reply_to_starttls_fails_the_handshake(start: Start, server_tls: ssl.SSLContext) -> None:
    app = App()
    calls = executed(app, "NOOP")
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO).expect(220, 250).send(b"STARTTLS\r\n").expect(220)
        client.send(b"NOOP\r\n" * 10)
        assert server.reason() == "lost"
    assert calls == []


def test_plaintext_during_the_starttls_handler_is_never_executed(
    start: Start, gate: Gate, server_tls: ssl.SSLContext
) -> None:
    app = App()
    calls = executed(app, "NOOP")
    app.on("STARTTLS")(lambda session, command: gate.hold(session))
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO).expect(220, 250)
        client.send(b"STARTTLS\r\n")
        assert gate.reached()
        client.send(b"NOOP\r\n" * 10)
        gate.open()
        assert server.reason() == "lost"
    assert calls == []


@pytest.mark.parametrize("implicit", [False, True])
def test_slow_handshake_times_out(implicit: bool, start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(App(), tls=server_tls, implicit_tls=implicit, clock=Clock())
    with server.connect() as client:
        if not implicit:
            client.send(EHLO).expect(220, 250).send(b"STARTTLS\r\n").expect(220)
        for octet in b"\x16\x03\x01":  # single octets do not extend the time
            client.send(bytes([octet]))
            server.clock.advance(19)
        assert server.reasons.empty()
        client.send(b"\x02")
        server.clock.advance(4)
        assert client.is_closed()
    assert server.reason() == "lost"


def test_end_of_stream_in_the_handshake_loses_the_connection(start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(App(), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest()[:1] in (b"", b"\x15")  # no octets, or a TLS alert
    assert server.reason() == "lost"


# Limits


def test_connection_over_the_limit_is_greeted_with_421(start: Start) -> None:
    server = start(App(), limits=Limits(connections=2))
    with server.connect() as first, server.connect() as second:
        first.expect(220)
        second.expect(220)
        with server.connect() as third:
            assert third.rest() == b"421 s.example closing: too many connections\r\n"
        assert server.reason() == "421"
        first.send(b"QUIT\r\n").expect(221)
        assert first.rest() == b""
        first.socket.close()
        assert server.reason() == "QUIT"
        second.send(b"NOOP\r\n").expect(250)


def test_connection_over_the_limit_per_address_is_greeted_with_421(start: Start) -> None:
    server = start(App(), limits=Limits(connections_per_address=1))
    with server.connect() as first:
        first.expect(220)
        with server.connect() as second:
            assert second.rest() == b"421 s.example closing: too many connections from your address\r\n"
        first.send(b"NOOP\r\n").expect(250)


AUTH = b"AUTH PLAIN AGFub255bW91cwB4\r\n"
TIMES = {"greeting": 300, "command": 300, "body": 300, "session": 7200}
"""The seconds of the time budgets."""
LIMITS: dict[str, tuple[dict[str, Any], bytes, str, bool]] = {
    # Options of the server, octets from the client, the last reply, and whether the server closes the connection.
    "max_command_line": ({}, b"NOOP " + b"x" * 600 + b"\r\n", "500 5.5.2 ", False),
    "max_text_line": (
        {"config": replace(CONFIG, max_text_line=1000)},
        EHLO + MESSAGE + b"x" * 1001 + b"\r\n" + END,
        "554 5.6.0 ",
        False,
    ),
    "max_message_size": (
        {"config": replace(CONFIG, max_message_size=65_536)},
        EHLO + MESSAGE + b"x\r\n" * 30_000 + END,
        "552 5.3.4 ",
        False,
    ),
    "the announced size": ({}, EHLO + b"MAIL FROM:<a@c.example> SIZE=99999999999\r\n", "552 5.3.4 ", False),
    "max_recipients": ({"config": replace(CONFIG, max_recipients=100)}, EHLO + MAIL + RCPT * 101, "452 4.5.3 ", False),
    "max_messages": (
        {"config": replace(CONFIG, max_messages=1)},
        EHLO + (MESSAGE + BODY + END) + MESSAGE,
        "421 4.7.0 ",
        True,
    ),
    "max_errors": ({"config": replace(CONFIG, max_errors=2)}, b"XX\r\n" * 4, "421 4.7.0 ", True),
    "max_idle_commands": ({"config": replace(CONFIG, max_idle_commands=2)}, b"NOOP\r\n" * 4, "421 4.7.0 ", True),
    "max_auth_failures": (
        {
            "config": replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True, max_auth_failures=2),
            "timeouts": Timeouts(auth_delay=0),
        },
        EHLO + AUTH * 4,
        "421 4.7.0 ",
        True,
    ),
    "greeting": ({}, b"EHL", "421 4.4.2 ", True),
    "command": ({}, EHLO + b"NOO", "421 4.4.2 ", True),
    "body": ({"budgets": Budgets(body_rate=0)}, EHLO + MESSAGE + BODY, "421 4.4.2 ", True),
    "session": ({"budgets": Budgets(command=math.inf)}, EHLO, "421 4.4.2 ", True),
    "connections_per_minute": ({"limits": Limits(connections_per_minute=1)}, b"", "421 s.example", True),
    "greeting_delay": ({"timeouts": Timeouts(greeting_delay=30)}, EHLO, "554 s.example", True),
    "auth_failures_per_hour": (
        {
            "config": replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True),
            "limits": Limits(auth_failures_per_hour=1),
            "timeouts": Timeouts(auth_delay=0, max_auth_delay=0),
        },
        EHLO + AUTH * 2,
        "454 4.7.0 ",
        False,
    ),
    "account_failures_per_hour": (
        {
            "config": replace(CONFIG, auth_mechanisms=("PLAIN",), plaintext_auth=True),
            "limits": Limits(account_failures_per_hour=1),
            "timeouts": Timeouts(auth_delay=0, max_auth_delay=0),
        },
        EHLO + AUTH * 2,
        "454 4.7.0 ",
        False,
    ),
    "max_recipients_per_session": (
        {"config": replace(CONFIG, max_recipients_per_session=2)},
        EHLO + MAIL + RCPT * 3,
        "452 4.5.3 ",
        False,
    ),
    "http": ({}, b"GET / HTTP/1.1\r\n", "421 4.7.0 ", True),
}


@pytest.mark.parametrize(
    ("limit", "encrypted"), [*((limit, False) for limit in LIMITS), ("max_errors", True), ("body", True)]
)
def test_each_limit_has_its_reply(
    limit: str, encrypted: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    options, sent, expected, closes = LIMITS[limit]
    app = accepting(MessageStore())
    app.on("auth")(lambda session, question: None)
    app.on("HELP")(lambda session, command: Reply(451, "Later"))
    server = start(app, tls=server_tls, implicit_tls=encrypted, clock=Clock() if limit in TIMES else None, **options)
    with ExitStack() as stack:
        if limit == "connections_per_minute":
            first = stack.enter_context(server.connect())
            if encrypted:
                first.start_tls(client_tls)
            first.expect(220)
        client = stack.enter_context(server.connect())
        if encrypted:
            client.start_tls(client_tls)
        client.send(sent)
        if limit in TIMES:
            server.clock.advance(TIMES[limit] - 2)
            assert server.reasons.empty()
            server.clock.advance(4)
        if closes:
            text = client.rest().decode()
        else:
            client.send(b"QUIT\r\n")
            text = client.rest().decode()
            text = text[: text.rindex("221 ")]
    assert text.splitlines()[-1].startswith(expected)


@pytest.mark.parametrize("encrypted", [False, True])
def test_421_reaches_a_client_that_keeps_sending(
    encrypted: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(App(), tls=server_tls, implicit_tls=encrypted)
    with server.connect() as client:
        if encrypted:
            client.start_tls(client_tls)
        client.send(b"XX\r\n" * 20_000)
        client.send(b"YY\r\n" * 20_000)
        client.expect(220, *[500] * 50, 421)
    assert server.reason() == "421"


# Shutdown


def test_shutdown_sends_421_to_idle_sessions_under_tls(
    start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(App(), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.start_tls(client_tls)
        client.expect(220)
        left = server.leave()
        assert client.rest() == b"421 4.3.2 s.example closing: the server is shutting down\r\n"
    left.result(TIMEOUT)
    assert server.reason() == "shutdown"


def test_shutdown_sends_421_to_idle_sessions(start: Start) -> None:
    server = start(accepting())
    with server.connect() as silent, server.connect() as client:
        client.send(EHLO + MAIL + RCPT)
        client.expect(220, 250, 250, 250)
        silent.expect(220)
        left = server.leave()
        for each in (silent, client):
            assert each.rest() == b"421 4.3.2 s.example closing: the server is shutting down\r\n"
    left.result(TIMEOUT)
    assert [server.reason(), server.reason()] == ["shutdown", "shutdown"]


def test_shutdown_waits_for_a_client_that_is_reading_its_replies(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("RCPT")(lambda session, rcpt: Reply(250, *text))
    answered = threading.Event()

    def look(session: Session, item: object) -> None:
        if isinstance(item, Reply) and session.transaction and len(session.transaction.recipients) == 90:
            answered.set()  # no other task runs before these replies fill the client's buffer

    app.observe(look)
    server = start(app)
    with server.connect(receive_buffer=4096) as client:
        client.send(EHLO + MAIL + RCPT * 90 + b"RSE")
        assert answered.wait(TIMEOUT)
        left = server.leave()
        client.expect(220, *[250] * 92, 421)
        assert client.rest() == b""
    left.result(TIMEOUT)
    assert server.reason() == "shutdown"


def test_shutdown_accepts_no_new_connections(start: Start, gate: Gate) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: gate.hold(session))
    server = start(app)
    with server.connect() as busy, server.connect() as idle:
        busy.expect(220)
        idle.expect(220)
        busy.send(b"NOOP\r\n")
        assert gate.reached()
        left = server.leave()
        assert idle.rest().startswith(b"421 ")  # the shutdown has begun
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        gate.open()
        busy.expect(250, 421)
        assert busy.rest() == b""
    left.result(TIMEOUT)


def test_shutdown_waits_for_the_end_of_a_body(start: Start) -> None:
    app = accepting(store := MessageStore())
    server = start(app)
    with server.connect() as client, server.connect() as idle:
        client.send(EHLO + MESSAGE).expect(220, 250, 250, 250, 354)
        idle.expect(220)
        left = server.leave()
        assert idle.rest().startswith(b"421 ")
        client.send(BODY)
        client.send(END + MAIL).expect(250, 421)
        assert client.rest() == b""
    left.result(TIMEOUT)
    assert store.bodies == [BODY]


def test_shutdown_without_sessions_is_immediate(start: Start) -> None:
    start(App(), grace=3600).leave().result(TIMEOUT)


def test_connection_that_arrives_during_shutdown_is_closed(loop_backend: str) -> None:
    clients: list[Client] = []

    async def main(turns: int) -> None:
        async with module_of(loop_backend).serving(App(), config=CONFIG) as server:
            clients.append(Client(server.address))
            clients[-1].socket.shutdown(socket.SHUT_WR)  # the server then need not wait for the client
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()

    for turns in range(10):  # the server stops at each step of accepting the connection
        run_in(loop_backend, main, turns)
    for client in clients:
        with client, suppress(ConnectionError):
            client.rest()
    gc.collect()  # turns a socket left open into a ResourceWarning


@pytest.mark.parametrize("grace", [0, 0.1])
def test_hanging_session_is_cancelled_after_the_grace_period(grace: float, loop_backend: str) -> None:
    app = App()
    stuck = threading.Event()

    @app.on("NOOP")
    async def hang(session: Session, noop: Command) -> None:
        stuck.set()
        await anyio.sleep_forever()

    with running(loop_backend, app, config=CONFIG, grace=grace) as server, server.connect() as client:
        client.expect(220)
        client.send(b"NOOP\r\n")
        assert stuck.wait(TIMEOUT)
        server.leave().result(TIMEOUT)
        assert server.reason() == "cancelled"
        assert client.is_closed()


WAITS = {
    "a body": EHLO + MESSAGE + BODY,
    "the client to read a reply": b"HELP\r\n" * 90,
    "a handshake": EHLO + b"STARTTLS\r\n",
    "time to pass": b"NOOP\r\n",
}


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("state", WAITS)
def test_waiting_session_is_cancelled_after_the_grace_period(
    state: str, encrypted: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    if encrypted and state == "a handshake":
        pytest.skip("there is but one handshake")
    app = accepting(store := MessageStore())
    text = [f"{number:490}" for number in range(200)]
    reached = threading.Event()

    @app.on("HELP")
    def reply_at_length(session: Session, command: Command) -> Reply:
        return Reply(214, *text)

    @app.on("NOOP")
    async def wait(session: Session, noop: Command) -> None:
        await session.sleep(3600)

    def look(session: Session, item: object) -> None:
        if isinstance(item, DataChunk) or getattr(item, "verb", "") in ("NOOP", "HELP", "STARTTLS"):
            reached.set()

    app.observe(look)
    server = start(app, grace=0, tls=server_tls, implicit_tls=encrypted)
    with server.connect(receive_buffer=4096) as client:
        if encrypted:
            client.start_tls(client_tls)
        client.expect(220)
        client.send(WAITS[state])
        assert reached.wait(TIMEOUT)
        server.leave().result(TIMEOUT)
        assert server.reason() in ("cancelled", "shutdown")
    assert store.bodies == []


def test_cancellation_waits_for_a_blocking_function(loop_backend: str, gate: Gate) -> None:
    app = App()
    done: list[bool] = []
    is_stuck = threading.Event()

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> None:
        await session.run_blocking(lambda: done.append(gate._hold()))

    @app.on("HELP")
    async def hang(session: Session, command: Command) -> None:
        is_stuck.set()
        await anyio.sleep_forever()

    with (
        running(loop_backend, app, config=CONFIG, grace=0) as server,
        server.connect() as client,
        server.connect() as stuck,
    ):
        stuck.send(b"HELP\r\n")
        client.send(b"NOOP\r\n").expect(220)
        stuck.expect(220)
        assert gate.reached()
        assert is_stuck.wait(TIMEOUT)
        left = server.leave()
        # The hanging session was cancelled, so the blocked session is being cancelled too.
        assert server.reason() == "cancelled"
        assert done == []
        assert not left.done()
        gate.open()
        left.result(TIMEOUT)
    assert done == [True]
    assert server.reason() == "cancelled"


def test_blocking_function_may_raise(start: Start) -> None:
    app = App()

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> Reply:
        with pytest.raises(ZeroDivisionError):
            await session.run_blocking(divmod, 1, 0)
        return Reply(250, str(await session.run_blocking(divmod, 7, 2)))

    with start(app).connect() as client:
        client.send(b"NOOP\r\n").expect("220 s.example ESMTP", "250 2.0.0 (3, 1)")


@pytest.mark.parametrize("failure", [ValueError("a failure"), ExceptionGroup("some", [KeyError()])])
def test_exception_in_the_serving_block_is_raised_unchanged(failure: Exception, backend: str) -> None:
    def fail(server: Server) -> None:
        raise failure

    with pytest.raises(type(failure)) as caught:
        within(backend, App(), fail, config=CONFIG)
    assert caught.value is failure


def test_exception_in_the_serving_block_ends_sessions_with_421(backend: str) -> None:
    def fail(server: Server) -> None:
        client = Client(server.address)
        client.read()
        ends.append(pool.submit(end, client))
        raise KeyError

    def end(client: Client) -> bytes:
        with client:
            return client.rest()

    ends: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyError):
            within(backend, App(), fail, config=CONFIG)
        assert ends[0].result(TIMEOUT).startswith(b"421 4.3.2 ")


def test_port_in_use_is_an_os_error(backend: str) -> None:
    def fail(server: Server) -> None:
        raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"in use: '127.0.0.1:{port}'") as caught:
            within(backend, App(), fail, port=port, config=CONFIG)
        assert caught.value.errno == errno.EADDRINUSE

        with pytest.raises(OSError, match="in use"):
            module_of(backend).run(App(), port, config=CONFIG)


# serve() and run()


def test_serve_ends_when_cancelled(loop_backend: str) -> None:
    async def main() -> None:
        ready = anyio.Event()
        addresses: list[Address] = []

        def announce(address: Address) -> None:
            addresses.append(address)
            ready.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(module_of(loop_backend).serve, App(), 0, config=CONFIG, on_ready=announce))
            with anyio.fail_after(TIMEOUT):
                await ready.wait()
            client = await anyio.to_thread.run_sync(Client, addresses[0])
            await anyio.to_thread.run_sync(client.expect, 220)
            tasks.cancel_scope.cancel()

        with client, suppress(ConnectionError):
            # In anyio a cancelled task cannot send the 421; in asyncio the task may have sent it.
            assert client.rest().partition(b" ")[0] in (b"", b"421")

    run_in(loop_backend, main)


def test_serve_works_without_on_ready(loop_backend: str) -> None:
    ended: list[bool] = []

    async def serve() -> None:
        try:
            await module_of(loop_backend).serve(App(), 0, config=CONFIG)
        finally:
            ended.append(True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            tasks.cancel_scope.cancel()

    run_in(loop_backend, main)
    assert ended == [True]


def test_serve_sends_421_when_its_asyncio_task_is_cancelled() -> None:
    async def main() -> None:
        ready: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        serve = module_of("asyncio").serve(App(), 0, config=CONFIG, on_ready=ready.set_result)
        task = asyncio.create_task(serve)
        client = await asyncio.to_thread(Client, await asyncio.wait_for(ready, TIMEOUT))
        await asyncio.to_thread(client.expect, 220)
        task.cancel()
        assert (await asyncio.to_thread(client.rest)).startswith(b"421 4.3.2 ")
        client.socket.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_second_cancellation_waits_for_a_blocking_function(gate: Gate) -> None:
    # asyncio delivers each cancellation once: the second one must not abandon the thread.
    app = App()
    done: list[bool] = []

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> None:
        try:
            await session.run_blocking(lambda: done.append(gate._hold()))
        finally:
            done.append(False)

    async def main() -> None:
        async with module_of("asyncio").serving(app, config=CONFIG, grace=0) as server:
            client = await asyncio.to_thread(Client, server.address)
            client.send(b"NOOP\r\n")
            assert await asyncio.to_thread(gate.reached)
            [session] = [task for task in asyncio.all_tasks() if task.get_name() == "SMTP session"]
            for _ in range(3):
                session.cancel()
                await asyncio.sleep(0)
            assert done == []
            gate.open()
        client.socket.close()

    asyncio.run(main())
    assert done == [True, False]


SERVE = """
import {module} as adapter
from smtpcore import Config
from smtpcore_adapters import App
{more}
adapter.run(
    App(), 0, config=Config(hostname="s.example"), on_ready=lambda address: print(address.port, flush=True), **options
)
"""
MORE = {
    "anyio-trio": "options = {'backend': 'trio'}",
    "asyncio-uvloop": "import uvloop; options = {'loop_factory': uvloop.new_event_loop}",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_process_with_421_and_status_0(number: signal.Signals, backend: str) -> None:
    program = SERVE.format(module=module_of(backend).__name__, more=MORE.get(backend, "options = {}"))
    command = [sys.executable, "-W", "error", "-c", program]
    with start_python(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stderr
            with Client(Address("127.0.0.1", int(process.stdout.readline()))) as client:
                client.expect(220)
                process.send_signal(number)
                assert client.rest().startswith(b"421 4.3.2 ")
            assert process.wait(TIMEOUT) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()


@pytest.fixture
def sigint_of_python() -> Iterator[None]:
    """Restore Python's SIGINT handler, because a shell makes background processes ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_of_python")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_handlers_are_restored_after_run(number: signal.Signals, backend: str) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    names: dict[str, Any] = {}
    exec(MORE.get(backend, "options = {}"), names)

    def visit(address: Address) -> bytes:
        with Client(address) as client:
            client.expect(220)
            os.kill(os.getpid(), number)
            return client.rest()

    visits: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        module_of(backend).run(
            App(),
            0,
            config=CONFIG,
            on_ready=lambda address: visits.append(pool.submit(visit, address)),
            **names["options"],
        )
        assert visits[0].result(TIMEOUT).startswith(b"421 4.3.2 ")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("sigint_of_python")
def test_server_accepts_connections_after_a_signal_until_a_further_signal(backend: str) -> None:
    names: dict[str, Any] = {}
    exec(MORE.get(backend, "options = {}"), names)
    called = threading.Event()

    def on_stop() -> float:
        called.set()
        return 2 * TIMEOUT

    def visit(address: Address) -> list[bytes]:
        with Client(address) as first:
            first.expect(220)
            os.kill(os.getpid(), signal.SIGTERM)
            assert called.wait(TIMEOUT)
            with Client(address) as second:
                second.expect(220).send(b"NOOP\r\n").expect(250)
                first.send(b"NOOP\r\n").expect(250)
                os.kill(os.getpid(), signal.SIGTERM)
                return [first.rest(), second.rest()]

    visits: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        module_of(backend).run(
            App(),
            0,
            config=CONFIG,
            on_ready=lambda address: visits.append(pool.submit(visit, address)),
            on_stop=on_stop,
            **names["options"],
        )
    assert [rest[:10] for rest in visits[0].result(TIMEOUT)] == [b"421 4.3.2 "] * 2


# Accepting


class FailingAccept:
    """Make `accept` fail with the given error numbers, once each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
        self.numbers = list(numbers)
        self._accept = socket.socket.accept
        monkeypatch.setattr(socket.socket, "accept", self)

    def __get__(self, listener: socket.socket, owner: type) -> Callable[[], Any]:
        return partial(self, listener)

    def __call__(self, listener: socket.socket) -> Any:
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, os.strerror(number))

        return self._accept(listener)


def test_client_that_quits_after_its_message_gets_221_while_the_server_stops(backend: str) -> None:
    with running(backend, accepting(MessageStore()), config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MESSAGE + BODY + END).expect(220, 250, 250, 250, 354, 250)
        leaving = server.leave()
        client.send(b"QUIT\r\n").expect(221)
        client.socket.close()
        leaving.result(TIMEOUT)
        assert server.reason() == "QUIT"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ECONNABORTED])
def test_server_continues_after_accept_errors(
    number: int, backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("smtpcore_adapters.server._acceptor._PAUSE", 0.01)
    with running(backend, App(), config=CONFIG) as server:
        failing_accept = FailingAccept(monkeypatch, number, number)
        with server.connect() as client:
            client.expect(220)
            client.send(b"QUIT\r\n").expect(221)
        assert failing_accept.numbers == []

    if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        assert os.strerror(number) in caplog.text
    if number == errno.EAGAIN:
        assert caplog.text == ""


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this system does not report the backlog of a socket")
@pytest.mark.parametrize("own", [7, None])
def test_backlog_is_1024_or_that_of_a_socket_that_listens_already(own: int | None, backend: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if own:
            bound.listen(own)
        with running(backend, App(), config=CONFIG, listeners=[Listener(bound=bound)]):
            info = bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        assert struct.unpack_from("I", info, 28) == (
            own or min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text())),
        )  # tcpi_sacked: tcp(7), ss(8)


def test_connections_fit_into_the_file_descriptors_of_the_process(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    descriptors = 2 if backend == "threads" else 1  # for each connection
    monkeypatch.setattr("resource.getrlimit", lambda name: (4 * descriptors, 4096))
    with running(backend, App(), config=CONFIG, limits=Limits(connections=500)) as server, server.connect() as client:
        client.expect(220)
        with server.connect() as other:
            other.expect("421 s.example closing: too many connections")
    assert "the limit of connections is lowered from 500 to 1" in caplog.text


def test_accepted_connection_has_nodelay(backend: str) -> None:
    with running(backend, App(), config=CONFIG) as server, server.connect() as client:
        client.expect(220)
        with far_end_of(client.socket) as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def far_end_of(near: socket.socket) -> socket.socket:
    """Return a duplicate of the socket at the other end, which belongs to this process too."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found = socket.socket(fileno=os.dup(int(name)))
                with suppress(OSError):
                    if found.getpeername() == near.getsockname():
                        return found
                found.close()

    raise AssertionError("the other end does not belong to this process")


def test_connection_that_breaks_during_accept_is_closed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.EINVAL, "reset already")]
    setsockopt = socket.socket.setsockopt

    def fail_once(connection: socket.socket, *args: Any) -> None:
        if args[1] == socket.TCP_NODELAY and failures:
            raise failures.pop()
        setsockopt(connection, *args)

    with running(backend, App(), config=CONFIG) as server:
        monkeypatch.setattr(socket.socket, "setsockopt", fail_once)
        with server.connect() as unlucky, server.connect() as client:
            assert unlucky.is_closed()
            client.expect(220)
