"""A pool of connections to one server, for asyncio, trio, anyio and threads."""

# `_slots.py` makes all decisions. This code awaits only methods of the client, and `wait` of the framework's event.
# Without an event loop these methods block, so the code also runs in threads.
#
# Stale connections. A server may close an idle connection at any time. Before a connection is used again, input that
# has arrived is read, such as a 421 or the end of the stream. After a longer pause NOOP is sent, because a firewall may
# have forgotten the connection. The server may still close the connection after this check. So if a connection that was
# used before ends before the body, `send` sends the message again over a new connection, once. As soon as a part of the
# body was sent, the message is never sent again. A body that cannot be read again, such as an iterator, may have been
# read in part before MAIL. Such a body is sent once only, so NOOP is always sent before it.

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from email.message import Message
from math import inf
from typing import Self, TypeAlias, TypedDict, Unpack

from smtpcore import Path, Rcpt, RemoteProtocolError, ReplyClass, ReplyCode, SessionLimits, check_values

from .._names import check_options
from ..streams._stream import Stream
from ._client import Client
from ._connecting import open_client
from ._envelope import Recipients, Sender, SendOptions, check_send_options, make_rcpts, sender_path
from ._header_envelope import envelope_of
from ._options import HINTS, ConnectOptions, check_connect_options
from ._results import Refused, SendResult
from ._slots import Event, Pooled, Slot, Slots
from ._sources import Body

_PROBE_AFTER = 15.0
"""Seconds after which an idle connection is checked with a NOOP. Firewalls keep idle connections for minutes."""

ClientSlot: TypeAlias = Slot[Client]


class _Limits(TypedDict):
    size: int
    max_age: float
    max_uses: int


_OF_POOL = tuple(_Limits.__annotations__)


