"""Functions that change the texts of replies."""

import logging
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from smtpcore import Budgets, Command, ConnectionOpened, Reply
from smtpcore_adapters import AbortConnection, Address, App, AtOnce, Author, Header, Limits, Refusal, Session, Timeouts
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.users import Users
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    SILENCE,
    MessageStore,
    Step,
    accepting,
    register,
    watch,
)
from tests.adapters.playbook import session

HERE: Final = Address("192.0.2.1", 5)
BODY: Final = b"Subject: x\r\n\r\nHello\r\n.\r\n"
OFFERING: Final = replace(CONFIG, auth_mechanisms=("PLAIN", "LOGIN"), plaintext_auth=True)
WRONG: Final = b"AUTH PLAIN " + b64encode(b"\0tim\0wrong") + b"\r\n"
RIGHT: Final = b"AUTH PLAIN " + b64encode(b"\0tim\0tanstaaf") + b"\r\n"


def name_author(session: Session, reply: Reply, author: Author) -> Reply:
    """Return a reply that names the author, and the session at the end."""
    return Reply(reply.code, f"by {author.decided_by} {author.rule} in {session.id}")


def with_author(app: App) -> App:
    app.wording(name_author)
    return app


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("a defect")


def at_once(session: Session, header: Header) -> AtOnce:
    return AtOnce(Reply(550, "No lists", enhanced="5.7.1"))


def app_with(**handlers: Any) -> App:
    app = accepting()
    for name, handler in handlers.items():
        register(app, name, handler)
    return app


def full() -> PeerTable:
    peers = PeerTable(Limits(connections_per_address=1))
    peers.enter(HERE.host, 0)
    return peers


