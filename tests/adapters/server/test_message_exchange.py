"""One message: its handlers, its body in one piece or in chunks, and its replies."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smtpcore import (
    Noop,
    Path,
    Reply,
)
from smtpcore_adapters import (
    AbortConnection,
    App,
    Message,
    MessageAborted,
    Session,
)
from smtpcore_adapters.server._app import Handler
from tests.adapters.fakes import CONFIG, DATA, EHLO, ENVELOPE, MAIL, QUIT, RCPT, MessageStore, Step, accepting, register
from tests.adapters.playbook import session

BODY = b"Subject: x\r\n\r\nHello\r\n"
END = b".\r\n"


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


def failing(name: str, handler: Handler) -> App:
    app = App() if name == "RCPT" else accepting()
    register(app, name, handler)
    return app


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
def test_message_handler_that_raises_gives_451_and_the_session_continues(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    app = failing("message", handler)
    dialogue = session(app).send(ENVELOPE, b"one\r\n", b"QUIT\r\ntwo\r\n", END + b"NOOP\r\n" + QUIT)
    assert dialogue.codes == [220, 250, 250, 250, 354, 451, 250, 221]
    assert dialogue.replies[5] == f"451 4.3.0 Internal error, session {dialogue.session.id}"
    assert "the secret of the database" in caplog.text


def test_message_handler_may_reply_without_reading() -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(554, "No mail on Mondays"))
    session(app).send(ENVELOPE, BODY, BODY + END + QUIT).expect(220, 250, 250, 250, 354, 554, 221)


def test_message_handler_may_reply_during_the_body() -> None:
    app = accepting()

    @app.on("message")
    async def look(session: Session, message: Message) -> Reply:
        async for piece in message:
            if b"virus" in piece:
                break
        return Reply(554, "A virus")

    dialogue = session(app).send(ENVELOPE, b"a virus\r\n", BODY + END + QUIT)
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
    session(app, config=SMALL).send(ENVELOPE, *script, BODY + END + QUIT).expect(220, 250, 250, 250, 354, code, 221)
    assert [text[:3] for text in aborted] == [str(code)] * read
    assert tracebacks(caplog) == []


def test_uncaught_message_aborted_is_not_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    store = MessageStore()
    dialogue = session(accepting(store)).send(ENVELOPE, b"a\nb\r\n" + END + QUIT)
    assert dialogue.codes[-2:] == [550, 221]
    assert store.bodies == []
    assert tracebacks(caplog) == []


def test_every_message_handler_gets_message_aborted(caplog: pytest.LogCaptureFixture) -> None:
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
    dialogue = session(app).send(ENVELOPE, b"a\nb\r\n" + END + QUIT)
    assert dialogue.codes[-2:] == [550, 221]
    assert aborted == 2
    assert tracebacks(caplog) == []


# The end of the connection


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

    dialogue = session(app).send(ENVELOPE, BODY).end()
    assert seen == ["the connection was closed inside a body"]
    dialogue.expect(220, 250, 250, 250, 354)
    assert dialogue.reasons == ["lost"]
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("handled", [True, False])
def test_connection_lost_in_a_body_aborts_the_message(handled: bool, caplog: pytest.LogCaptureFixture) -> None:
    store = MessageStore()
    app = accepting(store) if handled else accepting()
    dialogue = session(app).send(ENVELOPE, BODY, ConnectionResetError()).end()
    assert store.bodies == []
    assert dialogue.codes[-1] == 354
    assert dialogue.reasons == ["lost"]
    assert dialogue.stream.close_timeouts == [0]
    assert tracebacks(caplog) == []


# Chunks


OPEN = EHLO + MAIL + RCPT
LMTP = replace(CONFIG, lmtp=True)
LHLO = b"LHLO c.example\r\n"


class MessageRecorder:
    """Records the body of each message, or why the message was aborted."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def on_message(self, session: Session, message: Message) -> Reply:
        try:
            body = await message.read()
        except MessageAborted as exc:
            self.ends.append(str(exc))
            raise

        self.ends.append(body.decode())
        return Reply(250, "Stored")


