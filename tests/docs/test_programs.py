"""Kinds of programs that people write today with other libraries, each written with public names only.

| kind of program | place |
|---|---|
| LMTP runner | docs/cookbook.md, LMTP after Postfix |
| MQTT bridge | `test_bridge_publishes_each_message_to_the_topic_of_its_recipient` |
| Django gateway | docs/cookbook.md, A Django command |
| XMPP gateway with a loop that is not running yet | `test_gateway_starts_in_a_loop_that_runs_later` |
| start/stop catcher | docs/cookbook.md, A server behind a GUI; docs/from-aiosmtpd.md |
| fixture factory | `test_factory_makes_servers_with_different_options` |
| Office-365 relay, OAuth proxy | docs/cookbook.md, An OAuth proxy for programs that only know passwords |
| honeypot with a foreign banner | docs/cookbook.md, A banner of your own |
| Exchange-shaped test server | `test_server_looks_like_another_product` |
| executor receivers | docs/cookbook.md, Check passwords in SQL; docs/from-smtpd.md |
| device relay with LDAP | `test_device_relay_asks_a_directory_and_forwards` |
| client pool | docs/cookbook.md, Send over a pool of connections |
| Twisted factory with deferred replies and TLS | docs/from-twisted.md |
| FastAPI inbound | docs/cookbook.md, Beside FastAPI |
| PROXY-fronted server | docs/cookbook.md, Behind HAProxy |
| fake MTA with own verbs | docs/cookbook.md, A fake server with verbs of its own |
| SMS gateway | docs/cookbook.md, An SMS gateway |
"""

import ast
import asyncio
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, Config, ConnectionOpened, Ehlo, Extension, Help, Mail, Rcpt, Reply
from smtpcore.sasl import CheckPassword, Question
from smtpcore_adapters import App, Message, Session, TlsMode
from smtpcore_adapters.asyncio import BackgroundServer, connect, start
from smtpcore_adapters.forward import Forward
from smtpcore_adapters.recipients import AnyRecipient, Recipients
from smtpcore_adapters.testing import SmtpServer
from tests.docs.test_cookbook import USERS, logins, mail, smtp_to
from tests.docs.test_readme import EXAMPLES
from tests.paths import DOCS


