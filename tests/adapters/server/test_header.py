"""Header handlers: the fields of a header, refusals at the header, and refusals of a message before its end."""

import logging
from dataclasses import replace

import pytest

from smtpcore import Mail, Params, Path, Rcpt, Reply, Transaction
from smtpcore_adapters import App, AtOnce, Header, Message, Observed, Refusal, Session
from tests.adapters.fakes import CONFIG, EHLO, ENVELOPE, MAIL, QUIT, RCPT, MessageStore, accepting, register
from tests.adapters.playbook import session

TRANSACTION = Transaction(Mail(Path("a@c.example"), Params()), [Rcpt(Path("u@s.example"), Params())])
SPAM = b"Subject: spam\r\n\r\n"
HAM = b"Subject: ham\r\n\r\n"
END = b".\r\n"
REFUSAL = Reply(550, "No spam", enhanced="5.7.1")
IS_SPAM = "550 5.7.1 No spam"


def header(raw: bytes) -> Header:
    return Header(raw, TRANSACTION)


class Filter(MessageStore):
    """Refuses messages about spam, and stores all others."""

    def __init__(self, answer: Reply | AtOnce | None = REFUSAL) -> None:
        super().__init__()
        self.headers: list[bytes] = []
        self.answer = answer

    async def on_header(self, session: Session, header: Header) -> Reply | AtOnce | None:
        self.headers.append(header.raw)
        return self.answer if header.get("subject") == "spam" else None


def filtering(store: Filter) -> App:
    return accepting(store)


# The fields


def test_fields_are_unfolded_and_decoded() -> None:
    raw = b"Subject: \xc3\xa9t\xc3\xa9\r\n  2026 \r\nX-A : 1\r\nX-B:\r\nX-C: \xff\r\n\r\n"

    assert list(header(raw).fields()) == [
        ("Subject", "\xe9t\xe9  2026"),
        ("X-A", "1"),
        ("X-B", ""),
        ("X-C", "\N{REPLACEMENT CHARACTER}"),
    ]


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"no field\r\n", b" folded: x\r\n\r\n", b": x\r\n", b"a b: x\r\n\r\n"])
def test_lines_that_are_not_header_fields_are_left_out(raw: bytes) -> None:
    assert list(header(raw).fields()) == []


def test_last_field_may_lack_its_line_end() -> None:
    assert list(header(b"A: b").fields()) == [("A", "b")]


def test_field_names_are_compared_without_regard_to_case() -> None:
    fields = header(b"To: a\r\nTO: b\r\nTo-Do: c\r\n\r\n")

    assert fields.get("to") == "a"
    assert list(fields.get_all("tO")) == ["a", "b"]
    assert fields.get("from") is None


def test_header_has_the_envelope() -> None:
    assert header(b"").reverse_path == Path("a@c.example")
    assert header(b"").forward_paths == (Path("u@s.example"),)


# Handlers


def test_message_handler_gets_the_whole_message_after_the_header_handler() -> None:
    store = Filter()
    session(filtering(store)).send(ENVELOPE, HAM[:9], HAM[9:] + b"body\r\n", END, QUIT)

    assert store.headers == [HAM]
    assert store.bodies == [HAM + b"body\r\n"]


def test_message_that_is_all_header_is_stored() -> None:
    store = Filter()
    session(filtering(store)).send(ENVELOPE, b"Subject: ham\r\n" + END, QUIT)

    assert store.headers == [b"Subject: ham\r\n"]
    assert store.bodies == [b"Subject: ham\r\n"]


def test_refusal_at_the_header_is_sent_at_the_end_and_nothing_is_stored() -> None:
    store = Filter()
    dialogue = session(filtering(store)).send(ENVELOPE, SPAM, b"body\r\n").expect(220, 250, 250, 250, 354)
    dialogue.send(END, MAIL, QUIT).expect(IS_SPAM, 250, 221)

    assert store.bodies == []


def test_refusal_at_the_header_answers_the_current_chunk_of_bdat() -> None:
    store = Filter()
    dialogue = session(filtering(store)).send(EHLO + MAIL + RCPT).skip()
    dialogue.send(b"BDAT 30\r\n" + SPAM, b"x" * (30 - len(SPAM))).expect(IS_SPAM)
    dialogue.send(b"BDAT 5 LAST\r\nabcde", b"RSET\r\n").expect(503, 250)

    assert store.bodies == []


def test_header_may_end_in_a_later_chunk() -> None:
    store = Filter()
    dialogue = session(filtering(store)).send(EHLO + MAIL + RCPT).skip()
    dialogue.send(b"BDAT 9\r\nSubject: ", b"NOOP\r\n", b"BDAT 8 LAST\r\nham\r\n\r\nx").expect(250, 250, 250)

    assert store.bodies == [b"Subject: ham\r\n\r\nx"]


def test_client_may_abandon_a_message_in_its_header() -> None:
    store = Filter()
    dialogue = session(filtering(store)).send(EHLO + MAIL + RCPT).skip()
    dialogue.send(b"BDAT 9\r\nSubject: ", b"RSET\r\n", MAIL + RCPT + b"DATA\r\n" + HAM + END)

    dialogue.expect(250, 250, 250, 250, 354, 250)
    assert store.bodies == [HAM]


