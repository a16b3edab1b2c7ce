"""A session over a stream in memory: no event loop, no socket, and a clock that moves when the script says so."""

import re
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum, auto
from ssl import SSLContext
from typing import Any, Final, TypeVar

from smtpcore import EXTENSIONS, Bodies, Config, Extension, Rcpt, Reply
from smtpcore_adapters import (
    Address,
    App,
    Interrupted,
    Limits,
    Message,
    Observed,
    Session,
    SessionLoop,
    Stream,
    Timeouts,
    Tls,
)
from smtpcore_adapters.server._peers import PeerTable

T = TypeVar("T")

CONFIG: Final = Config(hostname="s.example", bodies=Bodies.CHUNKS)

EHLO: Final = b"EHLO c.example\r\n"
MAIL: Final = b"MAIL FROM:<a@c.example>\r\n"
RCPT: Final = b"RCPT TO:<u@s.example>\r\n"
DATA: Final = b"DATA\r\n"
QUIT: Final = b"QUIT\r\n"
ENVELOPE: Final = EHLO + MAIL + RCPT + DATA


class Silence(Enum):
    """The client says nothing until the time limit."""

    SILENCE = auto()
    HALF = auto()
    """Something seems to be there, but nothing comes of it."""


SILENCE: Final = Silence.SILENCE


class Early(bytes):
    """A segment that is there before anyone asks for it."""


Step = bytes | BaseException | Silence | Callable[[], object]
"""A segment of input, a failure, silence, or something that happens while input is waited for."""


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    coroutine.close()
    raise AssertionError("the coroutine was suspended, though there is nothing to wait for")


class FakeStream:
    """A `Stream` that follows a script, and then is at its end."""

    def __init__(self, *script: Step, peer: Address | None = None) -> None:
        self.script = deque(script)
        self.peer = peer
        self.local: Address | None = Address("192.0.2.25", 25)
        self.tls: Tls | None = None

        self.now = 1000.0
        self.limits: list[float] = []
        """The time limit of each call of `receive`."""
        self.sent: list[bytes] = []
        self.fail_sending: deque[BaseException | None] = deque()
        """What each call of `send` raises."""
        self.fail_handshake: BaseException | None = None
        self.handshake_limit = 0.0
        self.closings: list[float] = []
        """The time limit of each call of `aclose`."""
        self.naps: list[float] = []
        """How long each call of `sleep` took."""
        self.others: deque[FakeStream | OSError] = deque()
        """What each call of `open` returns or raises."""
        self.opened: list[tuple[str, int]] = []
        """Where the calls of `open` connected to."""
        self.server_name: str | None = None
        self.is_reset = False
        self._interrupted = False

    def clock(self) -> float:
        return self.now

    def passing(self, seconds: float) -> Callable[[], None]:
        """A step that lets time pass."""

        def step() -> None:
            self.now += seconds

        return step

    @property
    def output(self) -> bytes:
        return b"".join(self.sent)

    async def receive(self, timeout: float) -> bytes:
        self.limits.append(timeout)
        while not self._interrupted:
            step = self.script.popleft() if self.script else b""
            if isinstance(step, bytes):
                return step
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Silence):
                self.now += timeout
                raise TimeoutError("silence")

            step()

        self._interrupted = False
        raise Interrupted

    async def send(self, data: bytes, timeout: float) -> None:
        assert not self.closings
        failure = self.fail_sending.popleft() if self.fail_sending else None
        if failure:
            raise failure

        self.sent.append(data)

    def has_input(self) -> bool:
        return bool(self.script) and (isinstance(self.script[0], Early) or self.script[0] is Silence.HALF)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        self.opened.append((host, port))
        other = self.others.popleft()
        if isinstance(other, OSError):
            raise other
        return other

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        self.handshake_limit = timeout
        self.server_name = server_name
        if self.fail_handshake:
            raise self.fail_handshake

        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    async def aclose(self, timeout: float) -> None:
        self.closings.append(timeout)

    def reset_on_close(self) -> None:
        self.is_reset = True

    def interrupt(self) -> None:
        self._interrupted = True

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return step(function(*args))


class Dialogue:
    """A session that follows a script."""

    def __init__(
        self,
        app: App,
        *script: Step,
        config: Config = CONFIG,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        peers: PeerTable | None = None,
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
        peer: Address | None = None,
        extensions: Sequence[Extension] = EXTENSIONS,
    ) -> None:
        self.reasons: list[str] = []
        """What the `disconnect` handler was called with."""
        app.on("disconnect")(lambda session, reason: self.reasons.append(reason))
        self.stream = FakeStream(*script, peer=peer)
        self.loop = SessionLoop(
            app,
            self.stream,
            config,
            extensions=extensions,
            timeouts=timeouts or Timeouts(),
            limits=limits,
            peers=peers,
            tls=tls,
            implicit_tls=implicit_tls,
            clock=self.stream.clock,
        )

    @property
    def session(self) -> Session:
        return self.loop.session

    def run(self) -> "Dialogue":
        step(self.loop.run())
        return self

    @property
    def replies(self) -> list[str]:
        """The replies, each with its lines separated by a newline."""
        return replies(self.stream.output)

    @property
    def codes(self) -> list[int]:
        return [int(reply[:3]) for reply in self.replies]

    @property
    def last(self) -> str:
        return self.replies[-1]


def replies(output: bytes) -> list[str]:
    """Cut output into replies. Fails unless all of it has the form of RFC 5321 4.2."""
    assert re.fullmatch(rb"(?:(?:([2-5][0-5][0-9])-[^\r\n]*\r\n)*[2-5][0-5][0-9] [^\r\n]*\r\n)*", output), output
    text = output.decode().replace("\r\n", "\n")
    return [reply.rstrip("\n") for reply in re.findall(r"(?:^...-.*\n)*^... .*\n", text, re.MULTILINE)]


def converse(app: App, *script: Step, **options: Any) -> Dialogue:
    """Run a session to its end."""
    return Dialogue(app, *script, **options).run()


def accepting(*handlers: object) -> App:
    """An application that takes every recipient, and has these objects included."""
    app = App()

    @app.on("RCPT")
    def take(session: Session, rcpt: Rcpt) -> Reply:
        return Reply(250, "Taken", enhanced="2.1.5")

    for handler in handlers:
        app.include(handler)
    return app


class Store:
    """Keeps every message."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def on_message(self, session: Session, message: Message) -> Reply:
        self.bodies.append(await message.read())
        return Reply(250, "Stored", enhanced="2.0.0")


def watch(app: App, *kinds: type[T]) -> list[T]:
    """What of these kinds the observers are shown from now on."""
    seen: list[T] = []

    def look(session: Session, item: Observed) -> None:
        if isinstance(item, kinds):
            seen.append(item)

    app.observe(look)
    return seen
