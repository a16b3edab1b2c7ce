"""The session loop, over a scripted stream in memory."""

import asyncio
from typing import Any

import pytest

from smtpcore import (
    Budgets,
    Command,
    Mail,
    Reply,
)
from smtpcore_adapters import (
    App,
    Message,
    Session,
    Timeouts,
)
from tests.adapters.fakes import EHLO, ENVELOPE, MAIL, QUIT, RCPT, SILENCE, MessageStore, Step, accepting, register
from tests.adapters.playbook import session

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"
TIMES: dict[str, Any] = {
    "budgets": Budgets(greeting=11, command=12, body=13, session=1000, handshake=14, send=15),
    "timeouts": Timeouts(close=16),
}


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


# Dialogues


def test_message_is_received_and_passed_to_the_handler() -> None:
    store = MessageStore()
    dialogue = session(accepting(store)).send(ENVELOPE, BODY + END + QUIT).expect(220, 250, 250, 250, 354, 250, 221)
    assert store.bodies == [BODY]
    assert dialogue.reasons == ["QUIT"]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_segment_size_makes_no_difference(size: int) -> None:
    store = MessageStore()
    octets = ENVELOPE + BODY + END + QUIT
    session(accepting(store)).send(*(octets[at : at + size] for at in range(0, len(octets), size))).end().expect(
        220, 250, 250, 250, 354, 250, 221
    )
    assert store.bodies == [BODY]


# Ends of a session


def reply_421(session: Session, subject: object) -> Reply:
    return Reply(421, "Go away")


ENDS: dict[str, tuple[tuple[Step, ...], str, float]] = {
    "QUIT": ((QUIT,), "QUIT", 16),
    "end of stream": ((EHLO,), "closed", 16),
    "end of stream in a line": ((EHLO, b"NOO"), "closed", 16),
    "end of stream before the first command": ((), "closed", 16),
    "lost": ((EHLO, ConnectionResetError("reset")), "lost", 0),
    "silent": ((SILENCE,), "timeout", 16),
    "a handler says 421": ((b"NOOP\r\n",), "421", 16),
    "too many errors": ((b"XX\r\n" * 60,), "421", 16),
    "end of stream in the body": ((ENVELOPE, b"x"), "lost", 0),
}


@pytest.mark.parametrize("way", ENDS)
def test_disconnect_handler_is_called_once_with_the_reason(way: str) -> None:
    script, reason, limit = ENDS[way]
    app = accepting()
    app.on("NOOP")(reply_421)
    dialogue = session(app, **TIMES).send(*script).end()
    assert dialogue.reasons == [reason]
    assert dialogue.stream.close_timeouts == [limit]


def test_failed_write_ends_the_session() -> None:
    dialogue = session(App())
    dialogue.stream.send_errors.extend([None, BrokenPipeError()])
    dialogue.send(EHLO, QUIT).expect(220)
    assert dialogue.reasons == ["lost"]


def test_cancellation_is_propagated() -> None:
    for script in ((EHLO, asyncio.CancelledError()), (ENVELOPE, b"x", asyncio.CancelledError())):
        dialogue = session(accepting(MessageStore()))
        with pytest.raises(asyncio.CancelledError):
            dialogue.send(*script).end()
        assert dialogue.reasons == ["cancelled"]
        assert dialogue.stream.close_timeouts == [0]


