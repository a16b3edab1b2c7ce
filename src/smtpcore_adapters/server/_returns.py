"""Items that a session gives back at its end, such as its place in a count."""

# The garbage collector may end a session at any place of a program: it closes the coroutine of a session that nobody
# runs any more. If it has interrupted the holder of a lock, in the same thread, waiting for this lock would take
# forever. So giving back never waits: the item stays in a queue until the lock is free.

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Returns(Generic[_T]):
    """A queue of items that were given back, and the lock under which they are taken from it.

    To give an item back, append it to `queue` and call `settle`.

    Args:
        take_all: Takes everything from `queue`. It runs under the lock.
    """

    __slots__ = ("_take_all", "lock", "queue")

    def __init__(self, take_all: Callable[[], None]) -> None:
        self._take_all = take_all
        self.lock: Lock = Lock()
        """Its holder takes everything from `queue` first, and so knows all items that were given back before."""
        self.queue: deque[_T] = deque()
        """The items that were given back."""

    def settle(self) -> None:
        """Take everything from the queue, unless the lock is held."""
        # Repeated, as the queue may get something between the last look at it and the release of the lock.
        while self.queue and self.lock.acquire(blocking=False):
            try:
                self._take_all()
            finally:
                self.lock.release()
