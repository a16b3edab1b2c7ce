"""SIGHUP before a process has a handler for it."""

import signal
import sys
from collections.abc import Iterator

import pytest

from smtpcore_adapters import __main__, _hangups
from smtpcore_adapters._hangups import hold_hangups, is_hangup_noted

needs_sighup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


@pytest.fixture(autouse=True)
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a handler of SIGHUP, restore it after the test, and forget the SIGHUP."""
    monkeypatch.setattr(_hangups, "_is_noted", False)
    number = getattr(signal, "SIGHUP", None)
    before = signal.signal(number, signal.SIG_DFL) if number else None
    yield
    if number:
        signal.signal(number, before)


@needs_sighup
def test_sighup_is_noted_and_does_not_end_the_process() -> None:
    hold_hangups()
    assert not is_hangup_noted()
    signal.raise_signal(signal.SIGHUP)
    assert is_hangup_noted()


def test_system_without_sighup_has_nothing_to_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    hold_hangups()


@needs_sighup
@pytest.mark.parametrize(("command", "is_held"), [("serve", True), ("send", False)])
def test_server_holds_sighup_before_the_command_line_is_imported(
    monkeypatch: pytest.MonkeyPatch, command: str, is_held: bool
) -> None:
    held = []

    class CommandLine:
        @staticmethod
        def main() -> int:
            held.append(signal.getsignal(signal.SIGHUP) is _hangups.note_hangup)
            return 0

    monkeypatch.setitem(sys.modules, "smtpcore_adapters.cli", CommandLine)
    monkeypatch.setattr(sys, "argv", ["smtpcore", command])
    with pytest.raises(SystemExit):
        __main__.main()
    assert held == [is_held]
