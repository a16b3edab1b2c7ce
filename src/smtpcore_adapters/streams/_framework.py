"""The functions of an event loop framework that streams and servers need."""

# anyio and trio offer the same functions under similar names, so shared code uses a table of these functions. Each of
# the two adapters makes such a table; no other module imports a framework.

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ._stream import Stream


class CancelScope(Protocol):
    """A block of code that can be cancelled as a whole."""

    deadline: float

    @property
    def cancelled_caught(self) -> bool: ...

    def cancel(self) -> None: ...

    def __enter__(self) -> "CancelScope": ...

    def __exit__(self, *error: Any) -> bool | None: ...


class TaskGroup(Protocol):
    """A group of tasks: a task group of anyio, or a nursery of trio."""

    @property
    def cancel_scope(self) -> CancelScope: ...

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> object: ...

    async def start(self, function: Callable[..., Coroutine[Any, Any, Any]], /, *args: Any) -> Any: ...


class Event(Protocol):
    """An event that tasks can wait for."""

    def set(self) -> object: ...

    def is_set(self) -> bool: ...

    async def wait(self) -> object: ...


Accept: TypeAlias = Callable[[socket.socket, Callable[[Stream], object]], Coroutine[Any, Any, None]]
"""A function that accepts connections on a listening socket, and calls a function for each of them, until cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """The functions of one framework. Most have the same name in anyio and trio."""

    wait_readable: Callable[[socket.socket], Awaitable[None]]
    """Wait until a socket has input, its end of stream, or an error."""
    wait_writable: Callable[[socket.socket], Awaitable[None]]
    """Wait until a socket accepts output, or its connection attempt has ended."""
    notify_closing: Callable[[socket.socket], None]
    """Wake the tasks that wait for a socket: the waits raise `closed_resource_error`."""
    closed_resource_error: type[Exception]
    checkpoint: Callable[[], Awaitable[None]]
    """Let other tasks run, and check for cancellation."""
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]
    """Raise the exception of a pending cancellation. Otherwise return at once."""
    sleep: Callable[[float], Awaitable[None]]
    sleep_forever: Callable[[], Awaitable[None]]
    current_time: Callable[[], float]
    """Return the time of the event loop's clock, in seconds."""
    event: Callable[[], Event]
    cancel_scope: Callable[..., CancelScope]
    """Make a cancel scope; the keyword argument `deadline` is a time of `current_time`."""
    task_group: Callable[[], AbstractAsyncContextManager[TaskGroup]]
    """Make a task group; its block ends when all of its tasks have ended."""
    getaddrinfo: Callable[..., Awaitable[list[tuple[Any, ...]]]]
    """Resolve a host name as `socket.getaddrinfo` does."""
    open_signal_receiver: Callable[..., AbstractContextManager[AsyncIterator[int]]]
    """Handle signals inside the block; iterating over the block's value waits for their numbers."""
    run_in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Call a blocking function in a thread; a cancellation waits until the function returns."""
    check_cancelled_in_thread: Callable[[], None]
    """In a thread of `run_in_thread`, check for cancellation; in any other thread, raise `RuntimeError`."""
    run_from_thread: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
    """In a thread of `run_in_thread`, call a coroutine function in the event loop."""
    own_accept: "Callable[[Framework], Accept | None]" = lambda framework: None
    """Return the function that accepts connections in the current event loop; None for the common function."""

    @contextmanager
    def fail_after(self, timeout: float) -> Iterator[None]:
        """Raise `TimeoutError` when the block takes longer than `timeout` seconds."""
        with self.cancel_scope(deadline=self.current_time() + timeout) as scope:
            yield

        if scope.cancelled_caught:
            raise TimeoutError
