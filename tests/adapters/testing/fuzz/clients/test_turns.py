"""Turns and transactions are read from the log of a visit."""

import pytest

from smtpcore_adapters.testing.fuzz.clients import Answer, Behaviour
from smtpcore_adapters.testing.fuzz.clients._turns import Turn, transactions_of, turns_of
from tests.adapters.check.clients.test_visit import visit_of
from tests.adapters.testing.fuzz.clients.helpers import ENVELOPE, MESSAGE, talking


def _turns(*pieces: bytes, behaviour: Behaviour | None = None, lmtp: bool = False) -> list[Turn]:
    return turns_of(visit_of(talking(*pieces), (behaviour or Behaviour()).script(), lmtp=lmtp))


def test_each_command_and_body_is_a_turn_with_its_reply() -> None:
    turns = _turns(*MESSAGE)

    assert [(turn.verb, turn.code) for turn in turns] == [
        ("GREETING", 220),
        ("EHLO", 250),
        ("MAIL", 250),
        ("RCPT", 250),
        ("DATA", 354),
        ("END", 250),
        ("QUIT", 221),
    ]
    assert [turn.path for turn in turns] == ["", "", "a@c.example", "b@s.example", "", "", ""]
    assert [turn.number for turn in turns] == list(range(7))


def test_challenges_belong_to_the_turn_of_auth() -> None:
    auth = _turns(b"AUTH LOGIN\r\n", b"x\r\n", b"y\r\n", behaviour=Behaviour(mechanisms=("LOGIN",)))[1]

    assert (len(auth.challenges), auth.code) == (2, 235)


def test_offers_are_those_of_the_last_hello() -> None:
    behaviour = Behaviour(offers=("size 10", "AUTH=LOGIN", "X"), mechanisms=("PLAIN",))
    turns = _turns(b"EHLO c\r\n", b"NOOP\r\n", b"HELO c\r\n", b"NOOP\r\n", behaviour=behaviour)

    assert [turn.offers for turn in turns[1:]] == [
        {},
        {"SIZE": "10", "AUTH": "LOGIN PLAIN", "X": ""},
        {"SIZE": "10", "AUTH": "LOGIN PLAIN", "X": ""},
        {},
    ]


def test_turns_after_a_malformed_or_surplus_reply_are_lost() -> None:
    for reply in (b"250 OK\r\n250 OK\r\n", b"hello 1\r\n"):
        turns = _turns(b"NOOP\r\n", b"NOOP\r\n", behaviour=Behaviour(answers=(Answer("NOOP", reply, 1),)))

        assert [turn.is_lost for turn in turns] == [False, False, True]


def test_turns_after_a_malformed_challenge_are_lost() -> None:
    behaviour = Behaviour(mechanisms=("LOGIN",), answers=(Answer("CHALLENGE", b"334 a\r\n334 b\r\n"),))
    turns = _turns(b"AUTH LOGIN\r\nx\r\ny\r\nNOOP\r\n", behaviour=behaviour)

    assert [turn.is_lost for turn in turns] == [False, False, True]


def test_refusals_are_well_formed() -> None:
    behaviour = Behaviour(answers=(Answer("NOOP", b"550 No\r\n", 1), Answer("NOOP", b"550\n", 2)))
    turns = _turns(b"NOOP\r\n", b"NOOP\r\n", b"RSET\r\n", behaviour=behaviour)

    assert [turn.is_refused for turn in turns] == [False, True, False, False]


def test_transactions_end_at_a_body_or_a_reset() -> None:
    lines = (*ENVELOPE[1:], b"RSET\r\n", *ENVELOPE[1:], b"DATA\r\n", b".\r\n", b"RCPT TO:<c@s.example>\r\n")
    transactions = transactions_of(_turns(ENVELOPE[0], *lines))

    assert [(len(each.rcpts), each.delivered(lmtp=False)) for each in transactions] == [(1, []), (1, ["b@s.example"])]


def test_recipients_of_lmtp_have_replies_of_their_own() -> None:
    behaviour = Behaviour(answers=(Answer("END", b"550 No\r\n", 1), Answer("RCPT", b"550 No\r\n", 2)))
    rcpts = [b"RCPT TO:<%s@s.example>\r\n" % name for name in (b"b", b"c", b"d")]
    turns = _turns(b"LHLO c\r\n", ENVELOPE[1], *rcpts, b"DATA\r\n", b".\r\n", behaviour=behaviour, lmtp=True)

    assert transactions_of(turns)[0].delivered(lmtp=True) == ["d@s.example"]


def test_message_of_a_refused_sender_is_not_delivered() -> None:
    behaviour = Behaviour(
        answers=(Answer("MAIL", b"550 No\r\n"), Answer("RCPT", b"250 OK\r\n"), Answer("DATA", b"354 Go\r\n"))
    )

    assert transactions_of(_turns(*MESSAGE, behaviour=behaviour))[0].delivered(lmtp=False) == []


@pytest.mark.parametrize(("reply", "is_early"), [(None, True), (b"421 Bye\r\n", False), (b"250 a\r\n250 b\r\n", False)])
def test_input_is_early_until_the_client_may_leave(reply: bytes | None, is_early: bool) -> None:
    rcpt = b"RCPT TO:<c@s.example>\r\n"
    behaviour = Behaviour(answers=(Answer("END", reply, 1), Answer("END", delay=0.5, number=2)))
    lines = (b"LHLO c\r\n", *ENVELOPE[1:], rcpt, b"DATA\r\n", b".\r\n", b"QUIT\r\n")

    assert _turns(*lines, behaviour=behaviour, lmtp=True)[-2].has_early_input == is_early


def test_command_without_path_has_none() -> None:
    assert _turns(b"MAIL\r\n")[1].path == ""
