"""Forwarding between two servers over sockets, with each adapter as the relay."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters import App, Message, Session, TlsMode
from smtpcore_adapters.forward import Forward
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, accepting
from tests.adapters.harness import Client, running

LOCAL = ["127.0.0.0/8"]


class Recorder:
    """Accepts messages, and records them with their sender."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.senders: list[tuple[str | None, str | None]] = []
        """The address and the login of each client."""
        self.paths: list[str] = []
        self.forwarded: list[str | None] = []
        """The address in XFORWARD of each message."""

    async def on_message(self, session: Session, message: Message) -> Reply:
        self.senders.append((session.peer.host if session.peer else None, session.identity))
        self.forwarded.append(session.forwarded.get("ADDR"))
        self.paths += [str(message.reverse_path), *map(str, message.forward_paths)]
        self.bodies.append(await message.read())
        return Reply(250, "taken", enhanced="2.0.0")


@contextmanager
def relayed(backend: str, recorder: Recorder, **options: Any) -> Iterator[Client]:
    """Connect to a relay in front of a server with `recorder`. `options` are those of `Forward`."""
    with running("asyncio", accepting(recorder), config=CONFIG, trusted=LOCAL) as following:
        app = App()
        app.include(Forward("127.0.0.1", following.server.address.port, tls=TlsMode.NONE, **options))
        with running(backend, app, config=CONFIG, trusted=LOCAL) as relay, relay.connect() as client:
            yield client.expect(220)


def deliver(client: Client, body: bytes = b"A: b\r\n\r\n", mail: bytes = MAIL, rcpt: bytes = RCPT) -> None:
    client.send(mail + rcpt + DATA).expect(250, 250, 354).send(body + b".\r\n").expect(250)


@pytest.mark.parametrize(("limit", "code"), [("max_errors", 250), ("max_refusals", 421)])
def test_refusals_of_the_next_server_do_not_count_as_errors_of_the_client(backend: str, limit: str, code: int) -> None:
    nobody = App()
    nobody.on("RCPT")(lambda session, rcpt: Reply(550, "No such user", enhanced="5.1.1"))
    with running("asyncio", nobody, config=replace(CONFIG, max_errors=None)) as following:
        app = App()
        app.include(Forward("127.0.0.1", following.server.address.port, tls=TlsMode.NONE))
        config = replace(CONFIG, max_errors=5, max_refusals=5 if limit == "max_refusals" else None)
        with running(backend, app, config=config) as relay, relay.connect() as client:
            client.send(EHLO + MAIL + RCPT * 5).expect(220, 250, 250, *["550 5.1.1 No such user"] * 5)
            client.send(b"NOOP\r\n").expect(code)


def test_next_server_gets_the_attributes_of_each_client_of_a_session(backend: str) -> None:
    recorder = Recorder()
    with relayed(backend, recorder, xclient=True) as client:
        for told in (b"ADDR=203.0.113.1 LOGIN=alice", b"ADDR=203.0.113.2 LOGIN=[UNAVAILABLE]", b"ADDR=203.0.113.3"):
            client.send(EHLO + b"XCLIENT " + told + b"\r\n" + EHLO).expect(250, 220, 250)
            deliver(client)
        client.send(QUIT).expect(221)

    assert recorder.senders == [("203.0.113.1", "alice"), ("203.0.113.2", None), ("203.0.113.3", None)]


def test_forwarded_client_is_passed_on(backend: str) -> None:
    recorder = Recorder()
    with relayed(backend, recorder, xforward=True) as client:
        client.send(EHLO + b"XFORWARD NAME=c.example ADDR=203.0.113.5\r\n").expect(250, 250)
        deliver(client)
        deliver(client)

    assert recorder.forwarded == ["203.0.113.5", "127.0.0.1"]


def test_source_routes_are_removed(backend: str) -> None:
    recorder = Recorder()
    with relayed(backend, recorder) as client:
        client.send(EHLO).expect(250)
        deliver(client, mail=MAIL.replace(b"<", b"<@x.example:"), rcpt=RCPT.replace(b"<", b"<@x.example,@y.example:"))

    assert recorder.paths == ["a@c.example", "u@s.example"]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_message_that_begins_with_white_space_does_not_continue_the_trace(backend: str, size: int) -> None:
    recorder = Recorder()
    forged = b" (forged) by evil.example\r\nSubject: x\r\n\r\ny\r\n"
    chunks = [forged[start : start + size] for start in range(0, len(forged), size)]
    with relayed(backend, recorder) as client:
        client.send(EHLO + MAIL + RCPT).expect(250, 250, 250)
        script = b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks)
        client.send(script + b"BDAT 0 LAST\r\n").expect(*[250] * (len(chunks) + 1))

    (body,) = recorder.bodies
    assert body.startswith(b"Received: from c.example ")
    assert body.endswith(b"\r\n\r\n" + forged)


def test_nul_in_a_text_is_refused(backend: str) -> None:
    recorder = Recorder()
    with relayed(backend, recorder) as client:
        client.send(EHLO + MAIL + RCPT + DATA).expect(250, 250, 250, 354)
        assert client.send(b"A: b\r\n\r\nx\0\r\n.\r\n").read().startswith("554 5.6.0 ")

    assert recorder.bodies == []
