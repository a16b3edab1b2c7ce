"""Deliver messages from a queue to servers and stores, with a reply for each recipient."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smtpcore import Config, Mail, Params, Rcpt, Reply
from smtpcore import Path as MailPath
from smtpcore.parameters import BodyType
from smtpcore_adapters import App, Message, Session, TlsMode
from smtpcore_adapters.asyncio import BackgroundServer, Pool
from smtpcore_adapters.drain import NextServer, ToStore
from smtpcore_adapters.maildir import Maildir
from smtpcore_adapters.stores import Envelope, StoreHandler
from tests.adapters.stores.jetstreams import AsyncioRuntime
from tests.adapters.stores.tried import MemoryStore

from .queues import FakeMessage

CONFIG = Config(hostname="next.example")


def replies_of(app: App, message: FakeMessage, **options: Any) -> Mapping[str, int]:
    """Deliver a message to a server, and return the code for each recipient."""
    with BackgroundServer(app, **{"config": CONFIG, **options}) as server:
        lmtp = options.get("config", CONFIG).lmtp

        async def main() -> Mapping[str, Reply]:
            async with Pool("127.0.0.1", server.address.port, tls=TlsMode.NONE, lmtp=lmtp) as pool:
                return await NextServer(pool)(message, AsyncioRuntime())  # type: ignore[arg-type]

        replies = asyncio.run(main())
    return {address: reply.code for address, reply in replies.items()}


@pytest.fixture
def arrived() -> list[tuple[str, bytes]]:
    """The sender and the body of each message that the next server got."""
    return []


@pytest.fixture
def app(arrived: list[tuple[str, bytes]]) -> App:
    app = App()

    @app.on("RCPT")
    async def decide(session: Session, rcpt: Rcpt) -> Reply:
        code = {"no": 550, "later": 450}.get(rcpt.forward_path.local_part, 250)
        return Reply(code, "decided")

    @app.on("message")
    async def keep(session: Session, message: Message) -> Reply:
        arrived.append((str(message.transaction.mail), await message.read()))
        return Reply(250, "kept")

    return app


def test_each_recipient_has_a_reply_of_its_own(app: App, arrived: list[tuple[str, bytes]]) -> None:
    message = FakeMessage("yes@s.example", "no@s.example", "later@s.example", "done@s.example")
    message.replies["done@s.example"] = Reply(250, "before")
    codes = replies_of(app, message)
    assert codes == {"yes@s.example": 250, "no@s.example": 550, "later@s.example": 450}
    assert arrived == [("MAIL FROM:<a@c.example> SIZE=11 BODY=8BITMIME", message.body)]


def test_parameters_are_adapted_to_the_next_server(app: App, arrived: list[tuple[str, bytes]]) -> None:
    mail = Mail(MailPath("a@c.example"), Params({"SIZE": 5, "BODY": BodyType.BINARYMIME}))
    codes = replies_of(app, FakeMessage("yes@s.example", mail=mail, body=b"\0\r\n"))
    assert codes == {"yes@s.example": 250}
    assert arrived == [("MAIL FROM:<a@c.example> SIZE=3 BODY=BINARYMIME", b"\0\r\n")]

    plain = Config(hostname="next.example", disabled=frozenset({"SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8"}))
    codes = replies_of(app, FakeMessage("yes@s.example", "ü@s.example"), config=plain)
    assert codes == {"yes@s.example": 250, "ü@s.example": 553}
    assert arrived[1] == ("MAIL FROM:<a@c.example>", b"A: b\r\n\r\nx\r\n")
    codes = replies_of(app, FakeMessage("ü@s.example"), config=plain)
    assert codes == {"ü@s.example": 553}
    codes = replies_of(app, FakeMessage("yes@s.example", mail=mail), config=plain)
    assert codes == {"yes@s.example": 554}
    assert len(arrived) == 2


def test_message_that_the_next_server_cannot_take_is_refused(app: App) -> None:
    plain = Config(hostname="next.example", disabled=frozenset({"8BITMIME", "SMTPUTF8", "BINARYMIME"}))
    codes = replies_of(app, FakeMessage("yes@s.example", body=b"\xff\r\n"), config=plain)
    assert codes == {"yes@s.example": 554}
    codes = replies_of(app, FakeMessage("yes@s.example", body=b"\0\r\n"))
    assert codes == {"yes@s.example": 554}


def test_lmtp_has_replies_for_each_recipient() -> None:
    app = App()

    @app.on("RCPT")
    async def accept(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, "OK")

    @app.on("message")
    async def keep(session: Session, message: Message) -> list[Reply]:
        await message.read()
        return [Reply(250, "kept"), Reply(452, "full")]

    message = FakeMessage("u@s.example", "v@s.example")
    codes = replies_of(app, message, config=Config(hostname="next.example", lmtp=True))
    assert codes == {"u@s.example": 250, "v@s.example": 452}


def test_server_that_is_not_reachable_is_tried_again(app: App) -> None:
    async def main() -> Mapping[str, Reply]:
        async with Pool("127.0.0.1", 1, tls=TlsMode.NONE) as pool:
            return await NextServer(pool)(FakeMessage("u@s.example"), AsyncioRuntime())  # type: ignore[arg-type]

    assert {reply.code for reply in asyncio.run(main()).values()} == {451}


def test_server_that_refuses_the_session_is_tried_again(app: App) -> None:
    @app.on("connect")
    async def refuse(session: Session, event: object) -> Reply:
        return Reply(554, "No service")

    assert replies_of(app, FakeMessage("u@s.example")) == {"u@s.example": 451}


def test_message_is_stored_with_the_fields_of_the_final_delivery(tmp_path: Path) -> None:
    box = Maildir(tmp_path / "Maildir")
    handler = StoreHandler(box, fields=lambda envelope: envelope.delivery_fields)
    message = FakeMessage("u@s.example", "v@s.example")
    message.replies["v@s.example"] = Reply(250, "before")
    replies = asyncio.run(ToStore(handler)(message, AsyncioRuntime()))  # type: ignore[arg-type]
    assert {address: reply.code for address, reply in replies.items()} == {"u@s.example": 250}
    (file,) = (tmp_path / "Maildir" / "new").iterdir()
    assert file.read_bytes() == b"Return-Path: <a@c.example>\nX-Original-To: u@s.example\nA: b\n\nx\n"


def test_store_may_have_a_result_for_each_recipient() -> None:
    store = MemoryStore()
    store.results = [Reply(250, "kept"), Reply(550, "No")]
    deliver = ToStore(store.handler)
    replies = asyncio.run(deliver(FakeMessage("u@s.example", "v@s.example"), AsyncioRuntime()))  # type: ignore[arg-type]
    assert {address: reply.code for address, reply in replies.items()} == {"u@s.example": 250, "v@s.example": 550}


def test_store_gets_the_protocol_of_the_session_that_has_received_the_message() -> None:
    protocols: list[str] = []

    def note(envelope: Envelope) -> bytes:
        protocols.append(envelope.protocol)
        return b""

    message = FakeMessage("u@s.example", "v@s.example", protocol="ESMTPSA")
    replies = asyncio.run(ToStore(StoreHandler(MemoryStore(), fields=note))(message, AsyncioRuntime()))  # type: ignore[arg-type]
    assert [reply.code for reply in replies.values()] == [250, 250]
    assert protocols == ["ESMTPSA"]
