"""The wake-up of a thread that waits with a selector."""

import time

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
    begin = time.monotonic()
    with Wakeup() as wakeup:
        wakeup.wait(0.005)
    assert time.monotonic() - begin >= 0.005


def test_wakeup_may_be_set_after_close() -> None:
    with Wakeup() as wakeup:
        pass
    wakeup.set()
    assert not wakeup.is_set
