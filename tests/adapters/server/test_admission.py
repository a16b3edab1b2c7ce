"""Clients that talk before the greeting, and refused connections."""

import ssl
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    Budgets,
    Reply,
)
from smtpcore_adapters import (
    App,
    LimitReached,
    Observed,
    Session,
    Timeouts,
)
from smtpcore_adapters.server._app import Handler
from tests.adapters.fakes import CONFIG, DATA, EHLO, MAIL, QUIT, RCPT, SILENCE, MessageStore, accepting, register
from tests.adapters.playbook import session


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


def failing(name: str, handler: Handler) -> App:
    app = App() if name == "RCPT" else accepting()
    register(app, name, handler)
    return app


TIMES: dict[str, Any] = {
    "budgets": Budgets(greeting=11, command=12, body=13, session=1000),
    "timeouts": Timeouts(close=16),
}


def limits_of(app: App) -> list[str]:
    """Return a list that collects the names of the limits reached from now on."""
    reached: list[str] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, LimitReached):
            reached.append(item.limit)

    app.observe(look)
    return reached


# Early talkers


@pytest.mark.parametrize("early", [b"E", EHLO, EHLO + MAIL + RCPT + DATA + b"spam\r\n.\r\n"])
def test_client_that_talks_before_the_greeting_is_rejected(early: bytes) -> None:
    app = accepting(MessageStore())
    reached = limits_of(app)
    app.on("connect")(lambda session, opened: pytest.fail("a handler was called"))
    dialogue = (
        session(app, timeouts=Timeouts(greeting_delay=5, close=16))
        .send(early, QUIT)
        .expect("554 s.example closing: you talked before the greeting")
    )
    assert dialogue.stream.receive_timeouts == [5]
    assert dialogue.reasons == ["early talker"]
    assert dialogue.stream.close_timeouts == [16]
    assert reached == ["greeting_delay"]


def test_client_that_waits_for_the_delayed_greeting_is_served() -> None:
    dialogue = session(accepting(), budgets=TIMES["budgets"], timeouts=Timeouts(greeting_delay=5))
    dialogue.send(SILENCE, EHLO, QUIT).expect(220, 250, 221)
    assert dialogue.stream.receive_timeouts == [5, 11, 12]


def test_client_that_disconnects_before_the_greeting_is_not_an_early_talker() -> None:
    dialogue = session(App(), timeouts=Timeouts(greeting_delay=5)).end().expect(220)
    assert dialogue.reasons == ["closed"]


def test_drain_does_not_wait_for_the_greeting_delay() -> None:
    dialogue = session(App(), timeouts=Timeouts(greeting_delay=5))
    dialogue.send(dialogue.loop.drain).expect(421)
    assert dialogue.reasons == ["shutdown"]


def test_refused_connection_has_no_greeting_delay() -> None:
    for draining in (True, False):
        dialogue = session(App(), timeouts=Timeouts(greeting_delay=5))
        if draining:
            dialogue.loop.drain()
        else:
            dialogue.loop.refuse(Reply(421, "closing: full"))
        dialogue.end().expect(421)
        assert dialogue.stream.receive_timeouts == []


def test_session_timeout_shortens_the_greeting_delay() -> None:
    dialogue = session(App(), budgets=Budgets(session=3), timeouts=Timeouts(greeting_delay=5)).send(SILENCE)
    assert dialogue.stream.receive_timeouts == [3]
    dialogue.expect(220, 421)


# Refused connections


def test_refused_implicit_tls_connection_is_closed_without_handshake() -> None:
    app = App()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dialogue = session(app, config=replace(CONFIG, starttls=True), tls=context, implicit_tls=True)
    dialogue.loop.refuse(Reply(421, "closing: full"))
    dialogue.send(EHLO).end()
    assert dialogue.stream.tls is None
    assert dialogue.stream.output == b""
    assert dialogue.reasons == ["dropped"]
    assert dialogue.stream.close_timeouts == [0]


def test_refused_session_calls_no_connect_handler() -> None:
    dialogue = session(failing("connect", fail))
    dialogue.loop.refuse(Reply(421, "closing: full", enhanced="4.7.0"))
    dialogue.send(EHLO).end().expect("421 s.example closing: full")
    assert dialogue.reasons == ["421"]
