"""A plan is played step by step, and each session ends, whatever the server does."""

from collections.abc import Sequence

import pytest

from smtpcore_adapters.testing.fuzz import End, Experiment, Fuzzer, Kind, Plan, Recording, Settings, dialogue
from smtpcore_adapters.testing.fuzz._player import play
from smtpcore_adapters.testing.steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET, play_at
from .servers import (
    AnswersInjectedCommands,
    EndlessReply,
    ExtraReplyAfterBody,
    SecondReplyToNoop,
    SmallServer,
    StaysOpen,
)


def codes(recording: Recording) -> list[list[int]]:
    return [exchange.codes for exchange in recording.exchanges]


def played(server: type[SmallServer], *steps: Step, pipelined: bool = False) -> Recording:
    return play_at(server, *steps, pipelined=pipelined).recordings[0]


def test_replies_are_recorded_for_each_step() -> None:
    recording = played(SmallServer, HELLO, MAIL, RCPT, BODY, NOOP)

    assert codes(recording) == [[250], [250], [250], [354, 250], [250], [221]]
    assert recording.end is End.CLOSED
    assert len(recording.replies) == 8


def test_refused_data_has_no_body() -> None:
    assert codes(played(SmallServer, HELLO, BODY, NOOP)) == [[250], [503], [250], [221]]


class Logins(SmallServer):
    left: list[str]

    def do_AUTH(self, rest: bytes) -> None:
        self.reply("334 " if rest == b"LOGIN" else "235 Welcome" if rest == b"PLAIN =" else "504 Mechanism?")

    def unknown(self, line: bytes) -> None:
        self.reply({b"dQ==": "334 ", b"cA==": "235 Welcome", b"*": "501 Cancelled"}.get(line, "500 What?"))


def test_login_has_a_reply_for_each_response() -> None:
    steps = (AuthStep("LOGIN", None, (b"dQ==", b"cA==")), AuthStep("PLAIN", b"="), AuthStep("X"))

    assert codes(played(Logins, HELLO, *steps)) == [[250], [334, 334, 235], [235], [504], [221]]


def test_challenge_without_a_response_is_cancelled() -> None:
    steps = (AuthStep("LOGIN", None, (b"dQ==",)), LineStep(b"AUTH LOGIN"))

    assert codes(played(Logins, HELLO, *steps)) == [[250], [334, 334, 501], [334, 501], [221]]


class TakesDataWithArgument(SmallServer):
    def do_DATA(self, rest: bytes) -> None:
        super().do_DATA(b"")


def test_unexpected_354_is_followed_by_an_empty_body() -> None:
    recording = played(TakesDataWithArgument, HELLO, MAIL, RCPT, LineStep(b"DATA now"), NOOP)

    assert codes(recording)[3:] == [[354, 250], [250], [221]]


def test_octets_without_cr_lf_are_the_last_of_a_session() -> None:
    recording = played(SmallServer, HELLO, MAIL, RawStep(b"NOOP"), NOOP, pipelined=True)

    assert codes(recording) == [[250], [250], [250, 221]]
    assert recording.end is End.LOOSE
    assert played(EndlessReply, RawStep(b"HELP")).end is End.FLOOD


def test_surplus_is_found_before_the_next_group_and_at_the_end() -> None:
    assert played(SecondReplyToNoop, HELLO, NOOP, RSET).end is End.SURPLUS
    assert played(ExtraReplyAfterBody, HELLO, MAIL, RCPT, BODY).end is End.SURPLUS
    assert played(AnswersInjectedCommands, HELLO, TlsStep(b"NOOP\r\n")).end is End.SURPLUS


class LateSurplus(SmallServer):
    """Sends a second reply to NOOP only together with the reply to the next command."""

    late = False

    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")
        self.late = True

    def do_QUIT(self, rest: bytes) -> None:
        if self.late:
            self.reply("250 Late")
        super().do_QUIT(rest)


