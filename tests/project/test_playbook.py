"""The notation for dialogues: a wrong expectation fails, and so does a dialogue that depends on its segments."""

from itertools import count

import pytest

from smtpcore import (
    Answered,
    Bodies,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    DataChunk,
    DataEnd,
    DataLine,
    Ehlo,
    Event,
    InvalidCommand,
    LocalProtocolError,
    Mail,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    StartTls,
    State,
)
from smtpcore._rules import MAIL_FIRST
from smtpcore_adapters import Refused

from ..adapters import playbook as adapters
from ..adapters.fakes import step
from ..playbook import (
    DATA,
    GO_AHEAD,
    GREETING,
    HELLO,
    MAIL,
    OK,
    RCPT,
    READY,
    Answer,
    accept,
    answer_with,
    client,
    mail,
    new_client,
    new_server,
    offer,
    rcpt,
    refuse,
    server,
)

FROM = b"MAIL FROM:<a@c.example>\r\n"
TO = b"RCPT TO:<u@s.example>\r\n"


def test_server_dialogue_can_be_written_as_one_chain_of_calls() -> None:
    book = (
        server(RCPT)
        .send(b"DATA\r\n")
        .expect(354)
        .send(b"text\r\n", b".\r\n")
        .expect(DataLine(b"text\r\n"), DataEnd(), 250)
        .send(b"QUIT\r\n")
        .expect(Quit, "221 2.0.0 s.example ...", ConnectionClosed())
    )
    assert book.state is State.CLOSED


def test_client_dialogue_can_be_written_as_one_chain_of_calls() -> None:
    (
        client("PIPELINING")
        .ask(mail(), rcpt())
        .wire(FROM + TO)
        .send(OK, b"550 5.1.1 no\r\n")
        .expect(Answered(mail(), Reply(250, "OK")), Answered(rcpt(), Reply(550, "no", enhanced="5.1.1")))
        .ask(Quit())
        .wire(b"QUIT\r\n")
        .send(b"221 bye\r\n")
        .expect(221, ConnectionClosed)
    )


@pytest.mark.parametrize(
    "items",
    [
        pytest.param((250, 250), id="codes"),
        pytest.param(("250 2.1.0 Sender taken", "250 2.1.5 Recipient taken"), id="texts"),
        pytest.param(("250 2.1.0 ...", "...Recipient..."), id="patterns"),
        pytest.param((Reply(250, "Sender taken", enhanced="2.1.0"), 250), id="replies"),
        pytest.param((Mail(Path("a@c.example")), Rcpt(Path("u@s.example"))), id="events"),
        pytest.param((Mail, Rcpt), id="classes"),
        pytest.param((Mail, 250, Rcpt, 250), id="both"),
    ],
)
def test_right_expectation_passes(items: tuple[object, ...]) -> None:
    def answer(conn: Connection, event: Event) -> Reply:
        return Reply(250, "Sender taken", enhanced="2.1.0") if isinstance(event, Mail) else accept(conn, event)

    server(READY, answer=answer).send(FROM + TO).expect(*items)


@pytest.mark.parametrize(
    "items",
    [
        pytest.param((250, 550), id="wrong code"),
        pytest.param((250,), id="reply not expected"),
        pytest.param((250, 250, 250), id="reply missing"),
        pytest.param(("250 2.1.0 OK", "250 2.1.5 Recipient"), id="part of a text"),
        pytest.param((Reply(250), 250), id="another reply"),
        pytest.param((Mail(Path("x@c.example")), Rcpt), id="wrong event"),
        pytest.param((Mail,), id="event not expected"),
        pytest.param((Mail, Rcpt, DataEnd), id="event missing"),
        pytest.param((Rcpt, Mail), id="wrong order"),
        pytest.param((Mail, Rcpt, 250, 250), id="wrong order of events and replies"),
        pytest.param((Mail, 250), id="both not expected"),
        pytest.param((RemoteProtocolError,), id="error missing"),
        pytest.param((), id="nothing expected"),
    ],
)
def test_wrong_expectation_fails(items: tuple[object, ...]) -> None:
    with pytest.raises(AssertionError, match="the dialogue is not as expected"):
        server(READY).send(FROM + TO).expect(*items)


@pytest.mark.parametrize("item", [b"250 OK\r\n", None, [250], (250,)])
def test_playbook_refuses_expected_items_of_an_unknown_kind(item: object) -> None:
    with pytest.raises(TypeError, match="cannot be expected"):
        server().expect(item)


