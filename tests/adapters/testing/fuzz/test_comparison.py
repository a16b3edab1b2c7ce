"""Two servers play the same sessions, and the most important difference is reported first, in a short session."""

from dataclasses import replace
from typing import Any

import pytest

from smtpcore_adapters.testing.fuzz import (
    CannotFuzz,
    Experiment,
    Fuzzer,
    Plan,
    Rank,
    Settings,
    compare,
    lines_sent,
)
from smtpcore_adapters.testing.fuzz import _comparison as comparison
from smtpcore_adapters.testing.steps import BodyStep

from .runs import HELLO, MAIL, RCPT, fuzzer_for
from .servers import AcceptsAnyParameter, LfDotLf, SmallServer
from .test_engine import RefusesHello


class Both(LfDotLf, AcceptsAnyParameter):
    pass


def test_body_that_ends_at_different_places_is_first() -> None:
    result = compare(fuzzer_for(SmallServer), fuzzer_for(Both), Settings(examples=120))
    first, *others = result.differences

    assert first.rank is Rank.BODY
    assert max(map(lines_sent, first.recordings)) <= 12
    assert Rank.POLICY in {difference.rank for difference in others}
    assert result.sessions > 240


def test_same_servers_have_no_difference() -> None:
    assert compare(fuzzer_for(SmallServer), fuzzer_for(SmallServer), Settings(examples=320)).differences == []


def test_difference_that_a_second_run_does_not_show_is_dropped() -> None:
    class Once(SmallServer):
        seen = 0

        def do_HELP(self, rest: bytes) -> None:
            self.reply("214 Help")

        def do_RSET(self, rest: bytes) -> None:
            type(self).seen += 1
            super().do_RSET(rest) if type(self).seen != 1 else self.reply("451 Later")

    assert compare(fuzzer_for(SmallServer), fuzzer_for(Once), Settings(examples=60)).differences == []


@pytest.mark.parametrize(("texts", "count"), [(["slow", "real", "real"], 1), (["slow", "real", "other"], 0)])
def test_difference_that_two_patient_sessions_show_is_found(
    texts: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = comparison._play
    left = iter(texts)

    def play_slowly(one: Fuzzer, other: Fuzzer, experiment: Experiment, *, is_patient: bool = False) -> Any:
        found = play(one, other, experiment, is_patient=is_patient)
        return found and replace(found, text=next(left, "slow"))

    monkeypatch.setattr(comparison, "_play", play_slowly)
    result = compare(fuzzer_for(SmallServer), fuzzer_for(LfDotLf), Settings(examples=8))
    assert [difference.text for difference in result.differences] == ["real"] * count


def test_number_of_differences_and_the_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_MAX_DIFFERENCES", 1)
    assert len(compare(fuzzer_for(SmallServer), fuzzer_for(Both), Settings()).differences) == 1
    assert compare(fuzzer_for(SmallServer), fuzzer_for(Both), Settings(seconds=0)).differences == []


class SlowAfterErrors(SmallServer):
    """Waits half a second before a reply to an unknown command, and before the end of the connection."""

    is_slow = False

    def unknown(self, line: bytes) -> None:
        super().unknown(line)
        self.is_slow = True

    def receive(self, timeout: float) -> bytes:
        if self.is_slow and timeout < 0.5:
            raise TimeoutError
        self.is_slow = False
        return super().receive(timeout)


def test_slow_server_does_not_differ() -> None:
    assert compare(fuzzer_for(SmallServer), fuzzer_for(SlowAfterErrors), Settings(examples=200)).differences == []


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ConnectionResetError(104, "Connection reset"), "a server accepts no more connections: Connection reset"),
        (KeyboardInterrupt(), "the run was interrupted"),
    ],
)
def test_differences_of_a_run_that_ends_early_are_kept(error: BaseException, note: str) -> None:
    counts: list[int] = []

    def connect() -> SmallServer:
        counts.append(1)
        if len(counts) > 70:
            raise error
        return Both()

    other = Fuzzer(connect, fuzzer_for(Both).settings)
    result = compare(fuzzer_for(SmallServer), other, Settings())

    assert result.differences
    assert result.notes == [note]


def test_server_that_is_lost_during_the_reduction_keeps_the_difference() -> None:
    one, other = fuzzer_for(SmallServer), fuzzer_for(Both)
    steps = (HELLO, MAIL, RCPT, BodyStep(b"y\n.\nRSET\r\n"))
    found = comparison._play(one, other, Experiment(Plan(steps)))
    assert found

    def lose() -> SmallServer:
        raise ConnectionResetError

    assert comparison._reduce(one, Fuzzer(lose, other.settings), found) is found


def test_interrupted_run_without_differences_is_interrupted() -> None:
    sessions = iter([SmallServer() for _ in range(3)])

    def connect() -> SmallServer:
        for server in sessions:
            return server
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(fuzzer_for(SmallServer), Fuzzer(connect, fuzzer_for(SmallServer).settings), Settings())


def test_server_that_dies_is_an_error() -> None:
    fuzzer = fuzzer_for(SmallServer)
    sessions = iter([SmallServer() for _ in range(3)])

    def connect() -> SmallServer:
        for server in sessions:
            return server
        raise ConnectionResetError(104, "Connection reset")

    dying = Fuzzer(connect, fuzzer.settings)
    with pytest.raises(CannotFuzz, match="a server accepts no more connections: Connection reset"):
        compare(fuzzer, dying, Settings())


def test_both_servers_have_to_speak_smtp() -> None:
    with pytest.raises(CannotFuzz):
        compare(fuzzer_for(SmallServer), fuzzer_for(RefusesHello), Settings())
