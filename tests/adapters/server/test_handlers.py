"""The calls of handlers, and the replies that they decide."""

from dataclasses import replace
from typing import Any, cast

import pytest

from smtpcore import (
    ByMode,
    Command,
    ConnectionOpened,
    DeliverBy,
    Etrn,
    Expn,
    Notify,
    Rcpt,
    Reply,
    Ret,
    UnknownCommand,
)
from smtpcore_adapters import (
    AbortConnection,
    App,
    HandlerDone,
    Message,
    Refusal,
    Session,
)
from smtpcore_adapters.server._app import Handler
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, QUIT, RCPT, accepting, register, watch
from tests.adapters.playbook import TRUSTED, session, trusted

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


# Handlers


class Recorder:
    """A RCPT handler that records its name in `calls` and returns a fixed answer."""

    def __init__(self, name: str, answer: Reply | None, calls: list[str]) -> None:
        self.name = name
        self.answer = answer
        self.calls = calls

    def on_rcpt(self, session: Session, rcpt: Rcpt) -> Reply | None:
        self.calls.append(self.name)
        return self.answer


def test_first_reply_of_a_handler_decides_and_none_continues() -> None:
    calls: list[str] = []
    app = App()
    for name, answer in (("first", None), ("second", Reply(450, "Later")), ("third", Reply(250))):
        app.include(Recorder(name, answer, calls))

    assert session(app).send(EHLO + MAIL + RCPT).end().replies[-1] == "450 4.0.0 Later"
    assert calls == ["first", "second"]


def test_handler_may_be_a_coroutine_function() -> None:
    app = App()

    @app.on("RCPT")
    async def take(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, f"Taken from {session.helo}")

    assert "Taken from" in session(app).send(EHLO + MAIL + RCPT).end().replies[-1]


def test_recipients_are_refused_without_a_handler() -> None:
    session(App()).send(EHLO + MAIL + RCPT + DATA + QUIT).expect(220, 250, 250, 550, 554, 221)


def test_message_is_refused_without_a_message_handler() -> None:
    session(accepting()).send(ENVELOPE, BODY + END + QUIT).expect(220, 250, 250, 250, 354, 554, 221)


def test_message_handler_that_reads_the_body_without_a_reply_gives_451(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("message")
    async def decide_nothing(session: Session, message: Message) -> None:
        await message.read()

    dialogue = session(app).send(ENVELOPE, BODY + END).end()
    assert dialogue.replies[-1] == f"451 4.3.0 Internal error, session {dialogue.session.id}"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "has read the body, but returned no reply" in record.message


def test_message_is_refused_if_no_handler_reads_or_replies() -> None:
    app = accepting()

    @app.on("message")
    async def look(session: Session, message: Message) -> None:
        assert message.reverse_path

    assert session(app).send(ENVELOPE, BODY + END).end().codes[-1] == 554


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(Reply(554, "Not for you"), "554 s.example Not for you"), (Reply(421, "Later"), "421 s.example Later")],
)
def test_connect_handler_may_refuse_the_session(reply: Reply, expected: str) -> None:
    app = App()
    app.on("connect")(lambda session, opened: reply)
    dialogue = session(app).send(EHLO + QUIT)
    assert dialogue.replies[0] == expected
    assert dialogue.codes == ([554, 503, 221] if reply.code == 554 else [421])
    assert dialogue.reasons == ["QUIT" if reply.code == 554 else "421"]


def test_connect_handler_may_set_the_greeting() -> None:
    app = App()

    @app.on("connect")
    def greet(session: Session, opened: ConnectionOpened) -> Reply:
        return Reply(220, "s.example ESMTP at your service")

    assert session(app).send(QUIT).replies[0] == "220 s.example ESMTP at your service"


def test_verb_handler_is_called_before_the_default_handler() -> None:
    app = App()
    seen: list[tuple[str, UnknownCommand]] = []

    @app.on_verb("XFOO")
    def foo(session: Session, command: UnknownCommand) -> Reply | None:
        seen.append(("xfoo", command))
        return Reply(250, "Foo") if command.argument else None

    @app.on("default")
    def anything(session: Session, command: UnknownCommand) -> Reply | None:
        seen.append(("default", command))
        return Reply(250, "Anything") if command.verb != "XNONE" else None

    dialogue = session(app).send(b"xfoo bar\r\n" + b"XFOO\r\n" + b"XBAR 1 2\r\n" + b"XNONE\r\n").end()
    assert dialogue.replies[1:] == [
        "250 2.0.0 Foo",
        "250 2.0.0 Anything",
        "250 2.0.0 Anything",
        "500 5.5.1 Command not recognized",
    ]
    assert seen == [
        ("xfoo", UnknownCommand("XFOO", "bar")),
        ("xfoo", UnknownCommand("XFOO", "")),
        ("default", UnknownCommand("XFOO", "")),
        ("default", UnknownCommand("XBAR", "1 2")),
        ("default", UnknownCommand("XNONE", "")),
    ]


