"""The client over real sockets on each framework, against the smtpcore server and against misbehaving servers."""

import contextlib
import gc
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme

from benchmarks.ports import reserved_ports
from smtpcore import Auth, ClientBudgets, ProtocolError, RemoteProtocolError, Reply
from smtpcore_adapters import (
    App,
    Client,
    Disconnected,
    Message,
    Refused,
    Session,
    Timeouts,
    TlsMode,
    open_client,
)
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.recipients import Recipients
from smtpcore_adapters.tls import server_context
from smtpcore_adapters.users import Users
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, MessageStore, accepting
from tests.adapters.harness import TIMEOUT, connect_of, run_in, running
from tests.adapters.peers import Answering, Peer, Serve, serving
from tests.certificates import context_trusting
from tests.playbook import GO_AHEAD, GREETING, OK, offer

pytestmark = pytest.mark.usefixtures("frozen_heap")

Connect = Callable[..., contextlib.AbstractAsyncContextManager[Client]]
SENDER, RECIPIENT = "a@c.example", "u@s.example"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return context_trusting(authority)


@pytest.fixture
def store() -> MessageStore:
    return MessageStore()


def run(
    backend: str,
    test: Callable[[Connect], Awaitable[None]],
    port: int,
    *,
    clock: Clock | None = None,
    **options: Any,
) -> None:
    options.setdefault("hostname", "c.example")
    connect = partial(connect_of(backend), "127.0.0.1", port, **options)

    async def main() -> None:
        with contextlib.nullcontext() if backend == "threads" or clock else anyio.fail_after(TIMEOUT):
            await test(connect)

    run_in(backend, main, clock=clock)
    gc.collect()  # turns a socket left open into a ResourceWarning


async def send(connect: Connect) -> None:
    async with connect() as client:
        assert (await client.send(SENDER, RECIPIENT, b"Subject: hi\n\n.\n")).accepted


