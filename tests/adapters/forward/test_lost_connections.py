"""Forwarding to servers that close the connection early, on each framework: their last replies reach our client."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import ClientBudgets
from smtpcore_adapters import App, TlsMode
from smtpcore_adapters.forward import Forward
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, RCPT
from tests.adapters.harness import Client, running
from tests.adapters.peers import Answering, Peer, closing, resetting, serving
from tests.playbook import OK

pytestmark = pytest.mark.usefixtures("frozen_heap")

LHLO = EHLO.replace(b"EHLO", b"LHLO")
TWO = b"RCPT TO:<v@s.example>\r\n"
LINES = (b"x" * 70 + b"\r\n") * 50_000

Connect = Callable[..., AbstractContextManager[Client]]


@pytest.fixture
def connect(backend: str) -> Connect:
    """Connect to a server that forwards to a scripted server."""

    @contextmanager
    def connecting(server: Answering, *, lmtp: bool = False) -> Iterator[Client]:
        app = App()
        config = replace(CONFIG, lmtp=lmtp)
        with serving(server) as address:
            budgets = ClientBudgets(quit=0.5)
            app.include(Forward("127.0.0.1", address.port, lmtp=lmtp, tls=TlsMode.NONE, budgets=budgets))
            with running(backend, app, config=config) as relay, relay.connect() as dialogue:
                dialogue.expect(220).send(LHLO if lmtp else EHLO).expect(250)
                yield dialogue

    return connecting


@pytest.mark.parametrize("end", [closing, resetting])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "END"])
def test_refusal_before_the_next_server_closes_reaches_the_client(connect: Connect, verb: str, end: Any) -> None:
    with connect(Answering(**{verb: end(b"550 5.7.1 listed\r\n")})) as client:
        client.send(MAIL + RCPT)
        if verb in ("MAIL", "RCPT"):
            client.expect(250, "550 5.7.1 listed")
        else:
            client.send(DATA).expect(250, 250, 354).send(b"hi\r\n.\r\n").expect("550 5.7.1 listed")


@pytest.mark.parametrize("chunking", [False, True])
def test_refusal_before_the_end_of_the_body_reaches_the_client(connect: Connect, chunking: bool) -> None:
    def refuse(peer: Peer) -> None:
        if chunking:
            peer.send(OK).until(b"BDAT")
        peer.until(b"x")
        peer.send(b"552 5.3.4 message too big\r\n").close()

    server = Answering(*["CHUNKING"] * chunking, **{"RCPT" if chunking else "BODY": refuse})
    with connect(server) as client:
        client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(LINES + b".\r\n")
        client.expect("552 5.3.4 message too big")


@pytest.mark.parametrize("end", [closing, resetting])
def test_lmtp_recipients_with_a_reply_are_not_sent_again(connect: Connect, end: Any) -> None:
    with connect(Answering(END=end(b"250 2.0.0 stored\r\n")), lmtp=True) as client:
        client.send(MAIL + RCPT + TWO + DATA).expect(250, 250, 250, 354).send(b"hi\r\n.\r\n")
        client.expect("250 2.0.0 stored", "451 4.4.2 ...")


@pytest.mark.parametrize("said", [b"", b"221 2.0.0 idle timeout\r\n", b"421 4.4.2 idle timeout\r\n"])
def test_next_server_that_closed_an_idle_connection_gets_a_new_connection(connect: Connect, said: bytes) -> None:
    server = Answering(END=closing(OK + said))
    with connect(server) as client:
        for _ in range(2):
            client.send(MAIL + RCPT + DATA).expect(250, 250, 354).send(b"hi\r\n.\r\n").expect(250)

    assert [line for line in server.heard if line.startswith("EHLO")] == [server.heard[0]] * 2
    assert len([body for body in server.bodies if body.endswith(b"hi\r\n")]) == 2
