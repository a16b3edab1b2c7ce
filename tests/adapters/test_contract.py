"""What every adapter keeps, over real sockets: asyncio, and anyio on asyncio and on trio."""

import asyncio
import errno
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from queue import Queue
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme

from smtpcore import Command, ConnectionOpened, Reply
from smtpcore_adapters import Address, App, Limits, Message, MessageAborted, Session, Timeouts
from tests.adapters.fakes import CONFIG, Store, accepting
from tests.adapters.harness import BACKENDS, TIMEOUT, Client, Running, loop_of, module_of, running, serving_of

EHLO = b"EHLO c.example\r\n"
MAIL = b"MAIL FROM:<a@c.example>\r\n"
RCPT = b"RCPT TO:<u@s.example>\r\n"
BODY = b"Subject: x\r\n\r\nHello\r\n"
MESSAGE = MAIL + RCPT + b"DATA\r\n"
END = b".\r\n"

Start = Callable[..., Running]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module", autouse=True)
def _garbage() -> Iterator[None]:
    """Lets the garbage collector look at nothing but what tests leave behind: quickly, and so after each."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def start(backend: str, caplog: pytest.LogCaptureFixture) -> Iterator[Start]:
    """Starts servers, and sees to it that they leave neither tasks, nor sockets, nor noise in the log."""
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
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Gate:
    """Holds a handler until the test opens it."""

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


def test_a_message_is_received(start: Start) -> None:
    server = start(accepting(store := Store()))
    with server.connect() as client:
        assert client.reply() == "220 s.example ESMTP"
        assert client.ask(b"EHLO c.example") == 250
        assert client.ask(b"MAIL FROM:<a@c.example>") == 250
        assert client.ask(b"RCPT TO:<u@s.example>") == 250
        assert client.ask(b"DATA") == 354
        client.send(BODY + END)
        assert client.reply() == "250 2.0.0 Stored"
        assert client.ask(b"QUIT") == 221
        assert client.end() == b""
    assert store.bodies == [BODY]
    assert server.reason() == "QUIT"


def test_sessions_know_both_addresses(start: Start) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, str(session.peer), str(session.local)))
    server = start(app)
    with server.connect() as client:
        client.reply()
        client.send(b"NOOP\r\n")
        host, port = client.socket.getsockname()
        assert client.reply() == f"250-2.0.0 {host}:{port}\n250 2.0.0 {server.server.address}"


def test_a_server_may_listen_at_an_ipv6_address(start: Start) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: Reply(250, str(session.peer)))
    try:
        server = start(app, host="::1")
    except OSError:  # pragma: no cover
        pytest.skip("there is no IPv6 here")
    assert server.server.address.host == "::1"
    with server.connect() as client:
        client.reply()
        client.send(b"NOOP\r\n")
        assert client.reply() == f"250 2.0.0 [::1]:{client.socket.getsockname()[1]}"


def test_a_large_message_passes_through(start: Start) -> None:
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
        client.send(EHLO + MESSAGE + block * 20 + END + b"QUIT\r\n")
        assert [client.code() for _ in range(7)] == [220, 250, 250, 250, 354, 250, 221]
    assert size == 20 * len(block)


def test_a_handler_may_leave_a_body_early(start: Start) -> None:
    # trio warns of generators that are not exhausted: a body must not be one.
    app = accepting()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        async for _ in message:
            break
        return Reply(554, "Seen enough")

    with start(app).connect() as client:
        client.send(EHLO + MESSAGE + BODY * 50_000 + END + b"QUIT\r\n")
        assert [client.code() for _ in range(7)] == [220, 250, 250, 250, 354, 554, 221]


def test_many_clients_are_served_at_the_same_time(start: Start) -> None:
    server = start(accepting(store := Store()))
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in clients:
            client.send(EHLO + MESSAGE + BODY)
        for client in reversed(clients):
            client.send(END)
            assert [client.code() for _ in range(6)] == [220, 250, 250, 250, 354, 250]
    assert store.bodies == [BODY] * 20


def test_a_client_that_has_said_all_gets_all_replies(start: Start) -> None:
    # A half-closed connection: the client's end of stream does not end the server's.
    server = start(accepting(store := Store()), config=replace(CONFIG, max_idle_commands=None))
    with server.connect() as client:
        client.send(EHLO + MESSAGE + BODY + END + (MAIL + RCPT + b"RSET\r\n") * 300)
        client.socket.shutdown(socket.SHUT_WR)
        codes = [line[:3] for line in client.end().splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", *[b"250"] * 901]
    assert store.bodies == [BODY]
    assert server.reason() == "closed"


def test_the_end_of_the_stream_in_a_body_accepts_nothing(start: Start) -> None:
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
        client.send(EHLO + MESSAGE)
        assert [client.code() for _ in range(5)] == [220, 250, 250, 250, 354]
        client.send(BODY)
        client.socket.shutdown(socket.SHUT_WR)
        assert isinstance(seen.get(timeout=TIMEOUT), MessageAborted)
        assert client.is_closed()
    assert server.reason() == "lost"


# Time limits


def test_a_silent_client_gets_a_421(start: Start) -> None:
    server = start(App(), timeouts=Timeouts(greeting=0.05, close=1))
    with server.connect() as client:
        assert client.reply() == "220 s.example ESMTP"
        assert client.reply() == "421 4.4.2 s.example closing: you took too long"
        assert client.end() == b""
    assert server.reason() == "timeout"


def test_a_client_that_takes_no_reply_is_given_up(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("NOOP")(lambda session, noop: Reply(250, *text))
    server = start(app, timeouts=Timeouts(send=0.2, close=0.1))
    with server.connect(receive_buffer=4096) as client:
        client.send(b"NOOP\r\n" * 90)
        assert server.reason() == "timeout"


def test_the_client_may_take_its_time_to_take_a_reply(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("NOOP")(lambda session, noop: Reply(250, *text))
    with start(app).connect(receive_buffer=4096) as client:
        client.send(b"NOOP\r\n" * 90 + b"QUIT\r\n")
        assert [client.code() for _ in range(92)] == [220, *[250] * 90, 221]


# Back-pressure


MOST = 100_000_000


def test_a_client_waits_for_a_handler_that_does_not_read(start: Start, gate: Gate) -> None:
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
        client.send(EHLO + MESSAGE)
        assert [client.code() for _ in range(5)] == [220, 250, 250, 250, 354]
        assert gate.reached()
        sent = client.send_until_blocked(block, MOST)
        assert sent < MOST
        gate.open()
        client.send(block[sent % len(block) :] + END)
        assert client.code() == 250
    assert size == sent + len(block) - sent % len(block)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_client_that_talks_ahead_waits_too(
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
        assert client.send_until_blocked(b"x" * 65536, MOST) < MOST
    gate.open()
    assert server.reason() in ("lost", "421", "closed")


# Clients that are gone


STATES = {
    "connected": b"",
    "greeted": b"",
    "a part of a line": b"EHL",
    "EHLO": EHLO,
    "MAIL": EHLO + MAIL,
    "RCPT": EHLO + MAIL + RCPT,
    "DATA": EHLO + MESSAGE,
    "in the body": EHLO + MESSAGE + BODY,
    "behind the body": EHLO + MESSAGE + BODY + END,
    "with replies on their way": EHLO + b"NOOP\r\n" * 90,
    "QUIT": EHLO + b"QUIT\r\n",
    "421": b"XX\r\n" * 60,
    "STARTTLS": EHLO + b"STARTTLS\r\n",
    "plaintext behind STARTTLS": EHLO + b"STARTTLS\r\nNOOP\r\n",
}


@pytest.mark.parametrize("state", STATES)
def test_a_client_may_be_gone_in_any_state(state: str, start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(accepting(Store()), tls=server_tls)
    client = server.connect()
    if state != "connected":
        client.reply()
    if STATES[state]:
        client.send(STATES[state])
    client.reset()
    assert server.reason() in ("lost", "closed", "QUIT", "421")


def test_a_client_may_be_gone_while_a_handler_is_at_work(start: Start, gate: Gate) -> None:
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
def test_a_client_may_be_gone_under_tls(
    politely: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(accepting(Store()), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.start_tls(client_tls)
        assert client.code() == 220
        if politely:
            assert isinstance(client.socket, ssl.SSLSocket)
            client.socket.unwrap().close()
    assert server.reason() == "closed"

    client = server.connect()
    client.start_tls(client_tls)
    assert client.code() == 220
    client.reset()
    assert server.reason() == "lost"


# TLS


def test_starttls(start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    app = accepting(store := Store())
    app.on("NOOP")(lambda session, noop: Reply(250, f"{session.tls} {session.helo}"))
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO)
        assert client.reply() == "220 s.example ESMTP"
        assert "STARTTLS" in client.reply()
        assert client.ask(b"MAIL FROM:<a@c.example>") == 250
        assert client.ask(b"STARTTLS") == 220
        client.start_tls(client_tls)
        assert client.ask(b"RCPT TO:<u@s.example>") == 503
        client.send(b"NOOP\r\n")
        assert isinstance(client.socket, ssl.SSLSocket)
        cipher = client.socket.cipher()
        assert cipher
        assert client.reply() == f"250 2.0.0 {client.socket.version()} {cipher[0]} None"
        client.send(EHLO)
        assert "STARTTLS" not in client.reply()
        assert client.ask(b"STARTTLS") == 503
        client.send(MESSAGE + BODY * 50_000 + END + b"QUIT\r\n")
        assert [client.code() for _ in range(5)] == [250, 250, 354, 250, 221]
        assert client.end() == b""
    assert store.bodies == [BODY * 50_000]
    assert server.reason() == "QUIT"


def test_implicit_tls(start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    server = start(accepting(store := Store()), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.start_tls(client_tls)
        client.send(EHLO + MESSAGE + BODY + END + b"QUIT\r\n")
        assert client.reply() == "220 s.example ESMTP"
        assert "STARTTLS" not in client.reply()
        assert [client.code() for _ in range(5)] == [250, 250, 354, 250, 221]
        assert client.end() == b""
    assert store.bodies == [BODY]


def test_commands_may_come_in_the_last_segment_of_the_handshake(
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


def executed(app: App, *names: str) -> list[str]:
    calls: list[str] = []
    for name in names:
        app.on(name)(lambda session, command, name=name: calls.append(name))
    return calls


def test_commands_in_the_segment_of_starttls_are_refused(start: Start, server_tls: ssl.SSLContext) -> None:
    app = App()
    calls = executed(app, "NOOP", "RSET", "STARTTLS")
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.reply()
        client.send(EHLO + b"STARTTLS\r\nNOOP\r\n" + b"RSET\r\n")
        assert client.code() == 250
        assert client.code() == 421
        assert client.end() == b""
    assert calls == []
    assert server.reason() == "421"


def test_plaintext_behind_the_220_fails_the_handshake(start: Start, server_tls: ssl.SSLContext) -> None:
    app = App()
    calls = executed(app, "NOOP")
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO)
        assert [client.code(), client.code(), client.ask(b"STARTTLS")] == [220, 250, 220]
        client.send(b"NOOP\r\n" * 10)
        assert server.reason() == "lost"
    assert calls == []


def test_plaintext_while_the_handler_of_starttls_is_at_work_is_never_executed(
    start: Start, gate: Gate, server_tls: ssl.SSLContext
) -> None:
    app = App()
    calls = executed(app, "NOOP")
    app.on("STARTTLS")(lambda session, command: gate.hold(session))
    server = start(app, tls=server_tls)
    with server.connect() as client:
        client.send(EHLO)
        assert [client.code(), client.code()] == [220, 250]
        client.send(b"STARTTLS\r\n")
        assert gate.reached()
        client.send(b"NOOP\r\n" * 10)
        gate.open()
        assert server.reason() == "lost"
    assert calls == []


@pytest.mark.parametrize("implicit", [False, True])
def test_a_handshake_has_its_time_limit(implicit: bool, start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(App(), tls=server_tls, implicit_tls=implicit, timeouts=Timeouts(tls=0.1))
    with server.connect() as client:
        if not implicit:
            client.send(EHLO)
            assert [client.code(), client.code(), client.ask(b"STARTTLS")] == [220, 250, 220]
        client.send(b"\x16\x03\x01")
        assert client.is_closed()
    assert server.reason() == "lost"


def test_a_client_that_ends_the_handshake_is_lost(start: Start, server_tls: ssl.SSLContext) -> None:
    server = start(App(), tls=server_tls, implicit_tls=True)
    with server.connect() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()
    assert server.reason() == "lost"


# Limits


def test_connections_over_the_limits_are_greeted_with_421(start: Start) -> None:
    server = start(App(), limits=Limits(connections=2))
    with server.connect() as first, server.connect() as second:
        assert [first.code(), second.code()] == [220, 220]
        with server.connect() as third:
            assert third.end() == b"421 s.example closing: too many connections\r\n"
        assert server.reason() == "421"
        assert first.ask(b"QUIT") == 221
        assert first.end() == b""
        first.socket.close()
        assert server.reason() == "QUIT"
        assert second.ask(b"NOOP") == 250


def test_connections_over_the_limit_of_an_address_are_greeted_with_421(start: Start) -> None:
    server = start(App(), limits=Limits(connections_per_address=1))
    with server.connect() as first:
        assert first.code() == 220
        with server.connect() as second:
            assert second.end() == b"421 s.example closing: too many connections from your address\r\n"
        assert first.ask(b"NOOP") == 250


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_421_reaches_a_client_that_goes_on_talking(
    encrypted: bool, start: Start, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    server = start(App(), tls=server_tls, implicit_tls=encrypted)
    with server.connect() as client:
        if encrypted:
            client.start_tls(client_tls)
        client.send(b"XX\r\n" * 20_000)
        client.send(b"YY\r\n" * 20_000)
        codes = [client.code() for _ in range(52)]
        assert codes == [220, *[500] * 50, 421]
    assert server.reason() == "421"


# Shutdown


def test_leaving_ends_idle_sessions(start: Start) -> None:
    server = start(accepting())
    with server.connect() as silent, server.connect() as client:
        client.send(EHLO + MAIL + RCPT)
        assert [silent.code(), *(client.code() for _ in range(4))] == [220, 220, 250, 250, 250]
        left = server.leave()
        for each in (silent, client):
            assert each.end() == b"421 4.3.2 s.example closing: the server is shutting down\r\n"
    left.result(TIMEOUT)
    assert [server.reason(), server.reason()] == ["shutdown", "shutdown"]


def test_leaving_waits_for_clients_that_take_their_replies(start: Start) -> None:
    app = App()
    text = [f"{number:490}" for number in range(200)]
    app.on("RCPT")(lambda session, rcpt: Reply(250, *text))
    answered = threading.Event()

    def look(session: Session, item: object) -> None:
        if isinstance(item, Reply) and session.transaction and len(session.transaction.recipients) == 90:
            answered.set()  # and no other task runs until these replies fill the client's buffer

    app.observe(look)
    server = start(app)
    with server.connect(receive_buffer=4096) as client:
        client.send(EHLO + MAIL + RCPT * 90 + b"RSE")
        assert answered.wait(TIMEOUT)
        left = server.leave()
        assert [client.code() for _ in range(94)] == [220, *[250] * 92, 421]
        assert client.end() == b""
    left.result(TIMEOUT)
    assert server.reason() == "shutdown"


def test_leaving_lets_no_one_in(start: Start, gate: Gate) -> None:
    app = App()
    app.on("NOOP")(lambda session, noop: gate.hold(session))
    server = start(app)
    with server.connect() as busy, server.connect() as idle:
        assert [busy.code(), idle.code()] == [220, 220]
        busy.send(b"NOOP\r\n")
        assert gate.reached()
        left = server.leave()
        assert idle.end().startswith(b"421 ")  # so leaving has begun
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        gate.open()
        assert [busy.code(), busy.code()] == [250, 421]
        assert busy.end() == b""
    left.result(TIMEOUT)


def test_leaving_waits_for_bodies(start: Start) -> None:
    app = accepting(store := Store())
    server = start(app)
    with server.connect() as client, server.connect() as idle:
        client.send(EHLO + MESSAGE)
        assert [client.code() for _ in range(5)] == [220, 250, 250, 250, 354]
        assert idle.code() == 220
        left = server.leave()
        assert idle.end().startswith(b"421 ")
        client.send(BODY)
        client.send(END + MAIL)
        assert [client.code(), client.code()] == [250, 421]
        assert client.end() == b""
    left.result(TIMEOUT)
    assert store.bodies == [BODY]


def test_leaving_without_sessions_is_immediate(start: Start) -> None:
    start(App(), grace=3600).leave().result(TIMEOUT)


@pytest.mark.parametrize("grace", [0, 0.1])
def test_a_session_that_is_stuck_is_cancelled_when_the_grace_is_over(grace: float, start: Start) -> None:
    app = App()
    stuck = threading.Event()

    @app.on("NOOP")
    async def stick(session: Session, noop: Command) -> None:
        stuck.set()
        await anyio.sleep_forever()

    server = start(app, grace=grace)
    with server.connect() as client:
        assert client.code() == 220
        client.send(b"NOOP\r\n")
        assert stuck.wait(TIMEOUT)
        server.leave().result(TIMEOUT)
        assert server.reason() == "cancelled"
        assert client.is_closed()


def test_cancellation_waits_for_what_blocks(start: Start, gate: Gate) -> None:
    app = App()
    done: list[bool] = []
    is_stuck = threading.Event()

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> None:
        await session.run_blocking(lambda: done.append(gate._hold()))

    @app.on("HELP")
    async def stick(session: Session, command: Command) -> None:
        is_stuck.set()
        await anyio.sleep_forever()

    server = start(app, grace=0)
    with server.connect() as client, server.connect() as stuck:
        stuck.send(b"HELP\r\n")
        client.send(b"NOOP\r\n")
        assert [client.code(), stuck.code()] == [220, 220]
        assert gate.reached()
        assert is_stuck.wait(TIMEOUT)
        left = server.leave()
        assert server.reason() == "cancelled"  # the stuck one, and so both are being cancelled
        assert done == []
        assert not left.done()
        gate.open()
        left.result(TIMEOUT)
    assert done == [True]
    assert server.reason() == "cancelled"


def test_what_blocks_may_fail(start: Start) -> None:
    app = App()

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> Reply:
        with pytest.raises(ZeroDivisionError):
            await session.run_blocking(divmod, 1, 0)
        return Reply(250, str(await session.run_blocking(divmod, 7, 2)))

    with start(app).connect() as client:
        client.send(b"NOOP\r\n")
        assert [client.reply(), client.reply()] == ["220 s.example ESMTP", "250 2.0.0 (3, 1)"]


@pytest.mark.parametrize("failure", [ValueError("a failure"), ExceptionGroup("some", [KeyError()])])
def test_a_failure_of_the_block_comes_out_as_itself(failure: Exception, backend: str) -> None:
    async def fail() -> None:
        async with serving_of(backend)(App(), config=CONFIG):
            raise failure

    with pytest.raises(type(failure)) as caught:
        anyio.run(fail, backend=loop_of(backend))
    assert caught.value is failure


def test_a_failure_of_the_block_ends_sessions_gracefully(backend: str) -> None:
    app = App()

    async def fail() -> None:
        async with serving_of(backend)(app, config=CONFIG) as server:
            client = Client(server.address)
            await anyio.to_thread.run_sync(client.reply)
            ends.append(pool.submit(end, client))
            raise KeyError

    def end(client: Client) -> bytes:
        with client:
            return client.end()

    ends: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyError):
            anyio.run(fail, backend=loop_of(backend))
        assert ends[0].result(TIMEOUT).startswith(b"421 4.3.2 ")


@pytest.mark.parametrize("name", ["serving", "serve"])
def test_a_port_that_is_taken_is_an_oserror(name: str, backend: str) -> None:
    async def listen(port: int) -> None:
        if name == "serve":
            await module_of(backend).serve(App(), port, config=CONFIG)
        else:
            async with serving_of(backend)(App(), port, config=CONFIG):
                raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        anyio.run(listen, taken.getsockname()[1], backend=loop_of(backend))
    assert caught.value.errno == errno.EADDRINUSE


# serve() and run()


def test_serve_ends_when_it_is_cancelled(backend: str) -> None:
    async def main() -> None:
        ready = anyio.Event()
        addresses: list[Address] = []

        def announce(address: Address) -> None:
            addresses.append(address)
            ready.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(module_of(backend).serve, App(), 0, config=CONFIG, on_ready=announce))
            with anyio.fail_after(TIMEOUT):
                await ready.wait()
            client = await anyio.to_thread.run_sync(Client, addresses[0])
            assert await anyio.to_thread.run_sync(client.code) == 220
            tasks.cancel_scope.cancel()

        with client, suppress(ConnectionError):
            # In anyio a cancelled task can say no more; in asyncio it may have had the time.
            assert client.end().partition(b" ")[0] in (b"", b"421")

    anyio.run(main, backend=loop_of(backend))


def test_serve_need_not_say_when_it_is_ready(backend: str) -> None:
    ended: list[bool] = []

    async def serve() -> None:
        try:
            await module_of(backend).serve(App(), 0, config=CONFIG)
        finally:
            ended.append(True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=loop_of(backend))
    assert ended == [True]


def test_serve_says_goodbye_when_its_asyncio_task_is_cancelled() -> None:
    async def main() -> None:
        ready: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        serve = module_of("asyncio").serve(App(), 0, config=CONFIG, on_ready=ready.set_result)
        task = asyncio.create_task(serve)
        client = await asyncio.to_thread(Client, await asyncio.wait_for(ready, TIMEOUT))
        assert await asyncio.to_thread(client.code) == 220
        task.cancel()
        assert (await asyncio.to_thread(client.end)).startswith(b"421 4.3.2 ")
        client.socket.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_second_cancellation_waits_for_what_blocks_too(gate: Gate) -> None:
    # asyncio's cancellation hits once each time: it must not let go of a thread the second time.
    app = App()
    done: list[bool] = []

    @app.on("NOOP")
    async def work(session: Session, noop: Command) -> None:
        try:
            await session.run_blocking(lambda: done.append(gate._hold()))
        finally:
            done.append(False)

    async def main() -> None:
        async with serving_of("asyncio")(app, config=CONFIG, grace=0) as server:
            client = await asyncio.to_thread(Client, server.address)
            client.send(b"NOOP\r\n")
            assert await asyncio.to_thread(gate.reached)
            [session] = [task for task in asyncio.all_tasks() if "attend" in repr(task.get_coro())]
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
adapter.run(
    App(), 0, config=Config(hostname="s.example"), on_ready=lambda address: print(address.port, flush=True), **{options}
)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_gracefully(number: signal.Signals, backend: str) -> None:
    options = {} if backend == "asyncio" else {"backend": loop_of(backend)}
    program = SERVE.format(module=module_of(backend).__name__, options=options)
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stderr
            with Client(Address("127.0.0.1", int(process.stdout.readline()))) as client:
                assert client.code() == 220
                process.send_signal(number)
                assert client.end().startswith(b"421 4.3.2 ")
            assert process.wait(TIMEOUT) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_handled_while_serving_only(number: signal.Signals, backend: str) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    options = {} if backend == "asyncio" else {"backend": loop_of(backend)}

    def visit(address: Address) -> bytes:
        with Client(address) as client:
            assert client.code() == 220
            os.kill(os.getpid(), number)
            return client.end()

    visits: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        run = module_of(backend).run
        run(App(), 0, config=CONFIG, on_ready=lambda address: visits.append(pool.submit(visit, address)), **options)
        assert visits[0].result(TIMEOUT).startswith(b"421 4.3.2 ")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


# Accepting


class Exhausted:
    """Lets `accept` fail."""

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


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ECONNABORTED])
def test_a_server_goes_on_when_it_cannot_accept(
    number: int, backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    pauses: list[float] = []
    sleep = anyio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(anyio, "sleep", pause)
    with running(backend, App(), config=CONFIG) as server:
        exhausted = Exhausted(monkeypatch, number, number)
        with server.connect() as client:
            assert client.code() == 220
            assert client.ask(b"QUIT") == 221
        assert exhausted.numbers == []

    if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        assert os.strerror(number) in caplog.text
    if backend != "asyncio":
        expected = {errno.EAGAIN: [], errno.ECONNABORTED: [0.0, 0.0]}
        assert pauses == expected.get(number, [1.0, 1.0])


def test_a_connection_that_breaks_while_it_is_accepted_costs_nothing(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "asyncio":
        pytest.skip("asyncio sets the options itself")
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
            assert client.code() == 220