def test_handler_gets_the_chunks_of_a_message_as_one_message() -> None:
    store = MessageStore()
    script: list[Step] = [OPEN, b"BDAT 5\r\nab\r\n.BDAT 2", b" LAST\r\n\r\n", QUIT]
    dialogue = session(accepting(store)).send(*script).end()

    assert store.bodies == [b"ab\r\n.\r\n"]
    dialogue.expect(220, 250, 250, 250, 250, 250, 221)


def test_chunks_are_pipelined_with_further_commands() -> None:
    store = MessageStore()
    one = b"BDAT 3\r\nabcBDAT 0 LAST\r\n"
    dialogue = session(accepting(store)).send(OPEN + one + MAIL + RCPT + DATA + b"x\r\n.\r\n" + QUIT)

    assert store.bodies == [b"abc", b"x\r\n"]
    dialogue.expect(220, 250, 250, 250, 250, 250, 250, 250, 354, 250, 221)


def test_each_chunk_is_answered_before_the_next_chunk_arrives() -> None:
    dialogue = session(accepting(MessageStore())).send(OPEN).expect(220, 250, 250, 250)
    dialogue.send(b"BDAT 3\r\nabc").expect(250).send(b"BDAT 0 LAST\r\n", QUIT).expect(250, 221)


def test_noop_and_vrfy_between_chunks_keep_the_message() -> None:
    store = MessageStore()
    script: list[Step] = [
        OPEN,
        b"BDAT 3\r\nabc",
        b"NOOP\r\nVRFY u\r\nMAIL FROM:<x@c.example>\r\n",
        b"BDAT 3 LAST\r\ndef",
    ]
    dialogue = session(accepting(store)).send(*script, QUIT)

    assert store.bodies == [b"abcdef"]
    dialogue.expect(220, 250, 250, 250, 250, 250, 252, 503, 250, 221)


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        (b"RSET\r\n", [250, 221]),
        (EHLO, [250, 221]),
        (QUIT, [221]),
        (None, []),
    ],
)
def test_rset_ehlo_quit_or_end_of_stream_between_chunks_aborts_the_message(
    command: bytes | None, codes: list[int]
) -> None:
    recorder = MessageRecorder()
    dialogue = session(accepting(recorder)).send(OPEN, b"BDAT 3\r\nabc")
    if command is not None:
        dialogue.send(command, QUIT)
    dialogue.end()

    assert recorder.ends == ["the client has abandoned the message"]
    assert dialogue.codes[5:] == codes
    assert len(dialogue.reasons) == 1


def test_session_continues_after_rset_between_chunks() -> None:
    store = MessageStore()
    script: list[Step] = [OPEN, b"BDAT 3\r\nabc", b"RSET\r\n", MAIL + RCPT + b"BDAT 1 LAST\r\nx", QUIT]
    session(accepting(store)).send(*script).end()

    assert store.bodies == [b"x"]


def test_invalid_chunk_is_refused_at_its_end_and_aborts_the_message() -> None:
    recorder = MessageRecorder()
    script: list[Step] = [OPEN, b"BDAT 3\r\na\nb", b"BDAT 3 LAST\r\ncdeNOOP\r\n", QUIT]
    dialogue = session(accepting(recorder)).send(*script).end()

    assert [end[:9] for end in recorder.ends] == ["550 5.6.0"]
    assert dialogue.codes[4:] == [550, 503, 250, 221]


def test_drain_between_chunks_ends_the_session_with_421() -> None:
    recorder = MessageRecorder()
    dialogue = session(accepting(recorder)).send(OPEN, b"BDAT 3\r\nabc")
    dialogue.send(dialogue.loop.drain, b"BDAT 0 LAST\r\n").end()

    assert recorder.ends == ["the client has abandoned the message"]
    assert dialogue.reasons == ["shutdown"]
    assert dialogue.codes[-1] == 421


