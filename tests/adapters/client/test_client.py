"""The client over a scripted stream in memory."""

import io
from collections.abc import AsyncIterator

import pytest

from smtpcore import (
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Path,
    Rcpt,
    RemoteProtocolError,
    Reply,
)
from smtpcore_adapters import (
    Disconnected,
    SendResult,
    Unsendable,
)
from tests.adapters.client.scripted import (
    ACCEPTED,
    ACCEPTED_REPLY,
    CONTINUE,
    OK,
    ONE,
    SENDER,
    TWO,
    ScriptedClient,
    chunks,
    ehlo,
)
from tests.adapters.fakes import SILENCE, Early, Step, step

# Sending


def test_each_command_waits_for_its_reply_without_pipelining() -> None:
    script = ScriptedClient(OK, OK, OK, CONTINUE, ACCEPTED)
    result = script.send(to=[ONE, TWO])

    assert script.stream.sent == [
        b"MAIL FROM:<a@c.example>\r\n",
        b"RCPT TO:<b@s.example>\r\n",
        b"RCPT TO:<c@s.example>\r\n",
        b"DATA\r\n",
        b"hi\r\n",
        b".\r\n",
    ]
    assert result == SendResult({Path(ONE): ACCEPTED_REPLY, Path(TWO): ACCEPTED_REPLY}, ACCEPTED_REPLY)
    assert result.accepted == (Path(ONE), Path(TWO))
    assert result.refused == {}
    assert result[ONE] == result[Path(ONE)] == result[Mailbox(ONE)] == ACCEPTED_REPLY
    assert list(result) == [Path(ONE), Path(TWO)]
    assert len(result) == 2


