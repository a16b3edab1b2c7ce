"""Servers and clients in threads, without an event loop."""

# The session loop is the same coroutine as on the other adapters. Here a thread runs the loop over a `BlockingStream`.
# The coroutines of that stream block instead of being suspended, so that a single step runs the whole session.

import errno
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Unpack, cast

from ._adapter import Adapter, documented_as
from .client import _pool
from .client._blocking import BlockingClient
from .client._blocking_pool import BlockingPool, ThreadEvent
from .client._connecting import open_client
from .client._options import ConnectOptions
from .client._results import SendResult
from .client._sending import OneCallOptions, send_over
from .client._sources import Body
from .server._acceptor import Acceptor, OnReady, OnStop, Server, announce, pause_after_accept_error, seconds_to_drain
from .server._app import App
from .server._config import Options
from .server._listeners import Listener, accept_from, addresses_of, listening
from .server._signals import handling_signals
from .streams._blocking import BlockingStream, open_blocking_stream
from .streams._socket_stream import Cancelled, complete
from .streams._stream import Address, HowToConnect, Stream
from .streams._wakeup import Selector, Wakeup

__all__ = ["Cancelled", "Pool", "complete", "connect", "open_stream", "run", "send", "serve", "serving"]


_SIGNAL_DELAY = 0.5  # seconds until a signal is handled, at most


@contextmanager
@documented_as(Adapter.serving)
def serving(app: App[Any], port: int = 0, **options: Unpack[Options]) -> Iterator[Server]:
    """Serve inside a `with` block, each connection in a thread of its own.

    Handlers run in at most `Limits.connections` threads; as many more may only refuse connections. Handlers are plain
    functions. In a cancelled session, every call that waits for the client raises `Cancelled`. The block ends when all
    handlers have returned. If a handler has ended the server with `SystemExit`, the block raises this exception.
    """
    with _serving(app, port, lambda: None, **options) as server:
        yield server


@contextmanager
def _serving(app: App[Any], port: int, on_exit: Callable[[], object], **options: Unpack[Options]) -> Iterator[Server]:
    # Each connection has two file descriptors: for the socket, and for the `Wakeup` of the stream.
    acceptor = Acceptor(app, port, descriptors=2, **options)
    acceptor.on_exit = on_exit
    sessions = _Sessions(acceptor)
    with Wakeup() as stop, ExitStack() as stack:
        sockets = stack.enter_context(listening(acceptor.listeners))
        accepting = threading.Thread(target=_accept, args=(sockets, sessions, stop), name="smtpcore", daemon=True)
        accepting.start()
        try:
            yield Server(addresses_of(sockets))
        finally:
            stop.set()
            accepting.join()
            stack.close()  # new connections are refused from here on
            acceptor.drain()
            sessions.finish(acceptor.grace)
            failure = acceptor.exit
            if failure:
                raise failure


@documented_as(Adapter.serve)
def serve(
    app: App[Any],
    port: int = 0,
    *,
    on_ready: OnReady = None,
    on_stop: OnStop = None,
    handle_signals: bool = False,
    **options: Unpack[Options],
) -> None:
    """Serve in threads until SIGINT or SIGTERM, or without `handle_signals` until a KeyboardInterrupt."""
    with ExitStack() as stack:
        stop = stack.enter_context(Wakeup())
        exited = threading.Event()

        def exit_at_once() -> None:
            exited.set()
            stop.set()

        server = stack.enter_context(_serving(app, port, exit_at_once, **options))
        if handle_signals:
            stack.enter_context(handling_signals(stop.set))

        announce(server, on_ready)
        _wait_for(stop)
        if not exited.is_set():
            stop.clear()
            _wait_for(stop, seconds_to_drain(on_stop))


def _wait_for(stop: Wakeup, seconds: float = math.inf) -> None:
    end = time.monotonic() + seconds
    while not stop.is_set and (left := end - time.monotonic()) > 0:
        # Handlers run in this thread only, but a signal that arrives in another thread does not end this wait.
        stop.wait(min(left, _SIGNAL_DELAY))


