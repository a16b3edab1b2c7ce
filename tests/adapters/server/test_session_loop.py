"""The session loop, over a scripted stream in memory."""

import asyncio
import logging
import ssl
from dataclasses import replace
from typing import Any, cast

import pytest

from smtpcore import (
    Bodies,
    Command,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    InvalidCommand,
    InvalidData,
    Mail,
    Rcpt,
    Reply,
    UnknownCommand,
)
from smtpcore_adapters import (
    Address,
    App,
    HandlerDone,
    LimitReached,
    Message,
    MessageAborted,
    Notice,
    Observed,
    Reason,
    Session,
    SessionClosed,
    SessionOpened,
    Timeouts,
    Tls,
    TlsEstablished,
    TlsFailed,
)
from smtpcore_adapters.server._app import Handler
from tests.adapters.fakes import (
    CONFIG,
    DATA,
    EHLO,
    ENVELOPE,
    MAIL,
    QUIT,
    RCPT,
    SILENCE,
    Dialogue,
    FakeStream,
    MessageStore,
    Step,
    accepting,
    replies,
    run_dialogue,
    watch,
)

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"
TIMEOUTS = Timeouts(greeting=11, command=12, body=13, session=1000, tls=14, send=15, close=16)


def fail(session: Session, subject: object) -> Reply | None:
    raise RuntimeError("the secret of the database")


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


# Dialogues


def test_message_is_received_and_passed_to_the_handler() -> None:
    store = MessageStore()
    dialogue = run_dialogue(accepting(store), ENVELOPE, BODY + END + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 250, 221]
    assert store.bodies == [BODY]
    assert dialogue.reasons == ["QUIT"]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_segment_size_makes_no_difference(size: int) -> None:
    store = MessageStore()
    octets = ENVELOPE + BODY + END + QUIT
    dialogue = run_dialogue(accepting(store), *(octets[at : at + size] for at in range(0, len(octets), size)))
    assert dialogue.codes == [220, 250, 250, 250, 354, 250, 221]
    assert store.bodies == [BODY]


def test_body_is_iterated_in_lines_if_configured() -> None:
    lines: list[bytes] = []
    app = accepting()

    @app.on("message")
    async def store(session: Session, message: Message) -> Reply:
        lines.extend([line async for line in message])
        return Reply(250)

    run_dialogue(app, ENVELOPE, BODY + END + QUIT, config=replace(CONFIG, bodies=Bodies.LINES))
    assert lines == BODY.splitlines(keepends=True)


def test_session_attributes_seen_by_handlers() -> None:
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

    dialogue = run_dialogue(app, ENVELOPE, END + QUIT, peer=Address("192.0.2.1", 5))
    assert dialogue.codes == [220, 250, 250, 250, 354, 250, 221]
    assert dialogue.session.messages == 1


def test_session_ids_are_unique() -> None:
    assert len({Dialogue(App()).session.id for _ in range(100)}) == 100


def test_replies_to_pipelined_commands_are_sent_together() -> None:
    # RFC 2920 3.2
    stream = run_dialogue(accepting(), EHLO, MAIL + RCPT + RCPT + DATA, END + QUIT).stream
    assert [len(replies(data)) for data in stream.sent] == [1, 1, 4, 1, 1]


def test_reply_to_a_body_is_sent_before_the_next_command_is_handled() -> None:
    app = accepting(MessageStore())
    sent_before: list[bytes] = []

    @app.on("NOOP")
    def look(session: Session, noop: Command) -> None:
        sent_before.append(dialogue.stream.output)

    dialogue = Dialogue(app, ENVELOPE, END + b"NOOP\r\n" + QUIT)
    dialogue.run()
    assert sent_before[0].endswith(b"Stored\r\n")


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

    assert run_dialogue(app, EHLO + MAIL + RCPT).last == "450 4.0.0 Later"
    assert calls == ["first", "second"]


def test_handler_may_be_a_coroutine_function() -> None:
    app = App()

    @app.on("rcpt")
    async def take(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, f"Taken from {session.helo}")

    assert "Taken from" in run_dialogue(app, EHLO + MAIL + RCPT).last


def test_recipients_are_refused_without_a_handler() -> None:
    dialogue = run_dialogue(App(), EHLO + MAIL + RCPT + DATA + QUIT)
    assert dialogue.codes == [220, 250, 250, 550, 554, 221]


def test_message_is_refused_without_a_message_handler() -> None:
    dialogue = run_dialogue(accepting(), ENVELOPE, BODY + END + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 554, 221]


