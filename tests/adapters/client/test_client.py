"""The client over a scripted stream in memory."""

import io
import os
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import pytest

from smtpcore import (
    LocalProtocolError,
    Mail,
    Mailbox,
    Noop,
    Notify,
    Params,
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
from smtpcore_adapters.client._sources import PIECE
from tests.adapters.fakes import SILENCE, Early, Step, chunks, step
from tests.adapters.playbook import ACCEPTED, ONE, SENDER, TAKEN, TWO, ClientPlaybook, client
from tests.playbook import GO_AHEAD, OK, offer

# Sending


def test_each_command_waits_for_its_reply_without_pipelining() -> None:
    book = client().send(OK, OK, OK, GO_AHEAD, ACCEPTED)
    result = book.deliver(to=[ONE, TWO])

    book.wire(
        b"MAIL FROM:<a@c.example>\r\n",
        b"RCPT TO:<b@s.example>\r\n",
        b"RCPT TO:<c@s.example>\r\n",
        b"DATA\r\n",
        b"hi\r\n",
        b".\r\n",
    )
    assert result == SendResult({Path(ONE): TAKEN, Path(TWO): TAKEN}, TAKEN)
    assert result.accepted == (Path(ONE), Path(TWO))
    assert result.refused == {}
    assert result[ONE] == result[Path(ONE)] == result[Mailbox(ONE)] == TAKEN
    assert list(result) == [Path(ONE), Path(TWO)]
    assert len(result) == 2


def test_envelope_is_one_write_with_pipelining() -> None:
    book = client("PIPELINING").send(OK + OK + b"550 no\r\n" + GO_AHEAD, ACCEPTED)
    result = book.deliver(to=[ONE, TWO])

    book.wire(
        b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nRCPT TO:<c@s.example>\r\nDATA\r\n",
        b"hi\r\n",
        b".\r\n",
    )
    assert result.accepted == (Path(ONE),)
    assert result.refused == {Path(TWO): Reply(550, "no")}
    assert result.final == TAKEN


def test_message_is_sent_to_the_addresses_in_its_header() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = SENDER, ONE, TWO
    book = client("PIPELINING").send(OK + OK + OK + GO_AHEAD, ACCEPTED)
    assert step(book.client.send_message(message)).accepted == (Path(ONE), Path(TWO))
    book.wire(
        b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nRCPT TO:<c@s.example>\r\nDATA\r\n",
        b"From: a@c.example\r\nTo: b@s.example\r\n\r\n",
        b".\r\n",
    )


@pytest.mark.parametrize("pipelining", [False, True])
def test_refused_sender_is_the_result_of_all_recipients(pipelining: bool) -> None:
    no = b"550 5.7.1 not you\r\n"
    rest = [no + b"503 what\r\n" * 2 + b"503 what\r\n"] if pipelining else [no]
    book = client(*["PIPELINING"] * pipelining).send(*rest, OK, OK, GO_AHEAD, ACCEPTED)
    result = book.deliver(to=[ONE, TWO])

    assert not result.accepted
    assert result.final == Reply(550, "not you", enhanced="5.7.1")
    if not pipelining:
        assert result.refused == {Path(ONE): result.final, Path(TWO): result.final}
        assert book.deliver().accepted, "the connection stays usable"


def test_connection_stays_usable_after_a_pipelined_sender_is_refused() -> None:
    book = client("PIPELINING").send(b"550 no\r\n503 what\r\n503 what\r\n", OK + OK + GO_AHEAD, ACCEPTED)
    assert book.deliver()[ONE].code == 503 or book.client.is_open
    assert book.deliver().accepted


def test_no_body_is_sent_if_all_recipients_are_refused() -> None:
    book = client().send(OK, b"550 no\r\n", b"450 later\r\n", OK, OK, OK, GO_AHEAD, ACCEPTED)
    result = book.deliver(to=[ONE, TWO])

    assert book.sent[-1:] == [b"RSET\r\n"]
    assert {path: reply.code for path, reply in result.refused.items()} == {Path(ONE): 550, Path(TWO): 450}
    assert result.final.code == 450
    assert book.deliver().accepted


def test_354_without_accepted_recipients_is_answered_with_an_empty_body() -> None:
    book = client("PIPELINING").send(OK + b"550 no\r\n" + GO_AHEAD, b"554 no valid recipients\r\n")
    result = book.deliver()

    assert book.sent[1:] == [b".\r\n"]
    assert result[ONE].code == 550
    assert result.final.code == 554


def test_refused_data_command_is_the_result_and_resets_the_transaction() -> None:
    book = client().send(OK, OK, b"451 later\r\n", OK)
    result = book.deliver()

    assert result[ONE] == Reply(451, "later")
    assert book.sent[-1:] == [b"RSET\r\n"]


@pytest.mark.parametrize(
    "script",
    [
        [b"421 bye\r\n"],
        [OK, b"421 bye\r\n"],
        [OK, OK, b"421 bye\r\n"],
        [OK, OK, GO_AHEAD, b"421 bye\r\n"],
        [OK, OK, GO_AHEAD, Early(b"421 bye\r\n")],
    ],
)
def test_421_is_the_result_of_pending_recipients_and_closes_the_connection(script: list[bytes]) -> None:
    book = client().send(*script)
    result = book.deliver(to=[ONE, TWO] if len(script) == 2 else ONE)

    assert set(result.values()) == {Reply(421, "bye")}
    assert not book.client.is_open
    with pytest.raises(Disconnected, match="421 bye") as caught:
        book.deliver()
    assert caught.value.reply == Reply(421, "bye")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([b""], Disconnected),
        ([OK, b""], Disconnected),
        ([OK, OK, b""], Disconnected),
        ([OK, OK, GO_AHEAD, b""], Disconnected),
        ([OK, OK, GO_AHEAD, Early(b"")], Disconnected),
        ([OK, OK, GO_AHEAD, SILENCE], TimeoutError),
        ([GO_AHEAD], RemoteProtocolError),
        ([OK, OK, OK], RemoteProtocolError),
        ([OK, OK, GO_AHEAD, Early(b"250 already\r\n")], RemoteProtocolError),
        ([OK, OK, GO_AHEAD, GO_AHEAD], RemoteProtocolError),
        ([OK + OK], RemoteProtocolError),
        ([b"2500 ok\r\n"], RemoteProtocolError),
    ],
)
def test_connection_loss_timeout_or_protocol_violation_raises_and_closes_the_client(
    script: list[Step], kind: type[Exception]
) -> None:
    book = client().send(*script)
    with pytest.raises(kind):
        book.deliver()

    assert not book.client.is_open
    with pytest.raises(Disconnected):
        step(book.client.noop())
    step(book.client.aclose())
    assert b"QUIT" not in book.output
    assert book.stream.close_timeouts == [0]


