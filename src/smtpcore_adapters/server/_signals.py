"""Signals that stop a server."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM) + ((signal.SIGBREAK,) if hasattr(signal, "SIGBREAK") else ())
"""The signals after which a server stops. On Windows, Ctrl-Break is the signal that another program can send."""


def check_main_thread() -> None:
    """Raise `RuntimeError` in another thread than the main thread, the only one that can handle signals."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals reach only the main thread: use BackgroundServer or serving in other threads")


@contextmanager
def handling_signals(function: Callable[[], object]) -> Iterator[None]:
    """Call `function` in the main thread after each of `STOP_SIGNALS` inside the block."""
    check_main_thread()
    before = [signal.signal(number, lambda *_: function()) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, handler)
