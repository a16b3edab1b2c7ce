"""Cancellation of a session at each of its suspension points."""

import ssl
from base64 import b64encode
from dataclasses import replace
from itertools import count

import pytest

from smtpcore import Reply
from smtpcore.sasl import CheckPassword
from smtpcore_adapters import App, Message, Session
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT, FakeStream, suspend
from tests.adapters.playbook import SessionPlaybook, session

PLAIN = b64encode(b"\0tim\0tanstaaf")
SCRIPT = (
    *(EHLO, b"STARTTLS\r\n", EHLO, b"AUTH PLAIN\r\n", PLAIN + b"\r\n"),
    *(MAIL + RCPT + b"DATA\r\n", b"one\r\n", b"two\r\n.\r\n"),
    *(MAIL, RCPT, b"BDAT 3\r\n", b"one", b"NOOP\r\n", b"BDAT 3 LAST\r\nt", b"wo", b"XFOO\r\n", QUIT),
)


class Cancelled(BaseException):
    """The cancellation exception of a framework."""


class SuspendingStream(FakeStream):
    """A stream that suspends its session once in each call."""

    async def receive(self, timeout: float) -> bytes:
        await suspend(self)
        return await super().receive(timeout)

    async def send(self, data: bytes, timeout: float) -> None:
        await suspend(self)
        await super().send(data, timeout)

    async def sleep(self, seconds: float) -> None:
        await suspend(self)
        await super().sleep(seconds)

    async def start_tls(
        self, context: ssl.SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        await suspend(self)
        await super().start_tls(context, timeout, server_name=server_name, received=received)

    async def aclose(self, timeout: float) -> None:
        await suspend(self)
        await super().aclose(timeout)


class Handlers:
    """Handlers that suspend the session once each."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def on_connect(self, session: Session, opened: object) -> None:
        await session.sleep(0.1)

    async def on_auth(self, session: Session, question: CheckPassword) -> bool:
        await session.sleep(0.1)
        return question.matches("tanstaaf")

    async def on_rcpt(self, session: Session, rcpt: object) -> Reply:
        await session.sleep(0.1)
        return Reply(250)

    async def on_message(self, session: Session, message: Message) -> Reply:
        body = await message.read()
        await session.sleep(0.1)
        self.bodies.append(body)
        return Reply(250)


def suspended(times: int) -> tuple[SessionPlaybook, Handlers]:
    """Return a dialogue that was suspended up to this number of times."""
    app = App()
    app.include(handlers := Handlers())
    config = replace(CONFIG, starttls=True, auth_mechanisms=("PLAIN",))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dialogue = session(app, config=config, tls=tls, kind=SuspendingStream).send(*SCRIPT)
    for _ in range(times - 1):
        dialogue.send()
    return dialogue, handlers


def test_session_that_is_not_cancelled_runs_to_its_end() -> None:
    dialogue, handlers = suspended(10_000)
    assert dialogue.is_over
    assert dialogue.reasons == ["QUIT"]
    assert handlers.bodies == [b"one\r\ntwo\r\n", b"onetwo"]


def test_session_can_be_cancelled_at_each_suspension_point() -> None:
    for times in count(1):
        dialogue, handlers = suspended(times)
        if dialogue.is_over:
            break

        has_ended = bool(dialogue.reasons)  # the session has ended, and the stream is being closed
        before = dialogue.stream.output, list(handlers.bodies)
        with pytest.raises(Cancelled):
            dialogue.cancel(Cancelled()).send()  # closing the stream may suspend the session once more

        assert dialogue.reasons == (["QUIT"] if has_ended else ["cancelled"])
        assert len(dialogue.stream.close_timeouts) == (0 if has_ended else 1)
        assert (dialogue.stream.output, handlers.bodies) == before

    assert times > 40