# LMTP


def test_lmtp_result_has_a_reply_for_each_recipient() -> None:
    book = client(lmtp=True).send(OK, OK, b"550 no\r\n", OK, GO_AHEAD, b"250 one\r\n452 full\r\n")
    result = book.deliver(to=[ONE, "x@s.example", TWO])

    assert {str(path): reply.code for path, reply in result.items()} == {ONE: 250, "x@s.example": 550, TWO: 452}


SILENT = Rcpt(Path(ONE), Params({"NOTIFY": frozenset({Notify.NEVER})}))


@pytest.mark.parametrize(
    ("taken", "expected"), [(b"250 one\r\n452 full\r\n", 452), (b"552 big\r\n452 full\r\n", 552), (OK + OK, 250)]
)
def test_each_command_for_the_same_address_has_its_own_outcome(taken: bytes, expected: int) -> None:
    book = client("DSN", lmtp=True).send(OK, OK, OK, GO_AHEAD, taken)
    result = book.deliver(to=[ONE, SILENT, ONE])

    assert [line for line in book.sent if line.startswith(b"RCPT")] == [
        b"RCPT TO:<b@s.example>\r\n",
        b"RCPT TO:<b@s.example> NOTIFY=NEVER\r\n",
    ]
    codes = [int(line[:3]) for line in taken.splitlines()]
    given = [Rcpt(Path(ONE)), SILENT, Rcpt(Path(ONE))]
    outcomes = [(each.recipient, each.reply.code, each.step) for each in result.outcomes]
    assert outcomes == [*zip(given, [*codes, codes[0]], ["message"] * 3, strict=True)]
    assert result[ONE].code == expected
    assert len(result) == 1


def test_421_after_the_first_lmtp_reply_is_the_result_of_remaining_recipients() -> None:
    book = client(lmtp=True).send(OK, OK, OK, GO_AHEAD, b"250 one\r\n421 bye\r\n")
    result = book.deliver(to=[ONE, TWO])

    assert [reply.code for reply in result.values()] == [250, 421]


# A transaction command by command


def open_transaction(book: ClientPlaybook) -> None:
    assert step(book.client.ask(Mail(Path(SENDER)))).is_positive
    assert step(book.client.ask(Rcpt(Path(ONE)))).is_positive


def test_transaction_is_sent_command_by_command() -> None:
    book = client().send(OK, OK, GO_AHEAD, ACCEPTED)
    open_transaction(book)
    (answer,) = step(book.client.send_body(chunks(b"hi\n")))

    assert answer.reply == TAKEN
    assert book.output.endswith(b"DATA\r\nhi\r\n.\r\n")


