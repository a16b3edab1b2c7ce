"""Wait for several sockets without an event loop, and wake a thread that waits."""

import math
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

# These selectors need no file descriptor of their own, unlike epoll.
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

LONGEST_WAIT = 3600.0 if os.name == "posix" else 0.5
"""Maximum seconds of one call of a selector: on Windows signals, such as Ctrl-C, are handled only after the call."""


class HasFileno(Protocol):
    """A socket, or another object with a file descriptor that can be waited for."""

    def fileno(self) -> int: ...


Waitable = TypeVar("Waitable", bound=HasFileno)


def wait_for_any(readers: Sequence[HasFileno], writers: Sequence[HasFileno], timeout: float) -> None:
    """Wait until a reader has input or a writer accepts output, at most `timeout` seconds."""
    if not hasattr(select, "poll"):
        select.select(readers, writers, writers, timeout)  # on Windows a failed attempt to connect is an exception
        return

    poll = select.poll()  # `poll` is several times faster than `selectors`
    for each in readers:
        poll.register(each, select.POLLIN)
    for each in writers:
        poll.register(each, select.POLLOUT)
    poll.poll(math.ceil(timeout * 1000))


def ready_writers(sockets: Iterable[Waitable]) -> list[Waitable]:
    """Return the sockets that accept output, or whose attempt to connect has failed."""
    with Selector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_WRITE, each)
        return [key.data for key, _ in selector.select(0)]


class Wakeup:
    """Wakes a thread that waits with a selector. Any thread and any signal handler may call `set`."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt `set` and call it again
        self._bell: _Bell = _EventFd() if hasattr(os, "eventfd") else _SocketPair()
        self._is_open = True

    def fileno(self) -> int:
        return self._bell.fileno()

    def set(self) -> None:
        with self._lock:
            if not self.is_set and self._is_open:
                self.is_set = True
                self._bell.ring()

    def clear(self) -> None:
        if self.is_set:
            with self._lock:
                self.is_set = False
                self._bell.silence()

    def wait(self, timeout: float = math.inf) -> None:
        """Wait until `set` is called, at most `timeout` seconds; by default without a limit."""
        end = time.monotonic() + timeout
        with Selector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while not selector.select(min(end - time.monotonic(), LONGEST_WAIT)):
                if time.monotonic() >= end:
                    return

    def close(self) -> None:
        with self._lock:  # `set` must not write to a closed descriptor, which may already belong to another file
            self._is_open = False
            self._bell.close()

    def __enter__(self) -> "Wakeup":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Bell(Protocol):
    """A descriptor that a selector finds readable between `ring` and `silence`."""

    def fileno(self) -> int: ...
    def ring(self) -> None: ...
    def silence(self) -> None: ...
    def close(self) -> None: ...


class _EventFd:
    """eventfd(2) of Linux: a single descriptor."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def ring(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def silence(self) -> None:
        os.eventfd_read(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class _SocketPair:
    """Two sockets, for systems without eventfd(2). A pipe would not do: `select` of Windows takes only sockets."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()

    def fileno(self) -> int:
        return self._reader.fileno()

    def ring(self) -> None:
        self._writer.send(b"1")

    def silence(self) -> None:
        self._reader.recv(1)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
