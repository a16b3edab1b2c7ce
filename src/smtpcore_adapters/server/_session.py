"""The session, as handlers see it."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from smtpcore import Config, Connection, Ehlo, Helo, Lhlo, Transaction
from smtpcore.proxy import Endpoint, ProxyHeader

from ..streams._stream import Address, Stream, shielded
from ..tls._info import Tls
from ._listeners import Listener
from ._reply_edits import ReplyEdits
from ._session_state import S_co
from ._xclient import NO_XCLIENT, XclientAttributes

T = TypeVar("T")

_NAP = 0.5  # seconds; a long sleep consists of waits of this length

_NOTHING_FORWARDED: Mapping[str, str | None] = MappingProxyType({})


class SessionRecord:
    """Facts about one session that the server collects and that handlers read through `Session`."""

    __slots__ = (
        "draining",
        "edits",
        "forwarded",
        "identity",
        "is_dropped",
        "is_greeting_anew",
        "listener",
        "messages",
        "proxy_header",
        "xclient",
    )

    def __init__(self, listener: Listener | None = None) -> None:
        self.listener: Listener | None = listener
        """The listener that accepted the connection; None in a test without a listener."""
        self.draining: bool = False
        """Whether the session was asked to end."""
        self.is_dropped: bool = False
        """Whether the session ends without a 421 of its own, because the program has dropped the client."""
        self.proxy_header: ProxyHeader | None = None
        """The PROXY header that names the client, None if the client connected directly."""
        self.xclient: XclientAttributes = NO_XCLIENT
        """The attributes of all XCLIENT commands."""
        self.identity: str | None = None
        """The name that was authenticated last, by AUTH or by XCLIENT."""
        self.is_greeting_anew: bool = False
        """Whether the reply to XCLIENT is pending. An earlier HELO or AUTH then no longer counts."""
        self.forwarded: Mapping[str, str | None] = _NOTHING_FORWARDED
        """The attributes of the XFORWARD commands for the next message."""
        self.messages: int = 0
        """The number of bodies that were begun."""
        self.edits: ReplyEdits | None = None
        """The object that changes the octets of replies before they are sent; None before the first call of
        `edit_reply`."""

    def drain(self) -> None:
        """Ask the session to end."""
        self.draining = True

    def drop(self) -> None:
        """Ask the session to end without a 421."""
        self.is_dropped = True
        self.draining = True

    def set_proxy_header(self, header: ProxyHeader) -> None:
        """Store the PROXY header, which has the client's address."""
        self.proxy_header = header

    def set_identity(self, identity: str) -> None:
        """Store the name that the client has authenticated as."""
        self.identity = identity

    def begin_xclient(self, attributes: Mapping[str, str | None]) -> None:
        """Add the attributes of XCLIENT. From now on the session belongs to the client that they describe."""
        self.xclient = self.xclient.updated(attributes)
        self.identity = self.xclient.login
        self.clear_forwarded()
        self.is_greeting_anew = True

    def end_xclient(self) -> None:
        """Record that the reply to XCLIENT was sent, so that the session continues after its new greeting."""
        self.is_greeting_anew = False

    def forward(self, attributes: Mapping[str, str | None]) -> None:
        """Add attributes that the peer has sent with XFORWARD."""
        self.forwarded = MappingProxyType({**self.forwarded, **attributes})

    def clear_forwarded(self) -> None:
        """Drop the attributes of XFORWARD: they hold for one message."""
        self.forwarded = _NOTHING_FORWARDED

    def count_message(self) -> int:
        """Return the number of the message that begins now, 1 for the first."""
        self.messages += 1
        return self.messages


