"""Tests of the asyncio adapter alone; behaviour that all adapters share is in `test_contract`."""

import asyncio

from smtpcore import Noop, Reply
from smtpcore_adapters import Message, Session
from tests.adapters.fakes import CONFIG, EHLO, MAIL, QUIT, RCPT, accepting
from tests.adapters.harness import running


def test_timeout_of_a_message_handler_between_chunks_answers_the_interrupted_command() -> None:
    app = accepting()
    begun = asyncio.Event()

    @app.on("NOOP")
    async def hang(session: Session, noop: Noop) -> None:
        begun.set()
        await asyncio.Event().wait()

    @app.on("message")
    async def give_up(session: Session, message: Message) -> Reply:
        reading = asyncio.create_task(message.read())
        await begun.wait()
        reading.cancel()
        await asyncio.wait([reading])
        return Reply(451, "Too slow", enhanced="4.3.0")

    with running("asyncio", app, config=CONFIG) as server, server.connect() as client:
        client.send(EHLO + MAIL + RCPT + b"BDAT 1\r\nxNOOP\r\n").expect(220, 250, 250, 250, 250, 451)
        client.send(b"BDAT 1 LAST\r\nx").expect("451 4.3.0 Too slow")
        client.send(QUIT).expect(221)
