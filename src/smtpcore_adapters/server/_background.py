"""Servers that are started and stopped by calls: in a thread of their own, or in a task of a running event loop."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack

from ..streams._framework import Event, Framework
from ..streams._stream import Address
from ._acceptor import Server, check_server_options
from ._app import App
from ._config import Options
from ._serving import serving_on


class RunningServer:
    """A server in a task of the event loop, until `stop`."""

    def __init__(self, server: Server, stop: Event, stopped: Event) -> None:
        self._server = server
        self._stop = stop
        self._stopped = stopped

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses of the listening sockets."""
        return self._server.addresses

    @property
    def address(self) -> Address:
        """The first address of `addresses`."""
        return self._server.address

    @property
    def is_serving(self) -> bool:
        """Whether the server accepts connections: it was not stopped or cancelled."""
        return not self._stop.is_set() and not self._stopped.is_set()

    async def stop(self) -> None:
        """Stop accepting connections, and wait for the end of all sessions, at most for the seconds of `grace`.

        Any task may call this method, also repeatedly.
        """
        self._stop.set()
        await self._stopped.wait()


async def run_until_stopped(
    framework: Framework, app: App[Any], port: int, options: Options, *, task_status: Any
) -> None:
    """Serve until `RunningServer.stop`; `task_status.started` gets the `RunningServer`."""
    stop, stopped = framework.event(), framework.event()
    try:
        async with serving_on(framework, app, port, **options) as server:
            task_status.started(RunningServer(server, stop, stopped))
            await stop.wait()
    finally:
        stopped.set()


class BackgroundThread(ABC):
    """A server that runs in a thread of its own from `start` to `stop`."""

    def __init__(self, app: App[Any], port: int = 0, **options: Unpack[Options]) -> None:
        check_server_options(app, options)
        self._app = app
        self._port = port
        self._options = options
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._server: Server | None = None
        self._stop: Callable[[], object] | None = None
        self._failure: BaseException | None = None

    @abstractmethod
    def _serve(self, on_ready: Callable[[Server, Callable[[], object]], None]) -> None:
        """Serve, call `on_ready` with the server and a function that stops it, and return when it has stopped."""

    def start(self) -> Self:
        """Start the server, and return when it listens. If the server runs already, do nothing.

        A server that was stopped can be started again, and uses the same port.
        Raises `OSError` if the server cannot listen, and the errors of `serving` for wrong options.
        """
        with self._lock:
            if self._thread is None:
                ready: Future[Server] = Future()
                thread = threading.Thread(target=self._run, args=(ready,), name="smtpcore server", daemon=True)
                thread.start()
                self._server = ready.result()
                self._thread = thread
                if "listeners" not in self._options:
                    self._port = self._server.address.port

        return self

    def _run(self, ready: "Future[Server]") -> None:
        def announce(server: Server, stop: Callable[[], object]) -> None:
            self._stop = stop
            ready.set_result(server)

        try:
            self._serve(announce)
        except BaseException as exc:  # raised in the thread that calls `start` or `stop`
            if ready.done():
                self._failure = exc
            else:
                ready.set_exception(exc)

    def stop(self) -> None:
        """Stop accepting connections, and return when all sessions have ended, at most after `grace` seconds.

        If the server is not running, do nothing. If a handler has ended the server with `SystemExit` or
        `KeyboardInterrupt`, this exception is raised here.
        """
        if self._thread is threading.current_thread():
            raise RuntimeError("a handler cannot stop its own server, because stop() waits for the handlers")

        with self._lock:
            if self._thread is None:
                return

            assert self._stop, "the server has started"
            with suppress(RuntimeError):  # the event loop has ended already
                self._stop()
            self._thread.join()
            self._thread = None
            failure, self._failure = self._failure, None
            if failure:
                raise failure

    @property
    def is_serving(self) -> bool:
        """Whether the server runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses of the listening sockets. Raises `RuntimeError` before the first `start`."""
        if self._server is None:
            raise RuntimeError("the server has no address yet: call start() first")

        return self._server.addresses

    @property
    def address(self) -> Address:
        """The first address of `addresses`, with the port that the system picked."""
        return self.addresses[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