def test_envelope_is_one_write_with_pipelining() -> None:
    script = ScriptedClient(OK + OK + b"550 no\r\n" + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING"))
    result = script.send(to=[ONE, TWO])

    assert script.stream.sent == [
        b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nRCPT TO:<c@s.example>\r\nDATA\r\n",
        b"hi\r\n",
        b".\r\n",
    ]
    assert result.accepted == (Path(ONE),)
    assert result.refused == {Path(TWO): Reply(550, "no")}
    assert result.final == ACCEPTED_REPLY


@pytest.mark.parametrize("pipelining", [False, True])
def test_refused_sender_is_the_result_of_all_recipients(pipelining: bool) -> None:
    no = b"550 5.7.1 not you\r\n"
    rest = [no + b"503 what\r\n" * 2 + b"503 what\r\n"] if pipelining else [no]
    script = ScriptedClient(*rest, OK, OK, CONTINUE, ACCEPTED, hello=ehlo(*["PIPELINING"] * pipelining))
    result = script.send(to=[ONE, TWO])

    assert not result.accepted
    assert result.final == Reply(550, "not you", enhanced="5.7.1")
    if not pipelining:
        assert result.refused == {Path(ONE): result.final, Path(TWO): result.final}
        assert script.send().accepted, "the connection stays usable"


def test_connection_stays_usable_after_a_pipelined_sender_is_refused() -> None:
    script = ScriptedClient(
        b"550 no\r\n503 what\r\n503 what\r\n", OK + OK + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING")
    )
    assert script.send()[ONE].code == 503 or script.client.is_open
    assert script.send().accepted


def test_no_body_is_sent_if_all_recipients_are_refused() -> None:
    script = ScriptedClient(OK, b"550 no\r\n", b"450 later\r\n", OK, OK, OK, CONTINUE, ACCEPTED)
    result = script.send(to=[ONE, TWO])

    assert script.lines[-2:] == ["RSET", ""]
    assert {path: reply.code for path, reply in result.refused.items()} == {Path(ONE): 550, Path(TWO): 450}
    assert result.final.code == 450
    assert script.send().accepted


def test_354_without_accepted_recipients_is_answered_with_an_empty_body() -> None:
    script = ScriptedClient(OK + b"550 no\r\n" + CONTINUE, b"554 no valid recipients\r\n", hello=ehlo("PIPELINING"))
    result = script.send()

    assert script.stream.sent[1:] == [b".\r\n"]
    assert result[ONE].code == 550
    assert result.final.code == 554


def test_refused_data_command_is_the_result_and_resets_the_transaction() -> None:
    script = ScriptedClient(OK, OK, b"451 later\r\n", OK)
    result = script.send()

    assert result[ONE] == Reply(451, "later")
    assert script.lines[-2:] == ["RSET", ""]


@pytest.mark.parametrize(
    "script",
    [
        [b"421 bye\r\n"],
        [OK, b"421 bye\r\n"],
        [OK, OK, b"421 bye\r\n"],
        [OK, OK, CONTINUE, b"421 bye\r\n"],
        [OK, OK, CONTINUE, Early(b"421 bye\r\n")],
    ],
)
def test_421_is_the_result_of_pending_recipients_and_closes_the_connection(script: list[bytes]) -> None:
    ran = ScriptedClient(*script)
    result = ran.send(to=[ONE, TWO] if len(script) == 2 else ONE)

    assert set(result.values()) == {Reply(421, "bye")}
    assert not ran.client.is_open
    with pytest.raises(Disconnected, match="421 bye") as caught:
        ran.send()
    assert caught.value.reply == Reply(421, "bye")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([b""], Disconnected),
        ([OK, b""], Disconnected),
        ([OK, OK, b""], Disconnected),
        ([OK, OK, CONTINUE, b""], Disconnected),
        ([OK, OK, CONTINUE, Early(b"")], Disconnected),
        ([OK, OK, CONTINUE, SILENCE], TimeoutError),
        ([CONTINUE], RemoteProtocolError),
        ([OK, OK, OK], RemoteProtocolError),
        ([OK, OK, CONTINUE, Early(b"250 already\r\n")], RemoteProtocolError),
        ([OK, OK, CONTINUE, CONTINUE], RemoteProtocolError),
        ([OK + OK], RemoteProtocolError),
        ([b"2500 ok\r\n"], RemoteProtocolError),
    ],
)
def test_connection_loss_timeout_or_protocol_violation_raises_and_closes(
    script: list[Step], kind: type[Exception]
) -> None:
    ran = ScriptedClient(*script)
    with pytest.raises(kind):
        ran.send()

    assert not ran.client.is_open
    with pytest.raises(Disconnected):
        step(ran.client.noop())
    step(ran.client.aclose())
    assert b"QUIT" not in ran.stream.output
    assert ran.stream.close_timeouts == [0]


# LMTP


def test_lmtp_result_has_a_reply_for_each_recipient() -> None:
    script = ScriptedClient(OK, OK, b"550 no\r\n", OK, CONTINUE, b"250 one\r\n452 full\r\n", hello=ehlo(), lmtp=True)
    result = script.send(to=[ONE, "x@s.example", TWO])

    assert {str(path): reply.code for path, reply in result.items()} == {ONE: 250, "x@s.example": 550, TWO: 452}


def test_421_after_the_first_lmtp_reply_is_the_result_of_remaining_recipients() -> None:
    script = ScriptedClient(OK, OK, OK, CONTINUE, b"250 one\r\n421 bye\r\n", lmtp=True)
    result = script.send(to=[ONE, TWO])

    assert [reply.code for reply in result.values()] == [250, 421]


# A transaction command by command


def open_transaction(script: ScriptedClient) -> None:
    assert step(script.client.ask(Mail(Path(SENDER)))).is_positive
    assert step(script.client.ask(Rcpt(Path(ONE)))).is_positive


def test_transaction_command_by_command() -> None:
    script = ScriptedClient(OK, OK, CONTINUE, ACCEPTED)
    open_transaction(script)
    (answer,) = step(script.client.send_body(chunks(b"hi\n")))

    assert answer.reply == ACCEPTED_REPLY
    assert script.stream.output.endswith(b"DATA\r\nhi\r\n.\r\n")


