"""The wake-up of a thread that waits with a selector."""

from types import SimpleNamespace

import pytest

from smtpcore_adapters.streams._wakeup import Wakeup


def test_wakeup_may_be_set_and_cleared_repeatedly() -> None:
    with Wakeup() as wakeup:
        for _ in range(2):
            wakeup.set()
            wakeup.set()
            wakeup.wait()
            assert wakeup.is_set
            wakeup.clear()
            wakeup.clear()
            assert not wakeup.is_set


def test_wait_has_a_limit_and_may_take_several_calls_of_a_selector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpcore_adapters.streams._wakeup.LONGEST_WAIT", 0.001)
    times = [0.0, 0.0, 0.001, 0.001, 0.005]  # the begin, then before and after each of two calls
    clock = SimpleNamespace(monotonic=lambda: times.pop(0))
    with Wakeup() as wakeup:
        with monkeypatch.context() as patch:
            patch.setattr("smtpcore_adapters.streams._wakeup.time", clock)
            wakeup.wait(0.005)
        assert not wakeup.is_set
    assert times == []


def test_wakeup_may_be_set_after_close() -> None:
    with Wakeup() as wakeup:
        pass
    wakeup.set()
    assert not wakeup.is_set