def test_late_surplus_is_found_after_quit() -> None:
    recording = played(LateSurplus, HELLO, NOOP)

    assert recording.end is End.SURPLUS
    assert [reply.code for reply in recording.surplus] == [250]


class Floods(SmallServer):
    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")
        self.output += b"x" * 2_000_000


class HalfLine(SmallServer):
    def do_NOOP(self, rest: bytes) -> None:
        self.reply("250 OK")
        self.output += b"25"


def test_endless_output_after_a_reply_is_a_flood() -> None:
    assert played(Floods, HELLO, NOOP, NOOP).end is End.FLOOD
    assert played(HalfLine, HELLO, NOOP, NOOP).end is End.SILENT
    assert played(StaysOpen, HELLO).end is End.LEFT_OPEN


def test_quit_may_be_answered_by_421() -> None:
    class Goodbye(SmallServer):
        def do_QUIT(self, rest: bytes) -> None:
            self.reply("421 Bye")
            self.is_over = True

    assert played(Goodbye, HELLO).end is End.CLOSED


class SmallLmtpServer(SmallServer):
    lmtp = True


def test_last_chunk_in_lmtp_is_sent_only_with_recipients() -> None:
    rcpts = [RCPT, RCPT]

    assert codes(played(SmallLmtpServer, HELLO, MAIL, ChunkStep(b"x"))) == [[250], [250], [], [221]]
    assert codes(played(SmallLmtpServer, HELLO, MAIL, *rcpts, ChunkStep(b"x"), pipelined=True))[-2:] == [
        [250, 250],
        [221],
    ]


class RefusesChunks(SmallLmtpServer):
    def end_chunk(self, is_last: bool) -> None:
        self.reply("501 No")


def test_refused_chunk_has_one_reply_in_lmtp() -> None:
    assert codes(played(RefusesChunks, HELLO, MAIL, RCPT, RCPT, ChunkStep(b"x")))[-2:] == [[501], [221]]


def test_segments_are_cut_at_the_given_places() -> None:
    sent: list[Sequence[bytes]] = []

    class Records(SmallServer):
        def deliver(self, content: bytes) -> None:
            pass

        def send(self, segments: Sequence[bytes], timeout: float) -> None:
            sent.append(segments)
            super().send(segments, timeout)

    play(Plan((HELLO, MAIL, RCPT, BodyStep(b"x\r\n")), cuts=(1, 3, 50)), Records, 1.0)

    assert sent[0] == [b"EHLO c.exampl", b"e\r", b"\n"]
    assert sent[-2] == [b"x\r\n", b".\r", b"\n"]


def test_peer_that_takes_no_octets_is_a_dropped_session() -> None:
    class Broken(SmallServer):
        def send(self, segments: Sequence[bytes], timeout: float) -> None:
            self.is_over = True
            raise ConnectionResetError

    assert play(Plan((HELLO,)), Broken, 1.0).end is End.DROPPED


def test_steps_of_a_login_are_not_recorded() -> None:
    fuzzer = Fuzzer(SmallServer, Settings(login=(HELLO, NOOP)))
    recording = fuzzer.gather(Experiment(Plan((HELLO,)), Kind.SINGLE)).recordings[0]

    assert codes(recording) == [[250], [221]]
    assert len([entry for entry in recording.log if entry.is_client]) == 2
    assert dialogue(recording)[0] == "-- after EHLO, NOOP"


@pytest.mark.parametrize("text", ["421 Busy", "554 No"])
def test_session_may_end_with_the_greeting(text: str) -> None:
    class Refuses(SmallServer):
        def __init__(self) -> None:
            super().__init__()
            self.output[:] = text.encode() + b"\r\n"
            self.is_over = True

    recording = play(Plan((HELLO,)), Refuses, 1.0)
    assert recording.greeting
    assert recording.greeting.code == int(text[:3])
