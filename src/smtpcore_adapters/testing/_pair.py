"""A client and a server joined in memory, for tests without sockets, threads and event loops."""

# The session is the same coroutine as everywhere. It runs until it wants to hear the client, and is stepped again when
# there is something to hear. Nothing else may suspend it: there is no one who would wake it.

from collections.abc import Callable, Coroutine, Generator, Sequence
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, TypeVar

from smtpcore import (
    PAUSED,
    Answered,
    Bodies,
    ClientConfig,
    ClientConnection,
    Config,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Mail,
    Path,
    Rcpt,
    Reply,
    Request,
)

from ..recipients import AnyRecipient
from ..server._app import App
from ..server._config import effective_config
from ..server._limits import Timeouts
from ..server._session import Session
from ..server._session_loop import SessionLoop
from ..streams._stream import Address, Interrupted, Stream
from ..tls._info import Tls
from ._received import Inbox

T = TypeVar("T")

_HEARING = object()
"""What the session yields when it wants to hear the client."""


class _Hearing:
    def __await__(self) -> Generator[object, None, None]:
        yield _HEARING


class _MemoryStream:
    """A `Stream` whose other end is a `SmtpPair`."""

    def __init__(self) -> None:
        self.peer: Address | None = Address("192.0.2.1", 49152)
        self.local: Address | None = Address("192.0.2.25", 25)
        self.tls: Tls | None = None
        self.heard: list[bytes] = []
        self._said = bytearray()
        self._now = 0.0
        self._is_interrupted = False

    def clock(self) -> float:
        return self._now

    async def receive(self, timeout: float) -> bytes:
        while not self.heard and not self._is_interrupted:
            await _Hearing()

        if self._is_interrupted:
            self._is_interrupted = False
            raise Interrupted

        return self.heard.pop(0)

    async def send(self, data: bytes, timeout: float) -> None:
        self._said += data

    def take(self) -> bytes:
        """Take what the session has sent."""
        said = bytes(self._said)
        self._said.clear()
        return said

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    async def sleep(self, seconds: float) -> None:
        self._now += seconds

    async def aclose(self, timeout: float) -> None:
        pass

    def reset_on_close(self) -> None:
        self._said.clear()

    def has_input(self) -> bool:
        return bool(self.heard)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        raise OSError("a pair in memory has no network: use a server with sockets in this test")

    def interrupt(self) -> None:
        self._is_interrupted = True

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return _complete(function(*args))


def _complete(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result

    coroutine.close()
    raise RuntimeError(_CANNOT_WAIT)


_CANNOT_WAIT = "a handler waits for something that only an event loop has: use a server with sockets in this test"


class SmtpPair:
    """A client, and a server that calls the handlers of `app`; by default one that accepts every message.

    The clock of the server stands still, but for what handlers `sleep`. TLS is taken for done where it is begun:
    nothing is encrypted.

    What either end cannot go on with is raised by whatever was called: `RemoteProtocolError`, for instance, where the
    server drops the connection.
    """

    def __init__(
        self, app: App | None = None, *, config: Config | None = None, client_config: ClientConfig | None = None
    ) -> None:
        self.messages: Inbox = Inbox()
        """What the server has received, unless it has an `app` of yours."""
        self.client: ClientConnection = ClientConnection(client_config or ClientConfig(hostname="c.example"))
        """The client's end."""
        self._stream = _MemoryStream()
        served = app or self._default_app()
        given = config or Config(hostname="s.example", bodies=Bodies.CHUNKS)
        self._loop = SessionLoop(
            served,
            self._stream,
            effective_config(given, served, _NO_TLS if given.tls else None),
            timeouts=Timeouts(),
            tls=_NO_TLS,
            clock=self._stream.clock,
        )
        self._session = self._loop.run()
        self._is_over = False
        (greeting,) = self.exchange()
        self.greeting: Reply = greeting.reply
        """The first reply."""

    def _default_app(self) -> App:
        app = App()
        app.include(AnyRecipient())
        app.include(self.messages)
        return app

    @property
    def session(self) -> Session:
        """The server's end."""
        return self._loop.session

    # Talking

    def exchange(self) -> list[Answered]:
        """Carry octets to and fro until neither end has more to say, and return the replies that came."""
        answers: list[Answered] = []
        while True:
            asked = self.client.data_to_send()
            if asked:
                self._stream.heard.append(asked)

            self._step()
            said = self._stream.take()
            if said:
                self.client.receive_data(said)
            elif self._is_over:
                self.client.receive_data(b"")

            while isinstance(event := self.client.next_event(), Answered):
                answers.append(event)
            if event is PAUSED:
                self.client.tls_established()
            if isinstance(event, ConnectionClosed) or not (asked or said):
                return answers

    def ask(self, request: Request) -> Reply:
        """Send something that gets one reply, and return that."""
        self.client.send(request)
        return self.exchange()[-1].reply

    def hello(self) -> Reply:
        """Say EHLO, or LHLO."""
        return self.ask(self.client.hello)

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> list[Reply]:
        """Send a message, EHLO first if it was not said, and return the replies from that to MAIL on.

        Where a recipient is refused, the others get the message; where everything is, there is no DATA.
        """
        if self.client.helo is None:
            self.hello()

        replies = [self.ask(Mail(Path(sender)))]
        if self.client.transaction is None:
            return replies

        replies += [self.ask(Rcpt(Path(recipient))) for recipient in recipients]
        if not self.client.transaction.recipients:
            return replies

        replies.append(self.ask(Data()))
        if replies[-1].is_positive:
            self.client.send(DataChunk(content))
            self.client.send(DataEnd())
            replies += [answer.reply for answer in self.exchange()]

        return replies

    def shut_down(self) -> list[Answered]:
        """Let the server shut down, and return the replies that come of it: a 421."""
        self._loop.drain()
        return self.exchange()

    def close(self) -> None:
        """Close the client's end, so that the session ends."""
        self._stream.heard.append(b"")
        self._step()

    def _step(self) -> None:
        if self._is_over:
            return
        try:
            wanted = self._session.send(None)
        except StopIteration:
            self._is_over = True
            return

        if wanted is not _HEARING:
            self._is_over = True
            self._session.close()
            raise RuntimeError(_CANNOT_WAIT)


_NO_TLS = SSLContext(PROTOCOL_TLS_SERVER)
"""What the session wants to have for TLS, which is never used."""