def test_failure_shows_the_expected_and_the_found_items() -> None:
    with pytest.raises(AssertionError) as caught:
        server(READY).send(b"NOOP\r\nDATA\r\n").expect(250, 354, 250)

    assert str(caught.value).splitlines() == [
        "the dialogue is not as expected:",
        "    '250 2.0.0 OK'",
        "  - 354",
        f"  + {str(MAIL_FIRST.reply)!r}",
        "  - 250",
        "(-: expected, +: found)",
    ]


def test_each_expect_compares_only_items_since_the_last_expect() -> None:
    book = server(READY).send(FROM).expect(250).expect().send(TO)

    assert book.codes == [250]
    assert book.replies == ["250 2.1.5 Recipient taken"]
    assert book.output == b"250 2.1.5 Recipient taken\r\n"
    assert book.events == [Rcpt(Path("u@s.example"))]
    book.expect(Rcpt, 250)
    assert (book.codes, book.events, book.output) == ([], [], b"")


def test_new_server_has_not_sent_its_greeting() -> None:
    new_server().send(READY).expect(ConnectionOpened(), "220 s.example ...", Ehlo("c.example"), 250)
    new_server(hostname="t.example").send().expect("220 t.example ...")
    new_server(extensions=()).send(READY).expect(220, "250 s.example")


def test_server_uses_the_given_answers_and_limits() -> None:
    server(MAIL, answer=refuse).send(TO).expect(550)
    server(MAIL, max_recipients=100).send(TO * 101).expect(*[250] * 100, "452 4.5.3 ...")


def test_dialogue_can_end_the_stream() -> None:
    server(READY).end().expect(ConnectionClosed())
    server(DATA).send(b"x").end().expect(RemoteProtocolError("the connection was closed inside a body"))
    client().ask(mail()).end().expect(RemoteProtocolError("...before the reply to MAIL"))
    with pytest.raises(AssertionError, match="say end"):
        server(READY).send(b"")


def test_dialogue_can_start_tls() -> None:
    book = server(READY, starttls=True).send(b"STARTTLS\r\n").expect(StartTls(), 220).start_tls().send(FROM).expect(503)
    assert book.connection.tls
    assert client(tls=True).connection.tls


# Errors


def test_error_that_is_not_expected_is_never_ignored() -> None:
    for items in ((), (250,), (Answered,), (250, ConnectionClosed)):
        with pytest.raises(AssertionError, match="not as expected"):
            client().ask(mail()).send(OK * 2).expect(*items)
    for name in ("events", "replies", "codes", "answered"):
        with pytest.raises(RemoteProtocolError, match="without a request"):
            getattr(client().send(OK), name)
    with pytest.raises(RemoteProtocolError, match="without a request"):
        client().send(OK).skip()


def test_error_is_expected_by_its_message_or_class() -> None:
    client().ask(mail()).send(OK * 2).expect(250, RemoteProtocolError("the server sent 250 without a request"))
    client().send(OK).expect(RemoteProtocolError("...without a request"))
    client().send(OK).expect(RemoteProtocolError)
    with pytest.raises(AssertionError, match="not as expected"):
        client().send(OK).expect(RemoteProtocolError("another"))


def test_mistake_of_the_caller_is_raised_at_once() -> None:
    with pytest.raises(LocalProtocolError, match="cannot answer"):
        server(READY, answer=lambda conn, event: Reply(354)).send(FROM)
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        client().ask(rcpt())


# The client


@pytest.mark.parametrize("state", [State.READY, State.MAIL, State.RCPT, State.DATA])
def test_client_starts_in_the_chosen_state(state: State) -> None:
    book = client("PIPELINING", at=state).expect().wire(b"")
    assert book.state is book.connection.state is state
    assert book.connection.is_pipelining
    assert client(lmtp=True, at=state).state is state


def test_new_client_waits_for_the_greeting() -> None:
    book = new_client().expect().send(GREETING).expect(220).ask(HELLO).wire(b"EHLO c.example\r\n").send(offer("SIZE 9"))
    assert book.answered == [Answered(HELLO, Reply(250, "s.example", "SIZE 9"))]
    assert book.connection.extensions == {"SIZE": 9}


