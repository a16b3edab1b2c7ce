"""Refusals of a large message before its end, over real sockets on every adapter."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from smtpcore import Reply
from smtpcore_adapters import AtOnce, Header, Message, Session, Timeouts
from tests.adapters.fakes import CONFIG, MAIL, RCPT, accepting
from tests.adapters.harness import Client, Running, running

SIZE = 50_000_000
CHUNK = 1_000_000
BLOCK = (b"x" * 998 + b"\r\n") * 50
HEADER = b"Subject: spam\r\n\r\n"
ENVELOPE = b"EHLO c.example\r\n" + MAIL + RCPT
REFUSAL = Reply(550, "No spam", enhanced="5.7.1")


class Filter:
    """Refuses each message at its header, and counts the octets that a `message` handler gets."""

    def __init__(self, answer: Reply | AtOnce) -> None:
        self.answer = answer
        self.received = 0

    def on_header(self, session: Session, header: Header) -> Reply | AtOnce:
        return self.answer

    async def on_message(self, session: Session, message: Message) -> Reply:
        self.received += len(await message.read())
        return Reply(250)


@pytest.fixture
def store() -> Filter:
    return Filter(REFUSAL)


@pytest.fixture
def server(backend: str, store: Filter) -> Iterator[Running]:
    with running(backend, accepting(store), config=CONFIG, timeouts=Timeouts(close=5)) as server:
        yield server


def octets_taken(client: Client, block: bytes, most: int) -> int:
    """Send copies of `block` until the server closes the connection, and return how many octets were sent."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            client.send(block)
            sent += len(block)
    return sent


def test_message_in_chunks_costs_one_chunk_after_the_refusal(server: Running, store: Filter) -> None:
    with server.connect() as client:
        client.send(ENVELOPE).expect(220, 250, 250, 250)
        client.send(b"BDAT %d\r\n" % CHUNK + HEADER + b"x" * (CHUNK - len(HEADER))).expect("550 5.7.1 No spam")
        # The client sends its next chunk before it reads the reply to the first.
        client.send(b"BDAT %d\r\n" % CHUNK + b"x" * CHUNK + b"RSET\r\nQUIT\r\n").expect(503, 250, 221)

    assert store.received == 0


def test_message_with_data_is_refused_at_its_end(server: Running, store: Filter) -> None:
    with server.connect() as client:
        client.send(ENVELOPE + b"DATA\r\n").expect(220, 250, 250, 250, 354)
        client.send(HEADER + BLOCK * 100 + b".\r\nQUIT\r\n").expect("550 5.7.1 No spam", 221)

    assert store.received == 0


def test_refusal_at_once_reads_a_small_part_of_the_message(backend: str) -> None:
    store = Filter(AtOnce(REFUSAL))
    with running(backend, accepting(store), config=CONFIG, timeouts=Timeouts(close=5)) as server:
        with server.connect() as client:
            client.send(ENVELOPE + b"DATA\r\n").expect(220, 250, 250, 250, 354)
            client.send(HEADER + b"x").expect("550 5.7.1 No spam")
            taken = octets_taken(client, BLOCK, SIZE)
        assert server.reason() == "421"

    assert store.received == 0
    # Most of this is in the buffers of the kernel, some 6 MB at most: the server itself reads 512 KiB.
    assert taken < SIZE // 3
