"""The readiness of a server, which `/ready` on the port of the metrics reports."""

import mmap


class Readiness:
    """Whether a server listens: false while it starts, and after it began to stop.

    The value is in memory that a process shares with the processes that it forks.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self, is_ready: bool) -> None:
        """Set the value for all processes."""
        self._shared[0] = is_ready

    def __call__(self) -> bool:
        """Return the value."""
        return bool(self._shared[0])
