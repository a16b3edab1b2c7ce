"""SIGHUP before a process has a handler for it: while `smtpcore serve` starts, or before a worker is forked."""

import signal

_is_noted = False


def hold_hangups() -> None:
    """Only note SIGHUP from now on. By default it would end the process."""
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, note_hangup)


def note_hangup(*_: object) -> None:
    """Note a SIGHUP, for this process and the processes that it forks later."""
    global _is_noted
    _is_noted = True


def is_hangup_noted() -> bool:
    """Return whether there was a SIGHUP, so that files may have changed since they were read."""
    return _is_noted
