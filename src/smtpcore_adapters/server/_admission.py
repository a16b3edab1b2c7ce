"""Admit or refuse a client by the limits for its address."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from smtpcore import ConnectionOpened, Reply

from ..streams._stream import host_of
from ._limits import Timeouts
from ._notifications import Decider, Decision
from ._peers import PeerTable
from ._session import SessionRecord
from ._wire import Wire

T = TypeVar("T")


class Admission:
    """Applies the limits on connections, early talkers and failed authentications to one session."""

    __slots__ = ("_admitted_from", "_is_trusted", "_peers", "_record", "_timeouts", "_wire", "refusal")

    def __init__(
        self,
        wire: Wire,
        record: SessionRecord,
        peers: PeerTable,
        timeouts: Timeouts,
        *,
        is_trusted: bool,
    ) -> None:
        self._wire = wire
        self._record = record
        self._peers = peers
        self._timeouts = timeouts
        self._is_trusted = is_trusted
        self._admitted_from: str | None = None
        """The host under which this connection is counted; None if it is not counted."""
        self.refusal: Decision | None = None
        """The greeting of a client that is not admitted."""

    def refuse(self, reply: Reply) -> None:
        """Refuse the client with `reply` as the greeting, because the server is stopping."""
        self.refusal = reply, Decider.SHUTDOWN, "shutdown"

    async def enter(self) -> None:
        """Count the connection, or refuse it if a limit is reached. To be called when the client's address is known."""
        if self.refusal:
            return

        # A trusted peer may act for many clients. Until XCLIENT, the connection counts for the process, but for
        # no address. After XCLIENT, the connection counts for the address that the peer has sent.
        host = "" if self._is_trusted and not self._record.xclient else host_of(self._wire.session.peer)
        limit = await self._ask(self._enter, host)
        if limit is None:
            return

        reply, decided_by, rule = self._wire.reach(limit)
        self.refusal = self._wire.worded(reply, decided_by, rule), decided_by, rule
        self._wire.log.write(
            logging.WARNING,
            "connection from %s refused: %s",
            self._wire.session.peer,
            self.refusal[0],
            limit=limit,
            decided_by=str(Decider.LIMIT),
            rule=limit,
        )

    def _enter(self, host: str) -> str | None:
        limit = self._peers.enter(host, self._wire.clock())
        if limit is None:
            self._admitted_from = host  # set here, because a cancellation discards the result of a thread

        return limit

    async def _ask(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that asks the counts: in a thread if they may wait for another machine."""
        return await self._wire.stream.run_blocking(function, *args) if self._peers.waits else function(*args)

    def leave(self) -> None:
        """Stop counting the connection in the limits on connections."""
        if self._admitted_from is not None:
            self._peers.leave(self._admitted_from)
            self._admitted_from = None

    # Clients that talk before the greeting (RFC 5321 3.1)

    async def talks_early(self) -> bool:
        """Wait for the greeting delay, and return whether the client sent anything meanwhile."""
        delay = self._timeouts.greeting_delay
        return bool(delay and not self.refusal and await self._wire.talks_within(delay))

    async def reject_early_talker(self) -> None:
        """Refuse a client that talked before the greeting."""
        reply, decided_by, limit = self._wire.reach("greeting_delay")
        self._wire.log.write(
            logging.INFO, "talked before the greeting", limit=limit, decided_by=str(decided_by), rule=limit
        )
        event = self._wire.conn.next_event()
        assert isinstance(event, ConnectionOpened), "nothing was sent yet"
        self._wire.answer(event, reply, decided_by, limit)
        await self._wire.flush()

    # Failed authentications of an address and of a user

    async def may_authenticate(self) -> bool:
        """Return False if too many authentications from the client's address failed recently."""
        return await self._ask(self._peers.may_authenticate, self._host, self._wire.clock())

    async def may_log_in_as(self, user: str) -> bool:
        """Return False if too many authentications as `user` failed recently, and none from here succeeded."""
        host = host_of(self._wire.session.peer)
        return await self._ask(self._peers.may_log_in_as, user, host, self._wire.clock())

    async def note_login(self, user: str) -> None:
        """Remember that `user` has logged in from the client's address."""
        await self._ask(self._peers.logged_in, user, host_of(self._wire.session.peer), self._wire.clock())

    async def count_auth_failure(self, user: str | None) -> float:
        """Count a failed authentication, as `user` if the client gave a name.

        Return the number of seconds to wait before its reply.
        """
        failures = await self._ask(self._peers.auth_failed, self._host, self._wire.clock(), user)
        doubled = min(failures - 1, _MAX_DOUBLINGS)
        return min(self._timeouts.auth_delay * 2.0**doubled, self.auth_delay)

    @property
    def auth_delay(self) -> float:
        """The longest wait before the reply to a failed authentication, in seconds."""
        return self._timeouts.max_auth_delay

    @property
    def _host(self) -> str:
        # Failures of a client without an address, for example on a Unix socket, are counted for its session alone.
        return host_of(self._wire.session.peer) or self._wire.session.id


_MAX_DOUBLINGS = 100  # doublings of `Timeouts.auth_delay`: the result must fit into a float
