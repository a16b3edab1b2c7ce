"""Cancellation of a session at each of its suspension points."""

import ssl
import types
from base64 import b64encode
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from smtpcore import Reply
from smtpcore.sasl import CheckPassword
from smtpcore_adapters import App, Message, Session
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT, FakeStream
from tests.adapters.playbook import SessionPlaybook

PLAIN = b64encode(b"\0tim\0tanstaaf")
SCRIPT = (
    *(EHLO, b"STARTTLS\r\n", EHLO, b"AUTH PLAIN\r\n", PLAIN + b"\r\n"),
    *(MAIL + RCPT + b"DATA\r\n", b"one\r\n", b"two\r\n.\r\n"),
    *(MAIL, RCPT, b"BDAT 3\r\n", b"one", b"NOOP\r\n", b"BDAT 3 LAST\r\nt", b"wo", b"XFOO\r\n", QUIT),
)


class Cancelled(BaseException):
    """The cancellation exception of a framework."""


@types.coroutine
def suspend() -> Generator[None, None, None]:
    yield


def suspended_first(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any, **options: Any) -> Any:
        await suspend()
        return await function(*args, **options)

    return call


class Handlers:
    """Handlers that suspend once each."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def on_connect(self, session: Session, opened: object) -> None:
        await session.sleep(0.1)

    async def on_auth(self, session: Session, question: CheckPassword) -> bool:
        await suspend()
        return question.matches("tanstaaf")

    async def on_rcpt(self, session: Session, rcpt: object) -> Reply:
        await suspend()
        return Reply(250)

    async def on_message(self, session: Session, message: Message) -> Reply:
        body = await message.read()
        await suspend()
        self.bodies.append(body)
        return Reply(250)


def suspending_dialogue() -> tuple[SessionPlaybook, Handlers]:
    app = App()
    app.include(handlers := Handlers())
    config = replace(CONFIG, starttls=True, auth_mechanisms=("PLAIN",))
    dialogue = SessionPlaybook(app, config=config, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    dialogue.stream.script.extend(SCRIPT)
    for name in ("receive", "send", "sleep", "start_tls", "aclose"):
        setattr(dialogue.stream, name, suspended_first(getattr(FakeStream, name).__get__(dialogue.stream)))

    return dialogue, handlers


def is_suspended(coroutine: Coroutine[None, Any, None], times: int) -> bool:
    """Resume the coroutine up to `times` times, and return whether it is still suspended."""
    try:
        for _ in range(times):
            coroutine.send(None)
    except StopIteration:
        return False

    return True


def test_session_that_is_not_cancelled_runs_to_its_end() -> None:
    dialogue, handlers = suspending_dialogue()
    assert not is_suspended(dialogue.loop.run(), 10_000)
    assert dialogue.reasons == ["QUIT"]
    assert handlers.bodies == [b"one\r\ntwo\r\n", b"onetwo"]


def cancel(coroutine: Coroutine[None, Any, None]) -> None:
    """Cancel the suspended coroutine; closing the stream may suspend it once more."""
    coroutine.throw(Cancelled())
    assert is_suspended(coroutine, 1)


def test_session_can_be_cancelled_at_each_suspension_point() -> None:
    for times in count(1):
        dialogue, handlers = suspending_dialogue()
        session = dialogue.loop.run()
        if not is_suspended(session, times):
            break

        has_ended = bool(dialogue.reasons)  # the session has ended, and the stream is being closed
        before = dialogue.stream.output, list(handlers.bodies)
        with pytest.raises(Cancelled):
            cancel(session)

        assert dialogue.reasons == (["QUIT"] if has_ended else ["cancelled"])
        assert len(dialogue.stream.close_timeouts) == (0 if has_ended else 1)
        assert (dialogue.stream.output, handlers.bodies) == before

    assert times > 40