def test_header_over_the_limit_is_refused_without_calling_handlers() -> None:
    store = Filter()
    config = replace(CONFIG, max_header=100)
    dialogue = session(filtering(store), config=config).send(ENVELOPE, b"a: b\r\n" * 20 + b"\r\n" + END)

    dialogue.expect(220, 250, 250, 250, 354, "552 5.3.4 The header of the message exceeds the maximum size")
    assert store.headers == []


def test_refusal_at_the_header_is_sent_for_each_lmtp_recipient() -> None:
    config = replace(CONFIG, lmtp=True)
    wire = EHLO.replace(b"EHLO", b"LHLO") + MAIL + RCPT + RCPT + b"DATA\r\n"
    dialogue = session(filtering(Filter()), config=config).send(wire).skip()

    dialogue.send(SPAM + END).expect(IS_SPAM, IS_SPAM)


@pytest.mark.parametrize("lmtp", [False, True])
def test_refusal_at_once_ends_the_session_before_the_end_of_the_message(lmtp: bool) -> None:
    seen: list[Observed] = []
    app = filtering(Filter(AtOnce(REFUSAL)))
    app.observe(lambda session, item: seen.append(item))
    hello = EHLO.replace(b"EHLO", b"LHLO") if lmtp else EHLO
    dialogue = session(app, config=replace(CONFIG, lmtp=lmtp)).send(hello + MAIL + RCPT + b"DATA\r\n").skip()

    dialogue.send(SPAM + b"body\r\n").expect(IS_SPAM)
    assert dialogue.is_over
    assert [item.rule for item in seen if isinstance(item, Refusal)] == ["header"]
    assert REFUSAL in seen


def test_text_of_a_refusal_at_once_is_made_to_fit() -> None:
    dialogue = session(filtering(Filter(AtOnce(Reply(550, "k\xf6nnen\nwir nicht"))))).send(ENVELOPE).skip()

    dialogue.send(SPAM + b"body").expect("550-5.0.0 k?nnen\n550 5.0.0 wir nicht")


def test_refusal_at_once_at_the_end_of_the_message_leaves_the_session_open() -> None:
    app = accepting()

    @app.on("message")
    async def refuse(session: Session, message: Message) -> AtOnce:
        await message.read()
        return AtOnce(REFUSAL)

    session(app).send(ENVELOPE).skip().send(HAM + END + b"NOOP\r\n").expect(IS_SPAM, 250)


def test_message_handler_may_refuse_at_once() -> None:
    app = accepting()
    app.on("message")(lambda session, message: AtOnce(REFUSAL))

    dialogue = session(app).send(ENVELOPE).expect(220, 250, 250, 250, 354, IS_SPAM)
    assert dialogue.is_over


@pytest.mark.parametrize("answer", [Reply(250), "no"])
def test_header_handler_with_another_result_than_a_refusal_gives_451(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    app = accepting()
    register(app, "header", lambda session, header: answer)

    session(app).send(ENVELOPE).skip().send(HAM + END + b"NOOP\r\n").expect(451, 250)
    assert "return None" in caplog.text


def test_header_handler_that_raises_gives_451(caplog: pytest.LogCaptureFixture) -> None:
    app = accepting()

    @app.on("header")
    def fail(session: Session, header: Header) -> None:
        raise RuntimeError("no database")

    session(app).send(ENVELOPE).skip().send(HAM + b"body\r\n" + END).expect(451)
    assert "no database" in caplog.text


@pytest.mark.parametrize("code", [250, 354])
def test_refusal_at_once_needs_a_negative_code(code: int) -> None:
    with pytest.raises(ValueError, match="use 4yz or 5yz"):
        AtOnce(Reply(code))


def test_early_refusal_of_a_message_handler_answers_the_chunk_that_is_being_received() -> None:
    app = accepting()

    @app.on("message")
    async def refuse(session: Session, message: Message) -> Reply:
        async for _ in message:
            return REFUSAL
        return Reply(250)

    dialogue = session(app).send(EHLO + MAIL + RCPT).skip()
    dialogue.send(b"BDAT 20\r\n0123456789", b"0123456789", b"BDAT 2 LAST\r\nab").expect(IS_SPAM, 503)


def test_limit_of_the_configuration_decides_without_header_handlers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = MessageStore()
    config = replace(CONFIG, max_header=100)
    dialogue = session(accepting(store), config=config).send(ENVELOPE).skip()

    dialogue.send(HAM + b"body\r\n" + END).expect(250)
    assert store.bodies == [HAM + b"body\r\n"]


def test_long_text_of_a_421_at_once_leaves_room_for_the_name_of_the_server() -> None:
    text = "x" * 490
    dialogue = session(filtering(Filter(AtOnce(Reply(421, text))))).send(ENVELOPE).skip()

    dialogue.send(SPAM + b"body").expect(f"421-4.0.0 s.example\n421 4.0.0 {text}")


BURL = replace(CONFIG, burl=("imap",), disabled=CONFIG.disabled - {"BURL"})


@pytest.mark.parametrize("answer", [REFUSAL, AtOnce(REFUSAL)])
def test_refusal_before_the_first_octet_of_a_part_answers_burl(answer: Reply | AtOnce) -> None:
    app = accepting()
    app.on("message")(lambda session, message: answer)
    app.on("BURL")(lambda session, burl: b"fetched\r\n")

    session(app, config=BURL).send(EHLO + MAIL + RCPT).skip().send(b"BURL imap://x/ LAST\r\nNOOP\r\n").expect(
        IS_SPAM, 250
    )