def test_unexpected_octets_of_a_client_fail() -> None:
    for octets in (b"", TO, FROM + TO):
        with pytest.raises(AssertionError):
            client().ask(mail()).wire(octets)
    assert client().ask(mail()).output == FROM


# Several runs of a dialogue


def refuse_the_nth(kind: type[Event], number: int) -> Answer:
    """Return a function that answers only the event of this kind with this number, over all runs, with 550."""
    counter = count(1)
    return lambda conn, event: Reply(550) if isinstance(event, kind) and next(counter) == number else Reply(250)


def test_playbook_fails_if_single_octets_give_another_result() -> None:
    with pytest.raises(AssertionError, match="octet by octet, the dialogue is another one"):
        server(READY, answer=refuse_the_nth(Mail, 2)).send(FROM)
    with pytest.raises(AssertionError, match="octet by octet, the dialogue is another one"):
        server(READY, starttls=True).send(b"STARTTLS\r\nNOOP\r\n")
    server(READY, starttls=True, cut=False).send(b"STARTTLS\r\nNOOP\r\n").expect(421)


def test_playbook_fails_if_a_further_command_changes_the_result() -> None:
    with pytest.raises(AssertionError, match="with a command after these octets, the dialogue is another one"):
        server(READY, answer=refuse_the_nth(Mail, 3)).send(FROM)


@pytest.mark.parametrize(
    ("before", "data", "codes"),
    [
        pytest.param(READY, b"NOO", [], id="part of a command"),
        pytest.param(RCPT, b"BDAT 10\r\nabc", [], id="part of a chunk"),
        pytest.param(RCPT, b"BDAT 3\r\nabc", [250], id="chunk"),
        pytest.param(READY, b"BDAT 3\r\nabc", [503], id="refused chunk"),
        pytest.param(DATA, b"abc", [], id="part of a body"),
        pytest.param(DATA, b".\r\n", [250], id="body"),
        pytest.param(READY, b"QUIT\r\n", [221], id="end of the session"),
        pytest.param(READY, b"NOOP\nx", [500], id="part of a refused line"),
    ],
)
def test_check_with_an_appended_command_changes_no_replies(before: bytes, data: bytes, codes: list[int]) -> None:
    book = server(before).send(data)
    assert book.codes == codes


def test_command_may_be_appended_at_a_limit_and_after_a_refusing_greeting() -> None:
    server(READY, max_errors=1).send(b"X\r\n").expect(500)
    assert isinstance(server(READY, max_errors=1).send(b"X\r\nX\r\n").events[-2], InvalidCommand)
    new_server(answer=answer_with(ConnectionOpened, Reply(554))).send(READY).expect(554, 503)


def test_chunks_of_a_body_are_merged() -> None:
    server(DATA, bodies=Bodies.CHUNKS).send(b"abc", b"def\r\n.\r\n").expect(DataChunk(b"abcdef\r\n"), DataEnd(), 250)


def test_long_dialogue_is_cut_into_pieces() -> None:
    server(DATA).send(b"x" * 30_000 + b"\r\n.\r\n").expect(DataLine(b"x" * 30_000 + b"\r\n"), DataEnd(), 250)


# Clients over a stream in memory


def test_adapter_client_dialogue_can_be_written_as_one_chain_of_calls() -> None:
    book = adapters.client("PIPELINING").send(OK + OK + GO_AHEAD, adapters.ACCEPTED)
    assert book.deliver(b"hi\r\n").final == adapters.TAKEN
    book.wire(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n", b"hi\r\n", b".\r\n").wire()
    assert book.sent == []


@pytest.mark.parametrize("writes", [(), (b"EHLO c.example\r\n",), (b"EHLO c.example\r\nRSET\r\n",), (b"", b"")])
def test_unexpected_writes_of_an_adapter_client_fail(writes: tuple[bytes, ...]) -> None:
    book = adapters.new_client().send(GREETING, offer(), OK).connect()
    step(book.client.noop())
    with pytest.raises(AssertionError, match="the client has written something else"):
        book.wire(*writes)
    book.wire(b"EHLO c.example\r\n", b"NOOP\r\n")


def test_method_of_a_client_before_connect_is_an_error() -> None:
    with pytest.raises(AssertionError, match="say connect"):
        adapters.new_client().deliver()
    assert isinstance(adapters.new_client().send(b"554 no\r\n").fail(), Refused)
