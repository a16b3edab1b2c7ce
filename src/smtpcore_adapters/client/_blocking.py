"""The client for a program without an event loop."""

# Each method runs the `Client` coroutine of the same name to completion. The coroutines of the stream below block
# instead of suspending, so no event loop is needed and the client's logic exists once, in `Client`.

from collections.abc import Callable, Coroutine, Mapping, Sequence
from ssl import SSLContext
from typing import Any, TypeAlias, TypeVar, Unpack

from smtpcore import Command, Reply, UnknownCommand

from ..streams._stream import Address
from ..tls._info import Tls
from ._client import Client
from ._envelope import Recipients, Sender, SendOptions
from ._login import LoginSource
from ._results import SendResult
from ._sources import Body

T = TypeVar("T")
Complete: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


class BlockingClient:
    """A connection to a server, with the methods of `Client` as plain methods that block.

    `Client` documents what each method does and which exceptions it raises. A body must not be an async iterable here.
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
        """Whether TLS is active and the server's certificate was verified for `host`."""
        return self._client.is_verified

    @property
    def is_open(self) -> bool:
        """Whether the connection is open on this side. A lost connection is noticed only at the next command."""
        return self._client.is_open

    @property
    def extensions(self) -> Mapping[str, object]:
        """The extensions that the server offers."""
        return self._client.extensions

    @property
    def tls(self) -> Tls | None:
        """The active TLS, or None."""
        return self._client.tls

    @property
    def peer(self) -> Address | None:
        """The address of the server."""
        return self._client.peer

    def send(self, sender: Sender, recipients: Recipients, body: Body, **options: Unpack[SendOptions]) -> SendResult:
        """Send a message, and return the decisive reply for each recipient. See `Client.send`."""
        return self._run(self._client.send(sender, recipients, body, **options))

    def send_message(
        self,
        message: Body,
        sender: Sender | None = None,
        recipients: Recipients | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message to the addresses in its header. See `Client.send_message`."""
        return self._run(self._client.send_message(message, sender, recipients, **options))

    def starttls(self, context: SSLContext | None = None) -> None:
        """Start TLS in a session without TLS. See `Client.starttls`."""
        self._run(self._client.starttls(context))

    def login(self, auth: LoginSource, *, auth_mechanisms: Sequence[str] | None = None) -> Reply:
        """Log in to a session without a login, and return the 235. See `Client.login`."""
        return self._run(self._client.login(auth, auth_mechanisms=auth_mechanisms))

    def ask(self, command: Command | UnknownCommand) -> Reply:
        """Send a command, and return the reply."""
        return self._run(self._client.ask(command))

    def noop(self) -> Reply:
        """Send NOOP, for example to find out whether the connection still works."""
        return self._run(self._client.noop())

    def check(self, *, ask: bool = True) -> bool:
        """Return whether the connection works. See `Client.check`."""
        return self._run(self._client.check(ask=ask))

    def vrfy(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask whether there is a user or mailbox `name`."""
        return self._run(self._client.vrfy(name, smtputf8=smtputf8))

    def expn(self, name: str, *, smtputf8: bool = False) -> Reply:
        """Ask for the members of the list `name`."""
        return self._run(self._client.expn(name, smtputf8=smtputf8))

    def help(self, topic: str = "") -> Reply:
        """Send HELP."""
        return self._run(self._client.help(topic))

    def xclient(self, attributes: Mapping[str, str | None]) -> Reply:
        """Send XCLIENT with the original client's attributes, and EHLO again if the server accepts XCLIENT."""
        return self._run(self._client.xclient(attributes))

    def xforward(self, attributes: Mapping[str, str | None]) -> Reply:
        """Send XFORWARD with the origin of the next message, for the server's log."""
        return self._run(self._client.xforward(attributes))

    def close(self) -> None:
        """Send QUIT, and close the connection. Never raises."""
        self._run(self._client.aclose())

    def __repr__(self) -> str:
        return repr(self._client)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = self._complete(coroutine)
        return result
