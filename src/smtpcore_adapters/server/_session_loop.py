"""Run one session, from the client's connection to the end."""

# All adapters share this session loop, which awaits only the stream and the handlers. So the loop runs in any
# framework, and without a framework over a stream whose coroutines block instead of being suspended.
#
# The loop takes one event after the other, and hands each to the exchange that `_EXCHANGES` names for its type. An
# exchange may take further events itself: a message its body, AUTH its responses. For an event of another type, an
# exchange uses the same table. The collaborators of a session:
#
#     Wire         the stream and the protocol object: receives events, sends replies
#     Admission    the limits for the client's address: connections, failed logins
#     Handlers     decides the reply to an event: by a limit, by a handler, or by default
#     exchanges    MessageExchange, AuthExchange, XclientExchange: made for one event, with the state that it needs
#
# After any failure, the disconnect handlers are called once, and the connection is closed.

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ssl import SSLContext
from typing import Any, ClassVar, Final

from smtpcore import (
    EXTENSIONS,
    NEED_TLS,
    Auth,
    Bdat,
    BodyAborted,
    Budgets,
    Burl,
    Config,
    Connection,
    ConnectionClosed,
    Data,
    Event,
    Extension,
    RemoteProtocolError,
    Reply,
    Signal,
    State,
    Xclient,
    Xforward,
)
from smtpcore.proxy import ProxyCommand

from ..streams._stream import Interrupted, Stream
from ._admission import Admission
from ._app import App
from ._authentication import AuthExchange
from ._config import config_for
from ._handlers import ConnectionDropped, Handlers
from ._limits import Limits, Timeouts
from ._listeners import Listener
from ._message_exchange import MessageExchange
from ._notifications import AbortConnection, Decider, OctetsSent, Reason, SessionClosed, SessionOpened
from ._peers import PeerTable
from ._session import Session, SessionRecord
from ._wire import Wire
from ._xclient_exchange import XclientExchange


