"""Run servers in threads, without an event loop."""

# The session loop is the same coroutine as everywhere. Here it runs over a stream whose coroutines block instead of
# being suspended, so one step runs it to its end.
#
# The sockets do not block: a thread waits in one place, `_persist`, for its socket and for a bell, with which others
# wake it. So it can be asked to end while it waits, and nothing that the client has sent is lost by that.

import errno
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ssl import SSLContext
from typing import Any, TypeVar, Unpack, cast

from .client._blocking import BlockingClient
from .client._connecting import open_client
from .client._options import ConnectOptions
from .server._acceptor import Acceptor, Server, announce, pause_after_accept_error
from .server._app import App
from .server._config import Options
from .server._listeners import Listener, accept_from, addresses_of, listening
from .streams._stream import (
    Address,
    Interrupted,
    Stream,
    address_of,
    family_of,
    is_readable,
    reset_on_close,
    send_at_once,
    unknown_hosts_as_os_errors,
)
from .streams._tls_codec import Encryption, read, shake_hands
from .tls._info import Tls

T = TypeVar("T")

_READ_SIZE = 65_536
_LONGEST_WAIT = 3600.0  # seconds; what waits longer comes back and waits again, for `poll` cannot count that far


class Cancelled(BaseException):
    """The time that a session was given to end is over. Raised by whatever it waits for."""


@contextmanager
def serving(
    app: App, port: int = 0, *, host: str | None = "127.0.0.1", grace: float = 30.0, **options: Unpack[Options]
) -> Iterator[Server]:
    """Listen inside of a `with` block, and yield the `Server`; port 0 picks a free one.

    Each connection has a thread, of which there are at most twice as many as `Limits.connections`; handlers are called
    in it, and are plain functions.

    At the end of the block no more connections are accepted, sessions are ended with a 421 at their next command, and
    those that are not over after `grace` seconds are cancelled: whatever they wait for of the client raises
    `Cancelled`. The block is left when all handlers have returned. See `Options` for the other parameters.

    Raises `OSError` if the address cannot be listened at.
    """
    acceptor = Acceptor(app, port, host, **options)
    crew = _Crew(acceptor)
    with _Bell() as closing, ExitStack() as doors:
        sockets = doors.enter_context(listening(acceptor.listeners))
        accepting = threading.Thread(target=_accept, args=(sockets, crew, closing), name="smtpcore", daemon=True)
        accepting.start()
        try:
            yield Server(addresses_of(sockets))
        finally:
            closing.ring()
            accepting.join()
            doors.close()
            acceptor.drain()
            crew.finish(grace)


def serve(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    handle_signals: bool = False,
    **options: Unpack[Options],
) -> None:
    """Serve until SIGINT or SIGTERM where `handle_signals`, and shut down as `serving` does.

    Without it nothing but an exception ends it, such as `KeyboardInterrupt`. Only the main thread can handle signals.
    `on_ready` is called with the address once the server listens there. Raises `OSError` if it cannot.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(_Bell())
        server = stack.enter_context(serving(app, port, host=host, grace=grace, **options))
        if handle_signals:
            stack.enter_context(_ringing(stop))

        announce(server, on_ready)
        stop.wait()


def run(
    app: App,
    port: int = 0,
    *,
    host: str | None = "127.0.0.1",
    grace: float = 30.0,
    on_ready: Callable[[Address], None] | None = None,
    **options: Unpack[Options],
) -> None:
    """Serve until SIGINT or SIGTERM."""
    serve(app, port, host=host, grace=grace, on_ready=on_ready, handle_signals=True, **options)


async def open_stream(
    host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
) -> Stream:
    """Connect to a server, or with `path` to the Unix socket there.

    It blocks instead of being suspended: `complete` runs it, and whatever is built on it. A host with several
    addresses is tried at one after the other. `local_address` is the IP address to connect from. Raises `TimeoutError`
    after `timeout` seconds, and `OSError` if there is no connection to be had.
    """
    deadline = time.monotonic() + timeout
    if path:
        return _SocketStream(_connect(socket.AF_UNIX, path, deadline, None), Address(path))

    with unknown_hosts_as_os_errors(host):
        found = socket.getaddrinfo(host, port, family=family_of(local_address), type=socket.SOCK_STREAM)

    failures: list[OSError] = []
    for number, (family, _, _, _, address) in enumerate(found):
        now = time.monotonic()
        part = now + (deadline - now) / (len(found) - number)  # so that one that does not answer leaves time for others
        try:
            return _SocketStream(_connect(family, address, part, local_address), address_of(address))
        except OSError as exc:
            failures.append(exc)

    raise failures[0]


def _connect(family: int, address: Any, deadline: float, local_address: str | None) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        send_at_once(connection)
        if local_address:
            connection.bind((local_address, 0))
        connection.settimeout(min(max(deadline - time.monotonic(), 0.001), _LONGEST_WAIT))
        connection.connect(address)
        return connection
    except OSError:
        connection.close()
        raise


@contextmanager
def connect(host: str, port: int, **options: Unpack[ConnectOptions]) -> Iterator[BlockingClient]:
    """Connect to a server for the time of a `with` block, and yield the `BlockingClient` that sends mail.

    See `ConnectOptions` for the other parameters. Raises:
        OSError: there is no connection, or it is lost; `ssl.SSLError` for a certificate that is not valid.
        TimeoutError: the server is too slow.
        Refused: it denies its service, TLS where that is required, or, as `AuthenticationRefused`, the authentication.
        smtpcore.RemoteProtocolError: what it says is no SMTP.
    """
    client = BlockingClient(complete(open_client(open_stream, host, port, **options)), complete)
    try:
        yield client
    finally:
        client.close()


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that blocks where others are suspended, such as those of `open_stream` and of its stream.

    Raises what it raises. Where it waits for something that only an event loop has, it is thrown a `RuntimeError`.
    """
    try:
        coroutine.send(None)
        while True:
            coroutine.throw(RuntimeError(_NO_EVENT_LOOP))
    except StopIteration as stop:
        result: T = stop.value
        return result


