"""The wake-up of a thread that waits with a selector."""

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


def test_wakeup_may_be_set_after_close() -> None:
    with Wakeup() as wakeup:
        pass
    wakeup.set()
    assert not wakeup.is_set