class Topics:
    """The client of a message broker, as far as a bridge needs it."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, topic: str, payload: bytes) -> None:
        await asyncio.sleep(0)
        self.published.append((topic, payload))


def bridge(topics: Topics, domain: str) -> App:
    app = App()
    app.include(Recipients([domain]))

    @app.on("message")
    async def publish(session: Session, message: Message) -> Reply:
        content = await message.read()
        for path in message.forward_paths:
            await topics.publish(f"mail/{path.local_part}", content)
        return Reply(250, "Published")

    return app


def test_bridge_publishes_each_message_to_the_topic_of_its_recipient() -> None:
    topics = Topics()
    with BackgroundServer(bridge(topics, "mqtt.example")) as server, smtp_to(server.address.port) as smtp:
        smtp.send_message(mail(), to_addrs=["door@mqtt.example", "bell@mqtt.example"])
    assert [topic for topic, _ in topics.published] == ["mail/door", "mail/bell"]


def test_gateway_starts_in_a_loop_that_runs_later() -> None:
    topics = Topics()
    loop = asyncio.new_event_loop()
    try:
        server = loop.run_until_complete(start(bridge(topics, "xmpp.example")))

        async def send() -> None:
            async with connect(server.address.host, server.address.port, tls=TlsMode.NONE) as client:
                assert (await client.send("a@c.example", ["tim@xmpp.example"], b"hi\n")).accepted
            loop.stop()

        task = loop.create_task(send())
        loop.run_forever()
        loop.run_until_complete(server.stop())
        assert task.done()
    finally:
        loop.close()
    assert topics.published == [("mail/tim", b"hi\r\n")]


MakeServer = Callable[..., SmtpServer]


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(SmtpServer(**options))


def test_factory_makes_servers_with_different_options(make_server: MakeServer) -> None:
    plain, full = make_server(), make_server(faults=["RCPT -> 452 4.2.2 Mailbox full"])
    with smtp_to(plain.port) as smtp:
        smtp.send_message(mail())
    with smtp_to(full.port) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused) as error:
        smtp.send_message(mail())
    assert len(plain.messages) == 1
    assert error.value.recipients == {"b@example.org": (452, b"4.2.2 Mailbox full")}


def test_server_looks_like_another_product() -> None:
    config = Config(hostname="EXCH01.corp.example", disabled=OFF_BY_DEFAULT | {"VRFY", "HELP", "SMTPUTF8"})
    own = [Extension(keyword=name) for name in ("X-ANONYMOUSTLS", "XRDST")]
    app = App()
    app.include(AnyRecipient())

    @app.on("connect")
    def greet(session: Session, opened: ConnectionOpened) -> Reply:
        return Reply(220, "EXCH01.corp.example Microsoft ESMTP MAIL Service ready at Sun, 29 Nov 2026")

    @app.on("EHLO")
    def hello(session: Session, ehlo: Ehlo) -> Reply:
        assert session.peer
        return Reply(250, f"EXCH01.corp.example Hello [{session.peer.host}]")

    @app.on("MAIL")
    def sender(session: Session, mail: Mail) -> Reply:
        return Reply(250, "2.1.0 Sender OK")

    @app.on("HELP")
    def commands(session: Session, help: Help) -> Reply:
        return Reply(214, "This server supports the following commands")

    @app.on("message")
    async def queue(session: Session, message: Message) -> Reply:
        await message.read()
        return Reply(250, f"2.6.0 <{message.id}@EXCH01.corp.example> Queued mail for delivery")

    with (
        BackgroundServer(app, config=config, extensions=(*EXTENSIONS, *own)) as server,
        smtplib.SMTP(timeout=30) as smtp,
    ):
        greeting = smtp.connect("127.0.0.1", server.address.port)
        assert greeting[1].startswith(b"EXCH01.corp.example Microsoft ESMTP MAIL Service ready at ")
        assert smtp.ehlo()[1].startswith(b"EXCH01.corp.example Hello [127.0.0.1]\n")
        assert {"x-anonymoustls", "xrdst", "size"} <= smtp.esmtp_features.keys()
        assert not {"vrfy", "help", "smtputf8"} & smtp.esmtp_features.keys()
        assert smtp.mail("a@c.example") == (250, b"2.1.0 Sender OK")
        smtp.rcpt("b@corp.example")
        assert re.fullmatch(rb"2\.6\.0 <\S+@EXCH01\.corp\.example> Queued mail for delivery", smtp.data(b"hi")[1])


def test_device_relay_asks_a_directory_and_forwards() -> None:
    directory = {"scanner": "secret"}

    def bind(name: str, password: str) -> bool:
        return directory.get(name) == password

    with SmtpServer() as next_server:
        app = App()

        @app.on("auth", blocking=True)
        def check(session: Session, question: Question) -> bool | None:
            return bind(question.username, question.password) if isinstance(question, CheckPassword) else None

        @app.on("RCPT")
        def only_devices(session: Session, rcpt: Rcpt) -> Reply | None:
            return None if session.identity else Reply(530, "5.7.0 Log in first")

        app.include(Forward(next_server.host, next_server.port, tls=TlsMode.NONE))
        with BackgroundServer(app, config=USERS) as server, smtp_to(server.address.port) as smtp:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.send_message(mail())
            assert logins(smtp, ("scanner", "wrong"), ("scanner", "secret")) == [535, 235]
            smtp.send_message(mail())
        assert [each.recipients for each in next_server.messages] == [("b@example.org",)]


def private_names(source: str) -> list[str]:
    """Return the private names that a program imports, or reads from other objects than `self`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [*node.module.split("."), *(each.name for each in node.names)]
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.append(node.attr)
    return [name for name in found if re.match("_[^_]", name)]


def test_no_program_uses_a_private_name() -> None:
    assert private_names("from smtpcore._config import x\nthing._state\nself._own") == ["_config", "_state"]
    assert [private_names(example) for example in EXAMPLES if private_names(example)] == []
    assert private_names(Path(__file__).read_text()) == []


def test_table_of_the_nearest_recipes_names_existing_places() -> None:
    page = (DOCS / "cookbook.md").read_text()
    anchors = {
        re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
        for heading in re.findall("^### (.*)$", page, re.MULTILINE)
    }
    table = page.partition("## The nearest recipe")[2]
    links: list[Any] = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", table)
    assert len(links) >= 14
    for file, anchor in links:
        assert (DOCS / file).exists() if file else anchor in anchors