class Pool(ABC):
    """A pool of connections to one server: `async with Pool("mail.example.org", 587, auth=...) as pool:`.

    Each adapter has its own class `Pool`. Connections are opened when messages need them. Tasks that wait for a
    connection get it in the order of their requests.

    Args:
        host: The host name or IP address of the server.
        port: The TCP port of the server.
        size: The maximum number of connections.
        max_age: The seconds after which a connection gets no more messages.
        max_uses: The maximum number of messages for one connection.
        **options: The options of `connect`, for each connection.

    If the server ends connections with a 421 after fewer messages, or refuses a further connection with a 421, the pool
    keeps to the lower limit for an hour. The pool also keeps to a limit that the server announces (RFC 9422).
    """

    def __init__(
        self,
        host: str,
        port: int,
        size: int = 4,
        max_age: float = 300.0,
        max_uses: int = 100,
        **options: Unpack[ConnectOptions],
    ) -> None:
        check_options("an option of Pool", options, {*ConnectOptions.__annotations__, *_OF_POOL}, HINTS)
        check_connect_options(host, port, options, many=True)
        limits = {"size": size, "max_age": max_age, "max_uses": max_uses}
        check_values(limits, _Limits)
        for name, value in limits.items():
            if not value > 0:
                raise ValueError(f"{name} is {value}: it must be more than 0")

        self._host = host
        self._port = port
        self._options = options
        self._slots: Slots[Client] = Slots(
            options.get("path") or f"{host}:{port}", size, max_age, max_uses, self._clock
        )
        self._lock = threading.Lock()
        self._owner: tuple[int, object] | None = None
        """The process and the event loop in which the pool was first used."""

    @staticmethod
    @abstractmethod
    async def _open_stream(
        host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream: ...

    @staticmethod
    @abstractmethod
    def _new_event() -> Event: ...

    @staticmethod
    def _clock() -> float:
        return time.monotonic()

    @staticmethod
    def _current_loop() -> object:
        """Return the event loop, for frameworks that have event loops."""
        return None

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client, None]:
        """Lend a connection to an `async with` block.

        At the end of the block the connection returns to the pool. If a transaction is open then, or if XCLIENT or
        XFORWARD was sent, the connection is closed. Raises the errors of `connect`, and `RuntimeError` after `aclose`.
        """
        async with self._slot() as slot:
            yield _connection_of(slot).client

    async def send(
        self,
        message: Body,
        sender: Sender | None = None,
        recipients: Recipients | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message over a connection of the pool. See `Client.send_message`.

        If a connection that was used before turns out to be closed, the message is sent over a new connection, but
        never after a part of its body was sent. Raises the errors of `connect` and of `Client.send`, and `RuntimeError`
        after `aclose`.
        """
        sender, recipients = envelope_of(message, sender, recipients)
        check_send_options(options)
        path, rcpts = sender_path(sender), make_rcpts(recipients, options)
        options.pop("notify", None)  # the recipients have it now; an iterator could not be read again
        is_repeatable = _is_repeatable(message)
        async with self._slot(ask=not is_repeatable, recipients=len(rcpts)) as slot:
            while (result := await _attempt(slot, path, rcpts, message, options, is_repeatable)) is None:
                await self._drop(slot)
                await self._make_ready(slot)

            return result

    async def aclose(self) -> None:
        """Close the pool: new requests raise `RuntimeError`, idle connections are closed after QUIT.

        Tasks that already wait still get a connection. Return when all connections are closed. Do not call this method
        inside a block of `client`, because it would wait for the end of this block.
        """
        if self._is_copy:
            return  # after a fork, the connections belong to the other process: a QUIT would end them there too

        event = self._new_event()
        with self._lock:
            idle = self._slots.close(event)
        await self._close(idle)
        await event.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @property
    def _is_copy(self) -> bool:
        """Whether this process is a fork of the process in which the pool was first used.

        This property uses no lock: a thread of the first process may have held the lock at the fork.
        """
        return self._owner is not None and self._owner[0] != os.getpid()

    # Slots

    @asynccontextmanager
    async def _slot(self, *, ask: bool = False, recipients: int = 1) -> AsyncGenerator[ClientSlot, None]:
        """Lend a slot with an open connection for a message with this number of recipients.

        With `ask`, NOOP checks a connection that was used before.
        """
        if self._is_copy:  # two processes would read each other's replies
            raise RuntimeError("the pool was used in another process before: make a pool for each process")

        user = (os.getpid(), self._current_loop())
        with self._lock:
            self._owner = self._owner or user
            if self._owner != user:
                raise RuntimeError("the pool was used in another event loop before: make a pool for each event loop")
            slot = self._slots.request(self._new_event())
        try:
            await slot.event.wait()
            await self._make_ready(slot, ask=ask, recipients=recipients)
            yield slot
        finally:
            await self._release(slot)

    async def _make_ready(self, slot: ClientSlot, *, ask: bool = False, recipients: int = 1) -> None:
        while not (await self._is_usable(slot, recipients, ask=ask) or await self._open(slot)):
            await slot.event.wait()

    async def _is_usable(self, slot: ClientSlot, recipients: int, *, ask: bool) -> bool:
        """Return whether the slot has an open connection for so many recipients. Otherwise close the connection."""
        pooled = slot.connection
        if pooled is None:
            return False

        ask |= self._clock() - pooled.last_used > _PROBE_AFTER
        with self._lock:
            is_fresh = self._slots.is_fresh(pooled, recipients)
        if is_fresh and await pooled.client.check(ask=ask):
            return True

        await self._drop(slot)
        return False

    async def _open(self, slot: ClientSlot) -> bool:
        """Open a connection for a slot. Return False if the slot has to wait in the queue again."""
        try:
            client = await open_client(self._open_stream, self._host, self._port, **self._options)
        except Refused as exc:
            if exc.reply and exc.reply.code == ReplyCode.SERVICE_NOT_AVAILABLE:
                with self._lock:
                    if self._slots.requeue(slot, self._new_event()):
                        return False
            raise

        limits = client.extensions.get("LIMITS")
        known = limits if isinstance(limits, SessionLimits) else SessionLimits()
        slot.connection = Pooled(client, self._clock(), known.mail_max or inf, known.rcpt_max or inf)
        return True

    async def _release(self, slot: ClientSlot) -> None:
        pooled = slot.connection
        with self._lock:
            keeps = pooled is not None and pooled.client.is_idle and self._slots.may_keep(_counted(pooled))
            too_old = self._slots.give_back(slot) if keeps else []
        if keeps:
            await self._close(too_old)
            return
        try:
            if pooled:
                await self._drop(slot)
        finally:
            with self._lock:
                self._slots.end(slot)

    async def _drop(self, slot: ClientSlot) -> None:
        """Close the connection of a slot, after QUIT if possible."""
        pooled, slot.connection = _counted(_connection_of(slot)), None
        goodbye = pooled.client.usage.goodbye
        if goodbye:
            with self._lock:
                self._slots.learn(pooled, goodbye)
        await pooled.client.aclose()

    async def _close(self, connections: Iterable[Pooled[Client]]) -> None:
        async with AsyncExitStack() as stack:  # after an exception, the other connections are closed too
            for each in connections:
                stack.callback(self._count_closed)
                stack.push_async_callback(each.client.aclose)

    def _count_closed(self) -> None:
        with self._lock:
            self._slots.count_closed()


async def _attempt(
    slot: ClientSlot,
    sender: Path,
    rcpts: list[Rcpt],
    message: Body,
    options: SendOptions,
    is_repeatable: bool,
) -> SendResult | None:
    """Send a message. Return None if the connection was idle before and has ended before the body."""
    pooled = _connection_of(slot)
    client, may_repeat = pooled.client, pooled.is_reused and is_repeatable
    pieces = client.usage.pieces
    try:
        result = await client.send(sender, rcpts, message, **options)
    except (OSError, RemoteProtocolError) as exc:
        if isinstance(exc, TimeoutError) or not may_repeat or client.usage.pieces > pieces:
            raise
        return None

    is_stale = result.final.reply_class is ReplyClass.GOODBYE and client.usage.pieces == pieces
    return None if may_repeat and is_stale else result


def _is_repeatable(body: Body) -> bool:
    """Return whether a body can be read again after an attempt to send it."""
    if callable(getattr(body, "read", None)):
        seekable = getattr(body, "seekable", None)
        return callable(seekable) and bool(seekable())

    return isinstance(body, Message | Collection)


def _counted(pooled: Pooled[Client]) -> Pooled[Client]:
    """Update the number of messages of a connection, and return the connection."""
    pooled.uses = pooled.client.usage.messages
    return pooled


def _connection_of(slot: ClientSlot) -> Pooled[Client]:
    assert slot.connection, "the slot is ready"
    return slot.connection
