"""The clocks of a process, which can be moved. The module is imported before all modules that read a clock."""

import sys
import threading
import time

_monotonic, _time = time.monotonic, time.time
_jumped = 0.0


def read_jumps() -> None:
    """Move the clocks forward by the seconds in each line of standard input, in a thread."""
    threading.Thread(target=_read, daemon=True).start()


def _read() -> None:
    global _jumped
    for line in sys.stdin:
        _jumped += float(line)
        sys.stdout.write("jumped\n")
        sys.stdout.flush()


time.monotonic = lambda: _monotonic() + _jumped
time.time = lambda: _time() + _jumped