class Session(Generic[S_co]):
    """A client's session, as handlers use it: information about the client, and actions for the session."""

    def __init__(
        self,
        stream: Stream,
        connection: Connection,
        record: SessionRecord,
        clock: Callable[[], float],
        make_state: Callable[[], S_co],
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._record = record
        self._clock = clock
        self._make_state = make_state
        self._state: S_co | None = None

        self.id: str = os.urandom(6).hex()
        """The name of this session in the log."""

    @property
    def state(self) -> S_co:
        """The handlers' own state of this session, until the session ends.

        By default the state is a namespace, which takes any attribute. With `App(state=Visit)` the state is a
        `Visit()`, which is made when a handler of the session first asks for it.
        """
        if self._state is None:  # most sessions need no state
            self._state = self._make_state()

        return self._state

    @property
    def peer(self) -> Address | None:
        """The client's address; for a connection through a proxy, the address in the PROXY header or XCLIENT.

        None for a client of a Unix socket without a name, and if a PROXY header or XCLIENT names no address, such as
        `PROXY UNKNOWN`.
        """
        header = self._record.proxy_header
        return self._record.xclient.peer(_endpoint(header.source) if header else self._stream.peer)

    @property
    def local(self) -> Address | None:
        """The address that the client connected to; through a proxy, the address in the PROXY header or XCLIENT."""
        header = self._record.proxy_header
        return self._record.xclient.local(_endpoint(header.destination) if header else self._stream.local)

    @property
    def listener(self) -> Listener | None:
        """The listener that accepted the connection. None in a test without a listener."""
        return self._record.listener

    @property
    def tls(self) -> Tls | None:
        """The TLS parameters, None without TLS."""
        return self._stream.tls

    @property
    def identity(self) -> str | None:
        """The name that the client has authenticated as (RFC 4954), or the LOGIN of XCLIENT; otherwise None."""
        is_valid = self._connection.authenticated or self._record.is_greeting_anew
        return self._record.identity if is_valid else None

    @property
    def xclient(self) -> Mapping[str, str | None]:
        """The attributes of XCLIENT from a trusted peer, such as NAME: see Postfix XCLIENT_README.

        None stands for a value that the peer does not know. `peer`, `local`, `helo` and `identity` already have the
        values of these attributes.
        """
        return self._record.xclient.attributes

    @property
    def helo(self) -> Helo | Ehlo | Lhlo | None:
        """The accepted HELO, EHLO or LHLO; before that, the HELO attribute of XCLIENT."""
        helo = None if self._record.is_greeting_anew else self._connection.helo
        return helo or self._record.xclient.helo

    @property
    def transaction(self) -> Transaction | None:
        """The open transaction."""
        return self._connection.transaction

    @property
    def forwarded(self) -> Mapping[str, str | None]:
        """The origin of the next message, from XFORWARD of a trusted filter: for the log, not for access rules.

        None stands for a value that the filter does not know. The attributes hold for one message.
        """
        return self._record.forwarded

    @property
    def messages(self) -> int:
        """The number of message bodies so far, including the current one."""
        return self._record.messages

    @property
    def config(self) -> Config:
        """The configuration of the server."""
        return self._connection.config

    def drop(self) -> None:
        """Close the connection as soon as the session waits for the client. No further command is handled.

        Replies that were decided are sent first, including the reply of a handler that runs now. So `session.drop()`
        followed by `return Reply(554, ...)` sends the 554, then closes. A `message` handler that reads the body gets
        `MessageAborted`. To close without the reply of a handler, raise `AbortConnection` in this handler.

        Any handler may call this, and any task of the event loop, also for the session of another client. With the
        adapter `socket`, any thread may call this. From other threads: `loop.call_soon_threadsafe(session.drop)`.
        """
        self._record.drop()
        self._stream.interrupt()

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        """Call a blocking function, for example to write to a disk, without blocking other sessions."""
        return await self._stream.run_blocking(function, *args)

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        """Return a block in which a handler of a cancelled session may still wait, for at most `seconds`.

        On asyncio and on threads the block sets no limit, because no further wait is cancelled there.
        """
        return shielded(self._stream, seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, so that the client waits for its reply.

        Returns earlier if the server shuts down or the session's time is used up.
        """
        # Several short waits, so that streams need no way to interrupt a sleep.
        end = self._connection.within_session(self._clock() + seconds)
        while not self._record.draining and (left := end - self._clock()) > 0:
            await self._stream.sleep(min(left, _NAP))

    def edit_reply(self, edit: Callable[[bytes], bytes], *, skip: int = 0) -> None:
        """Send `edit(octets)` in place of the octets of the next reply, or of the reply after `skip` other replies.

        For tests of clients: the result may be more than one reply, no reply, or no SMTP. Observers get the original
        reply, and then `OctetsSent`.
        """
        if self._record.edits is None:
            self._record.edits = ReplyEdits(self._connection)
        self._record.edits.add(edit, skip)

    async def open_stream(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        """Open a connection to another server, in the framework that this session runs in.

        This is the adapter's `open_stream`. To send mail from a handler, pass this method to `connected` or
        `open_client`. For example: `async with connected(session.open_stream, "mx.example.org", 25) as client: ...`.
        """
        return await self._stream.open(host, port, timeout, local_address=local_address, path=path)

    def __repr__(self) -> str:
        return f"<Session {self.id} from {self.peer}>"


def _endpoint(end: Endpoint | bytes | None) -> Address | None:
    if isinstance(end, Endpoint):
        return Address(str(end.address), end.port)

    return Address(os.fsdecode(end)) if end else None