def test_message_handler_that_returns_none_accepts_nothing() -> None:
    app = accepting()

    @app.on("message")
    async def decide_nothing(session: Session, message: Message) -> None:
        await message.read()

    assert run_dialogue(app, ENVELOPE, BODY + END).codes[-1] == 554


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(Reply(554, "Not for you"), "554 s.example Not for you"), (Reply(421, "Later"), "421 s.example Later")],
)
def test_connect_handler_may_refuse_the_session(reply: Reply, expected: str) -> None:
    app = App()
    app.on("connect")(lambda session, opened: reply)
    dialogue = run_dialogue(app, EHLO + QUIT)
    assert dialogue.replies[0] == expected
    assert dialogue.codes == ([554, 503, 221] if reply.code == 554 else [421])
    assert dialogue.reasons == ["QUIT" if reply.code == 554 else "421"]


def test_connect_handler_may_set_the_greeting() -> None:
    app = App()

    @app.on("connect")
    def greet(session: Session, opened: ConnectionOpened) -> Reply:
        return Reply(220, "s.example ESMTP at your service")

    assert run_dialogue(app, QUIT).replies[0] == "220 s.example ESMTP at your service"


def test_verb_handler_is_called_before_the_default_handler() -> None:
    app = App()
    seen: list[tuple[str, UnknownCommand]] = []

    @app.on("XFOO")
    def foo(session: Session, command: UnknownCommand) -> Reply | None:
        seen.append(("xfoo", command))
        return Reply(250, "Foo") if command.argument else None

    @app.on("default")
    def anything(session: Session, command: UnknownCommand) -> Reply | None:
        seen.append(("default", command))
        return Reply(250, "Anything") if command.verb != "XNONE" else None

    dialogue = run_dialogue(app, b"xfoo bar\r\n" + b"XFOO\r\n" + b"XBAR 1 2\r\n" + b"XNONE\r\n")
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

    dialogue = run_dialogue(app, verb.encode() + b" x\r\n" + QUIT)
    assert dialogue.codes == [220, 500, 221]
    assert reached == [ConnectionOpened(), "QUIT"]


def test_default_handler_receives_verbs_named_like_events() -> None:
    app = App()
    app.on("default")(lambda session, command: Reply(250, command.verb))
    assert run_dialogue(app, b"MESSAGE\r\nDEFAULT\r\n").replies[1:] == ["250 2.0.0 MESSAGE", "250 2.0.0 DEFAULT"]


def test_invalid_command_reaches_no_handler() -> None:
    app = App()
    for verb in ("MAIL", "RCPT", "default"):
        app.on(verb)(fail)

    assert run_dialogue(app, EHLO + b"MAIL TO:<x>\r\nRCPT\r\n\x00\r\n").codes == [220, 250, 501, 503, 500]


def test_quit_handler_may_reply() -> None:
    app = App()
    app.on("QUIT")(lambda session, command: Reply(221, "s.example see you"))
    assert run_dialogue(app, QUIT).last == "221 2.0.0 s.example see you"


# Handlers that fail


def failing(name: str, handler: Handler) -> App:
    app = App() if name == "RCPT" else accepting()
    app.on(name)(handler)
    return app


