"""Signals that stop a server."""

import signal

import pytest

from smtpcore_adapters.server._signals import STOP_SIGNALS, handling_signals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_function_is_called_for_each_signal_and_the_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    calls: list[int] = []
    with handling_signals(lambda: calls.append(1)):
        signal.raise_signal(number)
    assert calls == [1]
    assert signal.getsignal(number) == before