_NO_EVENT_LOOP = "there is no event loop here that could be awaited: make the handler a plain function, which may block"


@contextmanager
def _ringing(bell: "_Bell") -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: bell.ring()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _accept(sockets: Iterable[tuple[socket.socket, Listener]], crew: "_Crew", closing: "_Bell") -> None:
    with _Selector() as selector:
        selector.register(closing, selectors.EVENT_READ)
        for source, listener in sockets:
            selector.register(source, selectors.EVENT_READ, listener)

        while not closing.rung:
            for key, _ in selector.select():
                try:
                    if key.data:
                        crew.session_for(*accept_from(cast(socket.socket, key.fileobj)), key.data)
                except BlockingIOError:
                    continue  # the client has given up already
                except OSError as exc:
                    closing.wait(pause_after_accept_error(exc))


class _Crew:
    """The threads of one server, one for each connection."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._lobby = acceptor
        self._streams: set[_SocketStream] = set()
        self._changed = threading.Condition()

    def session_for(self, connection: socket.socket, peer: Address | None, listener: Listener) -> None:
        """Run the session of a connection in a thread. Raises `OSError` if the machine has no more of what it takes."""
        stream = _SocketStream(connection, peer)
        thread = threading.Thread(target=self._run, args=(stream, listener), name=f"smtpcore {peer}", daemon=True)
        with self._changed:
            self._streams.add(stream)
        try:
            thread.start()
        except RuntimeError as exc:
            self._leave(stream)
            complete(stream.aclose(0))
            raise OSError(errno.ENOMEM, str(exc)) from exc

    def _run(self, stream: "_SocketStream", listener: Listener) -> None:
        try:
            complete(self._lobby.session_for(stream, listener))
        except Cancelled:
            pass
        finally:
            self._leave(stream)

    def _leave(self, stream: "_SocketStream") -> None:
        with self._changed:
            self._streams.discard(stream)
            self._changed.notify_all()

    def finish(self, grace: float) -> None:
        """Wait until all sessions have ended. After `grace` seconds they are cancelled, and still waited for."""
        with self._changed:
            self._changed.wait_for(self._is_empty, min(grace, threading.TIMEOUT_MAX))
            left = tuple(self._streams)

        for stream in left:
            stream.cancel()
        with self._changed:
            # A thread cannot be stopped, so what it uses must not be taken from it.
            self._changed.wait_for(self._is_empty)

    def _is_empty(self) -> bool:
        return not self._streams


class _SocketStream:
    """A `Stream` that blocks: its coroutines are never suspended."""

    def __init__(self, connection: socket.socket, peer: Address | None) -> None:
        self._socket = connection
        try:
            connection.setblocking(False)
            self.peer: Address | None = peer
            self.local: Address | None = address_of(connection.getsockname())
            self._bell = _Bell()
        except OSError:
            connection.close()
            raise

        self.tls: Tls | None = None
        self._encryption: Encryption | None = None
        self._interrupted = False
        self._cancelled = False
        self._selector = _Selector()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._selector.register(connection, selectors.EVENT_READ)

    # What the session calls, in its thread

    async def receive(self, timeout: float) -> bytes:
        receive = partial(self._receive, _deadline(timeout), self._receive_now)
        return await read(self._encryption, receive) if self._encryption else await receive()

    def _receive_now(self) -> bytes:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

        return self._receive_some()

    def _receive_some(self) -> bytes:
        return self._socket.recv(_READ_SIZE)

    async def _receive(self, deadline: float, operation: Callable[[], bytes]) -> bytes:
        return self._persist(operation, selectors.EVENT_READ, deadline)

    async def send(self, data: bytes, timeout: float) -> None:
        if self._encryption:
            self._encryption.write(data)
            data = self._encryption.data_to_send()

        await self._send(_deadline(timeout), data)

    async def _send(self, deadline: float, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._persist(partial(self._socket.send, view), selectors.EVENT_WRITE, deadline) :]

    def has_input(self) -> bool:
        return bool(self._encryption and self._encryption.has_input) or is_readable(self._socket.fileno())

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        self._encryption = encryption = Encryption(context, server_name)
        deadline = _deadline(timeout)
        receive = partial(self._receive, deadline, self._receive_some)
        await shake_hands(encryption, receive, partial(self._send, deadline))
        self.tls = encryption.describe()

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout:
                with suppress(OSError):  # either way the connection is closed now
                    await self._linger(_deadline(timeout))
        finally:
            self._selector.close()
            self._socket.close()
            self._bell.close()

    async def _linger(self, deadline: float) -> None:
        if self._encryption:
            self._encryption.close()
            await self._send(deadline, self._encryption.data_to_send())

        self._socket.shutdown(socket.SHUT_WR)
        while await self._receive(deadline, self._receive_some):
            pass

    async def sleep(self, seconds: float) -> None:
        self._heed()
        self._bell.wait(seconds)
        self._heed()

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_stream(host, port, timeout, local_address=local_address, path=path)

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return complete(function(*args))

    # What others call

    def reset_on_close(self) -> None:
        reset_on_close(self._socket.fileno())

    def interrupt(self) -> None:
        self._interrupted = True
        self._bell.ring()

    def cancel(self) -> None:
        """Let everything that waits, now or later, raise `Cancelled`."""
        self._cancelled = True
        self._bell.ring()

    # Waiting

    def _persist(self, operation: Callable[[], T], event: int, deadline: float) -> T:
        """Try until it can be done, waiting for `event` in between."""
        while True:
            self._heed()
            try:
                return operation()
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the client took too long") from None

            self._selector.modify(self._socket, event)
            self._selector.select(min(left, _LONGEST_WAIT))

    def _heed(self) -> None:
        self._bell.silence()  # before what it rings for is looked at
        if self._cancelled:
            raise Cancelled


class _Bell:
    """Wakes a thread that waits for something else. Any thread may ring it, and a handler of signals too."""

    def __init__(self) -> None:
        self.rung = False
        """Whether it was, since it was silenced."""
        self._lock = threading.RLock()
        self._heard, self._struck = _pipe()

    def fileno(self) -> int:
        return self._heard

    def ring(self) -> None:
        with self._lock:
            if not self.rung and self._heard >= 0:
                self.rung = True
                os.write(self._struck, _STROKE)

    def silence(self) -> None:
        if self.rung:
            with self._lock:
                self.rung = False
                os.read(self._heard, len(_STROKE))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is rung."""
        with _Selector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.select(timeout)

    def close(self) -> None:
        with self._lock:  # lest it is rung behind that, when the numbers are those of other files
            for descriptor in {self._heard, self._struck}:
                os.close(descriptor)
            self._heard = self._struck = -1

    def __enter__(self) -> "_Bell":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_STROKE = (1).to_bytes(8, sys.byteorder)  # as eventfd(2) wants it

_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # which take no file descriptor of their own


def _pipe() -> tuple[int, int]:
    if hasattr(os, "eventfd"):
        event = os.eventfd(0, os.EFD_CLOEXEC)
        return event, event

    return os.pipe()


def _deadline(timeout: float) -> float:
    return time.monotonic() + timeout
