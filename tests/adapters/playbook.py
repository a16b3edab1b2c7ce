"""Dialogues with sessions over a stream in memory, in the notation of `tests.playbook`.

    session(app).send(ENVELOPE).expect(220, 250, 250, 250, 354).send(b"x\r\n.\r\n", QUIT).expect(250, 221)

`send` takes the steps of a `FakeStream`: segments of the client, `SILENCE`, exceptions that `receive` raises, and
functions that are called during `receive`. The session begins with the first call of `send`, `end` or `expect`. After
the last step the session waits for the next call, and the clock of the stream stands still.
"""

from collections.abc import Callable, Coroutine, Sequence
from ssl import SSLContext
from typing import Any, Final, Never, Self

from smtpcore import EXTENSIONS, Config, Extension
from smtpcore_adapters import Address, App, Limits, Session, SessionLoop, Timeouts
from smtpcore_adapters.server._acceptor import Acceptor
from smtpcore_adapters.server._peers import PeerTable
from tests.playbook import Playbook

from . import fakes
from .fakes import CONFIG, FakeStream, Step, replies

TRUSTED: Final = Address("192.0.2.80", 40_000)
"""The peer of `trusted`, which may use XCLIENT and XFORWARD."""


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

    def _resume(self) -> Self:
        if not self.is_over:
            self._coroutine = self._coroutine or self._run()
            try:
                assert self._coroutine.send(None) is self.stream, "the coroutine waits for something else than input"
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
        app: App,
        *,
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
        """The reason of each call of the `disconnect` handler."""
        app.on("disconnect")(lambda session, reason: self.reasons.append(reason))
        stream = fakes.FakeStream(peer=peer)
        self.loop = SessionLoop(
            app,
            stream,
            config,
            extensions=extensions,
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


def session(app: App, **options: Any) -> SessionPlaybook:
    """Return a dialogue with a session before its greeting. `options` are those of `SessionPlaybook`."""
    return SessionPlaybook(app, **options)


def accepted(acceptor: Acceptor, peer: Address | None = None) -> StreamPlaybook:
    """Return a dialogue with a session of an acceptor."""
    stream = FakeStream(peer=peer)
    return StreamPlaybook(stream, lambda: acceptor.session_for(stream))


def trusted(app: App, *, peer: Address | None = TRUSTED, **options: Any) -> StreamPlaybook:
    """Return a dialogue with a session of a server that trusts `TRUSTED`. `options` are those of `Acceptor`."""
    return accepted(Acceptor(app, **{"config": CONFIG, "trusted": ["192.0.2.80/31"], **options}), peer)
