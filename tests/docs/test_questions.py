"""Answers of the page of short answers that no other test proves."""

import asyncio
import smtplib

from smtpcore import Reply
from smtpcore_adapters import App, Message, Session
from smtpcore_adapters.asyncio import serving
from smtpcore_adapters.recipients import AnyRecipient
from tests.adapters.fakes import EHLO, QUIT
from tests.adapters.playbook import session

BODY = b"Subject: hello\r\n\r\nbody\r\n"


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, "c.example", timeout=10) as smtp:
        smtp.sendmail("a@c.example", ["b@s.example"], BODY)


def catching(received: list[str], enough: asyncio.Event, most: int) -> App:
    app = App()
    app.include(AnyRecipient())

    @app.on("message")
    async def keep(session: Session, message: Message) -> Reply:
        received.append((await message.read()).decode())
        if len(received) == most:
            enough.set()
        return Reply(250, "Kept")

    return app


def test_server_ends_after_a_number_of_messages() -> None:
    received: list[str] = []

    async def main() -> None:
        enough = asyncio.Event()
        async with serving(catching(received, enough, 2)) as server:
            for _ in range(2):
                await asyncio.to_thread(send, server.address.port)
            await enough.wait()

    asyncio.run(main())
    assert len(received) == 2


def test_one_app_serves_two_servers() -> None:
    received: list[str] = []

    async def main() -> None:
        app = catching(received, asyncio.Event(), 2)
        async with serving(app) as first, serving(app) as second:
            await asyncio.to_thread(send, first.address.port)
            await asyncio.to_thread(send, second.address.port)

    asyncio.run(main())
    assert len(received) == 2


def test_handlers_have_the_texts_of_ehlo_and_quit() -> None:
    app = App()
    app.on("EHLO")(lambda session, ehlo: Reply(250, "s.example at your service"))
    app.on("QUIT")(lambda session, quit_: Reply(221, "so long"))
    greeting, hello, goodbye = session(app).send(EHLO + QUIT).replies

    assert greeting.startswith("220")
    assert hello.startswith("250-s.example at your service\n")
    assert goodbye == "221 2.0.0 s.example so long"
