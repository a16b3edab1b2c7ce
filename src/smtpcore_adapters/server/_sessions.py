"""The sessions of a server in a program's own event loop, which accepts the connections."""

from typing import Any, Unpack

from ..streams._stream import Stream
from ._acceptor import Acceptor
from ._app import App
from ._config import Options

_WITHOUT_EFFECT = frozenset({"grace", "host", "listeners"})


class Sessions:
    """The sessions of an `App` in your own event loop, which listens, and accepts connections.

    All sessions share the handlers, the limits and the TLS context, as they do in a server of `smtpcore_adapters`.
    Await `run` for each connection, with a `SocketStream` or another `Stream`. To stop, accept no more connections,
    call `drain`, and wait until each `run` has returned.

    Args:
        app: The handlers.
        **options: `config`, `tls`, `limits` and the other options in `smtpcore_adapters.Options`, except `host`,
            `listeners` and `grace`, which are decisions of your loop.
    """

    def __init__(self, app: App[Any], **options: Unpack[Options]) -> None:
        for name in sorted(_WITHOUT_EFFECT & options.keys()):
            raise TypeError(f"{name} has no effect, because your own loop accepts and ends connections: leave it out")

        self._acceptor = Acceptor(app, descriptors=2, **options)

    async def run(self, stream: Stream) -> None:
        """Serve one client to the end, and close the stream.

        Raises only the exception with which your loop cancels the session, such as the `Cancelled` of a stream, and
        `SystemExit` or `KeyboardInterrupt` of a handler, after a call of `drain`.
        """
        acceptor = self._acceptor
        await acceptor.session_for(stream)
        ending, acceptor.exit = acceptor.exit, None
        if ending:
            self.drain()
            raise ending

    def drain(self) -> None:
        """Ask every session to end, also those that begin later: at once if it waits for a command, with a 421.

        A session that is in the middle of a message ends after the reply to the message. The method may be called in
        any thread.
        """
        self._acceptor.drain()
