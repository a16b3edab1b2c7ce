"""Sessions in memory, without sockets, threads and event loops, and a clock that the test advances."""

# The session is the same coroutine as on every adapter. The coroutine runs until it waits for the client's octets, and
# is resumed when octets are available, or when the clock has reached its deadline. A handler must not await anything
# else: without an event loop nothing would resume the session.

from collections.abc import Callable, Coroutine, Generator
from copy import copy
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError
from typing import Any, TypeVar

from smtpcore import Budgets, Config

from ..server._acceptor import Acceptor
from ..server._app import App
from ..server._config import Options
from ..server._limits import Limits, Timeouts
from ..server._session import Session
from ..server._session_loop import SessionLoop
from ..streams._stream import Address, Interrupted, Stream
from ..tls._info import Tls

T = TypeVar("T")

_NEEDS_INPUT = object()
"""The value that the session yields when it waits for the client's octets."""

PEER = Address("192.0.2.1", 49152)
LOCAL = Address("192.0.2.25", 25)
DEFAULT_TLS = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")
_EVERY_PEER = ("0.0.0.0/0", "::/0", "unix")

_CANNOT_WAIT = (
    "a handler awaits something that needs an event loop, such as asyncio or trio: in memory use session.sleep() and "
    "session.run_blocking(), or test this handler with sockets: SmtpServer(handlers=[...]), or the server of an adapter"
)
_WITHOUT_LOOP = ("no running event loop", "no current event loop", "must be called from async context")
"""Texts of the errors that asyncio and trio raise without an event loop."""
_WITHOUT_LIBRARY = frozenset({"AsyncLibraryNotFoundError", "NoEventLoopError"})
"""Names of the errors that sniffio and anyio raise without an event loop."""


class Clock:
    """A clock for tests: a call returns the time in seconds, which only `advance` changes.

    Pass the clock to `SmtpPair` and to everything else that reads the time, such as `Faults` or a greylist.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises `ValueError` for a negative number."""
        if seconds < 0:
            raise ValueError(f"{seconds:g} seconds: a clock never goes back")

        self._now += seconds


class _NeedsInput:
    def __await__(self) -> Generator[object, None, None]:
        yield _NEEDS_INPUT