def test_starttls_between_chunks_aborts_the_message() -> None:
    recorder = MessageRecorder()
    config = replace(CONFIG, starttls=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    script: list[Step] = [OPEN, b"BDAT 3\r\nabc", b"STARTTLS\r\n", EHLO, QUIT]
    dialogue = session(accepting(recorder), config=config, tls=context).send(*script).end()

    assert recorder.ends == ["the client has abandoned the message"]
    assert dialogue.codes[5:] == [220, 250, 221]


# LMTP


RCPTS = b"".join(b"RCPT TO:<u%d@s.example>\r\n" % number for number in range(3))


def test_lmtp_repeats_a_single_reply_for_each_recipient() -> None:
    dialogue = session(accepting(MessageStore()), config=LMTP).send(LHLO + MAIL + RCPTS + DATA, b"x\r\n.\r\n", QUIT)

    assert dialogue.codes[6:] == [354, 250, 250, 250, 221]
    assert dialogue.replies[-4:-1] == ["250 2.0.0 Stored"] * 3


def answer_by_recipient(session: Session, message: Message) -> Mapping[Path, Reply]:
    return {
        Path("u2@s.example"): Reply(452, "Quota exceeded", enhanced="4.2.2"),
        Path("u0@S.EXAMPLE"): Reply(250, "Stored"),
    }


@pytest.mark.parametrize("body", [DATA + b"x\r\n.\r\n", b"BDAT 1 LAST\r\nx"])
def test_lmtp_replies_of_a_handler_are_sent_in_the_order_of_recipients(body: bytes) -> None:
    app = accepting()
    app.on("message")(answer_by_recipient)
    dialogue = session(app, config=LMTP).send(LHLO + MAIL + RCPTS + body + QUIT)

    # A recipient without a reply from the handler gets a temporary failure.
    assert dialogue.codes[-4:] == [250, 451, 452, 221]


OK = Reply(250, "stored")
FIRST, SECOND, THIRD = (Path(f"{number}@s.example") for number in range(3))


@pytest.mark.parametrize(
    ("answer", "codes", "errors"),
    [
        ({"0@s.example": OK, "1@S.EXAMPLE": OK, THIRD: OK}, [250, 250, 250], []),
        ({FIRST: OK, SECOND: OK}, [250, 250, 451], ["returned no reply for '2@s.example'"]),
        ({FIRST: OK, SECOND: None, THIRD: OK}, [250, 451, 250], ["returned None for '1@s.example'"]),
        ({FIRST: OK, SECOND: OK, THIRD: OK, "u@other.example": OK}, [250, 250, 250], ["for 'u@other.example'"]),
        ({FIRST: OK, SECOND: OK, THIRD: OK, "no path": OK}, [250, 250, 250], ["for 'no path'"]),
        ({}, [451, 451, 451], ["no reply for '0@s.example'"]),
        (
            {FIRST: OK, SECOND: Reply(421, "bye"), THIRD: OK},
            [451, 451, 451],
            ["before the last recipient has a reply"],
        ),
        ({FIRST: OK, SECOND: OK, THIRD: Reply(421, "bye")}, [250, 250, 421], []),
        ([OK, Reply(452, "full"), OK], [250, 452, 250], []),
        ((OK, OK, Reply(421, "bye")), [250, 250, 421], []),
        ([OK, OK], [451, 451, 451], ["returned 2 replies for 3 recipients"]),
        ([OK, "no reply", OK], [250, 451, 250], ["returned no reply for '1@s.example'"]),
    ],
)
def test_mistake_in_the_replies_by_recipient_is_logged_and_gives_451(
    answer: Any, codes: list[int], errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = accepting()
    app.on("message")(lambda session, message: answer)
    recipients = b"".join(b"RCPT TO:<%d@s.example>\r\n" % number for number in range(3))
    dialogue = session(app, config=LMTP).send(LHLO + MAIL + recipients + DATA + b"x\r\n.\r\n" + QUIT)
    assert dialogue.codes[7:10] == codes
    logged = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert all(any(error in message for message in logged) for error in errors)
    assert bool(logged) is bool(errors)
    assert dialogue.reasons == ["421" if 421 in codes else "QUIT"]


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        ({"a@S.example": Reply(250), "a@s.example": Reply(452), "b@s.example": Reply(551)}, [250, 452, 551, 551]),
        ({"a@s.example": Reply(452), "b@s.example": Reply(551)}, [452, 452, 551, 551]),
        ([Reply(250), Reply(450), Reply(452), Reply(551)], [250, 450, 452, 551]),
    ],
)
def test_equal_recipients_can_have_different_replies(answer: Any, codes: list[int]) -> None:
    app = accepting()
    app.on("message")(lambda session, message: answer)
    addresses = ("a@S.example", "a@s.example", "b@s.example", "b@s.example")
    recipients = "".join(f"RCPT TO:<{address}>\r\n" for address in addresses).encode()
    dialogue = session(app, config=LMTP).send(LHLO + MAIL + recipients + DATA + b"x\r\n.\r\n" + QUIT)
    assert dialogue.codes[-5:-1] == codes


