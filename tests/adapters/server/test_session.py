"""The attributes of a session that handlers see, and the end of a session by the program."""

import ssl
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import Command, Ehlo, Mail, Rcpt, Reply
from smtpcore_adapters import Address, App, Message, Session, Timeouts
from tests.adapters.fakes import CONFIG, EHLO, ENVELOPE, MAIL, QUIT, MessageStore, accepting, register
from tests.adapters.harness import running
from tests.adapters.playbook import session

END = b".\r\n"


def test_handlers_see_the_attributes_of_the_session() -> None:
    app = accepting()

    @app.on("MAIL")
    def look(session: Session, mail: Mail) -> None:
        assert session.peer == Address("192.0.2.1", 5)
        assert session.local == Address("192.0.2.25", 25)
        assert session.tls is None
        assert session.identity is None
        assert session.helo == Ehlo("c.example")
        assert session.transaction is None
        assert session.config is CONFIG
        assert repr(session) == f"<Session {session.id} from 192.0.2.1:5>"
        session.state.seen = True

    @app.on("RCPT")
    def look_again(session: Session, rcpt: Rcpt) -> None:
        raise AssertionError("the first reply decides, and no further handler is called")

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        assert message.id == f"{session.id}.1"
        assert message.transaction is session.transaction
        assert str(message.reverse_path) == "a@c.example"
        assert [str(path) for path in message.forward_paths] == ["u@s.example"]
        assert session.state.seen
        assert await session.run_blocking(max, 1, 2) == 2
        return Reply(250)

    dialogue = (
        session(app, peer=Address("192.0.2.1", 5)).send(ENVELOPE, END + QUIT).expect(220, 250, 250, 250, 354, 250, 221)
    )
    assert dialogue.session.messages == 1


def test_session_ids_are_unique() -> None:
    assert len({session(App()).session.id for _ in range(100)}) == 100


# The state of a session


class Visit:
    """A state of the program's own."""

    def __init__(self) -> None:
        self.helos: list[str] = []


def test_state_is_made_once_for_each_session_that_asks_for_it() -> None:
    made: list[Visit] = []

    def make() -> Visit:
        made.append(Visit())
        return made[-1]

    app = App(state=make)

    @app.on("EHLO")
    def note(session: Session[Visit], ehlo: Ehlo) -> None:
        session.state.helos.append(ehlo.domain)

    session(app).send(b"QUIT\r\n").expect(220, 221)
    assert made == []
    for name in ("a.example", "b.example"):
        hello = f"EHLO {name}\r\n".encode()
        session(app).send(hello, hello).expect(220, 250, 250)
    assert [visit.helos for visit in made] == [["a.example"] * 2, ["b.example"] * 2]


def test_state_that_cannot_be_called_is_a_type_error() -> None:
    visit: Any = Visit()
    with pytest.raises(TypeError, match="pass a class or a function"):
        App(state=visit)


# Dropping the client


def dropping(name: str, reply: Reply | None = None) -> App:
    """Return an application whose handler of `name` drops the client and returns `reply`."""
    app = accepting()

    def drop(session: Session, subject: object) -> Reply | None:
        session.drop()
        return reply

    register(app, name, drop)
    return app


@pytest.mark.parametrize(
    ("name", "octets", "expected"),
    [
        ("EHLO", EHLO, [220, 250]),
        ("MAIL", EHLO + MAIL, [220, 250, 554]),
        ("invalid", b"MAIL\r\n", [220, 554]),
        ("default", b"XFOO\r\n", [220, 554]),
        ("QUIT", QUIT, [220, 221]),
    ],
)
def test_dropped_client_gets_the_reply_of_the_handler_and_no_other(
    name: str, octets: bytes, expected: list[int]
) -> None:
    reply = {"EHLO": Reply(250), "QUIT": Reply(221)}.get(name, Reply(554, "Go away"))
    dialogue = session(dropping(name, reply)).send(octets + b"NOOP\r\n", QUIT)
    assert dialogue.codes == expected
    assert dialogue.reasons == ["QUIT" if name == "QUIT" else "aborted"]
    assert dialogue.stream.close_timeouts == [2], "the client gets time to read the reply"


def test_reply_to_a_message_is_sent_before_the_drop() -> None:
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        await message.read()
        session.drop()
        return Reply(250, "Stored")

    dialogue = session(app).send(ENVELOPE, b"x\r\n" + END + MAIL).expect(220, 250, 250, 250, 354, 250)
    assert dialogue.reasons == ["aborted"]


def test_client_is_dropped_within_a_body() -> None:
    store = MessageStore()
    dialogue = session(accepting(store)).send(ENVELOPE, b"x\r\n")
    dialogue.send(dialogue.session.drop, b"y\r\n" + END).expect(220, 250, 250, 250, 354)
    assert store.bodies == []
    assert dialogue.reasons == ["aborted"]


def test_client_is_dropped_within_an_authentication() -> None:
    app = App()
    app.on("auth")(lambda session, question: None)
    config = replace(CONFIG, auth_mechanisms=("LOGIN",), plaintext_auth=True)
    dialogue = session(app, config=config).send(EHLO, b"AUTH LOGIN\r\n")
    dialogue.send(dialogue.session.drop, b"dGlt\r\n").expect(220, 250, 334)
    assert dialogue.reasons == ["aborted"]


def test_client_is_dropped_before_the_greeting_and_before_tls() -> None:
    dialogue = session(App(), timeouts=Timeouts(greeting_delay=1))
    dialogue.send(dialogue.session.drop, EHLO).expect()
    assert dialogue.reasons == ["aborted"]
    assert dialogue.stream.close_timeouts == [0]

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure = session(dropping("STARTTLS"), config=replace(CONFIG, starttls=True), tls=tls)
    secure.send(EHLO, b"STARTTLS\r\n").expect(220, 250, 220)
    assert secure.stream.tls is None
    assert secure.reasons == ["aborted"]


def test_sleep_of_a_dropped_session_ends() -> None:
    app = App()

    @app.on("NOOP")
    async def wait(session: Session, command: Command) -> None:
        session.drop()
        await session.sleep(1000)

    dialogue = session(app).send(b"NOOP\r\n", QUIT).expect(220, 250)
    assert dialogue.stream.sleeps == []


def test_idle_client_is_dropped_on_each_adapter(backend: str) -> None:
    app = App()
    sessions: dict[str, Session] = {}

    @app.on("EHLO")
    def remember(session: Session, ehlo: Ehlo) -> None:
        sessions[ehlo.domain] = session

    @app.on("NOOP")
    def drop_the_other(session: Session, command: Command) -> None:
        sessions["idle.example"].drop()

    with running(backend, app, config=CONFIG) as server, server.connect() as idle, server.connect() as other:
        idle.expect(220).send(b"EHLO idle.example\r\n").expect(250)
        other.expect(220).send(b"NOOP\r\n").expect(250)
        assert idle.rest() == b""
        assert server.reason() == "aborted"
        other.send(QUIT).expect(221)
