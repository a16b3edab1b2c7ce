"""Differences between two servers have a rank: the end of a body first, the policy last."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from smtpcore_adapters.testing.fuzz import Evidence, Rank
from smtpcore_adapters.testing.fuzz._differences import difference_of
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, LineStep, RawStep, Step

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET, play_at
from .servers import (
    AcceptsAnyParameter,
    DropsOnNul,
    LfDotLf,
    RefusedChunkIsCommands,
    RsetNeedsNoError,
    SecondReplyToNoop,
    SilentOnEmptyLine,
    SmallServer,
)

SMUGGLED = BodyStep(b"Subject: x\r\n\r\ny\n.\nRSET\r\n")


class RefusesOneOfTwo(SmallServer):
    def answer_message(self) -> None:
        self.reply("550 No")


@pytest.mark.parametrize(
    ("server", "steps", "rank", "verb"),
    [
        (LfDotLf, [HELLO, MAIL, RCPT, SMUGGLED], Rank.BODY, "DATA"),
        (RefusedChunkIsCommands, [HELLO, MAIL, ChunkStep(b"NOOP\r\n")], Rank.BODY, "BDAT"),
        (SecondReplyToNoop, [HELLO, NOOP], Rank.REPLIES, "NOOP"),
        (DropsOnNul, [HELLO, LineStep(b"\0")], Rank.REPLIES, "a malformed line"),
        (SilentOnEmptyLine, [LineStep(b"")], Rank.REPLIES, "a malformed line"),
        (RsetNeedsNoError, [HELLO, LineStep(b"X"), RSET], Rank.STATE, "RSET"),
        (AcceptsAnyParameter, [HELLO, LineStep(b"MAIL FROM:<> X=1")], Rank.POLICY, "MAIL"),
        (RefusesOneOfTwo, [HELLO, MAIL, RCPT, BODY], Rank.POLICY, "DATA"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_difference_has_a_rank(server: type[SmallServer], steps: Sequence[Step], rank: Rank, verb: str) -> None:
    difference = difference_of(play_at(SmallServer, *steps), play_at(server, *steps))

    assert difference
    assert (difference.rank, difference.verb) == (rank, verb)


def test_octets_without_cr_lf_are_not_compared() -> None:
    steps = (HELLO, RawStep(b"NOOP\n"))

    assert difference_of(play_at(SmallServer, *steps), play_at(SecondReplyToNoop, *steps)) is None


def test_same_replies_are_no_difference() -> None:
    steps = (HELLO, MAIL, RCPT, BODY)

    assert difference_of(play_at(SmallServer, *steps), play_at(SmallServer, *steps)) is None


class RefusesData(SmallServer):
    def do_DATA(self, rest: bytes) -> None:
        self.reply("451 Later")


def test_refused_data_is_a_difference_of_the_state() -> None:
    steps = (HELLO, MAIL, RCPT, BODY)
    difference = difference_of(play_at(SmallServer, *steps), play_at(RefusesData, *steps))

    assert difference
    assert (difference.rank, difference.text) == (Rank.STATE, "2yz and a refusal")


def test_different_number_of_delivered_messages_is_a_difference_of_the_body() -> None:
    left, right = (play_at(SmallServer, HELLO, MAIL, RCPT, BODY) for _ in range(2))

    def delivering(evidence: Evidence, *messages: bytes) -> Evidence:
        return replace(evidence, deliveries=([*messages],))

    difference = difference_of(delivering(left, b"a"), delivering(right, b"a", b"b"))
    assert difference
    assert difference.text == "1 and 2 different messages were delivered"
    assert difference_of(delivering(left, b"a"), delivering(right, b"a\n")) is None
    assert difference_of(replace(left, deliveries=()), delivering(right, b"a\n")) is None


def test_session_that_ends_before_the_first_step_is_a_difference() -> None:
    left = play_at(SmallServer, HELLO)
    right = play_at(SmallServer, HELLO)
    recording = right.recordings[0]
    recording.exchanges.clear()
    recording.end = recording.end.DROPPED
    difference = difference_of(left, right)

    assert difference
    assert difference.verb == "the connection"