@pytest.mark.parametrize("mode", TlsMode)
def test_message_is_sent_in_each_tls_mode(
    backend: str, mode: TlsMode, store: MessageStore, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    seen: list[bool] = []
    app = accepting(store)
    app.on("MAIL")(lambda session, mail: seen.append(session.tls is not None))
    with running(backend, app, config=CONFIG, tls=server_tls, implicit_tls=mode is TlsMode.IMPLICIT) as server:
        run(backend, send, server.server.address.port, tls=mode, context=client_tls)

    assert store.bodies == [b"Subject: hi\r\n\r\n.\r\n"]
    assert seen == [mode is not TlsMode.NONE]


@pytest.mark.parametrize("mode", [TlsMode.OPPORTUNISTIC, TlsMode.REQUIRED, TlsMode.IMPLICIT])
def test_invalid_certificate_is_an_error_by_default(backend: str, mode: TlsMode, server_tls: ssl.SSLContext) -> None:
    async def fail(connect: Connect) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await send(connect)

    with running(backend, App(), config=CONFIG, tls=server_tls, implicit_tls=mode is TlsMode.IMPLICIT) as server:
        run(backend, fail, server.server.address.port, tls=mode)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_client_logs_in_with_each_mechanism(
    backend: str, mechanism: str, store: MessageStore, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    app = App()
    app.include(Users({"tim": "tanstaaftanstaaf"}))
    app.include(store)
    config = replace(CONFIG, auth_mechanisms=(mechanism,), require_auth=True)
    with running(backend, app, config=config, tls=server_tls) as server:
        run(backend, send, server.server.address.port, context=client_tls, auth=("tim", "tanstaaftanstaaf"))

    assert len(store.bodies) == 1


def test_login_uses_channel_binding_if_offered(
    backend: str, store: MessageStore, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = server_context(tmp_path / "chain.pem", tmp_path / "key.pem")
    used: list[str] = []
    app = App()
    app.include(Users({"tim": "tanstaaftanstaaf"}))
    app.include(store)
    app.observe(lambda session, event: used.append(event.mechanism) if isinstance(event, Auth) else None)
    config = replace(CONFIG, auth_mechanisms=("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"), require_auth=True)
    with running(backend, app, config=config, tls=context) as server:
        run(backend, send, server.server.address.port, context=client_tls, auth=("tim", "tanstaaftanstaaf"))

    assert used == ["SCRAM-SHA-256-PLUS"]
    assert len(store.bodies) == 1


def test_many_messages_are_sent_on_one_connection(backend: str, store: MessageStore) -> None:
    async def send_many(connect: Connect) -> None:
        async with connect() as client:
            for number in range(20):
                result = await client.send(SENDER, RECIPIENT, f"{number}\n".encode())
                assert result.accepted
                assert not (await client.send(SENDER, "x@elsewhere.example", b"")).accepted
                assert (await client.noop()).is_positive

    app = App()
    app.include(store)

    @app.on("RCPT")
    def only_us(session: Session, rcpt: Any) -> Reply | None:
        return Reply(250, "ok") if rcpt.forward_path.domain == "s.example" else None

    with running(backend, app, config=CONFIG) as server:
        run(backend, send_many, server.server.address.port)

    assert store.bodies == [f"{number}\r\n".encode() for number in range(20)]


@pytest.mark.parametrize("chunking", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
def test_large_body_arrives_complete(
    backend: str,
    chunking: bool,
    encrypted: bool,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    line = b"." + b"x" * 76 + b"\r\n"
    size = 0

    async def count(session: Session, message: Message) -> Reply:
        nonlocal size
        async for piece in message:
            size += len(piece)
        return Reply(250, "ok")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield line * 1000

    async def send_large(connect: Connect) -> None:
        async with connect() as client:
            assert (await client.send(SENDER, RECIPIENT, pieces())).accepted
            with path.open("rb") as file:
                assert (await client.send(SENDER, RECIPIENT, file)).accepted

    path = tmp_path / "body"
    path.write_bytes(line * 10_000)
    app = accepting()
    app.on("message")(count)
    mode = TlsMode.REQUIRED if encrypted else TlsMode.NONE
    with running(backend, app, config=CONFIG, tls=server_tls) as server:
        run(backend, send_large, server.server.address.port, tls=mode, context=client_tls, chunking=chunking)

    assert size == len(line) * 110_000


def test_handler_opens_a_client_with_the_streams_of_its_session(backend: str, store: MessageStore) -> None:
    app = accepting()

    @app.on("message")
    async def forward(session: Session, message: Message) -> Reply:
        client = await open_client(
            session.open_stream, "127.0.0.1", next_server.server.address.port, hostname="relay.example"
        )
        try:
            return (await client.send(message.reverse_path, message.forward_paths, message)).final
        finally:
            await client.aclose()

    with (
        running("asyncio", accepting(store), config=CONFIG) as next_server,
        running(backend, app, config=CONFIG) as server,
    ):
        run(backend, send, server.server.address.port)

    assert len(store.bodies) == 1


def test_forward_works_on_each_framework(
    backend: str, store: MessageStore, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def send_some(connect: Connect) -> None:
        async with connect() as client:
            for _ in range(3):
                result = await client.send(SENDER, [RECIPIENT, "x@elsewhere.example"], b"A: b\n\n" + b"x\n" * 150_000)
                assert [reply.code for reply in result.values()] == [250, 550]

    next_app = App()
    next_app.include(store)
    next_app.include(Recipients(["s.example"]))
    with running("asyncio", next_app, config=CONFIG, tls=server_tls) as next_server:
        app = App()
        app.include(Forward("127.0.0.1", next_server.server.address.port, tls=TlsMode.REQUIRED, context=client_tls))
        with running(backend, app, config=CONFIG) as server:
            run(backend, send_some, server.server.address.port)

    assert len(store.bodies) == 3
    assert all(body.endswith(b"x\r\n") and body.count(b"Received: ") == 1 for body in store.bodies)


def test_refused_connection_raises_connection_refused_error(backend: str) -> None:
    async def fail(connect: Connect) -> None:
        with pytest.raises(ConnectionRefusedError):
            await send(connect)

    with reserved_ports(1) as (port,):
        run(backend, fail, port)


# Servers that misbehave


HELLO = offer("PIPELINING", "SIZE")


def send_greeting_and_hello(peer: Peer, hello: bytes = HELLO) -> None:
    peer.send(GREETING)
    peer.until(b"\r\n")
    peer.send(hello)


def reply_up_to_data(peer: Peer) -> None:
    send_greeting_and_hello(peer)
    peer.until(b"DATA\r\n")
    peer.send(OK + OK + GO_AHEAD)


def endless_greeting(peer: Peer) -> None:
    while True:
        peer.send(b"220-and on and on\r\n" * 1000)


def endless_reply_line(peer: Peer) -> None:
    while True:
        peer.send(b"220 on and on" * 1000)


def endless_replies(peer: Peer) -> None:
    send_greeting_and_hello(peer)
    while True:
        peer.send(OK * 1000)


def bare_line_ends(peer: Peer) -> None:
    peer.send(b"220 a\r250 b\r\n")
    peer.socket.recv(1)


def answers_mail_with_354(peer: Peer) -> None:
    send_greeting_and_hello(peer)
    peer.until(b"DATA\r\n")
    peer.send(GO_AHEAD * 3)
    peer.socket.recv(1)


def answers_too_early(peer: Peer) -> None:
    peer.send(GREETING + HELLO)
    peer.socket.recv(1)


def injects_replies_before_tls(peer: Peer) -> None:
    send_greeting_and_hello(peer, offer("STARTTLS"))
    peer.until(b"STARTTLS\r\n")
    peer.send(b"220 go\r\n250-s.example\r\n250 AUTH PLAIN\r\n")
    peer.socket.recv(1)


def closes_at_once(peer: Peer) -> None:
    pass


def closes_in_a_reply(peer: Peer) -> None:
    peer.send(b"220-s.exa")


def closes_at_mail(peer: Peer) -> None:
    send_greeting_and_hello(peer)
    peer.until(b"DATA\r\n")


def closes_in_the_body(peer: Peer) -> None:
    reply_up_to_data(peer)
    peer.socket.recv(1000)


def closes_at_the_end(peer: Peer) -> None:
    reply_up_to_data(peer)
    peer.until(b"\r\n.\r\n")


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (endless_greeting, RemoteProtocolError),
        (endless_reply_line, RemoteProtocolError),
        (endless_replies, RemoteProtocolError),
        (bare_line_ends, RemoteProtocolError),
        (answers_mail_with_354, RemoteProtocolError),
        (answers_too_early, RemoteProtocolError),
        (injects_replies_before_tls, RemoteProtocolError),
        (closes_at_once, OSError),
        (closes_in_a_reply, Disconnected),
        (closes_at_mail, OSError),
        (closes_in_the_body, OSError),
        (closes_at_the_end, Disconnected),
    ],
)
def test_misbehaving_server_raises_a_documented_error(backend: str, behave: Serve, kind: type[Exception]) -> None:
    async def fail(connect: Connect) -> None:
        with pytest.raises(kind):
            async with connect() as client:
                await client.send(SENDER, RECIPIENT, b"x" * 100_000)

    with serving(behave) as address:
        run(backend, fail, address.port, tls=TlsMode.OPPORTUNISTIC)


@pytest.mark.parametrize("what", ["greeting", "command", "send", "end"])
def test_silent_server_raises_timeout_error(backend: str, what: str) -> None:
    def behave(peer: Peer) -> None:
        if what == "greeting":
            pass
        elif what == "command":
            peer.send(GREETING)
        elif what == "send":
            reply_up_to_data(peer)
        else:
            reply_up_to_data(peer)
            peer.until(b"\r\n.\r\n")
        clock.advance(getattr(budgets, what) - 1)
        assert not done.is_set()
        clock.advance_until(done, 2)

    async def pieces() -> AsyncIterator[bytes]:
        # The body is far larger than the socket buffers, except if the server reads the body.
        for _ in range(1 if what == "end" else 1000):
            yield b"x" * 70 + b"\r\n" if what == "end" else b"x" * 262_142 + b"\r\n"

    async def fail(connect: Connect) -> None:
        try:
            with pytest.raises(TimeoutError):
                async with connect() as client:
                    await client.send(SENDER, RECIPIENT, pieces())
        finally:
            done.set()

    done, clock, budgets = threading.Event(), Clock(), ClientBudgets()
    with serving(behave) as address:
        run(backend, fail, address.port, clock=clock, tls=TlsMode.NONE, budgets=budgets)


def test_421_is_read_while_the_body_is_being_sent(backend: str) -> None:
    def behave(peer: Peer) -> None:
        reply_up_to_data(peer)
        peer.socket.recv(1000)
        peer.send(b"421 4.3.2 going down\r\n")
        with contextlib.suppress(OSError):
            while peer.socket.recv(65_536):
                pass

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 262_142 + b"\r\n"

    async def read_421(connect: Connect) -> None:
        async with connect() as client:
            result = await client.send(SENDER, RECIPIENT, pieces())
            assert set(result.values()) == {Reply(421, "going down", enhanced="4.3.2")}
            assert not client.is_open

    with serving(behave) as address:
        run(backend, read_421, address.port, tls=TlsMode.NONE)


def test_server_that_stops_reading_until_its_replies_are_read_causes_no_deadlock(backend: str) -> None:
    # RFC 2920 3.1: the client's commands, and the server's replies, must both fit into what the network takes.
    recipients = [f"user{number}@s.example" for number in range(500)]

    def behave(peer: Peer) -> None:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        send_greeting_and_hello(peer)
        rest = b""
        while not rest.startswith(b"DATA"):
            rest += peer.socket.recv(1024)
            while b"\r\n" in rest and not rest.startswith(b"DATA"):
                rest = rest.partition(b"\r\n")[2]
                peer.send(b"250-" + b"x" * 400 + b"\r\n250 " + b"x" * 400 + b"\r\n")
        peer.send(GO_AHEAD)
        peer.until(b"\r\n.\r\n")
        peer.send(OK)
        peer.socket.recv(100)

    async def send_to_all(connect: Connect) -> None:
        async with connect() as client:
            result = await client.send(SENDER, recipients, b"hi\r\n")
            assert len(result.accepted) == len(recipients)

    with serving(behave) as address:
        run(backend, send_to_all, address.port, tls=TlsMode.NONE)


def test_cancelled_send_closes_the_connection_without_ending_the_message(loop_backend: str) -> None:
    taken: list[bytes] = []

    def behave(peer: Peer) -> None:
        reply_up_to_data(peer)
        with contextlib.suppress(OSError):
            while data := peer.socket.recv(65_536):
                taken.append(data)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 262_142 + b"\r\n"
        await anyio.sleep(TIMEOUT)

    async def cancel(connect: Connect) -> None:
        async with connect() as client:
            with anyio.move_on_after(0.1):
                await client.send(SENDER, RECIPIENT, pieces())
            assert not client.is_open
            with pytest.raises(Disconnected):
                await client.noop()

    with serving(behave) as address:
        run(loop_backend, cancel, address.port, tls=TlsMode.NONE)

    assert not b"".join(taken).endswith(b"\r\n.\r\n")
    assert b"QUIT" not in b"".join(taken)


def test_refused_login_closes_the_connection(
    backend: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def fail(connect: Connect) -> None:
        with pytest.raises(Refused, match="535"):
            await send(connect)

    app = App()
    app.include(Users({"tim": "right"}))
    timeouts = Timeouts(auth_delay=0)
    with running(backend, app, config=CONFIG, tls=server_tls, timeouts=timeouts) as server:
        run(backend, fail, server.server.address.port, context=client_tls, auth=("tim", "wrong"))
        server.reason()


def test_invalid_argument_raises_before_anything_is_sent(backend: str, store: MessageStore) -> None:
    async def misuse(connect: Connect) -> None:
        async with connect() as client:
            with pytest.raises(ProtocolError):
                await client.send(SENDER, [], b"")
            body: Any = ["text"]
            with pytest.raises(TypeError):
                await client.send(SENDER, RECIPIENT, body)
            assert (await client.send(SENDER, RECIPIENT, b"")).accepted

    with running(backend, accepting(store), config=CONFIG) as server:
        run(backend, misuse, server.server.address.port)


# QUIT


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_quit_is_sent_after_an_exception_in_the_block(backend: str, error: type[BaseException]) -> None:
    async def fail(connect: Connect) -> None:
        async with connect():
            raise error

    server = Answering()
    with serving(server) as address, pytest.raises(error):
        run(backend, fail, address.port, tls=TlsMode.NONE)
    assert server.heard[-1] == "QUIT"


def test_quit_is_sent_when_the_block_is_cancelled_between_commands(loop_backend: str) -> None:
    async def cancel(connect: Connect) -> None:
        with anyio.CancelScope() as scope:
            async with connect():
                scope.cancel()
                await anyio.sleep_forever()

    server = Answering()
    with serving(server) as address:
        run(loop_backend, cancel, address.port, tls=TlsMode.NONE)
    assert server.heard[-1] == "QUIT"


def test_wait_for_the_reply_to_quit_is_short_when_the_block_is_cancelled(loop_backend: str) -> None:
    async def cancel(connect: Connect) -> None:
        with anyio.CancelScope() as scope:
            async with connect():
                scope.cancel()
                await anyio.sleep_forever()

    server = Answering(QUIT=lambda peer: peer.socket.recv(1))
    budgets = ClientBudgets(quit=0.02)
    with serving(server) as address:
        run(loop_backend, cancel, address.port, tls=TlsMode.NONE, budgets=budgets)
    assert server.heard[-1] == "QUIT"


def test_cancelled_connect_sends_quit_if_no_reply_is_pending(loop_backend: str) -> None:
    async def fetch() -> tuple[str, str]:
        scopes[0].cancel()
        await anyio.sleep_forever()
        raise AssertionError

    async def cancel(connect: Connect) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            async with connect(auth=fetch, plaintext_auth=True):
                raise AssertionError

    scopes: list[anyio.CancelScope] = []
    server = Answering("AUTH PLAIN")
    with serving(server) as address:
        run(loop_backend, cancel, address.port, tls=TlsMode.NONE)
    assert server.heard[-1] == "QUIT"
