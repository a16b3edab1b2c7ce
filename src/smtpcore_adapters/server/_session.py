"""What handlers may know of the session that they are called in."""

import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

from smtpcore import Config, Connection, Ehlo, Helo, Lhlo, Transaction
from smtpcore.proxy import Endpoint, ProxyHeader

from ..streams._stream import Address, Stream
from ..tls._info import Tls
from ._xclient import NO_XCLIENT

T = TypeVar("T")

NOTHING_FORWARDED: Mapping[str, str | None] = MappingProxyType({})


class Session:
    """What handlers may know of the session that they are called in."""

    def __init__(self, stream: Stream, connection: Connection, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._stream = stream
        self._connection = connection
        self._sleep = sleep

        self.id: str = secrets.token_hex(6)
        """Under which the log speaks of this session."""
        self._state: SimpleNamespace | None = None
        self._identity: str | None = None
        self._proxied: ProxyHeader | None = None
        self._xclient = NO_XCLIENT
        self._begins_again = False
        """Whether the reply to XCLIENT is being decided, and so what the client before has said is nothing any more."""
        self.forwarded: Mapping[str, str | None] = NOTHING_FORWARDED
        """What a trusted filter says with XFORWARD of where it has the next message from. For the log, not for access.
        None stands for what it does not know."""
        self.messages: int = 0
        """How many bodies were begun."""

    @property
    def state(self) -> SimpleNamespace:
        """Free for handlers to keep what they want to remember until the session ends."""
        if self._state is None:  # most sessions have nothing to remember
            self._state = SimpleNamespace()

        return self._state

    @property
    def peer(self) -> Address | None:
        """The client's address; behind a trusted proxy the one that the proxy tells, also by XCLIENT."""
        return self._xclient.peer(_endpoint(self._proxied.source) if self._proxied else self._stream.peer)

    @property
    def local(self) -> Address | None:
        """The address that the client connected to; behind a trusted proxy the one that the proxy tells."""
        return self._xclient.local(_endpoint(self._proxied.destination) if self._proxied else self._stream.local)

    @property
    def tls(self) -> Tls | None:
        """What TLS is active."""
        return self._stream.tls

    @property
    def identity(self) -> str | None:
        """Who the client has proved to be (RFC 4954), or a trusted proxy says that it is; None before that."""
        return self._identity if self._connection.authenticated or self._begins_again else None

    @property
    def helo(self) -> Helo | Ehlo | Lhlo | None:
        """The accepted HELO, EHLO or LHLO; before it, what a trusted proxy says that the client had said."""
        return (None if self._begins_again else self._connection.helo) or self._xclient.helo

    @property
    def transaction(self) -> Transaction | None:
        """The open transaction."""
        return self._connection.transaction

    @property
    def config(self) -> Config:
        """The configuration of the server."""
        return self._connection.config

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a function that blocks, such as one that writes to a disk, without blocking other sessions."""
        return await self._stream.run_blocking(function, *args)

    async def sleep(self, seconds: float) -> None:
        """Let the client wait. Returns early where the server shuts down, or the time of the session is over."""
        await self._sleep(seconds)

    async def open_stream(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        """Open a connection to another server, in the framework that this session runs in.

        It is the adapter's `open_stream`. To send mail from a handler, pass it to `connected` or `open_client`:
        `async with connected(session.open_stream, "mx.example.org", 25) as client: ...`.
        """
        return await self._stream.open(host, port, timeout, local_address=local_address, path=path)

    def __repr__(self) -> str:
        return f"<Session {self.id} from {self.peer}>"


def _endpoint(end: Endpoint | bytes | None) -> Address | None:
    if isinstance(end, Endpoint):
        return Address(str(end.address), end.port)

    return Address(os.fsdecode(end)) if end else None