SAID: dict[str, tuple[App, dict[str, Any], tuple[Step, ...], str]] = {
    "greeting": (App(), {}, (QUIT,), "220 s.example by default connect"),
    "greeting of a handler": (
        app_with(connect=lambda session, opened: Reply(220, "Hello")),
        {},
        (QUIT,),
        "220 s.example by handler connect",
    ),
    "default": (App(), {}, (EHLO, MAIL), "250 2.1.0 by default MAIL"),
    "354": (accepting(), {}, (ENVELOPE,), "354 by default DATA"),
    "221": (App(), {}, (QUIT,), "221 2.0.0 s.example by default QUIT"),
    "handler": (accepting(), {}, (EHLO + MAIL, RCPT), "250 2.1.5 by handler RCPT"),
    "message": (accepting(MessageStore()), {}, (ENVELOPE, BODY), "250 2.0.0 by handler message"),
    "syntax": (App(), {}, (EHLO, b"MAIL TO:<x>\r\n"), "501 5.5.4 by rule syntax"),
    "sequence": (App(), {}, (EHLO, DATA), "503 5.5.1 by rule sequence"),
    "invalid": (
        app_with(invalid=lambda session, command: Reply(500, "No")),
        {},
        (EHLO, DATA),
        "500 5.5.2 by handler invalid",
    ),
    "unknown verb": (App(), {}, (EHLO, b"XFOO\r\n"), "500 5.5.1 by default default"),
    "http": (App(), {}, (b"GET / HTTP/1.1\r\n",), "421 4.7.0 s.example by limit http"),
    "max_errors": (
        App(),
        {"config": replace(CONFIG, max_errors=1)},
        (EHLO, DATA, DATA),
        "421 4.7.0 s.example by rule max_errors",
    ),
    "size of the body": (
        accepting(MessageStore()),
        {"config": replace(CONFIG, max_message_size=65_536)},
        (ENVELOPE, b"x\r\n" * 40_000 + BODY),
        "552 5.3.4 by rule max_message_size",
    ),
    "at once": (
        app_with(header=at_once),
        {"config": replace(CONFIG, max_header=1000)},
        (ENVELOPE, BODY),
        "550 5.7.1 by handler header",
    ),
    "failure": (app_with(NOOP=fail), {}, (EHLO, b"NOOP\r\n"), "451 4.3.0 by failure NOOP"),
    "failed session": (App(), {}, (ValueError("a defect"),), "421 4.3.0 s.example by failure session"),
    "connections": (App(), {"peers": full(), "peer": HERE}, (EHLO,), "421 s.example by limit connections_per_address"),
    "early talker": (
        App(),
        {"timeouts": Timeouts(greeting_delay=1)},
        (EHLO,),
        "554 s.example by limit greeting_delay",
    ),
    "command timeout": (App(), {}, (EHLO, SILENCE), "421 4.4.2 s.example by timeout command"),
    "body timeout": (accepting(), {}, (ENVELOPE, b"x", SILENCE), "421 4.4.2 s.example by timeout body"),
    "wrong password": (
        app_with(auth=Users({}).on_auth),
        {"config": OFFERING},
        (EHLO, WRONG),
        "535 5.7.8 by handler auth",
    ),
    "login": (
        app_with(auth=Users({"tim": "tanstaaf"}).on_auth),
        {"config": OFFERING},
        (EHLO, RIGHT),
        "235 2.7.0 by handler auth",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_wording_changes_the_text_of_each_kind_of_reply(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpcore")
    app, options, steps, expected = SAID[name]
    seen = watch(with_author(app), Reply)
    refusals = watch(app, Refusal)
    dialogue = session(app, **options).send(*steps).end()
    said = f"{expected} in {dialogue.session.id}"
    assert said in dialogue.replies
    assert said in map(str, seen), "observers see the replies as they are sent"
    if expected[0] in "45":
        assert said in [str(refusal.reply) for refusal in refusals]
        if name not in ("failed session", "early talker"):  # the log has no reply for these
            assert any(said.split(" by ")[1] in record.getMessage() for record in caplog.records)


def test_wording_changes_the_first_line_of_the_reply_to_ehlo() -> None:
    dialogue = session(with_author(App())).send(EHLO)
    first, *keywords = dialogue.replies[1].split("\n")
    assert first == f"250-s.example by default EHLO in {dialogue.session.id}"
    assert "250-PIPELINING" in keywords


def test_wording_changes_the_421_of_a_shutdown() -> None:
    dialogue = session(with_author(App())).send(EHLO)
    dialogue.send(dialogue.loop.drain)
    assert dialogue.replies[-1] == f"421 4.3.2 s.example by shutdown shutdown in {dialogue.session.id}"
    assert dialogue.reasons == ["shutdown"]


def test_host_name_in_the_wording_of_a_timeout_is_not_added_twice() -> None:
    app = App()
    app.wording(lambda session, reply, author: Reply(reply.code, "s.example zzz") if reply.code == 421 else None)
    assert session(app).send(EHLO, SILENCE).end().replies[-1] == "421 4.4.2 s.example zzz"


def test_timeout_without_a_wording_keeps_its_text() -> None:
    app = App()
    app.wording(lambda session, reply, author: None)
    assert session(app).send(EHLO, SILENCE).end().replies[-1] == "421 4.4.2 s.example closing: you took too long"


def test_wording_does_not_change_a_challenge() -> None:
    app = with_author(app_with(auth=Users({"tim": "tanstaaf"}).on_auth))
    dialogue = session(app, config=OFFERING).send(EHLO + b"AUTH LOGIN\r\n", b"dGlt\r\n", b"dGFuc3RhYWY=\r\n")
    assert dialogue.replies[2:4] == ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"]
    assert dialogue.codes[4] == 235


def test_wording_may_change_the_enhanced_status_code() -> None:
    app = App()
    app.wording(lambda session, reply, author: Reply(reply.code, "5.7.27 No") if author.rule == "RCPT" else None)
    assert session(app).send(EHLO + MAIL, RCPT).replies[-1] == "550 5.7.27 No"


def test_first_wording_that_returns_a_reply_decides() -> None:
    app = App()
    app.wording(lambda session, reply, author: None)
    app.wording(lambda session, reply, author: Reply(reply.code, "second"))
    app.wording(lambda session, reply, author: Reply(reply.code, "third"))
    assert session(app).send(b"NOOP\r\n").replies[-1] == "250 2.0.0 second"


def test_wording_is_called_once_for_a_failure_that_is_logged_first() -> None:
    app = app_with(NOOP=fail)
    app.wording(lambda session, reply, author: Reply(reply.code, f"[mx] {reply.lines[0]}"))
    dialogue = session(app).send(b"NOOP\r\n")
    assert dialogue.replies[-1] == f"451 4.3.0 [mx] Internal error, session {dialogue.session.id}"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a\nb", "550-5.7.1 a\n550 5.7.1 b"),
        ("gr\u00fcn", "550 5.7.1 gr?n"),
        ("a\0b", "550 5.7.1 a?b"),
        ("", "550 5.7.1 "),
    ],
)
def test_text_of_a_wording_that_cannot_be_sent_is_changed(text: str, sent: str) -> None:
    app = App()
    app.wording(lambda session, reply, author: Reply(reply.code, text) if author.rule == "RCPT" else None)
    assert session(app).send(EHLO + MAIL, RCPT).replies[-1] == sent


def test_long_text_of_a_wording_is_continued_on_the_next_line() -> None:
    app = App()
    app.wording(lambda session, reply, author: Reply(reply.code, "x" * 496))
    dialogue = session(app).send(QUIT)
    assert all(len(line) <= 510 for reply in dialogue.replies for line in reply.split("\n"))
    assert dialogue.codes == [220, 221]
    drained = session(app)
    drained.send(drained.loop.drain)
    assert drained.replies[-1].startswith("421 4.3.2 s.example closing")
    assert session(app).send(EHLO, SILENCE).end().codes[-1] == 421


def test_wording_with_non_ascii_text_keeps_the_code_of_a_reply_to_vrfy() -> None:
    app = app_with(VRFY=lambda session, command: Reply(550, "No"))
    app.wording(lambda session, reply, author: Reply(reply.code, "n\u00f6"))
    session(app).send(EHLO + b"VRFY x\r\n").expect(220, 250, "550 5.0.0 n?")


def test_relayed_refusal_with_a_wording_does_not_count_as_an_error() -> None:
    app = App()
    app.on("RCPT")(lambda session, rcpt: Reply(550, "No", is_relayed=True))
    app.wording(lambda session, reply, author: Reply(reply.code, "changed"))
    session(app, config=replace(CONFIG, max_errors=2)).send(EHLO + MAIL + RCPT * 4).expect(220, 250, 250, *[550] * 4)


def raising(session: Session, reply: Reply, author: Author) -> Reply:
    raise ZeroDivisionError


class OwnError(BaseException):
    """An exception as `pytest.fail` raises one."""


def raising_more(session: Session, reply: Reply, author: Author) -> Reply:
    raise OwnError


@pytest.mark.parametrize(
    "wording",
    [
        raising,
        raising_more,
        lambda session, reply, author: Reply(250, "Welcome"),
        lambda session, reply, author: Reply(450, "Later"),
        lambda session, reply, author: Reply(554, "Never"),
        lambda session, reply, author: Reply(reply.code, "2.0.0 x", enhanced="2.0.0"),
        lambda session, reply, author: Reply(reply.code, *["x"] * 101),
        lambda session, reply, author: "550 text",
    ],
    ids=["raises", "raises a BaseException", "250", "450", "554", "wrong class", "too long", "text"],
)
def test_invalid_result_of_a_wording_is_logged_and_ignored(wording: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.wording(lambda session, reply, author: wording(session, reply, author) if author.rule == "RCPT" else None)
    dialogue = session(app).send(EHLO + MAIL + RCPT)
    dialogue.expect(220, 250, 250, "550 5.7.1 This server does not accept mail for this recipient")
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "a wording function failed" in record.message


def test_next_wording_is_called_after_a_wording_that_fails() -> None:
    app = App()
    app.wording(raising)
    app.wording(lambda session, reply, author: Reply(reply.code, "second"))
    assert session(app).send(b"NOOP\r\n").replies[-1] == "250 2.0.0 second"


@pytest.mark.parametrize("text", [Reply(250, "Welcome"), Reply(354, "Go"), Reply(421, "Bye")])
def test_wording_cannot_accept_a_message_that_was_refused(text: Reply) -> None:
    app = accepting()
    app.wording(lambda session, reply, author: text)
    session(app).send(ENVELOPE, BODY).expect(220, 250, 250, 250, 354, 554)


def test_wording_may_drop_the_client() -> None:
    def drop(session: Session, reply: Reply, author: Author) -> None:
        if author.rule == "RCPT":
            raise AbortConnection

    app = App()
    app.wording(drop)
    dialogue = session(app).send(EHLO + MAIL, RCPT)
    dialogue.expect(220, 250, 250)
    assert dialogue.reasons == ["aborted"]


def test_wording_is_a_method_of_an_included_object() -> None:
    app = App()
    app.include(SimpleNamespace(on_wording=lambda session, reply, author: Reply(reply.code, "mine")))
    session(app).send(b"NOOP\r\n").expect("220 s.example mine", "250 2.0.0 mine")


def test_wording_is_a_decorator_that_returns_its_function() -> None:
    def wording(session: Session, reply: Reply, author: Author) -> None: ...

    app = App()
    assert app.wording(wording) is wording
    assert list(app.wordings) == [wording]


def test_wording_that_is_not_a_plain_function_is_a_value_error() -> None:
    async def wording(session: Session, reply: Reply, author: Author) -> None: ...

    wrong: Callable[..., Any]
    for wrong in (wording, 5):  # type: ignore[assignment]
        with pytest.raises(ValueError, match="must be a plain function"):
            App().wording(wrong)


def test_wording_function_gets_the_session_of_the_reply() -> None:
    app = App()

    @app.on("connect")
    def remember(session: Session, opened: ConnectionOpened) -> None:
        session.state.language = "de"

    @app.on("NOOP")
    def check(session: Session, command: Command) -> None: ...

    @app.wording
    def translate(session: Session, reply: Reply, author: Author) -> Reply | None:
        return Reply(reply.code, "Gut") if session.state.language == "de" and author.rule == "NOOP" else None

    assert session(app, budgets=Budgets()).send(b"NOOP\r\n").replies[-1] == "250 2.0.0 Gut"
