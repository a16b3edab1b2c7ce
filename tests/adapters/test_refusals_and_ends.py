"""Refused and dropped connections, and the end of each session, on each framework."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore_adapters import DROP, App, LimitReached, Session, SessionClosed, Timeouts
from tests.adapters.clocks import Clock
from tests.adapters.fakes import CONFIG, accepting, register, watch
from tests.adapters.harness import BACKENDS, TIMEOUT, Running, running


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextmanager
def serving(backend: str, app: App, **options: Any) -> Iterator[Running]:
    with running(backend, app, config=CONFIG, **options) as server:
        yield server


@pytest.mark.parametrize("code", [421, 450, 521, 554])
def test_connect_handler_may_refuse_the_connection(code: int, backend: str) -> None:
    app = App()
    app.on("connect")(lambda session, opened: Reply(code, "Not you"))
    with serving(backend, app) as server, server.connect() as client:
        client.expect(f"{code} s.example Not you")
        if code in (450, 554):
            client.send(b"EHLO c.example\r\n").expect(503)
            client.send(b"QUIT\r\n").expect(221)
        assert client.rest() == b""
        assert server.reason() == ("QUIT" if code in (450, 554) else "421")


def test_connect_handler_may_drop_the_connection_without_a_reply(backend: str) -> None:
    app = App()
    app.on("connect")(lambda session, opened: DROP)
    with serving(backend, app) as server, server.connect() as client:
        client.send(b"EHLO c.example\r\n")
        assert client.is_closed()
        assert server.reason() == "dropped"


def test_connect_handler_may_sleep(backend: str) -> None:
    app = App()
    ended = watch(app, SessionClosed)
    app.on("connect")(lambda session, opened: session.sleep(10))
    with serving(backend, app, clock=Clock()) as server, server.connect() as client:
        server.clock.advance(11)
        client.expect(220)
        client.send(b"QUIT\r\n").expect(221)
    assert ended[0].seconds >= 10


def test_shutdown_ends_the_sleep_of_a_connect_handler(backend: str) -> None:
    app = App()
    waiting = threading.Event()

    async def wait(session: Session, opened: object) -> None:
        waiting.set()
        await session.sleep(3600)

    app.on("connect")(wait)
    with serving(backend, app, clock=Clock()) as server, server.connect() as client:
        assert waiting.wait(TIMEOUT)
        left = server.leave()
        server.clock.advance(1)
        assert client.rest().startswith(b"220 s.example ESMTP\r\n421 4.3.2 ")
        client.socket.close()
        left.result(TIMEOUT)
        assert server.reason() == "shutdown"


def test_client_that_talks_before_the_greeting_is_rejected(backend: str) -> None:
    app = accepting()
    reached = watch(app, LimitReached)
    with serving(backend, app, timeouts=Timeouts(greeting_delay=60)) as server, server.connect() as client:
        client.send(b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n")
        assert client.rest() == b"554 s.example closing: you talked before the greeting\r\n"
        assert server.reason() == "early talker"
    assert reached == [LimitReached("greeting_delay")]


def test_client_that_waits_for_the_delayed_greeting_is_served(backend: str) -> None:
    timeouts = Timeouts(greeting_delay=60)
    with serving(backend, App(), clock=Clock(), timeouts=timeouts) as server, server.connect() as client:
        server.clock.advance(61)
        client.expect(220)
        client.send(b"EHLO c.example\r\n").expect(250)


def test_shutdown_ends_the_greeting_delay(backend: str) -> None:
    with serving(backend, App(), timeouts=Timeouts(greeting_delay=3600)) as server, server.connect() as client:
        with server.connect() as other:
            other.send(b"x").expect(554)  # the first connection was accepted earlier
        left = server.leave()
        assert client.rest() == b"421 s.example closing: the server is shutting down\r\n"
        client.socket.close()
        left.result(TIMEOUT)


def test_default_handler_answers_unknown_verbs(backend: str) -> None:
    app = App()
    app.on("default")(lambda session, command: Reply(252, command.verb))
    with serving(backend, app) as server, server.connect() as client:
        client.expect(220)
        client.send(b"XFOO bar\r\n").expect(252)
        client.send(b"NOOP\r\n").expect(250)


ENDS = {
    "QUIT": b"QUIT\r\n",
    "closed": b"",
    "in a message": b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nDATA\r\nx",
    "a handler fails": b"NOOP\r\n",
    "421": b"GET / HTTP/1.1\r\n",
}


@pytest.mark.parametrize("way", ENDS)
def test_disconnect_handler_is_called_once(way: str, backend: str) -> None:
    app = accepting()
    register(app, "NOOP", lambda session, noop: 1 / 0)
    ended = watch(app, SessionClosed)
    with serving(backend, app) as server:
        with server.connect() as client:
            client.expect(220)
            client.send(ENDS[way])
        reason = server.reason()
    assert reason in ("QUIT", "closed", "lost", "421")
    assert server.reasons.empty()
    assert [each.reason for each in ended] == [reason]
