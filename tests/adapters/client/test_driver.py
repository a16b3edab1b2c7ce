"""Groups of commands, bodies and chunks, sent while replies are read."""

from collections.abc import AsyncGenerator, Iterator

import pytest

from smtpcore import (
    BodyType,
    ClientBudgets,
    ClientConfig,
    Data,
    LocalProtocolError,
    Mail,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
)
from smtpcore_adapters.client._driver import ClientDriver
from tests.adapters.fakes import Early, FakeStream, Silence, chunks, step
from tests.adapters.playbook import ACCEPTED, ONE, SENDER, ScriptedServer, client, next_server
from tests.playbook import GO_AHEAD, OK


def test_many_recipients_are_pipelined_in_groups_of_bounded_size() -> None:
    recipients = [f"user{number}@s.example" for number in range(1000)]
    sizes: list[int] = []

    def answer() -> None:
        commands = book.sent[-1].count(b"\r\n")
        sizes.append(len(book.sent[-1]))
        ends = book.sent[-1].endswith(b"DATA\r\n")
        replies = OK * (commands - ends) + (GO_AHEAD if ends else b"")
        book.send(replies, ACCEPTED if ends else answer)

    book = client("PIPELINING").send(answer)
    result = book.deliver(to=recipients)

    assert len(result.accepted) == 1000
    assert len(sizes) > 1
    assert max(sizes) <= 16_384