def test_send_body_returns_the_refusal_of_data() -> None:
    script = ScriptedClient(OK, OK, b"451 later\r\n", OK, OK)
    open_transaction(script)
    (answer,) = step(script.client.send_body(chunks(b"hi\n")))
    step(script.client.give_up())
    step(script.client.give_up())

    assert answer.reply.code == 451
    assert script.lines[-3:] == ["DATA", "RSET", ""]


def test_quit_may_be_answered_by_closing_the_connection() -> None:
    script = ScriptedClient()
    step(script.client.aclose())
    assert script.lines == ["QUIT", ""]


# Limits of the server


def test_recipients_above_rcptmax_are_split_into_transactions() -> None:
    script = ScriptedClient(
        OK + OK + OK + CONTINUE, ACCEPTED, OK + OK + CONTINUE, ACCEPTED, hello=ehlo("PIPELINING", "LIMITS RCPTMAX=2")
    )
    result = script.send(io.BytesIO(b"hi\r\n"), to=[ONE, TWO, "d@s.example"])

    assert len(result.accepted) == 3
    assert script.stream.output.count(b"hi\r\n.\r\n") == 2


def test_body_from_an_iterator_cannot_be_split_into_transactions() -> None:
    script = ScriptedClient(hello=ehlo("LIMITS RCPTMAX=1"))
    with pytest.raises(Unsendable):
        script.send([b"hi\r\n"], to=[ONE, TWO])
    assert script.stream.output == b""


def test_421_between_two_transactions_is_the_result_of_remaining_recipients() -> None:
    script = ScriptedClient(OK, b"421 bye\r\n", hello=ehlo("LIMITS RCPTMAX=1"))
    assert set(script.send(to=[ONE, TWO]).values()) == {Reply(421, "bye")}


# Other commands


def test_methods_for_noop_vrfy_expn_and_help() -> None:
    script = ScriptedClient(
        OK, b"252 maybe\r\n", b"250 <b@s.example>\r\n", b"214 no\r\n", OK, hello=ehlo("EXPN", "HELP")
    )
    client = script.client

    assert step(client.noop()).code == 250
    assert step(client.vrfy("b")).code == 252
    assert step(client.expn("list")).code == 250
    assert step(client.help()).code == 214
    assert step(client.ask(Noop("x"))).code == 250
    assert script.lines == ["NOOP", "VRFY b", "EXPN list", "HELP", "NOOP x", ""]


def test_xclient_restarts_the_session() -> None:
    script = ScriptedClient(
        b"220 again\r\n", ehlo("SIZE"), b"550 no\r\n", hello=ehlo("XCLIENT NAME ADDR", "XFORWARD NAME")
    )
    assert step(script.client.xclient({"ADDR": "192.0.2.1", "NAME": None})).code == 250
    assert script.lines == ["XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]", "EHLO c.example", ""]
    assert script.client.extensions == {"SIZE": None}


def test_refused_xclient_returns_the_reply_without_restart() -> None:
    script = ScriptedClient(b"550 no\r\n", hello=ehlo("XCLIENT NAME ADDR"))
    assert step(script.client.xclient({"ADDR": "192.0.2.1"})).code == 550
    assert script.lines == ["XCLIENT ADDR=192.0.2.1", ""]


def test_xforward_sends_attributes() -> None:
    script = ScriptedClient(OK, hello=ehlo("XFORWARD NAME"))
    assert step(script.client.xforward({"NAME": "x.example"})).code == 250
    assert script.lines == ["XFORWARD NAME=x.example", ""]


def test_concurrent_use_of_a_client_is_an_error() -> None:
    script = ScriptedClient(OK, OK, CONTINUE)

    async def body() -> AsyncIterator[bytes]:
        yield b"hi\r\n" * 100_000
        with pytest.raises(LocalProtocolError, match="in use"):
            await script.client.noop()
        await script.client.aclose()
        yield b"more"

    with pytest.raises((LocalProtocolError, AssertionError)):
        script.send(body())
    assert b"QUIT" not in script.stream.output
