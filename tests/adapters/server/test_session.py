"""The attributes of a session that handlers see."""

from smtpcore import (
    Ehlo,
    Mail,
    Rcpt,
    Reply,
)
from smtpcore_adapters import (
    Address,
    App,
    Message,
    Session,
)
from tests.adapters.fakes import (
    CONFIG,
    ENVELOPE,
    QUIT,
    accepting,
)
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
