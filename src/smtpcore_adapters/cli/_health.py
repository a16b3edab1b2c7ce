"""The readiness of a server, which `/ready` on the port of the metrics reports."""

import mmap
from enum import IntEnum


class State(IntEnum):
    """The state of a server."""

    NOT_READY = 0
    """The server is starting, or has stopped listening."""
    READY = 1
    """The server listens."""
    DRAINING = 2
    """The server is about to stop: it still listens, and should get no more connections."""


class Readiness:
    """The state of a server, in memory that a process shares with the processes that it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def state(self) -> State:
        """The state."""
        return State(self._shared[0])

    def set(self, state: State) -> None:
        """Set the state for all processes."""
        self._shared[0] = state

    def __call__(self) -> bool:
        """Return whether the server is ready for further connections."""
        return self.state is State.READY
