"""The client for a program without an event loop."""

# Each method runs the coroutine of the same name to its end, over a stream whose coroutines block instead of being
# suspended. So there is one client, and nothing here knows what it does.

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar, Unpack

from smtpcore import Command, Reply, UnknownCommand

from ..streams._stream import Address
from ..tls._info import Tls
from ._client import Client
from ._envelope import Recipient, Sender, SendOptions
from ._results import SendResult
from ._sources import Body

T = TypeVar("T")
Complete: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


class BlockingClient:
    """A connection to a server: what `Client` is, in plain methods that block.

    What each of them does, and raises, is said there. A body is no async iterable here.
    """

    def __init__(self, client: Client, complete: Complete) -> None:
        self._client = client
        self._complete = complete

    @property
    def greeting(self) -> Reply:
        """The server's first reply."""
        return self._client.greeting

    @property
    def host(self) -> str:
        """The host that was connected to."""
        return self._client.host

    @property
    def is_verified(self) -> bool:
        """Whether there is TLS with a server that has proved to be `host`."""
        return self._client.is_verified

    @property
    def is_open(self) -> bool:
        """Whether something can be sent. That the server is still there shows when it is."""
        return self._client.is_open

    @property
    def extensions(self) -> Mapping[str, object]:
        """What the server offers."""
        return self._client.extensions

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""
        return self._client.tls

    @property
    def peer(self) -> Address | None:
        """The address of the server."""
        return self._client.peer

    def send(
        self, sender: Sender, recipients: Iterable[Recipient] | Recipient, body: Body, **options: Unpack[SendOptions]
    ) -> SendResult:
        """Send a message, and tell what became of it for each recipient: `Client.send`."""
        return self._run(self._client.send(sender, recipients, body, **options))

    def ask(self, command: Command | UnknownCommand) -> Reply:
        """Send a command, and return the reply."""
        return self._run(self._client.ask(command))

    def noop(self) -> Reply:
        """Ask whether the server is still there."""
        return self._run(self._client.noop())

    def vrfy(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask whether there is a user or mailbox `name`."""
        return self._run(self._client.vrfy(name, smtputf8=smtputf8))

    def expn(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask for the members of the list `name`."""
        return self._run(self._client.expn(name, smtputf8=smtputf8))

    def help(self, topic: str = "") -> Reply:
        """Ask for help."""
        return self._run(self._client.help(topic))

    def xclient(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell for whom this client speaks, and begin the session anew in that name."""
        return self._run(self._client.xclient(attributes))

    def xforward(self, attributes: Mapping[str, str | None]) -> Reply:
        """Tell the server's log whom the next message came from."""
        return self._run(self._client.xforward(attributes))

    def close(self) -> None:
        """Say QUIT, and close the connection. Raises nothing."""
        self._run(self._client.aclose())

    def __repr__(self) -> str:
        return repr(self._client)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = self._complete(coroutine)
        return result
