"""Connections that end early: the replies that arrived before are the result, on each framework."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import anyio
import pytest
import trustme

from smtpcore import ClientBudgets, RemoteProtocolError
from smtpcore_adapters import Client, Disconnected, TlsMode
from tests.adapters.client.test_over_sockets import Connect, run
from tests.adapters.clocks import Clock
from tests.adapters.harness import TIMEOUT
from tests.adapters.peers import Answer, Answering, Peer, closing, resetting, serving
from tests.certificates import context_trusting
from tests.playbook import GO_AHEAD, OK

pytestmark = pytest.mark.usefixtures("frozen_heap")

SENDER, ONE, TWO, THREE = "a@c.example", "b@s.example", "c@s.example", "d@s.example"
LISTED = b"550 5.7.1 listed\r\n"
PIECE = b"x" * 262_142 + b"\r\n"


class Silent:
    """An answer after which the server is silent, and lets the client's timeouts expire."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self.clock = Clock()

    def __call__(self, peer: Peer) -> None:
        peer.send(self._reply)
        self.clock.advance(1000)
        while peer.socket.recv(65_536):
            self.clock.advance(1000)
        raise EOFError


def talking_nonsense(reply: bytes) -> Answer:
    return closing(reply + b"this is no reply\r\n")


ENDS = [closing, resetting, Silent, talking_nonsense]


def deliver(
    backend: str, server: Answering, *, to: Any = ONE, body: Any = b"hi\r\n", tries: int = 1, **options: Any
) -> dict[str, str]:
    """Send a message, and return the reply for each recipient."""
    found: dict[str, str] = {}

    async def main(connect: Connect) -> None:
        async with connect() as client:
            for _ in range(tries):
                result = await client.send(SENDER, to, body)
            found.update({str(path): str(reply) for path, reply in result.items()})

    clock = next((answer.clock for answer in server.answers.values() if isinstance(answer, Silent)), None)
    with serving(server) as address:
        run(backend, main, address.port, **{"clock": clock, "tls": TlsMode.NONE, **options})
    return found