class MemoryStream:
    """A `Stream` between a session and the test."""

    def __init__(
        self, clock: Clock, *, peer: Address | None = PEER, local: Address | None = LOCAL, tls: Tls = DEFAULT_TLS
    ) -> None:
        self.peer: Address | None = peer
        self.local: Address | None = local
        self.tls: Tls | None = None
        self.input: list[bytes] = []
        self.deadline: float | None = None
        """The time at which the pending `receive` raises `TimeoutError`; None while nothing is awaited."""
        self._clock = clock
        self._next_tls = tls
        self._output = bytearray()
        self._is_interrupted = False

    async def receive(self, timeout: float) -> bytes:
        self.deadline = self._clock() + timeout
        while not self.input and not self._is_interrupted and self._clock() < self.deadline:
            await _NeedsInput()

        self.deadline = None
        if self._is_interrupted:
            self._is_interrupted = False
            raise Interrupted
        if not self.input:
            raise TimeoutError("the client is silent")

        return self.input.pop(0)

    async def send(self, data: bytes, timeout: float) -> None:
        self._output += data

    def take_output(self) -> bytes:
        """Remove and return the octets that the session has sent."""
        output = bytes(self._output)
        self._output.clear()
        return output

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        if received or self.input:
            raise SSLError("the client has sent plaintext in place of a handshake")

        self.tls = self._next_tls

    async def sleep(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def aclose(self, timeout: float) -> None:
        pass

    def reset_on_close(self) -> None:
        self._output.clear()

    def has_input(self) -> bool:
        return bool(self.input)

    async def receive_arrived(self) -> bytes | None:
        return self.input.pop(0) if self.input else None

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        raise OSError("a session in memory has no network: use a server with sockets in this test")

    def interrupt(self) -> None:
        self._is_interrupted = True

    async def check_cancelled(self) -> None:
        pass

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return complete(function(*args))


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, and return its result. Raises `RuntimeError` if the coroutine waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    coroutine.close()
    raise RuntimeError(_CANNOT_WAIT)


class MemoryServer:
    """A server of `app` whose sessions run in memory.

    `trusted` lets every client use XCLIENT and XFORWARD. With `proxied`, each connection begins with a PROXY header.
    """

    def __init__(
        self,
        app: App[Any],
        config: Config,
        clock: Clock,
        *,
        implicit_tls: bool = False,
        budgets: Budgets | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        trusted: bool = False,
        proxied: bool = False,
    ) -> None:
        options: Options = {
            "config": config,
            "implicit_tls": implicit_tls,
            "budgets": budgets or Budgets(),
            "timeouts": timeouts or Timeouts(),
            "limits": limits or Limits(),
            "trusted": _EVERY_PEER if trusted else (),
            "proxies": _EVERY_PEER if proxied else (),
        }
        if config.starttls or implicit_tls:
            options["tls"] = _NO_TLS
        self.clock = clock
        self._app = app
        self._served = copy(app)
        self._failure: BaseException | None = None
        self._acceptor = Acceptor(self._served, **options)
        self._acceptor.clock = clock

    def loop_for(self, stream: MemoryStream) -> SessionLoop:
        """Return a session that has not begun yet."""
        return self._acceptor.loop_for(stream, self._acceptor.listeners[0])

    def refresh(self) -> None:
        """Take over the handlers that `app` has now, and add the `error` handler that notices missing event loops."""
        handlers = self._app.handlers
        self._served.handlers = {**handlers, "error": [(self._note, False), *handlers.get("error", ())]}

    def _note(self, session: Session[Any], exc: BaseException) -> None:
        is_without_loop = type(exc).__name__ in _WITHOUT_LIBRARY or any(text in str(exc) for text in _WITHOUT_LOOP)
        if isinstance(exc, RuntimeError) and is_without_loop:
            self._failure = exc

    def check(self) -> None:
        """Raise `RuntimeError` if a handler has failed because it needs an event loop."""
        failure, self._failure = self._failure, None
        if failure:
            raise RuntimeError(_CANNOT_WAIT) from failure


class MemorySession:
    """A session that runs while `resume` is called."""

    def __init__(self, server: MemoryServer, stream: MemoryStream) -> None:
        self.stream = stream
        self._server = server
        self._loop = server.loop_for(stream)
        self._steps = self._loop.run()
        self.is_over = False
        """Whether the server has closed the connection."""

    @property
    def session(self) -> Session[Any]:
        """The session that the handlers receive."""
        return self._loop.session

    def send(self, *segments: bytes) -> bytes:
        """Let the session receive `segments`, and return its output. An empty segment is the end of the stream."""
        self.stream.input += segments
        return self.resume()

    def drain(self) -> None:
        """Ask the session to end, as a server that stops does."""
        self._loop.drain()

    def advance(self, seconds: float) -> bytes:
        """Let `seconds` pass, stop at each deadline of the session, and return the output."""
        output, clock = b"", self._server.clock
        end = clock() + seconds
        while (deadline := self.stream.deadline) is not None and deadline <= end:
            clock.advance(max(0.0, deadline - clock()))
            output += self.resume()
        clock.advance(max(0.0, end - clock()))
        return output

    def resume(self) -> bytes:
        """Run the session until it waits for input or has ended, and return its output.

        Raises `RuntimeError` if a handler needs an event loop.
        """
        self._server.refresh()
        if not self.is_over:
            try:
                wanted = self._steps.send(None)
            except StopIteration:
                self.is_over = True
            else:
                if wanted is not _NEEDS_INPUT:
                    self.is_over = True
                    self._steps.close()
                    raise RuntimeError(_CANNOT_WAIT)
        self._server.check()
        return self.stream.take_output()


_NO_TLS = SSLContext(PROTOCOL_TLS_SERVER)
"""A placeholder for the TLS context, which `MemoryStream` ignores."""
