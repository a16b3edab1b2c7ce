"""Sessions that are over are freed at once, without a garbage collection, on every adapter."""

# With TLS a session has memory in OpenSSL that the garbage collector does not know, and large services freeze or
# disable the collector.

import gc
import logging
import ssl
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import trustme

from smtpcore import Reply
from smtpcore_adapters import Message, Session, SessionOpened, Timeouts
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, accepting
from tests.adapters.harness import TIMEOUT, Client, running

ENVELOPE = b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nDATA\r\n"


@pytest.fixture
def without_collector(monkeypatch: pytest.MonkeyPatch, frozen_heap: None) -> Iterator[None]:
    # pytest keeps log records, whose tracebacks refer to the session.
    monkeypatch.setattr(logging.getLogger("smtpcore"), "handle", str)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def quit_at_once(client: Client, clock: Clock) -> None:
    client.send(b"QUIT\r\n").expect(220, 221)


def send_message(client: Client, clock: Clock) -> None:
    client.send(ENVELOPE + b"x\r\n.\r\nQUIT\r\n").expect(220, 250, 250, 250, 354, 250, 221)


def leave_in_a_body(client: Client, clock: Clock) -> None:
    client.send(ENVELOPE + b"x\r\n").expect(220, 250, 250, 250, 354)
    client.reset()


def fail_in_a_handler(client: Client, clock: Clock) -> None:
    client.send(b"NOOP\r\nQUIT\r\n").expect(220, 451, 221)


def fail_tls(client: Client, clock: Clock) -> None:
    client.expect(220).send(b"EHLO c.example\r\nSTARTTLS\r\n").expect(250, 220).send(b"no TLS\r\n")
    client.rest()


def use_tls(client: Client, clock: Clock) -> None:
    client.expect(220).send(b"STARTTLS\r\n").expect(220)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.start_tls(context)
    client.send(b"QUIT\r\n").expect(221)


def be_silent(client: Client, clock: Clock) -> None:
    client.expect(220)
    clock.advance(301)
    client.expect(421)


TALKS = [quit_at_once, send_message, leave_in_a_body, fail_in_a_handler, fail_tls, use_tls, be_silent]


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("s.example").configure_cert(context)
    return context


@pytest.mark.parametrize("talk", TALKS)
def test_session_is_freed_when_it_is_over(
    talk: Callable[[Client, Clock], None], backend: str, context: ssl.SSLContext, without_collector: None
) -> None:
    app = accepting()
    sessions: list[weakref.ref[Session]] = []

    def note(session: Session, item: object) -> None:
        if isinstance(item, SessionOpened):
            sessions.append(weakref.ref(session))

    app.observe(note)

    @app.on("NOOP")
    def fail(session: Session, event: object) -> Reply:
        raise ValueError("no")

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        await message.read()
        return Reply(250)

    clock = Clock() if talk is be_silent else None
    with running(backend, app, clock=clock, config=CONFIG, tls=context, timeouts=Timeouts(close=TIMEOUT)) as server:
        for _ in range(3):
            with server.connect() as client:
                talk(client, server.clock)
            server.reason()
        end = time.monotonic() + TIMEOUT
        while any(session() for session in sessions) and time.monotonic() < end:
            time.sleep(0.01)  # a thread or task of a session may still be ending
        assert len(sessions) == 3
        assert not any(session() for session in sessions)
