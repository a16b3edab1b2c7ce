"""A client and a server connected in memory, for tests without sockets, threads and event loops."""

# The session is the same coroutine as on every adapter. The coroutine runs until it waits for the client's octets, and
# is resumed when octets are available. A handler must not await anything else: without an event loop nothing would
# resume the session.

from collections.abc import Callable, Coroutine, Generator, Sequence
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any, TypeVar

from smtpcore import (
    NEED_TLS,
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

_NEEDS_INPUT = object()
"""The value that the session yields when it waits for the client's octets."""


class _NeedsInput:
    def __await__(self) -> Generator[object, None, None]:
        yield _NEEDS_INPUT


class _MemoryStream:
    """A `Stream` between a session and its `SmtpPair`."""

    def __init__(self) -> None:
        self.peer: Address | None = Address("192.0.2.1", 49152)
        self.local: Address | None = Address("192.0.2.25", 25)
        self.tls: Tls | None = None
        self.input: list[bytes] = []
        self._output = bytearray()
        self._now = 0.0
        self._is_interrupted = False

    def clock(self) -> float:
        return self._now

    async def receive(self, timeout: float) -> bytes:
        while not self.input and not self._is_interrupted:
            await _NeedsInput()

        if self._is_interrupted:
            self._is_interrupted = False
            raise Interrupted

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
        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    async def sleep(self, seconds: float) -> None:
        self._now += seconds

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
        raise OSError("a pair in memory has no network: use a server with sockets in this test")

    def interrupt(self) -> None:
        self._is_interrupted = True

    async def check_cancelled(self) -> None:
        pass

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


_CANNOT_WAIT = "a handler awaits something that needs an event loop: use a server with sockets in this test"


class SmtpPair:
    """A client, and a server that calls the handlers of `app`; by default the server accepts every message.

    The server's clock advances only by the seconds that handlers `sleep`. STARTTLS succeeds at once, and nothing is
    encrypted. A method raises `RemoteProtocolError` if the dialogue cannot continue, for example because the server
    dropped the connection.
    """

    def __init__(
        self, app: App[Any] | None = None, *, config: Config | None = None, client_config: ClientConfig | None = None
    ) -> None:
        self.messages: Inbox = Inbox()
        """The messages that the server has received; unused with an `app` of your own."""
        self.client: ClientConnection = ClientConnection(client_config or ClientConfig(hostname="c.example"))
        """The client's end."""
        self._stream = _MemoryStream()
        served = app or self._default_app()
        given = config or Config(hostname="s.example", bodies=Bodies.CHUNKS)
        self._loop = SessionLoop(
            served,
            self._stream,
            effective_config(given, served, _NO_TLS if given.starttls else None),
            timeouts=Timeouts(),
            tls=_NO_TLS,
            clock=self._stream.clock,
        )
        self._session = self._loop.run()
        self._is_over = False
        (greeting,) = self.exchange()
        self.greeting: Reply = greeting.reply
        """The server's first reply."""

    def _default_app(self) -> App[Any]:
        app = App()
        app.include(AnyRecipient())
        app.include(self.messages)
        return app

    @property
    def session(self) -> Session[Any]:
        """The server's end."""
        return self._loop.session

    # Commands and messages

    def exchange(self) -> list[Answered]:
        """Transfer octets in both directions until neither end has more to send, and return the replies received."""
        answers: list[Answered] = []
        while True:
            sent = self.client.data_to_send()
            if sent:
                self._stream.input.append(sent)

            self._step()
            received = self._stream.take_output()
            if received:
                self.client.receive_data(received)
            elif self._is_over:
                self.client.receive_data(b"")

            while isinstance(event := self.client.next_event(), Answered):
                answers.append(event)
            if event is NEED_TLS:
                self.client.tls_established()
            if isinstance(event, ConnectionClosed) or not (sent or received):
                return answers

    def ask(self, request: Request) -> Reply:
        """Send a command or SASL response, and return the reply."""
        self.client.send(request)
        return self.exchange()[-1].reply

    def hello(self) -> Reply:
        """Send EHLO or LHLO, and return the reply."""
        return self.ask(self.client.hello)

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> list[Reply]:
        """Send a message, and return the replies to MAIL and all commands after it.

        EHLO is sent first if this session has sent none. The message goes to the accepted recipients; if no recipient
        is accepted, DATA is not sent.
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
        """Shut the server down gracefully, and return its replies: a 421."""
        self._loop.drain()
        return self.exchange()

    def close(self) -> None:
        """Close the client's end, so that the session ends."""
        self._stream.input.append(b"")
        self._step()

    def _step(self) -> None:
        if self._is_over:
            return
        try:
            wanted = self._session.send(None)
        except StopIteration:
            self._is_over = True
            return

        if wanted is not _NEEDS_INPUT:
            self._is_over = True
            self._session.close()
            raise RuntimeError(_CANNOT_WAIT)


_NO_TLS = SSLContext(PROTOCOL_TLS_SERVER)
"""A placeholder for the TLS context, which `_MemoryStream` ignores."""