# Replies before the end of the connection


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("offers", [(), ("PIPELINING",)])
def test_refusal_before_the_end_of_the_connection_is_the_result(
    backend: str, offers: tuple[str, ...], end: Any
) -> None:
    for verb in ("MAIL", "RCPT", "DATA", "END"):
        assert deliver(backend, Answering(*offers, **{verb: end(LISTED)})) == {ONE: "550 5.7.1 listed"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("offers", [("CHUNKING",), ("CHUNKING", "PIPELINING")])
def test_refused_chunk_before_the_end_of_the_connection_is_the_result(
    backend: str, offers: tuple[str, ...], end: Any
) -> None:
    for lmtp in (False, True):
        server = Answering(*offers, BDAT=end(b"552 5.3.4 too big\r\n"))
        result = deliver(backend, server, body=PIECE * 3, to=[ONE, TWO], lmtp=lmtp)
        assert result == {ONE: "552 5.3.4 too big", TWO: "552 5.3.4 too big"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("offers", [(), ("PIPELINING",), ("CHUNKING",), ("CHUNKING", "PIPELINING")])
def test_lmtp_recipients_without_a_reply_fail_temporarily(backend: str, offers: tuple[str, ...], end: Any) -> None:
    server = Answering(*offers, END=end(b"250 2.0.0 stored\r\n552 5.2.2 full\r\n"))
    result = deliver(backend, server, to=[ONE, TWO, THREE], lmtp=True)
    assert result[ONE] == "250 2.0.0 stored"
    assert result[TWO] == "552 5.2.2 full"
    assert result[THREE].startswith("451 4.4.2 ")


@pytest.mark.parametrize("goodbye", [b"421 4.3.2 bye\r\n", b"221 2.0.0 bye\r\n"])
def test_recipients_after_a_421_between_lmtp_replies_fail_temporarily(backend: str, goodbye: bytes) -> None:
    server = Answering(END=closing(b"552 5.2.2 full\r\n" + goodbye))
    result = deliver(backend, server, to=[ONE, TWO, THREE], lmtp=True)
    assert result[ONE] == "552 5.2.2 full"
    assert {reply[0] for reply in (result[TWO], result[THREE])} == {"4"}


def test_recipients_that_were_not_refused_before_the_end_fail_temporarily(backend: str) -> None:
    refusals = iter([OK, LISTED, OK])
    server = Answering(RCPT=lambda peer: peer.send(next(refusals)), DATA=lambda peer: peer.close())
    result = deliver(backend, server, to=[ONE, TWO, THREE])
    assert result[TWO] == "550 5.7.1 listed"
    assert result[ONE].startswith("451 4.4.2 ")
    assert result[ONE] == result[THREE]


def test_connection_lost_without_a_decision_raises(backend: str) -> None:
    for verb in ("MAIL", "RCPT", "DATA", "END"):
        with pytest.raises(Disconnected):
            deliver(backend, Answering("PIPELINING", **{verb: lambda peer: peer.close()}))


def test_failed_reset_of_the_transaction_does_not_change_the_result(backend: str) -> None:
    server = Answering(RCPT=LISTED, RSET=lambda peer: peer.close())
    assert deliver(backend, server) == {ONE: "550 5.7.1 listed"}
    assert server.heard[-1] == "RSET"


@pytest.mark.parametrize("end", ENDS)
def test_replies_of_the_first_transactions_are_kept_if_a_later_transaction_fails(backend: str, end: Any) -> None:
    last = end(b"")
    ends: Iterator[Answer] = iter([lambda peer: peer.send(b"250 2.0.0 stored\r\n"), last])
    server = Answering("LIMITS RCPTMAX=1", END=lambda peer: next(ends)(peer))
    result = deliver(backend, server, to=[ONE, TWO, THREE], clock=getattr(last, "clock", None))
    assert result[ONE] == "250 2.0.0 stored"
    assert result[TWO] == result[THREE]
    assert result[TWO].startswith("451 4.4.2 ")


def test_error_of_the_body_is_raised_even_if_a_recipient_was_refused(backend: str) -> None:
    def body() -> Iterator[bytes]:
        yield b"x\r\n"
        raise OSError("the disk is broken")

    replies = iter([LISTED, OK])
    for offers in ((), ("CHUNKING",)):
        server = Answering(*offers, RCPT=lambda peer: peer.send(next(replies, OK)))
        with pytest.raises(OSError, match="disk"):
            deliver(backend, server, to=[ONE, TWO], body=body())


# Refusals before the end of the body


def refusing_early(reply: bytes, then: str) -> Answer:
    def answer(peer: Peer) -> None:
        peer.until(b"x")
        peer.send(reply)
        if then == "close":
            peer.close()
        elif then == "reset":
            peer.reset()
        with contextlib.suppress(OSError):
            while peer.socket.recv(65_536):
                pass
        raise EOFError

    return answer


def large() -> Iterator[bytes]:
    for _ in range(100):
        yield PIECE


@pytest.mark.parametrize("then", ["close", "reset", "read on"])
def test_refusal_before_the_end_of_the_body_is_the_result(backend: str, then: str) -> None:
    for lmtp in (False, True):
        for text in ("552 5.3.4 too big", "452 4.3.1 disk full"):
            server = Answering("PIPELINING", BODY=refusing_early(f"{text}\r\n".encode(), then))
            result = deliver(backend, server, to=[ONE, TWO], body=large(), lmtp=lmtp)
            assert result == {ONE: text, TWO: text}
            assert "QUIT" not in server.heard


@pytest.mark.parametrize("offers", [("CHUNKING",), ("CHUNKING", "PIPELINING")])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_refusal_before_the_end_of_a_chunk_is_the_result(backend: str, offers: tuple[str, ...], then: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.send(OK)
        peer.until(b"BDAT")
        refusing_early(b"552 5.3.4 too big\r\n", then)(peer)

    result = deliver(backend, Answering(*offers, RCPT=refuse), body=large())
    assert result == {ONE: "552 5.3.4 too big"}


def test_refusal_by_a_server_that_stops_reading_is_the_result(backend: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.send(b"552 5.3.4 too big\r\n")
        clock.advance_until(done, 181)

    def body() -> Iterator[bytes]:
        yield b"x" * 10_000_000  # more than the buffers of the network hold

    done, clock = threading.Event(), Clock()
    found: list[str] = []

    async def main(connect: Connect) -> None:
        async with connect() as client:
            result = await client.send(SENDER, ONE, body())
            found.append(str(result[ONE]))
            done.set()

    with serving(Answering(BODY=refuse)) as address:
        run(backend, main, address.port, clock=clock, tls=TlsMode.NONE)
    assert found == ["552 5.3.4 too big"]


# Input of an idle server


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"221 2.0.0 idle timeout\r\n", 221),
        (b"421 4.4.2 idle timeout\r\n", 421),
        (b"", None),
    ],
)
def test_server_that_closes_an_idle_connection_is_noticed_before_mail(
    backend: str, said: bytes, code: int | None
) -> None:
    server = Answering("PIPELINING", END=closing(OK + said))

    async def main(connect: Connect) -> None:
        async with connect() as client:
            assert (await client.send(SENDER, ONE, b"hi\r\n")).accepted
            await arrival(client)
            with pytest.raises(Disconnected) as caught:
                await client.send(SENDER, ONE, b"hi\r\n")
            assert (caught.value.reply and caught.value.reply.code) == code
            assert not client.is_open

    with serving(server) as address:
        run(backend, main, address.port, tls=TlsMode.NONE)
    assert [line[:4] for line in server.heard] == ["EHLO", "MAIL", "RCPT", "DATA"]


async def arrival(client: Client) -> None:
    """Wait until an unsolicited reply of the server has arrived."""
    while not (client._driver.stream.has_input() or client._driver.connection.trailing_data):
        await client._driver.stream.sleep(0.01)


@pytest.mark.parametrize("said", [OK, b"550 5.7.1 spam\r\n", GO_AHEAD])
def test_unsolicited_reply_is_not_mistaken_for_the_reply_to_the_next_command(backend: str, said: bytes) -> None:
    server = Answering(END=lambda peer: peer.send(OK + said))

    async def main(connect: Connect) -> None:
        async with connect() as client:
            assert (await client.send(SENDER, ONE, b"hi\r\n")).accepted
            await arrival(client)
            with pytest.raises(RemoteProtocolError, match="without a request"):
                await client.noop()

    with serving(server) as address:
        run(backend, main, address.port, tls=TlsMode.NONE)
    assert "NOOP" not in server.heard


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize(
    ("offers", "error"),
    [
        (("PIPELINING", "CHUNKING"), "250 cannot answer DataEnd"),
        (("CHUNKING",), "250 cannot answer DataEnd"),
        (("PIPELINING",), "the server sent 250 without a request"),
        ((), "the server sent 250 without a request"),
    ],
)
def test_reply_that_came_before_the_end_of_the_message_does_not_accept_it(
    backend: str, offers: tuple[str, ...], error: str, lmtp: bool
) -> None:
    """The server sends a reply too many, as soon as the client sends the message."""

    def surplus(peer: Peer) -> None:
        peer.until(b"x")
        peer.send(OK)
        peer.close()

    def answer(peer: Peer) -> None:
        peer.send(OK)
        if "CHUNKING" in offers:
            surplus(peer)

    async def main(connect: Connect) -> None:
        async with connect() as client:
            stream = client._driver.stream
            original = stream.send

            async def send(data: bytes, timeout: float) -> None:
                await original(data, timeout)
                if b"x" in data:
                    await arrival(client)

            waiting = patch.object(type(stream), "send", lambda self, *values: send(*values))
            with waiting, pytest.raises(RemoteProtocolError, match=error):
                await client.send(SENDER, ONE, b"xyz\r\n")

    with serving(Answering(*offers, RCPT=answer, BODY=surplus)) as address:
        run(backend, main, address.port, tls=TlsMode.NONE, lmtp=lmtp)


# Bodies that are abandoned


@pytest.mark.parametrize("chunking", [False, True])
def test_body_of_a_cancelled_message_is_not_delivered_later(backend: str, chunking: bool) -> None:
    """The network fails while octets of the body are in the system's buffers, and works again after the timeout."""
    taken: list[bytes] = []

    def stall(peer: Peer) -> None:
        peer.send(OK)
        if not chunking:
            peer.until(b"DATA\r\n")
            peer.send(GO_AHEAD)
        clock.advance_until(given_up, 1000)
        with contextlib.suppress(OSError):
            while data := peer.socket.recv(65_536):
                taken.append(data)
        finished.set()
        raise EOFError

    async def main(connect: Connect) -> None:
        async with connect() as client:
            with pytest.raises(TimeoutError):
                await client.send(SENDER, ONE, body)
            await pause()
            given_up.set()
            assert await end()  # the server has read to the end, although the client object still exists

    async def pause() -> None:
        if backend != "threads":
            await anyio.sleep(0.05)

    async def end() -> bool:
        # The event loop has to continue, because the server may just ask it whether it is idle.
        if backend == "threads":
            return finished.wait(TIMEOUT)

        return await anyio.to_thread.run_sync(finished.wait, TIMEOUT)

    given_up, finished, clock = threading.Event(), threading.Event(), Clock()
    body = b"x" * 1000 + b"\r\n"
    body = body * 1000
    server = Answering(*["CHUNKING"] * chunking, RCPT=stall)
    with serving(server) as address:
        run(backend, main, address.port, clock=clock, tls=TlsMode.NONE)
    assert len(b"".join(taken)) < len(body)


# Long paths


def test_chunks_follow_each_other_without_waiting_for_replies(backend: str) -> None:
    """The server reads all 30 chunks before it sends the first reply."""
    late: list[bytes] = []

    def answer_all(peer: Peer) -> None:
        peer.send(b"".join(late) + OK)

    server = Answering("PIPELINING", "CHUNKING", BDAT=lambda peer: late.append(OK), END=answer_all)
    assert deliver(backend, server, body=PIECE * 30, budgets=ClientBudgets(end=TIMEOUT)) == {ONE: "250 OK"}
    assert len(late) == 29


# Under TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def encrypted(authority: trustme.CA, **answers: bytes | Answer) -> Answering:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    start: Answer = lambda peer: peer.send(b"220 go\r\n").start_tls(context)  # noqa: E731
    return Answering("STARTTLS", "PIPELINING", STARTTLS=start, **answers)


def over_tls(authority: trustme.CA) -> dict[str, Any]:
    context = context_trusting(authority)
    return {"tls": TlsMode.REQUIRED, "context": context}


def test_session_tickets_are_not_returned_as_input(backend: str, authority: trustme.CA) -> None:
    server = encrypted(authority)
    assert deliver(backend, server, tries=3, **over_tls(authority)) == {ONE: "250 OK"}
    assert len(server.bodies) == 3


@pytest.mark.parametrize("end", [closing, resetting])
def test_replies_before_the_end_of_a_tls_connection_are_the_result(
    backend: str, authority: trustme.CA, end: Any
) -> None:
    for verb in ("RCPT", "END"):
        server = encrypted(authority, **{verb: end(LISTED)})
        assert deliver(backend, server, **over_tls(authority)) == {ONE: "550 5.7.1 listed"}
    server = encrypted(authority, BODY=refusing_early(b"552 5.3.4 too big\r\n", "close"))
    assert deliver(backend, server, body=large(), **over_tls(authority)) == {ONE: "552 5.3.4 too big"}


def test_server_that_closes_an_idle_tls_connection_is_noticed_before_mail(backend: str, authority: trustme.CA) -> None:
    server = encrypted(authority, END=closing(OK + b"221 2.0.0 idle timeout\r\n"))
    with pytest.raises(Disconnected, match="221 2"):
        deliver(backend, server, tries=2, **over_tls(authority))
    assert len([line for line in server.heard if line.startswith("MAIL")]) == 1