def test_send_body_returns_the_refusal_of_data() -> None:
    book = client().send(OK, OK, b"451 later\r\n", OK, OK)
    open_transaction(book)
    (answer,) = step(book.client.send_body(chunks(b"hi\n")))
    step(book.client.give_up())
    step(book.client.give_up())

    assert answer.reply.code == 451
    assert book.sent[-2:] == [b"DATA\r\n", b"RSET\r\n"]


def test_quit_may_be_answered_by_closing_the_connection() -> None:
    book = client()
    step(book.client.aclose())
    book.wire(b"QUIT\r\n")


# Limits of the server


def test_recipients_above_rcptmax_are_split_into_transactions() -> None:
    book = client("PIPELINING", "LIMITS RCPTMAX=2").send(
        OK + OK + OK + GO_AHEAD, ACCEPTED, OK + OK + GO_AHEAD, ACCEPTED
    )
    result = book.deliver(io.BytesIO(b"hi\r\n"), to=[ONE, TWO, "d@s.example"])

    assert len(result.accepted) == 3
    assert book.output.count(b"hi\r\n.\r\n") == 2


def test_body_from_an_iterator_cannot_be_split_into_transactions() -> None:
    book = client("LIMITS RCPTMAX=1")
    with pytest.raises(Unsendable):
        book.deliver(iter([b"x" * PIECE, b"\r\n"]), to=[ONE, TWO])
    book.wire()


def test_short_body_from_an_iterator_is_sent_in_several_transactions() -> None:
    book = client("LIMITS RCPTMAX=1").send(*[OK, OK, GO_AHEAD, ACCEPTED] * 2)
    assert len(book.deliver(iter([b"hi\r\n"]), to=[ONE, TWO]).accepted) == 2
    assert book.output.count(b"DATA\r\nhi\r\n.\r\n") == 2


def test_421_between_two_transactions_is_the_result_of_remaining_recipients() -> None:
    book = client("LIMITS RCPTMAX=1").send(OK, b"421 bye\r\n")
    assert set(book.deliver(to=[ONE, TWO]).values()) == {Reply(421, "bye")}


# Other commands


def test_noop_vrfy_expn_and_help_methods_send_their_commands() -> None:
    book = client("EXPN", "HELP").send(OK, b"252 maybe\r\n", b"250 <b@s.example>\r\n", b"214 no\r\n", OK)
    assert step(book.client.noop()).code == 250
    assert step(book.client.vrfy("b")).code == 252
    assert step(book.client.expn("list")).code == 250
    assert step(book.client.help()).code == 214
    assert step(book.client.ask(Noop("x"))).code == 250
    book.wire(b"NOOP\r\n", b"VRFY b\r\n", b"EXPN list\r\n", b"HELP\r\n", b"NOOP x\r\n")


def test_xclient_restarts_the_session() -> None:
    book = client("XCLIENT NAME ADDR", "XFORWARD NAME").send(b"220 again\r\n", offer("SIZE"), b"550 no\r\n")
    assert step(book.client.xclient({"ADDR": "192.0.2.1", "NAME": None})).code == 250
    book.wire(b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]\r\n", b"EHLO c.example\r\n")
    assert book.client.extensions == {"SIZE": None}


def test_refused_xclient_returns_the_reply_without_restart() -> None:
    book = client("XCLIENT NAME ADDR").send(b"550 no\r\n")
    assert step(book.client.xclient({"ADDR": "192.0.2.1"})).code == 550
    book.wire(b"XCLIENT ADDR=192.0.2.1\r\n")


def test_xforward_of_the_client_sends_the_given_attributes() -> None:
    book = client("XFORWARD NAME").send(OK)
    assert step(book.client.xforward({"NAME": "x.example"})).code == 250
    book.wire(b"XFORWARD NAME=x.example\r\n")


def test_concurrent_use_of_a_client_is_an_error() -> None:
    book = client().send(OK, OK, GO_AHEAD)

    async def body() -> AsyncIterator[bytes]:
        yield b"hi\r\n" * 100_000
        with pytest.raises(LocalProtocolError, match="in use"):
            await book.client.noop()
        await book.client.aclose()
        yield b"more"

    with pytest.raises((LocalProtocolError, AssertionError)):
        book.deliver(body())
    assert b"QUIT" not in book.output


def test_fork_of_a_process_cannot_use_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    book = client().send(OK)
    before = book.output
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        for call in (lambda: step(book.client.noop()), book.deliver):
            with pytest.raises(LocalProtocolError, match="another process opened this connection"):
                call()
        step(book.client.aclose())
        assert book.output == before, "not even QUIT"
    assert step(book.client.noop()).code == 250


def test_command_of_another_type_keeps_the_session() -> None:
    book = client().send(OK, OK, GO_AHEAD, ACCEPTED)
    wrong: Any = "NOOP"
    with pytest.raises(TypeError, match="a command cannot be of type str"):
        step(book.client.ask(wrong))
    book.wire()
    assert book.deliver().accepted