@pytest.mark.parametrize("offers", [(), ("CHUNKING",), ("PIPELINING", "CHUNKING")])
def test_observer_that_fails_is_logged_and_does_not_change_the_result(
    offers: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(item: object) -> None:
        raise BrokenPipeError("pipe")

    groups = [OK + OK] if "PIPELINING" in offers else [OK, OK]
    book = client(*offers, observer=fail).send(*groups, *([] if offers else [GO_AHEAD]), ACCEPTED)
    assert book.deliver().accepted
    assert book.client.is_open
    assert "an observer of the connection to s.example:25 failed" in caplog.text


def test_421_during_the_body_stops_sending() -> None:
    taken = 0

    def body() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 262_142 + b"\r\n"

    book = client().send(OK, OK, GO_AHEAD, Early(b"421 4.3.2 going down\r\n"))
    result = book.deliver(body())

    assert result[ONE] == Reply(421, "going down", enhanced="4.3.2")
    assert taken < 5
    assert not book.output.endswith(b".\r\n")


def test_421_is_read_after_a_failed_write() -> None:
    book = client().send(OK, OK, GO_AHEAD, b"421 bye\r\n")
    book.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    assert book.deliver()[ONE] == Reply(421, "bye")

    book = client().send(OK, OK, GO_AHEAD, ConnectionResetError("gone"))
    book.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    with pytest.raises(BrokenPipeError):
        book.deliver()

    book = client().send(OK, OK, GO_AHEAD)
    book.stream.send_errors.extend([None, None, None, TimeoutError("full")])
    with pytest.raises(TimeoutError):
        book.deliver()


def test_bdat_is_used_and_pipelined_if_offered() -> None:
    body = b"x" * 299_998 + b"\r\n"
    book = client("PIPELINING", "CHUNKING").send(OK + OK, OK, ACCEPTED)
    result = book.deliver(body)

    first, second = 262_144, 300_000 - 262_144
    assert book.sent[1][:20].startswith(b"BDAT 262144\r\n")
    assert len(book.sent[1]) == first + len("BDAT 262144\r\n")
    assert book.sent[2].startswith(f"BDAT {second} LAST\r\n".encode())
    assert result.accepted


def test_each_chunk_waits_for_its_reply_without_pipelining() -> None:
    book = client("CHUNKING").send(OK, OK, OK, OK, ACCEPTED)
    assert book.deliver(b"x" * 262_142 + b"\r\n" + b"y" * 262_142 + b"\r\nz\r\n").accepted
    assert len(book.sent) == 6
    assert book.sent[-2:] == [b"BDAT 3 LAST\r\nz\r", b"\n"]


def test_refused_chunk_is_the_result_and_resets_the_transaction() -> None:
    pieces = [b"x" * 262_142 + b"\r\n"] * 4
    book = client("PIPELINING", "CHUNKING").send(
        OK + OK, b"552 5.3.4 full\r\n" + b"503 what\r\n" * 3, OK, OK + OK, ACCEPTED
    )
    result = book.deliver(pieces)

    assert result[ONE] == Reply(552, "full", enhanced="5.3.4")
    assert book.sent[-1:] == [b"RSET\r\n"]
    assert book.deliver().accepted


def test_refusal_of_the_first_chunk_overrides_the_reply_to_the_last_chunk() -> None:
    pieces = [b"x" * 262_142 + b"\r\n", b"end\r\n"]
    book = client("PIPELINING", "CHUNKING").send(OK + OK, b"552 5.3.4 full\r\n503 what\r\n", OK)

    assert book.deliver(pieces)[ONE] == Reply(552, "full", enhanced="5.3.4")


@pytest.mark.parametrize(("early", "rest"), [(OK, b""), (b"2", b"50 OK\r\n"), (b"250-a\r\n", b"250 b\r\n")])
@pytest.mark.parametrize("lmtp", [False, True])
def test_reply_that_began_before_the_last_octet_does_not_accept_the_message(
    early: bytes, rest: bytes, lmtp: bool
) -> None:
    book = client("PIPELINING", "CHUNKING", lmtp=lmtp).send(OK + OK, Silence.HALF, Early(early), rest + ACCEPTED)
    with pytest.raises(RemoteProtocolError, match="250 cannot answer DataEnd"):
        book.deliver(b"hi\r\n")


@pytest.mark.parametrize("lmtp", [False, True])
def test_refusal_before_the_last_octet_of_the_last_chunk_keeps_the_session(lmtp: bool) -> None:
    book = client("PIPELINING", "CHUNKING", lmtp=lmtp)
    book.send(OK + OK, Silence.HALF, Early(b"552 5.3.4 full\r\n"), OK + OK, ACCEPTED)

    assert book.deliver(b"hi\r\n")[ONE] == Reply(552, "full", enhanced="5.3.4")
    assert book.sent[-2:] == [b"BDAT 4 LAST\r\nhi\r", b"\n"]
    assert book.deliver().accepted


def test_goodbye_before_the_last_octet_of_the_last_chunk_ends_the_session() -> None:
    book = client("PIPELINING", "CHUNKING").send(OK + OK, Silence.HALF, Early(b"421 4.3.2 bye\r\n"))

    assert book.deliver(b"hi\r\n")[ONE] == Reply(421, "bye", enhanced="4.3.2")
    assert book.sent[-1] == b"BDAT 4 LAST\r\nhi\r"


def test_last_chunk_of_one_octet_is_sent_at_once() -> None:
    book = client("CHUNKING", "BINARYMIME", "8BITMIME").send(OK, OK, ACCEPTED)
    assert book.deliver(b"x", body_type=BodyType.BINARYMIME).accepted
    assert book.sent[-1] == b"BDAT 1 LAST\r\nx"


def test_empty_body_is_one_empty_last_chunk() -> None:
    book = client("PIPELINING", "CHUNKING").send(OK + OK, ACCEPTED)
    assert book.deliver(b"").accepted
    assert book.sent[-1] == b"BDAT 0 LAST\r\n"


def test_chunking_option_false_uses_data() -> None:
    book = client("CHUNKING", chunking=False).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver().accepted


def test_pipelining_option_false_waits_for_each_reply() -> None:
    book = client("PIPELINING", pipelining=False).send(OK, OK, GO_AHEAD, ACCEPTED)
    assert book.deliver().accepted
    assert len(book.sent) == 5


def test_binary_body_is_sent_unchanged() -> None:
    book = client("CHUNKING", "BINARYMIME", "8BITMIME").send(OK, OK, ACCEPTED)
    assert book.deliver(b"\x00\n\r\xff", body_type=BodyType.BINARYMIME).accepted
    assert book.sent[0] == b"MAIL FROM:<a@c.example> BODY=BINARYMIME\r\n"
    assert book.sent[-2:] == [b"BDAT 4 LAST\r\n\x00\n\r", b"\xff"]


def test_partial_reply_during_the_body_is_read_to_its_end() -> None:
    book = client().send(OK, OK, GO_AHEAD, Early(b"421 "), Early(b"bye\r\n"))
    assert book.deliver()[ONE] == Reply(421, "bye")

    book = client().send(OK, OK, GO_AHEAD, b"421 ")
    book.stream.send_errors.extend([None, None, None, BrokenPipeError("gone")])
    with pytest.raises(BrokenPipeError):
        book.deliver()


def test_readable_stream_without_a_complete_reply_does_not_stop_the_body() -> None:
    book = client().send(OK, OK, GO_AHEAD, Silence.HALF, ACCEPTED)
    assert book.deliver().accepted
    assert book.stream.now == FakeStream().now, "the client has not waited for the rest"


def test_byte_by_byte_reply_does_not_extend_the_timeout() -> None:
    hop = ScriptedServer()
    for piece in (b"2", b"2", b"0", b" ", b"s", b"."):
        hop.send(hop.stream.advance(100.0), piece)
    config = ClientConfig(hostname="c.example")
    driver = ClientDriver(hop.stream, config, ClientBudgets(), clock=hop.stream.clock)
    with pytest.raises(TimeoutError):
        step(driver.read_greeting())

    assert len(hop.stream.receive_timeouts) == 3


def test_each_reply_has_the_time_limit_of_its_command() -> None:
    budgets = ClientBudgets(greeting=1, mail=2, rcpt=3, data=4, end=5, command=6)
    book = client(budgets=budgets).send(OK, OK, GO_AHEAD, ACCEPTED)
    book.deliver(b"hi\r\n")

    assert [round(limit) for limit in book.stream.receive_timeouts] == [1, 6, 2, 3, 4, 5]


def test_session_may_have_a_time_limit() -> None:
    book = client(budgets=ClientBudgets(session=20)).send(Silence.SILENCE)
    with pytest.raises(
        TimeoutError, match="the session took longer than 20 seconds, and the server did not send the reply to NOOP"
    ):
        step(book.client.noop())


@pytest.mark.parametrize(("seconds", "remark"), [(10, ""), (65, "; this side took 65 seconds for a piece of the body")])
def test_lost_connection_names_the_server_the_reply_and_the_slow_side(seconds: float, remark: str) -> None:
    async def body() -> AsyncGenerator[bytes, None]:
        hop.stream.now += seconds
        yield b"hi\r\n"

    hop = next_server().send(OK, OK, GO_AHEAD, ConnectionResetError(104, "Connection reset by peer"))
    config = ClientConfig(hostname="c.example", pipelining=False)
    driver = ClientDriver(hop.stream, config, ClientBudgets(), clock=hop.stream.clock, server="s.example:25")
    step(driver.read_greeting())
    step(driver.ask(driver.connection.hello))
    step(driver.ask_all([Mail(Path(SENDER)), Rcpt(Path(ONE)), Data()], []))
    with pytest.raises(ConnectionResetError) as caught:
        step(driver.send_body(body(), []))
    assert (
        str(caught.value)
        == f"[Errno 104] Connection reset by peer before the reply to the message{remark}: 's.example:25'"
    )


def test_error_of_a_body_does_not_name_the_server() -> None:
    def body() -> Iterator[bytes]:
        yield b"hi\r\n"
        raise OSError(5, "Input/output error")

    book = client().send(OK, OK, GO_AHEAD)
    with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error$"):
        book.deliver(body())


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_connect_timeout_must_be_more_than_0(seconds: float) -> None:
    with pytest.raises(ValueError, match="connect_timeout is"):
        client(connect_timeout=seconds)


def test_reply_that_arrived_before_a_failed_write_is_returned() -> None:
    book = client().send(b"421 bye\r\n")
    book.stream.send_errors.append(BrokenPipeError("gone"))
    assert step(book.client.noop()) == Reply(421, "bye")


def test_refusal_before_the_end_of_an_empty_body_is_the_result() -> None:
    book = client().send(OK, OK, GO_AHEAD, Early(b"552 no\r\n"))
    assert book.deliver(b"")[ONE] == Reply(552, "no")
    assert not book.output.endswith(b".\r\n")


def test_chunks_outside_of_a_transaction_are_refused_before_anything_is_sent() -> None:
    book = client("CHUNKING")
    with pytest.raises(LocalProtocolError):
        step(book.client.send_body(chunks(b"hi\r\n")))
    assert book.client.is_open
    assert not book.stream.is_reset
    book.wire()


def test_number_of_chunks_without_a_reply_is_limited() -> None:
    sent: list[int] = [0]

    def reply_to_all() -> None:
        sent.append(len(book.sent) - 1)  # the first write is the envelope
        book.send(OK * (sent[-1] - sent[-2]), reply_to_all)

    book = client("PIPELINING", "CHUNKING").send(OK + OK, reply_to_all)
    assert book.deliver([b"x" * 262_142 + b"\r\n"] * 151).accepted
    assert sent == [0, 101, 152]  # the last octet of the last chunk is a write of its own


@pytest.mark.parametrize("offers", [(), ("CHUNKING",)])
def test_failed_body_resets_the_connection_at_once(offers: tuple[str, ...]) -> None:
    book = client(*offers).send(OK, OK, *([] if offers else [GO_AHEAD]), Silence.SILENCE)
    with pytest.raises(TimeoutError):
        book.deliver()
    assert book.stream.is_reset
    assert book.stream.close_timeouts == [0]


def test_command_that_fails_does_not_reset_the_connection() -> None:
    book = client().send(Silence.SILENCE)
    with pytest.raises(TimeoutError):
        step(book.client.noop())
    step(book.client.aclose())
    assert not book.stream.is_reset