@pytest.mark.parametrize("verb", ["CONNECT", "MESSAGE", "DISCONNECT", "connect", "message", "Disconnect", "DEFAULT"])
def test_command_named_like_an_event_never_reaches_the_event_handler(verb: str) -> None:
    app = App()
    reached: list[object] = []
    for name in ("message", "disconnect"):
        app.on(name)(lambda session, subject: reached.append(subject))

    @app.on("connect")
    def greet(session: Session, opened: ConnectionOpened) -> Reply:
        reached.append(opened)
        return Reply(220)

    session(app).send(verb.encode() + b" x\r\n" + QUIT).expect(220, 500, 221)
    assert reached == [ConnectionOpened(), "QUIT"]


def test_default_handler_receives_verbs_named_like_events() -> None:
    app = App()
    app.on("default")(lambda session, command: Reply(250, command.verb))
    assert session(app).send(b"MESSAGE\r\nDEFAULT\r\n").end().replies[1:] == ["250 2.0.0 MESSAGE", "250 2.0.0 DEFAULT"]


def test_invalid_command_reaches_no_handler() -> None:
    app = App()
    for verb in ("MAIL", "RCPT", "default"):
        app.on(verb)(fail)

    session(app).send(EHLO + b"MAIL TO:<x>\r\nRCPT\r\n\x00\r\n").end().expect(220, 250, 501, 503, 500)


def test_quit_handler_may_reply() -> None:
    app = App()
    app.on("QUIT")(lambda session, command: Reply(221, "s.example see you"))
    assert session(app).send(QUIT).replies[-1] == "221 2.0.0 s.example see you"


def test_etrn_and_expn_are_offered_with_a_handler() -> None:
    """R5321-3.5.1-01"""
    app = accepting()

    @app.on("ETRN")
    def start(session: Session, etrn: Etrn) -> Reply:
        return Reply(253, f"7 messages for {etrn.argument} started", enhanced="2.5.0")

    @app.on("EXPN")
    def expand(session: Session, expn: Expn) -> Reply:
        return Reply(250, "<a@s.example>", "<b@s.example>", enhanced="2.1.5")

    dialogue = trusted(app).send(EHLO + b"ETRN example.org\r\nEXPN list\r\n" + QUIT)
    hello, queue, members = dialogue.replies[1:4]
    assert "250-ETRN" in hello
    assert "250-EXPN" in hello
    assert queue == "253 2.5.0 7 messages for example.org started"
    assert members == "250-2.1.5 <a@s.example>\n250 2.1.5 <b@s.example>"

    dialogue = trusted(accepting()).send(EHLO + b"ETRN example.org\r\nEXPN list\r\n" + QUIT)
    dialogue.expect(220, 250, 502, 502, 221)


def test_ehlo_name_that_does_not_match_the_peer_is_accepted() -> None:
    """R5321-4.1.4-06, R5321-4.1.4-07"""
    app = accepting()
    seen: list[object] = []
    app.on("EHLO")(lambda session, ehlo: seen.append((ehlo.domain, session.peer)))
    dialogue = trusted(app).send(b"EHLO [203.0.113.9]\r\n" + MAIL + RCPT + QUIT)
    assert seen == [("[203.0.113.9]", TRUSTED)]
    dialogue.expect(220, 250, 250, 250, 221)


def test_handlers_receive_typed_parameters_of_enabled_extensions() -> None:
    seen: list[object] = []
    app = App()
    app.on("MAIL")(lambda session, mail: seen.append((mail.params.ret, mail.params.by)))

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        seen.append(rcpt.params.notify)
        return Reply(250)

    mail = b"MAIL FROM:<a@c.example> RET=HDRS BY=120;R\r\n"
    script = EHLO + mail + b"RCPT TO:<u@s.example> NOTIFY=FAILURE,DELAY\r\n" + QUIT
    config = replace(CONFIG, disabled=CONFIG.disabled - {"DSN", "DELIVERBY"}, min_by_time=60)
    dialogue = trusted(app, config=config).send(script).end()
    assert dialogue.codes == [220, 250, 250, 250, 221]
    assert seen == [(Ret.HDRS, DeliverBy(120, ByMode.RETURN)), frozenset({Notify.FAILURE, Notify.DELAY})]
    trusted(app).send(script).end().expect(220, 250, 555, 503, 221)
    assert {"DSN", "DELIVERBY 60"} <= {line[4:] for line in dialogue.replies[1].splitlines()}


