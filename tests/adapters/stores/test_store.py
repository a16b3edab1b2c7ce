"""The contract of stores: each test runs for every store on every adapter."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smtpcore_adapters.stores import BLOCK_SIZE
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, RCPT, accepting
from tests.adapters.harness import Client, Running, running

from .tried import STORES, TriedStore, without_fields

LINE = b"x" * 98 + b"\r\n"
BODIES = [b"", b"A: b\r\n\r\n", *(LINE * (octets // 100) for octets in (BLOCK_SIZE - 500, BLOCK_SIZE + 500, 1_000_000))]
LARGE = LINE * (2 * BLOCK_SIZE // len(LINE))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TriedStore]:
    with STORES[request.param](tmp_path) as tried:
        yield tried


@pytest.fixture
def server(backend: str, store: TriedStore) -> Iterator[Running]:
    with running(backend, accepting(store.handler), config=CONFIG) as server:
        yield server


def bodies(store: TriedStore) -> list[bytes]:
    return sorted(map(without_fields, store.contents()))


def send_chunks(client: Client, body: bytes, size: int) -> None:
    """Send a message with BDAT, in chunks of `size` octets."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    commands = b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks) + b"BDAT 0 LAST\r\n"
    client.send(MAIL + RCPT + commands).expect(250, 250, *[250] * (len(chunks) + 1))


def test_messages_of_any_size_and_chunks_are_stored_whole(server: Running, store: TriedStore) -> None:
    with server.connect() as client:
        client.send(EHLO).expect(220, 250)
        for body in BODIES:
            client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(body + b".\r\n").expect(250)
            send_chunks(client, body, len(body) // 3 + 1)
        send_chunks(client, BODIES[1], 1)
    assert bodies(store) == sorted([*BODIES, *BODIES, BODIES[1]])
    assert not store.leftovers()


def test_messages_of_several_clients_do_not_mix(server: Running, store: TriedStore) -> None:
    sent = [b"From: client %d\r\n\r\n" % number + LARGE for number in range(5)]

    def deliver(body: bytes) -> None:
        with server.connect() as client:
            client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(body + b".\r\n").expect(250)

    with ThreadPoolExecutor(len(sent)) as pool:
        list(pool.map(deliver, sent))
    assert bodies(store) == sorted(sent)


def test_message_that_is_abandoned_or_refused_is_dropped(server: Running, store: TriedStore) -> None:
    with server.connect() as client:
        client.send(EHLO).expect(220, 250)
        client.send(MAIL + RCPT + b"BDAT %d\r\n" % len(LARGE) + LARGE + b"RSET\r\n").expect(*[250] * 4)
        client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(LARGE + b"\0\r\n.\r\n").expect(554)
        client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(LARGE + b"one\rtwo\r\n.\r\n").expect(550)
        assert not store.leftovers()
        client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(b"A: b\r\n.\r\n").expect(250)
    assert bodies(store) == [b"A: b\r\n"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_message_of_a_lost_client_is_dropped(how: str, server: Running, store: TriedStore) -> None:
    with server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(LARGE)
        if how == "reset":
            client.reset()
        else:
            client.socket.shutdown(socket.SHUT_WR)
        server.reason()
    assert store.contents() == []
    assert not store.leftovers()


def test_message_is_dropped_when_the_server_ends(loop_backend: str, store: TriedStore) -> None:
    with running(loop_backend, accepting(store.handler), config=CONFIG, grace=0) as server, server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250, 354).send(LARGE)
        server.leave().result(10)
    assert store.contents() == []
    assert not store.leftovers()
