"""Bodies as handlers read them."""

from dataclasses import replace

import pytest

from smtpcore import (
    Bodies,
    Reply,
)
from smtpcore_adapters import (
    Message,
    Session,
)
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    MessageStore,
    accepting,
)
from tests.adapters.playbook import session

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"


def test_body_is_read_repeatedly_and_by_several_handlers() -> None:
    app = accepting()
    seen: list[bytes] = []

    @app.on("message")
    async def scan(session: Session, message: Message) -> None:
        seen.append(await message.read())
        seen.append(await message.read())

    @app.on("message")
    async def iterate(session: Session, message: Message) -> None:
        seen.append(b"".join([piece async for piece in message]))
        seen.append(b"".join([piece async for piece in message]))

    app.include(store := MessageStore())
    assert session(app).send(ENVELOPE, BODY, BODY + END + QUIT).codes[-2] == 250
    assert seen + store.bodies == [BODY + BODY] * 5


MIXED = b"MAIL FROM:<@r.example:Joe@C.example>\r\nRCPT TO:<Ann@S.example>\r\nRCPT TO:<postmaster>\r\n"


@pytest.mark.parametrize("blocking", [False, True])
def test_handler_gets_strings_and_a_parsed_message(blocking: bool) -> None:
    app = accepting()
    seen: list[object] = []

    if blocking:

        @app.on("message", blocking=True)
        def look_in_thread(session: Session, message: Message) -> Reply:
            seen.extend([message.sender, message.recipients, message.parse_blocking()["Subject"]])
            return Reply(250)

    else:

        @app.on("message")
        async def look(session: Session, message: Message) -> Reply:
            seen.extend([message.sender, message.recipients, (await message.parse())["Subject"]])
            return Reply(250)

    session(app).send(EHLO + MIXED + DATA, BODY + END + QUIT)
    assert seen == ["Joe@C.example", ("Ann@S.example", "postmaster"), "x"]


def test_sender_of_a_notification_is_an_empty_string() -> None:
    app = accepting()
    seen: list[str] = []

    @app.on("message")
    def look(session: Session, message: Message) -> Reply:
        seen.append(message.sender)
        return Reply(250)

    session(app).send(EHLO + b"MAIL FROM:<>\r\n" + RCPT + DATA, BODY + END + QUIT)
    assert seen == [""]


def test_empty_body_has_no_pieces() -> None:
    app = accepting()
    pieces: list[bytes] = []

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        assert await message.read() == b""
        pieces.extend([piece async for piece in message])
        return Reply(250)

    assert session(app).send(ENVELOPE, END + QUIT).codes[-2] == 250
    assert pieces == []


def test_second_iteration_over_a_body_is_a_runtime_error() -> None:
    app = accepting()

    @app.on("message")
    async def twice(session: Session, message: Message) -> Reply:
        assert b"".join([piece async for piece in message]) == BODY
        with pytest.raises(RuntimeError, match="was taken already"):
            await message.read()
        with pytest.raises(RuntimeError, match="was taken already"):
            async for _ in message:
                pass
        return Reply(250)

    assert session(app).send(ENVELOPE, BODY + END + QUIT).codes[-2] == 250


def test_exhausted_body_iterator_stays_exhausted() -> None:
    app = accepting()

    @app.on("message")
    async def exhaust(session: Session, message: Message) -> Reply:
        if session.messages == 2:
            await message.read()
        pieces = aiter(message)
        assert b"".join([piece async for piece in pieces]) == BODY
        assert [piece async for piece in pieces] == []
        return Reply(250)

    dialogue = session(app).send(ENVELOPE, BODY + END + MAIL + RCPT + DATA, BODY + END + QUIT)
    assert dialogue.codes[5:] == [250, 250, 250, 354, 250, 221]


def test_message_read_after_its_handlers_returned_is_a_runtime_error() -> None:
    app = accepting()
    kept: list[Message] = []

    @app.on("message")
    async def keep(session: Session, message: Message) -> Reply:
        kept.append(message)
        if len(kept) == 2:
            with pytest.raises(RuntimeError, match="have returned"):
                await kept[0].read()
            assert await message.read() == b"second\r\n"
        return Reply(250)

    script = (ENVELOPE, b"first\r\n" + END + MAIL + RCPT + DATA, b"second\r\n" + END + QUIT)
    assert session(app).send(*script).end().codes[-2:] == [250, 221]


@pytest.mark.parametrize("bodies", Bodies)
def test_handler_gets_runs_of_octets_with_any_setting_of_bodies(bodies: Bodies) -> None:
    pieces: list[bytes] = []
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        pieces.extend([piece async for piece in message])
        return Reply(250)

    session(app, config=replace(CONFIG, bodies=bodies)).send(ENVELOPE, BODY + END + QUIT)
    assert pieces == [BODY]
