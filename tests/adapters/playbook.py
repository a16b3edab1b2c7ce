"""Dialogues over a stream in memory, in the notation of `tests.playbook`: with sessions of a server, and with clients.

    session(app).send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"x\r\n.\r\n", QUIT).expect(250, 221)

    book = client("PIPELINING").send(OK + OK + GO_AHEAD, ACCEPTED)
    assert book.deliver(b"hi\r\n").accepted
    book.wire(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@s.example>\r\nDATA\r\n", b"hi\r\n", b".\r\n")

`send` takes the steps of a `FakeStream`: segments of the peer, `SILENCE`, exceptions that `receive` raises, and
functions that are called during `receive`.

A session begins with the first call of `send`, `end` or `expect`. After the last step the session waits for the next
call, and the clock of the stream stands still. A session ends when its dialogue is no longer referenced.

A client takes the steps while one of its methods runs: `send` only adds them to the script of its server. After the
last step the stream has ended. `wire` compares each write of the client since the last `wire`. A `ScriptedServer` alone
is the server of a client that the tested code opens, such as that of `Forward`.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from ssl import SSLContext
from typing import Any, Final, Never, Self

import pytest

from smtpcore import EXTENSIONS, Budgets, Config, Extension, ProtocolError, Reply
from smtpcore_adapters import (
    Address,
    App,
    Client,
    Limits,
    SendResult,
    Session,
    SessionLoop,
    Stream,
    Timeouts,
    TlsMode,
)
from smtpcore_adapters.client._connecting import open_client
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._peers import PeerTable
from tests.playbook import GREETING, Playbook, compare, offer

from .fakes import CONFIG, FakeStream, Step, replies, step

TRUSTED: Final = Address("192.0.2.80", 40_000)
"""The peer of `trusted`, which may use XCLIENT and XFORWARD."""

SENDER: Final = "a@c.example"
ONE: Final = "b@s.example"
TWO: Final = "c@s.example"
TAKEN: Final = Reply(250, "taken", enhanced="2.0.0")
"""The reply of a scripted server to a message."""
ACCEPTED: Final = TAKEN.encode()
BYE: Final = b"221 bye\r\n"


class StreamPlaybook(Playbook[Never]):
    """A dialogue with a server that runs as a coroutine over a stream in memory."""

    def __init__(self, stream: FakeStream, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self.stream = stream
        self._run = run
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self.is_over = False
        """Whether the session has ended."""
        stream.may_continue = True

    def send(self, *steps: Step) -> Self:
        """Let the session take `steps`, up to its end."""
        assert all(steps), "an empty segment is the end of the stream: say end()"
        self.stream.script.extend(steps)
        return self._resume()

    def end(self) -> Self:
        """End the stream of the client, and with it the session."""
        self.stream.may_continue = False
        self._resume()
        assert self.is_over
        return self

    def cancel(self, error: BaseException) -> Self:
        """Raise `error` where the session waits, as a framework does."""
        assert self._coroutine
        self.stream.cancellation = error
        return self._continue(partial(self._coroutine.throw, error))

    def _resume(self) -> Self:
        if self.is_over:
            return self

        self._coroutine = self._coroutine or self._run()
        return self._continue(partial(self._coroutine.send, None))

    def _continue(self, go: Callable[[], object]) -> Self:
        try:
            assert go() is self.stream, "the coroutine waits for something else than input"
        except StopIteration:
            self.is_over = True
        except BaseException:
            self.is_over = True
            raise
        return self

    def _collect(self, items: Sequence[object]) -> None:
        if self._coroutine is None:
            self._resume()
        self.record[:] = replies(self.stream.output)


class SessionPlaybook(StreamPlaybook):
    """A dialogue with a session loop."""

    def __init__(
        self,
        app: App[Any],
        *,
        config: Config = CONFIG,
        budgets: Budgets | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        peers: PeerTable | None = None,
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
        peer: Address | None = None,
        extensions: Sequence[Extension] = EXTENSIONS,
        kind: type[FakeStream] = FakeStream,
    ) -> None:
        self.reasons: list[str] = []
        """The reason of each call of the `disconnect` handler."""
        app.on("disconnect")(lambda session, reason: self.reasons.append(reason))
        stream = kind(peer=peer)
        self.loop = SessionLoop(
            app,
            stream,
            config,
            extensions=extensions,
            budgets=budgets,
            timeouts=timeouts or Timeouts(),
            limits=limits,
            peers=peers,
            tls=tls,
            implicit_tls=implicit_tls,
            clock=stream.clock,
        )
        super().__init__(stream, self.loop.run)

    @property
    def session(self) -> Session:
        return self.loop.session


def session(app: App[Any], **options: Any) -> SessionPlaybook:
    """Return a dialogue with a session before its greeting. `options` are those of `SessionPlaybook`."""
    return SessionPlaybook(app, **options)


def accepted(acceptor: Acceptor, peer: Address | None = None, kind: type[FakeStream] = FakeStream) -> StreamPlaybook:
    """Return a dialogue with a session of an acceptor, over a stream of this kind."""
    stream = kind(peer=peer)
    acceptor.clock = stream.clock
    return StreamPlaybook(stream, lambda: acceptor.session_for(stream))


def trusted(app: App[Any], *, peer: Address | None = TRUSTED, **options: Any) -> StreamPlaybook:
    """Return a dialogue with a session of a server that trusts `TRUSTED`. `options` are those of `Acceptor`."""
    return accepted(Acceptor(app, **{"config": CONFIG, "trusted": ["192.0.2.80/31"], **options}), peer)


# Clients


class ScriptedServer:
    """A server that sends what its script says, for a client over a stream in memory."""

    def __init__(self) -> None:
        self.stream = FakeStream()
        self._start = 0
        """The place in `stream.sent` of the first write after the last `wire` or `skip`."""

    def send(self, *steps: Step) -> Self:
        """Add steps to the script."""
        self.stream.script.extend(steps)
        return self

    def wire(self, *writes: bytes) -> Self:
        """Compare `writes` with all that the client has written since the last call."""
        __tracebackhide__ = True
        compare(writes, self.sent, "the client has written something else")
        return self.skip()

    def skip(self) -> Self:
        """Forget the writes since the last `wire`."""
        self._start = len(self.stream.sent)
        return self

    @property
    def sent(self) -> list[bytes]:
        """The writes of the client since the last `wire`."""
        return self.stream.sent[self._start :]

    @property
    def output(self) -> bytes:
        """The octets that the client has written since the last `wire`."""
        return b"".join(self.sent)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        """Connect a client, as the `open_stream` of an adapter does."""
        self.stream.opened.append((host, port))
        return self.stream


class ClientPlaybook(ScriptedServer):
    """A dialogue with a client. `options` are those of `open_client`."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = {"hostname": "c.example", **options}
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client, which `connect` has made."""
        assert self._client, "the client is not connected: say connect()"
        return self._client

    def connect(self) -> Self:
        """Connect, and say hello."""
        self._client = step(open_client(self.open, "s.example", 25, **self._options))
        return self

    def fail(self) -> BaseException:
        """Connect, and return the error that is raised."""
        with pytest.raises((OSError, ProtocolError)) as caught:
            self.connect()
        return caught.value

    def deliver(self, body: Any = b"hi\r\n", to: Any = ONE, **options: Any) -> SendResult:
        """Send a message. `options` are those of `Client.send`."""
        return step(self.client.send(SENDER, to, body, **options))


def new_client(**options: Any) -> ClientPlaybook:
    """Return a dialogue with a client that is not connected yet. `options` are those of `open_client`."""
    return ClientPlaybook(**options)


def client(*offers: str, **options: Any) -> ClientPlaybook:
    """Return a dialogue with a client that has said hello, without TLS, to a server that offers these extensions."""
    book = new_client(**{"tls": TlsMode.NONE, **options})
    return book.send(GREETING, offer(*offers)).connect().skip()


def next_server(*offers: str) -> ScriptedServer:
    """Return a server that greets, and answers EHLO with these extensions."""
    return ScriptedServer().send(GREETING, offer(*offers))
