"""Signals that stop a server."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from smtpcore_adapters import App
from smtpcore_adapters.server._signals import STOP_SIGNALS, handling_signals
from tests.adapters.harness import module_of


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_function_is_called_for_each_signal_and_the_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    calls: list[int] = []
    with handling_signals(lambda: calls.append(1)):
        signal.raise_signal(number)
    assert calls == [1]
    assert signal.getsignal(number) == before


def test_run_needs_the_main_thread(backend: str) -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        pytest.raises(RuntimeError, match="only the main thread: use BackgroundServer or serving in other threads"),
    ):
        thread.submit(module_of(backend).run, App()).result()