@pytest.mark.parametrize("garbage", [250, "250 OK", True, b"", ()])
def test_handler_that_returns_a_wrong_type_gives_451(garbage: object, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = run_dialogue(failing("MAIL", lambda session, mail: cast(Any, garbage)), EHLO + MAIL + QUIT)
    assert dialogue.replies[2] == f"451 4.3.0 Internal error, session {dialogue.session.id}"
    assert dialogue.codes == [220, 250, 451, 221]
    [record] = [record for record in caplog.records if record.exc_info]
    assert dialogue.session.id in record.getMessage()
    assert record.__dict__["session"] == dialogue.session.id
    assert isinstance(record.exc_info and record.exc_info[1], TypeError)
    assert "a handler returns a Reply or None" in caplog.text


@pytest.mark.parametrize(
    ("name", "reply", "script"),
    [
        ("MAIL", Reply(354, "Go on"), EHLO + MAIL),
        ("DATA", Reply(250, "Fine"), EHLO + MAIL + RCPT + DATA),
        ("message", Reply(354, "More"), ENVELOPE + END),
        ("EHLO", Reply(250, "s.example", "FAKE"), EHLO),
        ("NOOP", Reply(250, "Grüße"), b"NOOP\r\n"),
        ("XFOO", Reply(334, "Go on"), b"XFOO\r\n"),
    ],
)
def test_reply_that_may_not_be_sent_gives_451(
    name: str, reply: Reply, script: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    dialogue = run_dialogue(failing(name, lambda session, subject: reply), script, QUIT)
    assert dialogue.codes[-2:] == [451, 221]
    assert dialogue.session.id in dialogue.replies[-2]
    assert tracebacks(caplog) == [f"{dialogue.session.id}: the reply of a handler cannot be sent"]


@pytest.mark.parametrize("name", ["EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "HELP", "XFOO"])
def test_handler_that_raises_gives_451_and_the_session_continues(name: str, caplog: pytest.LogCaptureFixture) -> None:
    before = b"" if name == "EHLO" else EHLO + (MAIL if name in ("RCPT", "DATA") else b"")
    before += RCPT if name == "DATA" else b""
    line = {"EHLO": EHLO, "MAIL": MAIL, "RCPT": RCPT, "VRFY": b"VRFY x\r\n"}.get(name, name.encode() + b"\r\n")
    dialogue = run_dialogue(failing(name, fail), before + line + QUIT)
    assert dialogue.codes[-2:] == [451, 221]
    assert f"Internal error, session {dialogue.session.id}" in dialogue.replies[-2]
    assert b"secret" not in dialogue.stream.output
    assert "the secret of the database" in caplog.text
    assert len(tracebacks(caplog)) == 1


def test_connect_handler_that_raises_ends_the_session_with_421(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = run_dialogue(failing("connect", fail), EHLO)
    assert dialogue.replies == [f"421 s.example internal error, session {dialogue.session.id}"]
    assert dialogue.reasons == ["421"]
    assert "the secret of the database" in caplog.text


def test_connect_handler_with_an_invalid_reply_ends_the_session_with_421() -> None:
    assert run_dialogue(failing("connect", lambda session, opened: Reply(354)), EHLO).codes == [421]


def test_quit_handler_that_raises_still_gives_221() -> None:
    dialogue = run_dialogue(failing("QUIT", fail), QUIT)
    assert dialogue.codes == [220, 221]
    assert dialogue.reasons == ["QUIT"]


def test_all_disconnect_handlers_are_called_even_if_some_raise(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.on("disconnect")(fail)

    @app.on("disconnect")
    async def fail_later(session: Session, reason: str) -> None:
        raise ValueError("second failure")

    dialogue = run_dialogue(app, QUIT)
    assert dialogue.reasons == ["QUIT"]
    assert dialogue.stream.close_timeouts
    assert "the secret of the database" in caplog.text
    assert "second failure" in caplog.text


# Handlers of messages that fail


async def raise_before(session: Session, message: Message) -> Reply:
    raise RuntimeError("the secret of the database")


async def raise_in_the_middle(session: Session, message: Message) -> Reply:
    async for _ in message:
        raise RuntimeError("the secret of the database")
    return Reply(250)


async def raise_after(session: Session, message: Message) -> Reply:
    await message.read()
    raise RuntimeError("the secret of the database")


@pytest.mark.parametrize("handler", [raise_before, raise_in_the_middle, raise_after])
def test_message_handler_that_raises_gives_451_and_keeps_the_dialogue_in_step(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    app = failing("message", handler)
    dialogue = run_dialogue(app, ENVELOPE, b"one\r\n", b"QUIT\r\ntwo\r\n", END + b"NOOP\r\n" + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 451, 250, 221]
    assert dialogue.replies[5] == f"451 4.3.0 Internal error, session {dialogue.session.id}"
    assert "the secret of the database" in caplog.text


def test_message_handler_may_reply_without_reading() -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(554, "No mail on Mondays"))
    dialogue = run_dialogue(app, ENVELOPE, BODY, BODY + END + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 554, 221]


def test_message_handler_may_reply_during_the_body() -> None:
    app = accepting()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        async for piece in message:
            if b"virus" in piece:
                break
        return Reply(554, "A virus")

    dialogue = run_dialogue(app, ENVELOPE, b"a virus\r\n", BODY + END + QUIT)
    assert dialogue.replies[-2:] == ["554 5.0.0 A virus", "221 2.0.0 s.example closing"]


INVALID: dict[str, tuple[bytes, int]] = {
    "bare newline": (b"a\nb\r\n", 550),
    "too large": (b"x" * 998 + b"\r\n", 552),
    "line too long": (b"y" * 2000 + b"\r\n", 554),
}
SMALL = replace(CONFIG, max_message_size=65_536, max_text_line=1000)


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("fault", INVALID)
def test_invalid_body_is_refused_even_if_the_handler_accepts(
    fault: str, read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    segment, code = INVALID[fault]
    app = accepting()
    aborted: list[str] = []

    @app.on("message")
    async def accept(session: Session, message: Message) -> Reply:
        try:
            if read:
                await message.read()
        except MessageAborted as exc:
            aborted.append(str(exc))
        return Reply(250, "Stored")

    script = [segment] * (70 if fault == "too large" else 1)
    dialogue = run_dialogue(app, ENVELOPE, *script, BODY + END + QUIT, config=SMALL)
    assert dialogue.codes == [220, 250, 250, 250, 354, code, 221]
    assert [text[:3] for text in aborted] == [str(code)] * read
    assert tracebacks(caplog) == []


def test_uncaught_message_aborted_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    store = MessageStore()
    dialogue = run_dialogue(accepting(store), ENVELOPE, b"a\nb\r\n" + END + QUIT)
    assert dialogue.codes[-2:] == [550, 221]
    assert store.bodies == []
    assert tracebacks(caplog) == []


def test_every_message_handler_sees_message_aborted(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()
    aborted = 0

    async def tolerant(session: Session, message: Message) -> None:
        nonlocal aborted
        try:
            async for _ in message:
                pass
        except MessageAborted:
            aborted += 1

    for _ in range(2):
        app.on("message")(tolerant)
    dialogue = run_dialogue(app, ENVELOPE, b"a\nb\r\n" + END + QUIT)
    assert dialogue.codes[-2:] == [550, 221]
    assert aborted == 2
    assert tracebacks(caplog) == []


# Bodies


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
    assert run_dialogue(app, ENVELOPE, BODY, BODY + END + QUIT).codes[-2] == 250
    assert seen + store.bodies == [BODY + BODY] * 5


def test_empty_body_has_no_pieces() -> None:
    app = accepting()
    pieces: list[bytes] = []

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        assert await message.read() == b""
        pieces.extend([piece async for piece in message])
        return Reply(250)

    assert run_dialogue(app, ENVELOPE, END + QUIT).codes[-2] == 250
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

    assert run_dialogue(app, ENVELOPE, BODY + END + QUIT).codes[-2] == 250


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

    dialogue = run_dialogue(app, ENVELOPE, BODY + END + MAIL + RCPT + DATA, BODY + END + QUIT)
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
    assert run_dialogue(app, *script).codes[-2:] == [250, 221]


# Timeouts


LIMITS: dict[str, tuple[tuple[Step, ...], float, list[str], int]] = {
    "greeting": ((SILENCE,), 11, ["timeout"], 2),
    "command": ((EHLO, SILENCE), 12, ["timeout"], 3),
    "in a transaction": ((EHLO + MAIL + RCPT, SILENCE), 12, ["timeout"], 5),
    "after a refusal to serve": ((EHLO, SILENCE), 12, ["timeout"], 3),
    "body": ((ENVELOPE, b"one\r\n", SILENCE), 13, ["timeout"], 6),
}


@pytest.mark.parametrize("phase", LIMITS)
def test_silent_client_gets_421(phase: str) -> None:
    script, limit, reasons, count = LIMITS[phase]
    store = MessageStore()
    app = accepting(store)
    if phase == "after a refusal to serve":
        app.on("connect")(lambda session, opened: Reply(554))

    dialogue = run_dialogue(app, *script, timeouts=TIMEOUTS)
    assert dialogue.stream.receive_timeouts[-1] == limit
    assert dialogue.last == "421 4.4.2 s.example closing: you took too long"
    assert len(dialogue.replies) == count
    assert dialogue.reasons == reasons
    assert dialogue.stream.close_timeouts == [16]
    assert store.bodies == []


def test_session_timeout_ends_a_busy_session() -> None:
    def noops(stream: FakeStream) -> list[Step]:
        return [part for _ in range(60) for part in (stream.advance(100), b"NOOP\r\n")]

    dialogue = Dialogue(App(), timeouts=TIMEOUTS)
    dialogue.stream.script.extend(noops(dialogue.stream))
    dialogue.run()
    assert dialogue.codes == [220] + 10 * [250] + [421]
    assert dialogue.reasons == ["timeout"]


def test_session_timeout_shortens_other_timeouts() -> None:
    dialogue = Dialogue(App(), timeouts=TIMEOUTS)
    dialogue.stream.script.extend([EHLO, dialogue.stream.advance(995), b"NOOP\r\n", SILENCE])
    dialogue.run()
    assert dialogue.stream.receive_timeouts == [11, 12, 5]
    assert dialogue.reasons == ["timeout"]


@pytest.mark.parametrize("name", ["NOOP", "QUIT", "message"])
def test_pending_reply_is_sent_before_the_421_of_the_session_timeout(name: str) -> None:
    app = accepting()

    def reply_late(session: Session, subject: object) -> Reply:
        dialogue.stream.now += 2000
        return Reply(221 if name == "QUIT" else 250, "Done at last")

    app.on(name)(reply_late)
    line = ENVELOPE + END if name == "message" else name.encode() + b"\r\n"
    dialogue = Dialogue(app, line, timeouts=TIMEOUTS)
    dialogue.run()
    assert "Done at last" in dialogue.replies[-1 if name == "QUIT" else -2]
    assert dialogue.codes[-1] == (221 if name == "QUIT" else 421)
    assert dialogue.reasons == ["timeout"]


def test_nothing_is_sent_after_a_write_that_timed_out() -> None:
    dialogue = Dialogue(App(), EHLO, b"NOOP\r\n", timeouts=TIMEOUTS)
    dialogue.stream.send_errors.extend([None, TimeoutError("full")])
    dialogue.run()
    assert dialogue.codes == [220]
    assert dialogue.reasons == ["timeout"]


def test_failed_write_of_the_last_reply_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = Dialogue(App(), EHLO, SILENCE)
    dialogue.stream.send_errors.extend([None, None, BrokenPipeError("gone")])
    dialogue.run()
    assert dialogue.codes == [220, 250]
    assert dialogue.reasons == ["timeout"]
    assert "the last reply did not arrive: gone" in caplog.text


def test_timeout_error_in_a_handler_is_not_a_client_timeout() -> None:
    app = accepting()

    @app.on("NOOP")
    def ask_database(session: Session, noop: Command) -> Reply:
        raise TimeoutError("the database")

    @app.on("message")
    async def deliver(session: Session, message: Message) -> Reply:
        raise TimeoutError("the database")

    dialogue = run_dialogue(app, b"NOOP\r\n" + ENVELOPE, END + QUIT)
    assert dialogue.codes == [220, 451, 250, 250, 250, 354, 451, 221]
    assert dialogue.reasons == ["QUIT"]


# Ends of a session


def test_end_of_stream_in_a_body_aborts_the_message(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()
    seen: list[str] = []

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        pieces = aiter(message)
        assert BODY.startswith(await anext(pieces))
        with pytest.raises(MessageAborted) as caught:
            await anext(pieces)
        seen.append(str(caught.value))
        with pytest.raises(MessageAborted):
            await anext(pieces)
        return Reply(250)

    dialogue = run_dialogue(app, ENVELOPE, BODY, b"")
    assert seen == ["the connection was closed inside a body"]
    assert dialogue.codes == [220, 250, 250, 250, 354]
    assert dialogue.reasons == ["lost"]
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("handled", [True, False])
def test_connection_lost_in_a_body_aborts_the_message(handled: bool, caplog: pytest.LogCaptureFixture) -> None:
    store = MessageStore()
    app = accepting(store) if handled else accepting()
    dialogue = run_dialogue(app, ENVELOPE, BODY, ConnectionResetError())
    assert store.bodies == []
    assert dialogue.codes[-1] == 354
    assert dialogue.reasons == ["lost"]
    assert dialogue.stream.close_timeouts == [0]
    assert tracebacks(caplog) == []


def reply_421(session: Session, subject: object) -> Reply:
    return Reply(421, "Go away")


ENDS: dict[str, tuple[tuple[Step, ...], str, float]] = {
    "QUIT": ((QUIT,), "QUIT", 16),
    "end of stream": ((EHLO, b""), "closed", 16),
    "end of stream in a line": ((EHLO, b"NOO", b""), "closed", 16),
    "end of stream before the first command": ((), "closed", 16),
    "lost": ((EHLO, ConnectionResetError("reset")), "lost", 0),
    "silent": ((SILENCE,), "timeout", 16),
    "a handler says 421": ((b"NOOP\r\n",), "421", 16),
    "too many errors": ((b"XX\r\n" * 60,), "421", 16),
    "end of stream in the body": ((ENVELOPE, b"x"), "lost", 0),
}


@pytest.mark.parametrize("way", ENDS)
def test_disconnect_handler_is_called_once_with_the_reason(way: str) -> None:
    script, reason, limit = ENDS[way]
    app = accepting()
    app.on("NOOP")(reply_421)
    dialogue = run_dialogue(app, *script, timeouts=TIMEOUTS)
    assert dialogue.reasons == [reason]
    assert dialogue.stream.close_timeouts == [limit]


def test_failed_write_ends_the_session() -> None:
    dialogue = Dialogue(App(), EHLO, QUIT)
    dialogue.stream.send_errors.extend([None, BrokenPipeError()])
    dialogue.run()
    assert dialogue.codes == [220]
    assert dialogue.reasons == ["lost"]


def test_cancellation_is_propagated() -> None:
    for script in ((EHLO, asyncio.CancelledError()), (ENVELOPE, b"x", asyncio.CancelledError())):
        dialogue = Dialogue(accepting(MessageStore()), *script)
        with pytest.raises(asyncio.CancelledError):
            dialogue.run()
        assert dialogue.reasons == ["cancelled"]
        assert dialogue.stream.close_timeouts == [0]


def test_exception_in_the_session_loop_gives_421(caplog: pytest.LogCaptureFixture) -> None:
    dialogue = run_dialogue(App(), EHLO, ValueError("the secret of the stream"))
    assert dialogue.last == f"421 4.3.0 s.example closing: internal error, session {dialogue.session.id}"
    assert dialogue.reasons == ["failed"]
    assert "the secret of the stream" in caplog.text


def test_commands_after_a_421_are_ignored() -> None:
    app = accepting()
    app.on("NOOP")(reply_421)
    app.on("VRFY")(fail)
    assert run_dialogue(app, b"NOOP\r\nVRFY x\r\n").codes == [220, 421]


# Draining


def test_drain_ends_an_idle_session_at_once() -> None:
    for before in (b"", EHLO, EHLO + MAIL + RCPT):
        dialogue = Dialogue(accepting(), before or EHLO)
        dialogue.stream.script.extend([dialogue.loop.drain, b"NOOP\r\n", QUIT])
        dialogue.run()
        assert dialogue.last == "421 4.3.2 s.example closing: the server is shutting down"
        assert list(dialogue.stream.script) == [b"NOOP\r\n", QUIT]
        assert dialogue.reasons == ["shutdown"]


def test_drain_before_the_greeting_greets_with_421() -> None:
    dialogue = Dialogue(App(), EHLO)
    dialogue.loop.drain()
    dialogue.run()
    assert dialogue.codes == [421]
    assert dialogue.reasons == ["shutdown"]


def test_drain_ends_a_busy_session_before_its_next_command() -> None:
    app = App()

    @app.on("MAIL")
    def drain(session: Session, mail: Mail) -> None:
        dialogue.loop.drain()

    dialogue = Dialogue(app, EHLO, MAIL + b"NOOP\r\n" + QUIT)
    dialogue.run()
    assert dialogue.codes == [220, 250, 250, 421]
    assert dialogue.reasons == ["shutdown"]


@pytest.mark.parametrize(("name", "reason"), [("QUIT", "QUIT"), ("NOOP", "421")])
def test_drain_keeps_the_reason_of_a_session_that_is_ending(name: str, reason: str) -> None:
    app = App()

    def drain(session: Session, command: Command) -> Reply:
        dialogue.loop.drain()
        return Reply(221 if name == "QUIT" else 421, "bye")

    app.on(name)(drain)
    dialogue = Dialogue(app, f"{name}\r\nRSET\r\n".encode())
    dialogue.run()
    assert dialogue.codes[1:] == [221 if name == "QUIT" else 421]
    assert dialogue.reasons == [reason]


@pytest.mark.parametrize("when", ["while waiting for the body", "in the handler", "before the 354"])
def test_drain_completes_a_message_before_the_421(when: str) -> None:
    store = MessageStore()
    app = accepting()

    @app.on("message")
    def drain(session: Session, message: Message) -> None:
        if when == "in the handler":
            dialogue.loop.drain()

    @app.on("DATA")
    def drain_early(session: Session, data: Command) -> None:
        if when == "before the 354":
            dialogue.loop.drain()

    app.include(store)
    dialogue = Dialogue(app, ENVELOPE, b"one\r\n")
    if when == "while waiting for the body":
        dialogue.stream.script.append(dialogue.loop.drain)
    dialogue.stream.script.extend([b"two\r\n", END + MAIL])
    dialogue.run()
    assert store.bodies == [b"one\r\ntwo\r\n"]
    assert dialogue.codes == [220, 250, 250, 250, 354, 250, 421]
    assert dialogue.reasons == ["shutdown"]


def test_refused_session_calls_no_connect_handler() -> None:
    dialogue = Dialogue(failing("connect", fail), EHLO)
    dialogue.loop.refuse(Reply(421, "closing: full", enhanced="4.7.0"))
    dialogue.run()
    assert dialogue.replies == ["421 s.example closing: full"]
    assert dialogue.reasons == ["421"]


# TLS


TLS_CONFIG = replace(CONFIG, tls=True)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def test_starttls_resets_the_session() -> None:
    app = accepting()
    seen: list[tuple[object, bool]] = []
    app.on("NOOP")(lambda session, noop: seen.append((session.helo, session.tls is not None)))
    script = (EHLO, b"NOOP\r\n", b"STARTTLS\r\n", b"NOOP\r\n", MAIL, EHLO, QUIT)
    dialogue = run_dialogue(app, *script, config=TLS_CONFIG, tls=CONTEXT, timeouts=TIMEOUTS)
    assert dialogue.codes == [220, 250, 250, 220, 250, 503, 250, 221]
    assert "STARTTLS" in dialogue.replies[1]
    assert "STARTTLS" not in dialogue.replies[6]
    assert seen == [(Ehlo("c.example"), False), (None, True)]
    assert dialogue.stream.handshake_limit == 14


def test_plaintext_command_after_starttls_is_never_executed() -> None:
    dialogue = run_dialogue(failing("NOOP", fail), EHLO, b"STARTTLS\r\nNOOP\r\n", QUIT, config=TLS_CONFIG, tls=CONTEXT)
    assert dialogue.codes == [220, 250, 421]
    assert dialogue.stream.tls is None
    assert dialogue.reasons == ["421"]


@pytest.mark.parametrize("failure", [ssl.SSLError("no"), TimeoutError("slow"), ConnectionResetError("gone")])
def test_nothing_is_sent_after_a_failed_handshake(failure: OSError, caplog: pytest.LogCaptureFixture) -> None:
    dialogue = Dialogue(App(), EHLO, b"STARTTLS\r\n", QUIT, config=TLS_CONFIG, tls=CONTEXT)
    dialogue.stream.handshake_error = failure
    dialogue.run()
    assert dialogue.codes == [220, 250, 220]
    assert dialogue.reasons == ["lost"]
    assert dialogue.stream.close_timeouts == [0]
    assert tracebacks(caplog) == []


def test_implicit_tls_starts_before_the_greeting() -> None:
    app = App()
    seen: list[bool] = []
    app.on("connect")(lambda session, opened: seen.append(session.tls is not None))
    dialogue = run_dialogue(app, EHLO + QUIT, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True)
    assert dialogue.codes == [220, 250, 221]
    assert "STARTTLS" not in dialogue.replies[1]
    assert seen == [True]


def test_failed_implicit_tls_sends_no_greeting() -> None:
    dialogue = Dialogue(App(), EHLO, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True)
    dialogue.stream.handshake_error = ssl.SSLError("no")
    dialogue.run()
    assert dialogue.stream.output == b""
    assert dialogue.reasons == ["lost"]


def test_starttls_without_a_context_loses_the_connection() -> None:
    dialogue = run_dialogue(App(), EHLO, b"STARTTLS\r\n", QUIT, config=TLS_CONFIG)
    assert dialogue.codes == [220, 250, 220]
    assert dialogue.reasons == ["lost"]


def test_drain_waits_for_the_tls_handshake() -> None:
    app = App()

    @app.on("STARTTLS")
    def drain(session: Session, command: Command) -> None:
        dialogue.loop.drain()

    dialogue = Dialogue(app, EHLO, b"STARTTLS\r\n", EHLO, config=TLS_CONFIG, tls=CONTEXT)
    dialogue.run()
    assert dialogue.codes == [220, 250, 220, 421]
    assert dialogue.stream.tls
    assert dialogue.reasons == ["shutdown"]


def test_plaintext_found_before_the_handshake_ends_the_session() -> None:
    app = App()

    @app.on("STARTTLS")
    def inject(session: Session, command: Command) -> None:
        dialogue.loop._wire.conn.receive_data(b"NOOP\r\n")

    dialogue = Dialogue(app, EHLO, b"STARTTLS\r\n", config=TLS_CONFIG, tls=CONTEXT)
    dialogue.run()
    assert dialogue.codes[:2] == [220, 250]
    assert 250 not in dialogue.codes[2:]
    assert dialogue.stream.tls is None


# Observers


def test_observers_see_events_and_replies_in_order() -> None:
    app = accepting(MessageStore())
    happened = watch(app, object)
    run_dialogue(app, b"RCPT\r\n" + ENVELOPE, BODY + END + QUIT)
    seen = [item for item in happened if not isinstance(item, Notice)]
    kinds = [f"{item.code}" if isinstance(item, Reply) else type(item).__name__ for item in seen]
    assert kinds == [
        *("ConnectionOpened", "220", "InvalidCommand", "503", "Ehlo", "250", "Mail", "250", "Rcpt", "250"),
        *("Data", "354", "DataChunk", "DataEnd", "250", "Quit", "221"),
    ]
    assert seen[1] == Reply(220, "s.example ESMTP")  # as it was sent
    assert isinstance(seen[2], InvalidCommand)
    assert isinstance(seen[12], DataChunk)
    assert isinstance(seen[13], DataEnd)


def test_observers_see_invalid_data_and_the_final_421() -> None:
    app = accepting()
    seen: list[Observed] = []
    app.observe(lambda session, item: seen.append(item))
    config = replace(CONFIG, bodies=Bodies.LINES)
    run_dialogue(app, ENVELOPE, b"one\r\nt\nwo\r\n" + END, SILENCE, config=config)
    assert DataLine(b"one\r\n") in seen
    assert any(isinstance(item, InvalidData) for item in seen)
    assert isinstance(seen[-3], Reply)
    assert seen[-3].code == 421
    assert isinstance(seen[-1], SessionClosed)


def test_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting(store := MessageStore())

    def look(session: Session, item: Observed) -> None:
        raise RuntimeError("the secret of the observer")

    app.observe(look)
    dialogue = run_dialogue(app, ENVELOPE, BODY + END + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 250, 221]
    assert store.bodies == [BODY]
    assert dialogue.reasons == ["QUIT"]
    assert "the secret of the observer" in caplog.text

    dialogue = run_dialogue(app, SILENCE)
    assert dialogue.codes == [220, 421]
    assert dialogue.reasons == ["timeout"]


def test_observers_see_notices_of_sessions_tls_and_handlers() -> None:
    app = accepting(MessageStore())
    seen = watch(app, SessionOpened, SessionClosed, TlsEstablished, TlsFailed, LimitReached, HandlerDone)
    run_dialogue(app, EHLO, b"STARTTLS\r\n", ENVELOPE, END + QUIT, config=TLS_CONFIG, tls=CONTEXT)
    assert seen == [
        SessionOpened(),
        TlsEstablished(Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
        HandlerDone("RCPT", 0),
        HandlerDone("message", 0),
        SessionClosed(Reason.QUIT, 0),
    ]


def test_observers_see_a_failed_handshake() -> None:
    app = App()
    seen = watch(app, SessionOpened, SessionClosed, TlsEstablished, TlsFailed, LimitReached, HandlerDone)
    for failure in (ssl.SSLError(1, "no shared cipher"), ConnectionResetError()):
        dialogue = Dialogue(app, EHLO, config=TLS_CONFIG, tls=CONTEXT, implicit_tls=True)
        dialogue.stream.handshake_error = failure
        dialogue.run()

    assert [item.error for item in seen if isinstance(item, TlsFailed)] == ["no shared cipher", "ConnectionResetError"]


def test_handler_duration_excludes_waits_for_the_client() -> None:
    app = accepting()
    seen = watch(app, HandlerDone)

    @app.on("message")
    async def work(session: Session, message: Message) -> Reply:
        dialogue.stream.now += 5
        await message.read()
        dialogue.stream.now += 2
        raise RuntimeError

    dialogue = Dialogue(app, ENVELOPE)
    dialogue.stream.script.extend([dialogue.stream.advance(100), END + QUIT])
    dialogue.run()
    assert seen[-1] == HandlerDone("message", 7)


def test_object_with_on_event_observes() -> None:
    class ReplyObserver:
        def __init__(self) -> None:
            self.replies: list[int] = []

        def on_event(self, session: Session, item: Observed) -> None:
            if isinstance(item, Reply):
                self.replies.append(item.code)

    app = App()
    app.include(observer := ReplyObserver())
    run_dialogue(app, b"EVENT x\r\n" + QUIT)
    assert observer.replies == [220, 500, 221]


def test_observer_that_raises_does_not_stop_other_observers() -> None:
    app = App()
    seen: list[Observed] = []
    app.observe(fail)
    app.observe(lambda session, item: seen.append(item))
    run_dialogue(app, QUIT)
    assert len(seen) == 6


# Log


def test_log_records_begin_with_the_session_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smtpcore")
    dialogue = run_dialogue(App(), QUIT, peer=Address("2001:db8::1", 5))
    assert [record.getMessage() for record in caplog.records] == [
        f"{dialogue.session.id}: connection from [2001:db8::1]:5",
        f"{dialogue.session.id}: disconnected: QUIT",
    ]