class SessionLoop:
    """One session, from its greeting to its end."""

    __slots__ = (
        "_admission",
        "_handlers",
        "_implicit_tls",
        "_is_proxied",
        "_on_end",
        "_on_exit",
        "_record",
        "_wire",
        "session",
    )

    def __init__(
        self,
        app: App[Any],
        stream: Stream,
        config: Config,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        budgets: Budgets | None = None,
        timeouts: Timeouts,
        limits: Limits | None = None,
        peers: PeerTable | None = None,
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
        proxied: bool = False,
        trusted: bool = False,
        listener: Listener | None = None,
        on_end: "Callable[[SessionLoop], object] | None" = None,
        on_exit: Callable[[BaseException], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        peers = peers or PeerTable(limits)
        conn = Connection(config_for(app, config), extensions=extensions, implicit_tls=implicit_tls)
        conn.budgets = budgets or conn.budgets
        self._record = SessionRecord(listener)
        self._wire = Wire(app, stream, conn, self._record, timeouts, peers=peers, tls=tls, clock=clock)
        self._admission = Admission(self._wire, self._record, peers, timeouts, is_trusted=trusted)
        self._handlers = Handlers(app, self._wire, self._admission)
        self._implicit_tls = implicit_tls
        self._is_proxied = proxied
        self._on_end = on_end
        self._on_exit = on_exit
        self.session: Session[Any] = self._wire.session
        """The session that the handlers receive."""

    # Methods that the acceptor calls

    def refuse(self, reply: Reply) -> None:
        """Refuse the client with `reply` as the greeting, because the server is stopping. To be called before `run`."""
        self._admission.refuse(reply)

    def reach(self, limit: str) -> Reply:
        """Report to the observers that a limit was reached, and return its reply."""
        reply, _, _ = self._wire.reach(limit)
        return reply

    def drain(self) -> None:
        """End the session with a 421: at once if it waits for a command, otherwise before the next command."""
        self._wire.drain()

    async def run(self) -> None:
        """Serve the client. Raises only exceptions that cancel the session."""
        reason = Reason.CANCELLED
        opened = self._wire.clock()
        try:
            try:
                reason = await self._converse()
            except (Exception, AbortConnection, SystemExit, KeyboardInterrupt) as exc:
                reason = await self._end_after(exc)
        finally:
            await self._close(reason, opened)

    async def _close(self, reason: Reason, opened: float) -> None:
        wire = self._wire
        try:
            await self._handlers.tell_of_end(reason)
        finally:
            try:
                seconds = wire.clock() - opened
                wire.show(SessionClosed(reason, seconds, wire.budget))
                by = f" ({wire.budget})" if wire.budget else ""
                fields: dict[str, Any] = {"reason": str(reason), "seconds": seconds, "budget": wire.budget}
                wire.log.write(logging.DEBUG, "disconnected: %s%s", reason, by, **fields)
                await wire.close(at_once=reason in _ABRUPT)
            finally:
                self._admission.leave()
                if self._on_end:
                    self._on_end(self)

    async def _end_after(self, exc: BaseException) -> Reason:
        # A separate coroutine: inside `run`, its variables would use memory in every idle session.
        wire = self._wire
        match exc:
            case TimeoutError():
                await wire.end_late()
                return Reason.TIMEOUT
            case Interrupted() if self._record.is_dropped and wire.conn.state not in (State.CONNECTED, State.TLS):
                await wire.flush_last()
                return Reason.ABORTED
            case Interrupted():
                wire.give_up()
                return Reason.ABORTED if self._record.is_dropped else Reason.SHUTDOWN
            case ConnectionDropped():
                return Reason.DROPPED
            case AbortConnection():
                if exc.data:
                    wire.show(OctetsSent(exc.data, instead=False))
                await wire.abort(exc.data, reset=exc.reset)
                return Reason.DROPPED if exc.reset else Reason.ABORTED
            case SystemExit() | KeyboardInterrupt():
                wire.log.write(logging.ERROR, "a handler ends the server: %r", exc, exc_info=exc)
                if self._on_exit:
                    self._on_exit(exc)
                await wire.say_goodbye("the server is shutting down", "4.3.2", Decider.SHUTDOWN, "shutdown")
                return Reason.SHUTDOWN
            case RemoteProtocolError():
                wire.log.write(logging.INFO, "%s", exc)
                await wire.flush_last()
                return Reason.LOST
            case OSError():
                wire.log.write(logging.INFO, "connection lost: %s", exc)
                wire.conn.send_failed()
                return Reason.LOST
            case _:
                wire.log.write(logging.ERROR, "the session failed", exc_info=True)
                why = f"internal error, session {self.session.id}"
                await wire.say_goodbye(why, "4.3.0", Decider.FAILURE, "session")
                return Reason.FAILED

    # The dialogue

    async def _converse(self) -> Reason:
        reason = await self._open()
        if reason:
            return reason

        wire, record = self._wire, self._record
        while True:
            if record.draining and wire.conn.state not in (State.TLS, State.CLOSED):
                if record.is_dropped:
                    raise Interrupted

                farewell = await wire.next_quit()
                if farewell:
                    await self._handlers.run(farewell)
                    await wire.flush()
                    return wire.closed_by

                await wire.say_goodbye("the server is shutting down", "4.3.2", Decider.SHUTDOWN, "shutdown")
                return Reason.SHUTDOWN

            event = await wire.next_event()
            if isinstance(event, Signal):
                if event is NEED_TLS:
                    await wire.start_tls()
                continue  # NEED_DATA: the wait was interrupted to shut down
            if type(event) is ConnectionClosed:
                await wire.flush()
                return wire.closed_by

            transaction = wire.conn.transaction if record.forwarded else None
            if type(event) in self._EXCHANGES:
                await self._EXCHANGES[type(event)](self, event)
            else:  # as `Handlers.run`, but with one coroutine less for each command
                wire.answer(event, *await self._handlers.decide(event))
            if transaction and not wire.conn.transaction:
                record.clear_forwarded()

    async def _open(self) -> Reason | None:
        """Read the PROXY header, apply the limits, do implicit TLS, and wait for early talkers, before the greeting.

        Return the reason if the session ends before the greeting, otherwise None.
        """
        wire, admission = self._wire, self._admission
        wire.show(SessionOpened())
        wire.log.write(logging.DEBUG, "connection from %s", wire.stream.peer)
        received = b""
        if self._is_proxied:
            if admission.refusal:
                raise Interrupted  # the server is stopping already

            header, received = await wire.receive_proxy_header()
            if header.command is ProxyCommand.PROXY:
                self._record.set_proxy_header(header)
                wire.log.write(logging.DEBUG, "connection from %s through the proxy", self.session.peer)

        await admission.enter()
        if self._implicit_tls:
            if admission.refusal:
                return Reason.DROPPED  # a handshake for a refusal would cost too much CPU time

            await wire.start_tls(received)
        elif received:
            wire.conn.receive_data(received)
            wire.conn.tick(wire.clock())
        if await admission.talks_early():
            await admission.reject_early_talker()
            return Reason.EARLY_TALKER

        return None

    def _dispatch(self, event: Event) -> Awaitable[None]:
        exchange = self._EXCHANGES.get(type(event))
        return exchange(self, event) if exchange else self._handlers.run(event)

    def _run_message(self, event: Data | Bdat | Burl) -> Awaitable[None]:
        exchange = MessageExchange(self._wire, self._handlers, self._record, self._dispatch)
        return exchange.run(event)

    def _run_auth(self, event: Auth) -> Awaitable[None]:
        return AuthExchange(self._wire, self._handlers, self._admission, self._record, self._dispatch, event).run()

    def _run_xclient(self, event: Xclient | Xforward) -> Awaitable[None]:
        return XclientExchange(self._wire, self._handlers, self._admission, self._record).run(event)

    async def _pass_over(self, event: BodyAborted) -> None:
        pass  # the exchange of the message has ended already

    _EXCHANGES: ClassVar[Mapping[type[object], Callable[[Any, Any], Awaitable[None]]]] = {
        Auth: _run_auth,
        Bdat: _run_message,
        BodyAborted: _pass_over,
        Burl: _run_message,
        Data: _run_message,
        Xclient: _run_xclient,
        Xforward: _run_xclient,
    }
    """The exchange for each type of event. An event of any other type goes to `Handlers.run`."""


_ABRUPT: Final = frozenset({Reason.LOST, Reason.CANCELLED, Reason.DROPPED})
"""Reasons after which the connection is closed at once: the client is not given time to read a last reply."""