@documented_as(Adapter.serve, without="handle_signals")
def run(
    app: App[Any], port: int = 0, *, on_ready: OnReady = None, on_stop: OnStop = None, **options: Unpack[Options]
) -> None:
    """Serve in threads until SIGINT or SIGTERM."""
    serve(app, port, on_ready=on_ready, on_stop=on_stop, handle_signals=True, **options)


@documented_as(Adapter.open_stream)
async def open_stream(host: str, port: int, timeout: float, **how: Unpack[HowToConnect]) -> Stream:
    """Connect to a server, and return a byte stream whose coroutines block; run them with `complete`.

    The addresses of a host are tried one after the other, each for its share of `timeout`.
    """
    return await open_blocking_stream(host, port, timeout, **how)


@contextmanager
@documented_as(Adapter.connect)
def connect(host: str, port: int, **options: Unpack[ConnectOptions]) -> Iterator[BlockingClient]:
    """Connect to a server for a `with` block, which gets the `BlockingClient` that sends mail."""
    with closing(BlockingClient(complete(open_client(open_stream, host, port, **options)), complete)) as client:
        yield client


@documented_as(Adapter.send)
def send(message: Body, *, host: str, port: int = 25, **options: Unpack[OneCallOptions]) -> SendResult:
    """Connect to a server, send one message, and disconnect. Return the decisive reply for each recipient."""
    return complete(send_over(open_stream, message, host, port, options))


class _ThreadPool(_pool.Pool):
    _open_stream = staticmethod(open_stream)
    _new_event = staticmethod(ThreadEvent)


class Pool(BlockingPool):
    """A pool of connections for threads."""

    def __init__(
        self,
        host: str,
        port: int,
        size: int = 4,
        max_age: float = 300.0,
        max_uses: int = 100,
        **options: Unpack[ConnectOptions],
    ) -> None:
        super().__init__(_ThreadPool(host, port, size, max_age, max_uses, **options), complete)


def _accept(sockets: Iterable[tuple[socket.socket, Listener]], sessions: "_Sessions", stop: Wakeup) -> None:
    with Selector() as selector:
        selector.register(stop, selectors.EVENT_READ)
        for source, listener in sockets:
            selector.register(source, selectors.EVENT_READ, listener)

        while not stop.is_set:
            for key, _ in selector.select():
                try:
                    if key.data:
                        sessions.start(*accept_from(cast(socket.socket, key.fileobj)), key.data)
                except BlockingIOError:
                    continue  # the client has closed the connection already
                except OSError as exc:
                    stop.wait(pause_after_accept_error(exc))


class _Sessions:
    """The sessions of one server, each in a thread."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._streams: set[BlockingStream] = set()
        self._changed = threading.Condition()

    def start(self, connection: socket.socket, peer: Address | None, listener: Listener) -> None:
        """Start a thread for a connection. Raises `OSError` if threads, memory or file descriptors have run out."""
        stream = BlockingStream(connection, peer, self._acceptor.clock)
        thread = threading.Thread(target=self._run, args=(stream, listener), name=f"smtpcore {peer}", daemon=True)
        with self._changed:
            self._streams.add(stream)
        try:
            thread.start()
        except RuntimeError as exc:
            self._remove(stream)
            complete(stream.aclose(0))
            raise OSError(errno.ENOMEM, str(exc)) from exc

    def _run(self, stream: BlockingStream, listener: Listener) -> None:
        try:
            complete(self._acceptor.session_for(stream, listener))
        except Cancelled:
            pass
        finally:
            self._remove(stream)

    def _remove(self, stream: BlockingStream) -> None:
        with self._changed:
            self._streams.discard(stream)
            self._changed.notify_all()

    def finish(self, grace: float) -> None:
        """Wait until all sessions have ended; cancel sessions that are still running after `grace` seconds."""
        with self._changed:
            self._changed.wait_for(self._have_ended, min(grace, threading.TIMEOUT_MAX))
            remaining = tuple(self._streams)

        for stream in remaining:
            stream.cancel()
        with self._changed:
            # A thread cannot be stopped, so the server waits: the thread may still use objects of your code.
            self._changed.wait_for(self._have_ended)

    def _have_ended(self) -> bool:
        return not self._streams
