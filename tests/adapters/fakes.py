"""A scripted stream in memory: no event loop, no socket, and a clock that the script moves."""

import re
import types
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from enum import Enum, auto
from ssl import SSLContext
from typing import Any, Final, TypeVar

from smtpcore import Bodies, Config, Rcpt, Reply
from smtpcore.sasl import ChannelBinding
from smtpcore_adapters import (
    Address,
    App,
    Interrupted,
    Message,
    Observed,
    Session,
    Stream,
    Tls,
)

T = TypeVar("T")

CONFIG: Final = Config(hostname="s.example", bodies=Bodies.CHUNKS)

EHLO: Final = b"EHLO c.example\r\n"
MAIL: Final = b"MAIL FROM:<a@c.example>\r\n"
RCPT: Final = b"RCPT TO:<u@s.example>\r\n"
DATA: Final = b"DATA\r\n"
QUIT: Final = b"QUIT\r\n"
ENVELOPE: Final = EHLO + MAIL + RCPT + DATA


class Silence(Enum):
    """A step without input."""

    SILENCE = auto()
    """The client sends nothing until the timeout."""
    HALF = auto()
    """The stream seems readable, but yields nothing until the timeout."""


SILENCE: Final = Silence.SILENCE


class Early(bytes):
    """A segment that has arrived before the call of `receive`."""


Step = bytes | BaseException | Silence | Callable[[], object]
"""A segment of input, an exception to raise, silence, or a function to call during `receive`."""


@types.coroutine
def suspend(value: object) -> Generator[object, None, None]:
    """Suspend the coroutine that awaits this call, and pass `value` to the function that runs the coroutine."""
    yield value


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    coroutine.close()
    raise AssertionError("the coroutine was suspended, although there is nothing to wait for")


class FakeStream:
    """A `Stream` that follows a script. After the script, the stream has ended."""

    def __init__(self, *script: Step, peer: Address | None = None) -> None:
        self.script = deque(script)
        self.peer = peer
        self.local: Address | None = Address("192.0.2.25", 25)
        self.tls: Tls | None = None

        self.now = 1000.0
        self.receive_timeouts: list[float] = []
        """The timeout of each call of `receive`, in seconds."""
        self.sent: list[bytes] = []
        self.cancellation: BaseException | None = None
        """The exception that cancels the session."""
        self.send_errors: deque[BaseException | None] = deque()
        """The exception that each call of `send` raises; None to send."""
        self.bindings: tuple[ChannelBinding, ...] = ()
        """The channel bindings of TLS."""
        self.handshake_error: BaseException | None = None
        self.handshake_limit = 0.0
        self.received_before_tls = b""
        self.close_timeouts: list[float] = []
        """The timeout of each call of `aclose`, in seconds."""
        self.sleeps: list[float] = []
        """The duration of each call of `sleep`, in seconds."""
        self.opened_streams: deque[FakeStream | OSError] = deque()
        """The stream that each call of `open` returns, or the exception that it raises."""
        self.opened: list[tuple[str, int]] = []
        """The host and port of each call of `open`."""
        self.server_name: str | None = None
        self.is_reset = False
        self.may_continue = False
        """Whether `receive` suspends its coroutine when the script is empty, so that more steps can be added.

        Otherwise `receive` returns the end of the stream."""
        self._interrupted = False

    def clock(self) -> float:
        return self.now

    def advance(self, seconds: float) -> Callable[[], None]:
        """Return a step that moves the clock."""

        def step() -> None:
            self.now += seconds

        return step

    @property
    def output(self) -> bytes:
        return b"".join(self.sent)

    async def receive(self, timeout: float) -> bytes:
        self.receive_timeouts.append(timeout)
        while not self._interrupted:
            if self.may_continue and not self.script:
                await suspend(self)
                continue
            step = self.script.popleft() if self.script else b""
            if isinstance(step, bytes):
                return step
            if isinstance(step, BaseException):
                self.cancellation = None if isinstance(step, Exception) else step
                raise step
            if isinstance(step, Silence):
                self.now += timeout
                raise TimeoutError("silence")

            step()

        self._interrupted = False
        raise Interrupted

    async def send(self, data: bytes, timeout: float) -> None:
        assert not self.close_timeouts
        failure = self.send_errors.popleft() if self.send_errors else None
        if failure:
            raise failure

        self.sent.append(data)

    def has_input(self) -> bool:
        return bool(self.script) and (isinstance(self.script[0], Early) or self.script[0] is Silence.HALF)

    async def receive_arrived(self) -> bytes | None:
        step = self.script.popleft() if self.has_input() else None
        return step if isinstance(step, bytes) else None

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        self.opened.append((host, port))
        other = self.opened_streams.popleft()
        if isinstance(other, OSError):
            raise other
        return other

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        self.handshake_limit = timeout
        self.received_before_tls = received
        self.server_name = server_name
        if self.handshake_error:
            raise self.handshake_error

        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", bindings=self.bindings)

    async def aclose(self, timeout: float) -> None:
        self.close_timeouts.append(timeout)

    def reset_on_close(self) -> None:
        self.is_reset = True

    def interrupt(self) -> None:
        self._interrupted = True

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def check_cancelled(self) -> None:
        if self.cancellation:
            raise self.cancellation

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return step(function(*args))


def replies(output: bytes) -> list[str]:
    """Cut output into replies. Fails unless the output consists of replies in the form of RFC 5321 4.2."""
    assert re.fullmatch(rb"(?:(?:([2-5][0-5][0-9])-[^\r\n]*\r\n)*[2-5][0-5][0-9] [^\r\n]*\r\n)*", output), output
    text = output.decode().replace("\r\n", "\n")
    return [reply.rstrip("\n") for reply in re.findall(r"(?:^...-.*\n)*^... .*\n", text, re.MULTILINE)]


def accepting(*handlers: object) -> App:
    """Return an application that accepts every recipient and includes `handlers`."""
    app = App()

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, "Taken", enhanced="2.1.5")

    for handler in handlers:
        app.include(handler)
    return app


def register(app: App, name: str, handler: object) -> None:
    """Register a handler without a check of its type: the name is a variable, or the handler is wrong on purpose."""
    app.include(types.SimpleNamespace(**{f"on_{name}": handler}), verbs=[name] if name.startswith("X") else [])


class MessageStore:
    """A message handler that accepts and keeps every message."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def on_message(self, session: Session, message: Message) -> Reply:
        self.bodies.append(await message.read())
        return Reply(250, "Stored", enhanced="2.0.0")


def watch(app: App, *kinds: type[T]) -> list[T]:
    """Return a list that collects the observed items of these kinds from now on."""
    seen: list[T] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, kinds):
            seen.append(item)

    app.observe(look)
    return seen


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body."""
    for piece in pieces:
        yield piece