# Handlers that fail


def failing(name: str, handler: Handler) -> App:
    app = App() if name == "RCPT" else accepting()
    register(app, name, handler)
    return app


@pytest.mark.parametrize("garbage", [250, "250 OK", True, b"", ()])
def test_handler_that_returns_a_wrong_type_gives_451(garbage: object, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(failing("MAIL", lambda session, mail: cast(Any, garbage))).send(EHLO + MAIL + QUIT)
    assert dialogue.replies[2] == f"451 4.3.0 Internal error, session {dialogue.session.id}"
    dialogue.expect(220, 250, 451, 221)
    [record] = [record for record in caplog.records if record.exc_info]
    assert dialogue.session.id in record.getMessage()
    assert record.__dict__["session"] == dialogue.session.id
    assert isinstance(record.exc_info and record.exc_info[1], TypeError)
    assert "a handler returns a Reply or None" in caplog.text


def return_text(session: Session, subject: object) -> Any:
    return "OK"


class CallableHandler:
    def __call__(self, session: Session, subject: object) -> Any:
        return 250

    def __repr__(self) -> str:
        return "<a callable handler>"


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (return_text, "return_text returned 'OK': a handler returns a Reply or None"),
        (CallableHandler(), "<a callable handler> returned 250: a handler returns a Reply or None"),
    ],
)
def test_error_about_a_wrong_return_value_names_the_handler(
    handler: Handler, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    session(failing("NOOP", handler)).send(b"NOOP\r\n").end()
    assert text in caplog.text


@pytest.mark.parametrize(
    ("name", "reply", "script"),
    [
        ("MAIL", Reply(354, "Go on"), EHLO + MAIL),
        ("DATA", Reply(250, "Fine"), EHLO + MAIL + RCPT + DATA),
        ("message", Reply(354, "More"), ENVELOPE + END),
        ("message", Reply(220, "Fine"), ENVELOPE + END),
        ("message", Reply(235, "Fine"), ENVELOPE + END),
        ("RCPT", Reply(235, "Fine"), EHLO + MAIL + RCPT),
        ("NOOP", Reply(221, "Fine"), b"NOOP\r\n"),
        ("XFOO", Reply(334, "Go on"), b"XFOO\r\n"),
    ],
)
def test_reply_that_may_not_be_sent_gives_451(
    name: str, reply: Reply, script: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = session(failing(name, lambda session, subject: reply)).send(script, QUIT)
    assert dialogue.codes[-2:] == [451, 221]
    assert dialogue.session.id in dialogue.replies[-2]
    assert tracebacks(caplog) == [f"{dialogue.session.id}: the reply of a handler cannot be sent"]


@pytest.mark.parametrize(
    ("name", "reply", "script", "sent"),
    [
        ("message", Reply(250, "Angenommen f\u00fcr J\u00f6rg"), ENVELOPE + END, "250 2.0.0 Angenommen f?r J?rg"),
        ("RCPT", Reply(550, "Relay denied \u2013 no"), EHLO + MAIL + RCPT, "550 5.0.0 Relay denied ? no"),
        ("message", Reply(550, "x" * 500), ENVELOPE + END, "550-5.0.0 " + "x" * 496 + "\n550 5.0.0 xxxx"),
        ("message", Reply(552, "Quota", "\u00fc"), ENVELOPE + END, "552-5.0.0 Quota\n552 5.0.0 ?"),
        ("message", Reply(554, "a\r\n250 b\x1b"), ENVELOPE + END, "554-5.0.0 a\n554 5.0.0 250 b?"),
        ("message", Reply(421, "x" * 490), ENVELOPE + END, "421-4.0.0 s.example\n421 4.0.0 " + "x" * 490),
        ("connect", Reply(554, "Acc\u00e8s refus\u00e9"), b"", "554 s.example Acc?s refus?"),
        ("EHLO", Reply(550, "\u00fc"), EHLO, "550 ?"),
        ("RCPT", Reply(550, "5.7.1 not relaying"), EHLO + MAIL + RCPT, "550 5.7.1 not relaying"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_code_of_a_reply_is_sent_with_any_text(
    name: str, reply: Reply, script: bytes, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = session(failing(name, lambda session, subject: reply)).send(script + QUIT)
    assert sent in dialogue.replies
    warnings = [record.message for record in caplog.records if "the text of a reply was changed" in record.message]
    assert len(warnings) == (sent != "550 5.7.1 not relaying")


@pytest.mark.parametrize("text", ["s.example\nFAKE", "gr\u00fcn", "x" * 600])
def test_text_of_a_reply_to_ehlo_cannot_fake_extensions(text: str) -> None:
    dialogue = session(failing("EHLO", lambda session, subject: Reply(250, text))).send(EHLO, QUIT)
    first, *keywords = dialogue.replies[-2].split("\n")
    assert first.startswith("250-s.example")
    assert len(first) <= 510
    assert "250-PIPELINING" in keywords
    assert not any("FAKE" in line or "xxx" in line for line in keywords)


@pytest.mark.parametrize("name", ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "HELP", "XFOO"])
def test_handler_that_raises_gives_451_and_the_session_continues(name: str, caplog: pytest.LogCaptureFixture) -> None:
    before = b"" if name == "EHLO" else EHLO + (MAIL if name in ("RCPT", "DATA") else b"")
    before += RCPT if name == "DATA" else b""
    line = {"EHLO": EHLO, "MAIL": MAIL, "RCPT": RCPT, "VRFY": b"VRFY x\r\n"}.get(name, name.encode() + b"\r\n")
    dialogue = session(failing(name, fail)).send(before + line + QUIT)
    assert dialogue.codes[-2:] == [451, 221]
    assert f"Internal error, session {dialogue.session.id}" in dialogue.replies[-2]
    assert b"secret" not in dialogue.stream.output
    assert "the secret of the database" in caplog.text
    assert len(tracebacks(caplog)) == 1


def test_connect_handler_that_raises_ends_the_session_with_421(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(failing("connect", fail)).send(EHLO).end()
    dialogue.expect(f"421 s.example internal error, session {dialogue.session.id}")
    assert dialogue.reasons == ["421"]
    assert "the secret of the database" in caplog.text


def test_connect_handler_with_an_invalid_reply_ends_the_session_with_421() -> None:
    session(failing("connect", lambda session, opened: Reply(354))).send(EHLO).end().expect(421)


def test_quit_handler_that_raises_still_gives_221() -> None:
    dialogue = session(failing("QUIT", fail)).send(QUIT).expect(220, 221)
    assert dialogue.reasons == ["QUIT"]


def failing_with(name: str, answer: object, seen: list[BaseException]) -> App:
    """Return an application whose handler of `name` raises, and whose `error` handler returns or raises `answer`."""
    app = failing(name, fail)

    def handle(session: Session, exception: BaseException) -> object:
        seen.append(exception)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    register(app, "error", handle)
    return app


AT_FAULT: dict[str, bytes] = {
    "connect": EHLO,
    "EHLO": EHLO,
    "MAIL": EHLO + MAIL,
    "XFOO": b"XFOO\r\n",
    "default": b"XFOO\r\n",
    "invalid": b"MAIL\r\n",
    "header": ENVELOPE + BODY + END,
    "message": ENVELOPE + BODY + END,
}
"""The handlers that fail, each with the octets that lead to its call."""


@pytest.mark.parametrize("name", AT_FAULT)
@pytest.mark.parametrize(
    "answer",
    [Reply(450, "Try later", enhanced="4.3.5"), Reply(554, "Broken", enhanced="5.3.5"), Reply(421, "Gone")],
    ids=["450", "554", "421"],
)
def test_error_handler_chooses_the_refusal_after_a_failure(
    name: str, answer: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[BaseException] = []
    app = failing_with(name, answer, seen)
    refusals = watch(app, Refusal)
    replies = session(app).send(AT_FAULT[name], QUIT).replies
    assert any(each.startswith(f"{answer.code} ") and each.endswith(answer.lines[0]) for each in replies)
    assert [str(exc) for exc in seen] == ["the secret of the database"]
    assert (refusals[0].decided_by, refusals[0].rule) == ("failure", name)
    assert len(tracebacks(caplog)) == 1
    assert answer.lines[0] in caplog.text


@pytest.mark.parametrize("name", AT_FAULT)
@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        (None, []),
        (Reply(250, "Fine"), ["the error handler failed"]),
        (Reply(354, "Go"), ["the error handler failed"]),
        ("550 text", ["the error handler failed"]),
        (ValueError("again"), ["the error handler failed"]),
    ],
    ids=repr,
)
def test_error_handler_that_does_not_refuse_leaves_the_default_refusal(
    name: str, answer: object, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = session(failing_with(name, answer, [])).send(AT_FAULT[name], QUIT)
    assert f"nternal error, session {dialogue.session.id}" in "".join(dialogue.replies)
    assert [text.split(": ")[-1] for text in tracebacks(caplog) if "client gets" not in text] == logged


def test_error_handler_cannot_change_the_reply_to_quit() -> None:
    seen: list[BaseException] = []
    dialogue = session(failing_with("QUIT", Reply(554, "Stay"), seen)).send(QUIT).expect(220, 221)
    assert dialogue.reasons == ["QUIT"]
    assert len(seen) == 1


def test_first_reply_of_several_error_handlers_is_sent() -> None:
    app = failing("NOOP", fail)
    for answer in (None, Reply(451, "second"), Reply(451, "third")):
        register(app, "error", Recorder("error", answer, []).on_rcpt)
    session(app).send(b"NOOP\r\n" + QUIT).expect(220, "451 4.0.0 second", 221)


def test_error_handler_may_drop_the_client(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = session(failing_with("NOOP", AbortConnection(), [])).send(b"NOOP\r\n" + QUIT).expect(220)
    assert dialogue.reasons == ["aborted"]
    assert "the secret of the database" in caplog.text


def test_error_handler_gets_the_exception_of_a_disconnect_handler_but_cannot_answer() -> None:
    seen: list[BaseException] = []
    app = failing_with("disconnect", AbortConnection(), seen)
    dialogue = session(app).send(QUIT).expect(220, 221)
    assert dialogue.reasons == ["QUIT"]
    assert len(seen) == 1


def test_client_cannot_call_the_error_handler() -> None:
    seen: list[BaseException] = []
    app = failing_with("NOOP", None, seen)
    session(app).send(b"ERROR x\r\n" + QUIT).expect(220, 500, 221)
    assert seen == []


def test_all_disconnect_handlers_are_called_even_if_some_raise(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.on("disconnect")(fail)

    @app.on("disconnect")
    async def fail_later(session: Session, reason: str) -> None:
        raise ValueError("second failure")

    dialogue = session(app).send(QUIT)
    assert dialogue.reasons == ["QUIT"]
    assert dialogue.stream.close_timeouts
    assert "the secret of the database" in caplog.text
    assert "second failure" in caplog.text


def test_each_failed_disconnect_handler_is_logged_in_order(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    calls: list[str] = []

    @app.on("disconnect")
    def first(session: Session, reason: str) -> Reply:
        calls.append("first")
        return Reply(250)

    @app.on("disconnect")
    async def second(session: Session, reason: str) -> None:
        calls.append("second")
        raise ZeroDivisionError

    @app.on("disconnect")
    def third(session: Session, reason: str) -> None:
        calls.append("third")
        raise KeyError

    session(app).send(QUIT)
    assert calls == ["first", "second", "third"]
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, KeyError]


def test_timeout_error_in_a_handler_is_not_a_client_timeout() -> None:
    app = accepting()

    @app.on("NOOP")
    def ask_database(session: Session, noop: Command) -> Reply:
        raise TimeoutError("the database")

    @app.on("message")
    async def deliver(session: Session, message: Message) -> Reply:
        raise TimeoutError("the database")

    dialogue = session(app).send(b"NOOP\r\n" + ENVELOPE, END + QUIT).expect(220, 451, 250, 250, 250, 354, 451, 221)
    assert dialogue.reasons == ["QUIT"]


# Duration


def test_handler_duration_excludes_waits_for_the_client() -> None:
    app = accepting()
    seen = watch(app, HandlerDone)

    @app.on("message")
    async def work(session: Session, message: Message) -> Reply:
        dialogue.stream.now += 5
        await message.read()
        dialogue.stream.now += 2
        raise RuntimeError

    dialogue = session(app)
    dialogue.send(ENVELOPE, dialogue.stream.advance(100), END + QUIT)
    assert seen[-1] == HandlerDone("message", 7)
