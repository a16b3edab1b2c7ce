"""An event loop of asyncio for stores whose client library needs asyncio."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from smtpcore import show_texts

from ._store import Runtime

T = TypeVar("T")


class AsyncioThread:
    """An event loop of asyncio in a thread of its own, which sessions of every adapter can use.

    The thread starts with the first call, so the object can be made before worker processes are forked. Each call costs
    two changes of thread, some 0.1 ms. In a session on trio or threads, it also holds a worker thread while it waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    async def call(self, runtime: Runtime, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function in the thread, and return its result.

        The function needs a timeout of its own. A cancellation of the session cancels the function on asyncio. On trio
        the cancellation waits until the function returns.
        """
        if _runs_on_asyncio():
            return await asyncio.wrap_future(self._submit(function, *args))

        return await runtime.run_blocking(self.call_blocking, function, *args)

    def call_blocking(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function in the thread, and block until it returns."""
        return self._submit(function, *args).result()

    def close(self) -> None:
        """Cancel all calls, and wait for the end of the thread. A later call starts another thread."""
        with self._lock:
            if self._loop and self._stop and self._thread:
                self._loop.call_soon_threadsafe(self._stop.set)
                self._thread.join()
            self._thread = self._loop = self._stop = None

    def _submit(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> "Future[T]":
        with self._lock:
            if self._loop is None:
                started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
                self._thread = threading.Thread(
                    target=asyncio.run, args=(_run(started),), name="asyncio of stores", daemon=True
                )
                self._thread.start()
                self._loop, self._stop = started.result()
            return asyncio.run_coroutine_threadsafe(function(*args), self._loop)


async def _run(started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


def _runs_on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False

    return True


show_texts(globals())