def test_exception_in_the_session_loop_gives_421(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(App()).send(EHLO, ValueError("the secret of the stream")).end()
    assert dialogue.replies[-1] == f"421 4.3.0 s.example closing: internal error, session {dialogue.session.id}"
    assert dialogue.reasons == ["failed"]
    assert "the secret of the stream" in caplog.text


def test_commands_after_a_421_are_ignored() -> None:
    app = accepting()
    app.on("NOOP")(reply_421)
    app.on("VRFY")(fail)
    session(app).send(b"NOOP\r\nVRFY x\r\n").end().expect(220, 421)


# Draining


def test_drain_ends_an_idle_session_at_once() -> None:
    for before in (b"", EHLO, EHLO + MAIL + RCPT):
        dialogue = session(accepting()).send(before or EHLO)
        dialogue.send(dialogue.loop.drain, b"NOOP\r\n", QUIT)
        assert dialogue.replies[-1] == "421 4.3.2 s.example closing: the server is shutting down"
        assert list(dialogue.stream.script) == [b"NOOP\r\n", QUIT]
        assert dialogue.reasons == ["shutdown"]


def test_drain_before_the_greeting_greets_with_421() -> None:
    dialogue = session(App())
    dialogue.loop.drain()
    dialogue.send(EHLO).end().expect(421)
    assert dialogue.reasons == ["shutdown"]


def test_drain_ends_a_busy_session_before_its_next_command() -> None:
    app = App()

    @app.on("MAIL")
    def drain(session: Session, mail: Mail) -> None:
        dialogue.loop.drain()

    dialogue = session(app)
    dialogue.send(EHLO, MAIL + b"NOOP\r\n" + QUIT).expect(220, 250, 250, 421)
    assert dialogue.reasons == ["shutdown"]


@pytest.mark.parametrize(
    ("step", "code", "reason"),
    [(QUIT, 221, "QUIT"), (b"NOOP\r\n", 421, "shutdown"), (SILENCE, 421, "shutdown")],
)
def test_client_that_was_just_answered_may_still_quit(step: Step, code: int, reason: str) -> None:
    dialogue = session(accepting(MessageStore()))
    dialogue.send(ENVELOPE, BODY + END).expect(220, 250, 250, 250, 354, 250)
    dialogue.send(dialogue.loop.drain, step).end().expect(code)
    assert dialogue.stream.receive_timeouts[-1] == 1.0
    assert dialogue.reasons == [reason]


def test_client_that_quits_while_the_handler_works_gets_221() -> None:
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        await message.read()
        dialogue.loop.drain()
        return Reply(250)

    dialogue = session(app)
    dialogue.send(ENVELOPE, BODY + END, b"QU", b"IT\r\n").expect(220, 250, 250, 250, 354, 250, 221)
    assert dialogue.reasons == ["QUIT"]


def test_client_that_is_idle_after_its_message_is_closed_at_once() -> None:
    dialogue = session(accepting(MessageStore()))
    dialogue.send(ENVELOPE, BODY + END).expect(220, 250, 250, 250, 354, 250)

    def drain_later() -> None:
        dialogue.stream.now += 1.5
        dialogue.loop.drain()

    dialogue.send(drain_later, QUIT).expect(421)
    assert list(dialogue.stream.script) == [QUIT]


@pytest.mark.parametrize(("name", "reason"), [("QUIT", "QUIT"), ("NOOP", "421")])
def test_drain_keeps_the_reason_of_a_session_that_is_ending(name: str, reason: str) -> None:
    app = App()

    def drain(session: Session, command: Command) -> Reply:
        dialogue.loop.drain()
        return Reply(221 if name == "QUIT" else 421, "bye")

    register(app, name, drain)
    dialogue = session(app)
    dialogue.send(f"{name}\r\nRSET\r\n".encode()).end()
    assert dialogue.codes[1:] == [221 if name == "QUIT" else 421]
    assert dialogue.reasons == [reason]


@pytest.mark.parametrize("when", ["while waiting for the body", "in the handler", "before the 354"])
def test_drain_completes_a_message_before_the_421(when: str) -> None:
    store = MessageStore()
    app = accepting()

    @app.on("message")
    def drain(session: Session, message: Message) -> None:
        if when == "in the handler":
            dialogue.loop.drain()

    @app.on("DATA")
    def drain_early(session: Session, data: Command) -> None:
        if when == "before the 354":
            dialogue.loop.drain()

    app.include(store)
    dialogue = session(app)
    dialogue.send(ENVELOPE, b"one\r\n").expect(220, 250, 250, 250, 354)
    if when == "while waiting for the body":
        dialogue.send(dialogue.loop.drain).expect()
    dialogue.send(b"two\r\n", END + MAIL).expect(250, 421)
    assert store.bodies == [b"one\r\ntwo\r\n"]
    assert dialogue.reasons == ["shutdown"]
