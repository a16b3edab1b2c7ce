"""The blocking client, which needs no event loop."""

import asyncio
import io
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import trustme

from smtpcore import Noop, Reply
from smtpcore_adapters import App, Disconnected, Message, Refused, Session, TlsMode
from smtpcore_adapters.socket import connect
from smtpcore_adapters.users import Users
from tests.adapters.fakes import CONFIG, MessageStore, accepting
from tests.adapters.harness import TIMEOUT, Running, running

SENDER, RECIPIENT = "a@c.example", "u@s.example"


@pytest.fixture
def store() -> MessageStore:
    return MessageStore()


@pytest.fixture
def server(store: MessageStore) -> Iterator[Running]:
    app = accepting(store)
    app.on("VRFY")(lambda session, vrfy: Reply(252, "Maybe"))
    app.on("EXPN")(lambda session, expn: Reply(250, "<u@s.example>"))
    with running("threads", app, config=CONFIG) as server:
        yield server


def address_of(server: Running) -> tuple[str, int]:
    return "127.0.0.1", server.server.address.port


def test_blocking_client_sends_mail_and_commands(server: Running, store: MessageStore) -> None:
    with connect(*address_of(server), hostname="c.example") as client:
        assert client.greeting.code == 220
        assert client.host == "127.0.0.1"
        assert client.is_open
        assert not client.is_verified
        assert client.tls is None
        assert client.peer == server.server.address
        assert "PIPELINING" in client.extensions
        assert repr(client).startswith("<Client of 127.0.0.1")
        for body in (b"hi\n", [b"h", b"i\n"], io.BytesIO(b"hi\n")):
            assert client.send(SENDER, RECIPIENT, body).accepted

        assert client.send_message(b"hi\n", SENDER, RECIPIENT).accepted
        assert client.noop().code == 250
        assert client.vrfy("u").code == 252
        assert client.expn("u").code == 250
        assert client.help().code == 214
        assert client.ask(Noop("x")).code == 250

    assert store.bodies == [b"hi\r\n"] * 4
    with pytest.raises(Disconnected):
        client.noop()


def test_refusal_while_connecting_is_raised(server: Running) -> None:
    with pytest.raises(Refused, match="STARTTLS"), connect(*address_of(server), tls=TlsMode.REQUIRED):
        pass


def test_xforward_and_xclient_are_sent() -> None:
    with (
        running("threads", App(), config=CONFIG, trusted=["127.0.0.1"]) as server,
        connect(*address_of(server)) as client,
    ):
        assert client.xforward({"ADDR": "192.0.2.1"}).code == 250
        assert client.xclient({"ADDR": "192.0.2.1"}).code == 250


def test_body_that_needs_an_event_loop_is_an_error(server: Running, store: MessageStore) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"hi\n"
        await asyncio.sleep(1)

    with connect(*address_of(server)) as client, pytest.raises(RuntimeError):
        client.send(SENDER, RECIPIENT, pieces())

    assert store.bodies == []


def test_handler_in_a_thread_forwards_a_message(store: MessageStore) -> None:
    app = accepting()

    @app.on("message")
    def forward(session: Session, message: Message) -> Reply:
        with connect(*address_of(next_server), hostname="relay.example") as client:
            return client.send(message.reverse_path, message.forward_paths, message).final

    with (
        running("asyncio", accepting(store), config=CONFIG) as next_server,
        running("threads", app, config=CONFIG) as relay,
        connect(*address_of(relay)) as client,
    ):
        assert client.send(SENDER, RECIPIENT, b"hi\n").accepted

    assert store.bodies == [b"hi\r\n"]


def test_threads_send_side_by_side_with_a_client_each(server: Running, store: MessageStore) -> None:
    def send() -> None:
        with connect(*address_of(server)) as client:
            for _ in range(5):
                assert client.send(SENDER, RECIPIENT, b"hi\n").accepted

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    assert len(store.bodies) == 25


def test_tls_and_a_login_follow_on_demand() -> None:
    authority, tls, trusting = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(trusting)
    config = replace(CONFIG, auth_mechanisms=("PLAIN",))
    app = accepting(Users({"tim": "secret"}))
    with (
        running("threads", app, config=config, tls=tls) as server,
        connect(*address_of(server), tls=TlsMode.NONE) as client,
    ):
        client.starttls(trusting)
        assert client.login(("tim", "secret"), auth_mechanisms=["PLAIN"]).code == 235
        assert client.tls
