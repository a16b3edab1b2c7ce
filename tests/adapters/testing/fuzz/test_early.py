"""Connections are opened early for a server that delays the greeting, and replaced if they have ended."""

import pytest

from smtpcore_adapters.testing.fuzz import Experiment, Fuzzer, Plan, Settings
from smtpcore_adapters.testing.fuzz import _engine as engine
from smtpcore_adapters.testing.fuzz._early import EarlyConnections

from .runs import HELLO
from .servers import SmallServer


class Counted(SmallServer):
    opened = 0
    closed = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).opened += 1

    def close(self) -> None:
        super().close()
        type(self).closed += 1


@pytest.fixture(autouse=True)
def _reset() -> None:
    Counted.opened = Counted.closed = 0


def test_oldest_connection_is_returned_and_the_others_are_closed_at_the_end() -> None:
    early = EarlyConnections(Counted, 3)
    first, second = early(), early()

    assert first is not second
    assert Counted.opened == 4
    early.close()
    early.close()
    assert Counted.closed == 2


@pytest.mark.parametrize(("slow", "opened"), [(-1.0, 3 + 5 + 7), (60.0, 3 + 5)])
def test_connections_are_opened_early_only_if_the_greeting_is_slow(
    slow: float, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SLOW_GREETING", slow)
    report = Fuzzer(Counted, Settings(examples=5)).run()

    assert report.findings == []
    assert Counted.opened == Counted.closed == opened


def test_early_connection_that_has_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_SLOW_GREETING", -1.0)
    fuzzer = Fuzzer(Counted, Settings(examples=1))
    fuzzer.run()
    for peer in (fuzzer._early() for _ in range(2)):
        assert isinstance(peer, Counted)
    for peer in fuzzer._early._open:
        assert isinstance(peer, Counted)
        peer.output.clear()
        peer.is_over = True
    recording = fuzzer.gather(Experiment(Plan((HELLO,)))).recordings[0]

    assert recording.greeting
    assert [exchange.codes for exchange in recording.exchanges] == [[250], [221]]