def test_421_to_a_message_for_several_lmtp_recipients_ends_the_session(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(421, "bye"))
    dialogue = session(app, config=LMTP).send(LHLO + MAIL + RCPTS + DATA + b"x\r\n.\r\n" + QUIT)
    assert dialogue.codes[-2:] == [354, 421]
    assert dialogue.reasons == ["421"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_lmtp_refuses_an_invalid_body_for_each_recipient() -> None:
    dialogue = session(accepting(MessageStore()), config=LMTP).send(
        LHLO + MAIL + RCPTS + DATA + b"a\nb\r\n.\r\n" + QUIT
    )
    assert dialogue.codes[-4:] == [550, 550, 550, 221]


def test_replies_by_recipient_in_smtp_give_451(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()
    app.on("message")(answer_by_recipient)
    with caplog.at_level(logging.ERROR):
        dialogue = session(app).send(OPEN + DATA + b"x\r\n.\r\n" + QUIT)

    assert dialogue.codes[-2:] == [451, 221]
    assert "in LMTP also a mapping" in caplog.text


def test_lmtp_refuses_each_recipient_without_a_message_handler() -> None:
    dialogue = session(accepting(), config=LMTP).send(LHLO + MAIL + RCPTS + DATA + b"x\r\n.\r\n" + QUIT)
    assert dialogue.codes[-4:] == [554, 554, 554, 221]


def test_ehlo_is_refused_in_lmtp() -> None:
    session(App(), config=LMTP).send(EHLO + QUIT).expect(220, 500, 221)


# Refusals before the end


@pytest.mark.parametrize("refusal", ["reply", "exception"])
def test_refused_message_in_chunks_is_refused_at_its_next_chunk(refusal: str) -> None:
    app = accepting()

    @app.on("message")
    async def refuse(session: Session, message: Message) -> Reply:
        async for _ in message:
            if refusal == "exception":
                raise ValueError("no")
            return Reply(550, "no")
        raise AssertionError

    dialogue = session(app).send(OPEN, b"BDAT 3\r\nabc", b"BDAT 3\r\ndef", b"BDAT 0 LAST\r\n", QUIT)
    code = 550 if refusal == "reply" else 451
    assert dialogue.codes[-4:] == [code, 503, 503, 221]


def test_accepted_message_in_chunks_is_answered_at_its_end() -> None:
    app = accepting()
    app.on("message")(lambda session, message: Reply(250, "at once"))
    dialogue = session(app).send(OPEN, b"BDAT 3\r\nabc", b"BDAT 3\r\ndef", b"BDAT 0 LAST\r\n", QUIT)
    assert dialogue.replies[-2] == "250 2.0.0 at once"
    assert dialogue.codes[-4:] == [250, 250, 250, 221]


def test_connection_may_be_aborted_by_a_command_between_chunks() -> None:
    app = accepting(MessageStore())

    @app.on("NOOP")
    def abort(session: Session, noop: Noop) -> None:
        raise AbortConnection(b"bye")

    dialogue = session(app).send(EHLO + MAIL + RCPT).skip().send(b"BDAT 1\r\nx", b"NOOP\r\n")
    assert dialogue.is_over
    assert dialogue.stream.output.endswith(b"250 2.0.0 Chunk received\r\nbye")
