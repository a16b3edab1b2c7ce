"""Connect the stream of one session with its `smtpcore.Connection` and the observers."""

# Everything that is received, sent or awaited passes through here, so this module gives three guarantees of a session:
#
# - Replies leave before the session waits for the client, and before the next event is handled, unless RFC 2920 allows
#   them to wait for the rest of a pipelined group.
# - After a write that failed or timed out, nothing more is written. A partial write leaves the stream in the middle of
#   a reply, so a 421 after it could be read as part of that reply.
# - After a failed TLS handshake nothing is sent: the session cannot return to plaintext (RFC 3207 section 4).

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import product
from ssl import SSLContext
from typing import Any, TypeVar

from smtpcore import (
    NEED_DATA,
    Auth,
    AuthResponse,
    BodyAborted,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    DataEnd,
    Event,
    Expn,
    InvalidData,
    LocalProtocolError,
    Quit,
    Reply,
    ReplyClass,
    Signal,
    TimedOut,
    Vrfy,
    Wait,
    Xclient,
)
from smtpcore.proxy import ProxyHeader, ProxyReader

from ..streams._stream import Interrupted, Stream
from ._app import App
from ._limits import REPLIES, Timeouts, with_crowded
from ._notifications import (
    AbortConnection,
    Author,
    Decider,
    Decision,
    LimitReached,
    Observed,
    OctetsSent,
    Reason,
    Refusal,
    TlsEstablished,
    TlsFailed,
)
from ._peers import PeerTable
from ._reply_edits import ReplyEdits
from ._session import Session, SessionRecord
from ._session_log import SessionLog
from ._wording import Wordings

_TOO_SLOW = "you took too long"
_TIME_FOR_QUIT = 1.0  # seconds to wait for QUIT before the 421 of a shutdown
T = TypeVar("T")
_MESSAGE_ENDS = frozenset({DataEnd, InvalidData})
_MOST_REPLIES = 100  # replies in the queue: a client that reads no replies could otherwise fill the memory


class Wire:
    """The connection of one session: receives events, sends replies, and shows both to the observers."""

    __slots__ = (
        "_app",
        "_budgets",
        "_farewell",
        "_is_given_up",
        "_is_interruptible",
        "_peers",
        "_record",
        "_timeouts",
        "_tls",
        "_unsent",
        "_waits_since",
        "_was_message",
        "_wordings",
        "budget",
        "clock",
        "closed_by",
        "conn",
        "log",
        "session",
        "stream",
    )

    def __init__(
        self,
        app: App[Any],
        stream: Stream,
        conn: Connection,
        record: SessionRecord,
        timeouts: Timeouts,
        *,
        peers: PeerTable,
        tls: SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._record = record
        self._timeouts = timeouts
        self._peers = peers
        self._budgets = with_crowded(conn.budgets, timeouts)
        """The time budgets, and the budgets that hold while the server is nearly full."""
        self._tls = tls
        self._unsent = 0
        """The number of replies since the last flush."""
        self._was_message = False
        """Whether the last reply answered a message."""
        self._waits_since = 0.0
        """The time at which the last wait for the client began."""
        self._is_interruptible = False
        self._is_given_up = False

        self.stream = stream
        self.conn = conn
        self.session = Session(stream, conn, record, clock, app.make_state)
        self.log = SessionLog(self.session, peers, clock)
        self._wordings = Wordings(app, self.session, self.log)
        self._farewell = (b"", b"")
        """The 421 that the connection has queued for a spent time budget, and the octets to send in its place."""
        self.clock = clock
        self.budget = ""
        """The name of the time budget that has ended the session."""
        self.closed_by = Reason.CLOSED
        """The reason for the end of the session if the dialogue ends after the last reply."""
        conn.tick(clock())

    # Observers

    def show(self, *items: Observed) -> None:
        """Call the observers with each of `items`."""
        for item, observer in product(items, self._app.observers):
            try:
                observer(self.session, item)
            except (AbortConnection, SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:  # `pytest.fail` raises a BaseException
                self.log.write(logging.ERROR, "an observer failed", exc_info=exc)

    def reach(self, limit: str) -> Decision:
        """Report to the observers that a limit was reached, and return its refusal. `limit` is a key of `REPLIES`."""
        self.show(LimitReached(limit))
        return REPLIES[limit], Decider.LIMIT, limit

    # Receiving

    async def next_event(self) -> Event | Signal:
        """Return the client's next event, NEED_TLS or NEED_PART; NEED_DATA if `drain` has interrupted the wait for it.

        Replies that must not wait are sent first. Raises `TimeoutError` when a time budget is spent, `OSError` when the
        connection is lost, and `RemoteProtocolError` when the dialogue cannot continue.
        """
        conn = self.conn
        if self._unsent and (conn.must_flush or self._unsent >= _MOST_REPLIES):
            await self.flush()

        while (event := conn.next_event()) is NEED_DATA:
            if self._unsent:
                await self.flush()

            conn.budgets = self._budgets[self._peers.are_many]
            now = self._waits_since = self.clock()
            conn.tick(now)
            deadline = conn.deadline
            if deadline <= now:
                raise self._late()

            try:
                conn.receive_data(await self.stream.receive(deadline - now))
            except TimeoutError:
                conn.tick(max(self.clock(), deadline))
                raise self._late() from None
            except Interrupted:
                if self._record.is_dropped:
                    raise
                return NEED_DATA

            conn.tick(self.clock())

        if self._app.observers and not isinstance(event, Signal | ConnectionClosed):
            self.show(event)
        return event

    async def next_quit(self) -> Quit | None:
        """Return the client's QUIT if it comes soon after the reply to a message; otherwise None.

        The server is stopping. A client that has just sent a message sends QUIT at this moment, and would take a 421 in
        its place for a failure, and send the message again.
        """
        if not self._was_message:
            return None

        end = self.conn.within_session((self.clock() if self._unsent else self._waits_since) + _TIME_FOR_QUIT)
        await self.flush()
        with suppress(TimeoutError, Interrupted):
            while (event := self.conn.next_event()) is NEED_DATA:
                left = end - self.clock()
                if left <= 0:
                    return None

                self.conn.receive_data(await self.stream.receive(left))
            if isinstance(event, Quit):
                self.show(event)
                return event

        return None

    async def receive_proxy_header(self) -> tuple[ProxyHeader, bytes]:
        """Read the PROXY header, which precedes TLS and the greeting. Only peers in the option `proxies` send a header.

        Return the header, and the octets that arrived together with it: they are the beginning of the client's stream
        (PROXY protocol, section 2). Raises `RemoteProtocolError` if the header is malformed, and `Interrupted` after
        `drain`.
        """
        reader = ProxyReader()
        while (header := reader.next_header()) is NEED_DATA:
            with self._interruptible():
                reader.receive_data(await self._before_deadline(self.stream.receive))

        return header, reader.trailing_data

    async def talks_within(self, delay: float) -> bool:
        """Wait for `delay` seconds, and return whether the client has sent something before the greeting."""
        delay = self.conn.within_session(self.clock() + delay) - self.clock()
        with suppress(TimeoutError, Interrupted), self._interruptible():
            self.conn.receive_data(await self.stream.receive(delay))

        return bool(self.conn.trailing_data)

    async def _before_deadline(self, wait: Callable[[float], Awaitable[T]]) -> T:
        """Return what `wait` returns within its timeout. Raises `TimeoutError` when a time budget is spent."""
        conn, now = self.conn, self.clock()
        conn.tick(now)
        deadline = conn.deadline
        if deadline > now:
            try:
                return await wait(deadline - now)
            except TimeoutError:
                conn.tick(max(self.clock(), deadline))

        raise self._late()

    def _late(self) -> TimeoutError:
        """Report that a time budget is spent, and return the exception that ends the session."""
        event = self.conn.next_event()
        if isinstance(event, BodyAborted):
            event = self.conn.next_event()
        assert isinstance(event, TimedOut), "the deadline has passed"
        is_shortened = getattr(self.conn.budgets, event.budget) != getattr(self._budgets[False], event.budget)
        self.budget = "crowded" if is_shortened else event.budget
        self.show(event)
        if event.reply:
            worded = self.worded(event.reply, Decider.TIMEOUT, self.budget)
            sent = _with_host(worded, self.conn.config.hostname)
            self._farewell = event.reply.octets, sent.octets
            self.show(sent)
            self._report(None, sent, Decider.TIMEOUT, self.budget)
        else:
            self.log.write(logging.INFO, "closing: the time budget %s is spent", self.budget, budget=self.budget)
        return TimeoutError(f"the time budget {self.budget} is spent")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let `drain` interrupt the wait in the block, because the client is not in the middle of a command.

        Raises `Interrupted` if `drain` was called already. The order of the checks matters, because `drain` may be
        called in another thread.
        """
        self._is_interruptible = True
        try:
            if self._record.draining:
                raise Interrupted
            yield
        finally:
            self._is_interruptible = False

    def drain(self) -> None:
        """Ask the session to end before its next command, and interrupt a wait for that command or for a handshake."""
        self._record.drain()
        if self._is_interruptible or self.conn.waiting_for in (Wait.GREETING, Wait.COMMAND):
            self.stream.interrupt()

    # Answering

    def worded(self, reply: Reply, decided_by: Decider, rule: str) -> Reply:
        """Return `reply` with the text that the `wording` functions have chosen, as `answer` will send it."""
        return self._wordings.apply(reply, Author(decided_by, rule)) if self._app.wordings else reply

    def answer(self, event: Event, reply: Reply, decided_by: Decider, rule: str) -> Reply:
        """Queue the reply to `event`, and return it as it will be sent. Report a refusal to the observers.

        A text that cannot be sent is changed; the code stays. A code that cannot answer the event is replaced by a
        temporary failure. Both kinds of changes are logged.
        """
        if self._app.wordings:
            reply = self.worded(reply, decided_by, rule)
        try:
            sent = (self._record.edits or self.conn).send(reply)
        except LocalProtocolError:
            sent, decided_by = self._send_similar(event, reply, decided_by)

        self._unsent += 1
        self._was_message = type(event) in _MESSAGE_ENDS
        reply_class = sent.reply_class
        if reply_class is ReplyClass.GOODBYE:
            self.closed_by = Reason.GOODBYE
        elif type(event) is Quit:
            self.closed_by = Reason.QUIT

        if self._app.observers:
            self.show(*_shown(sent, self._record.edits))
        if reply_class not in _POSITIVE:
            self._report(event, sent, decided_by, rule)
        return sent

    def _report(self, event: Event | None, refusal: Reply, decided_by: Decider, rule: str) -> None:
        self.show(Refusal(refusal, decided_by, rule))
        is_admission = decided_by is Decider.LIMIT and isinstance(event, ConnectionOpened | Xclient)
        if is_admission or isinstance(event, Auth | AuthResponse) or decided_by in _LOGGED:
            return  # another log record has more details

        text = "refused: %s (%s: %s)"
        self.log.write(logging.INFO, text, refusal, decided_by, rule, decided_by=str(decided_by), rule=rule)

    def _send_similar(self, event: Event, reply: Reply, decided_by: Decider) -> tuple[Reply, Decider]:
        is_lookup = isinstance(event, Vrfy | Expn) and not event.smtputf8
        if is_lookup and not all(map(str.isascii, reply.lines)):
            return (self._record.edits or self.conn).send(_NOT_IN_ASCII), decided_by

        for fitting in _fitting(reply):
            with suppress(LocalProtocolError):
                sent = (self._record.edits or self.conn).send(fitting)
                self.log.write(logging.WARNING, "the text of a reply was changed, as it cannot be sent: %r", reply)
                return sent, decided_by

        self.log.write(logging.ERROR, "the reply of a handler cannot be sent", exc_info=True)
        return (self._record.edits or self.conn).send(self.failure_reply(event)), Decider.FAILURE

    async def refuse_at_once(self, reply: Reply, decided_by: Decider, rule: str) -> None:
        """Refuse the message that is being received, without waiting for its end. The session is over then."""
        reply = self.worded(reply, decided_by, rule)
        ascii_only = reply.fitting(ascii_only=True)
        for fitting in (reply, reply.fitting(), ascii_only):
            with suppress(LocalProtocolError):
                sent = self.conn.refuse_body(fitting, at_once=True)
                break
        else:  # the name of the server makes the first line of a 421 too long
            fitting = Reply(reply.code, "", *ascii_only.lines, enhanced=reply.enhanced)
            sent = self.conn.refuse_body(fitting, at_once=True)

        self.closed_by = Reason.GOODBYE
        self.show(sent)
        self._report(None, sent, decided_by, rule)
        await self.flush()

    def failure_reply(self, event: Event) -> Reply:
        """Return the reply to `event` after a failure of the server."""
        # RFC 5321 4.2.1: the client may try again. The cause is for the log, not for the client.
        if isinstance(event, ConnectionOpened):
            return Reply(421, f"internal error, session {self.session.id}", enhanced="4.3.0")
        if isinstance(event, Quit):
            return self.conn.default_reply(event)

        text = f"Internal error, session {self.session.id}"
        is_auth = isinstance(event, Auth | AuthResponse)
        return Reply(454, text, enhanced="4.7.0") if is_auth else Reply(451, text, enhanced="4.3.0")

    async def flush(self) -> None:
        """Send the queued replies. Raises `TimeoutError` if the client does not read them in time."""
        conn, now = self.conn, self.clock()
        timeout = conn.within_session(now + conn.budgets.send) - now
        if timeout <= 0:  # check this before taking the replies out of the queue, so that no reply is lost
            self.budget = "session"
            raise TimeoutError("the session has taken too long")

        data = (self._record.edits or conn).data_to_send()
        self._unsent = 0
        if not data:
            return

        try:
            await self.stream.send(data, timeout)
        except TimeoutError:
            self.budget = "send"
            conn.send_failed()
            raise

    # TLS

    async def start_tls(self, received: bytes = b"") -> None:
        """Do the TLS handshake, of which the client has sent `received` already.

        Raises `OSError` if the handshake fails, and `Interrupted` after `drain`.
        """
        await self.flush()
        if self._tls is None:
            raise OSError("TLS was accepted, but there is no SSLContext")

        try:
            with self._interruptible():
                await self._before_deadline(partial(self.stream.start_tls, self._tls, received=received))
        except OSError as exc:
            self.conn.send_failed()
            self.show(TlsFailed(str(exc) or type(exc).__name__))
            raise ConnectionAbortedError(f"the TLS handshake failed: {exc}") from exc

        self.conn.tls_established()
        assert self.stream.tls, "the handshake is done"
        self.show(TlsEstablished(self.stream.tls))

    # The end

    async def say_goodbye(self, why: str, enhanced: str, decided_by: Decider, rule: str) -> None:
        """End the dialogue with a 421, unless it is over or a TLS handshake is due."""
        reply = Reply(421, f"closing: {why}", enhanced=enhanced)
        if self.conn.may_send(reply):
            worded = self.worded(reply, decided_by, rule)
            sent = self.conn.send(worded if self.conn.may_send(worded) else reply)
            self.show(sent)
            self._report(None, sent, decided_by, rule)

        await self.flush_last()

    async def end_late(self) -> None:
        """End the dialogue after a time budget was spent."""
        if self.budget == "session":
            await self.say_goodbye(_TOO_SLOW, "4.4.2", Decider.TIMEOUT, self.budget)  # this has no effect after a 421
        else:
            await self.flush_last()

    async def flush_last(self) -> None:
        """Send the queued replies if the client still reads them. Raises nothing."""
        try:
            if data := (self._record.edits or self.conn).data_to_send().replace(*self._farewell):
                await self.stream.send(data, self._timeouts.close)
        except OSError as exc:
            self.log.write(logging.DEBUG, "the last reply did not arrive: %s", exc)

    async def abort(self, data: bytes, *, reset: bool) -> None:
        """Send the queued replies, then `data` unchanged. With `reset`, closing the connection resets it."""
        await self.flush_last()
        self.conn.send_failed()
        with suppress(OSError):
            await self.stream.send(data, self._timeouts.close)
        if reset:
            self.stream.reset_on_close()

    def end_within_message(self) -> None:
        """Record that the client has ended its stream within a message."""
        self.closed_by = Reason.LOST

    def give_up(self) -> None:
        """End a session that the client has not begun: no reply is sent, and the connection is closed at once."""
        self.conn.send_failed()
        self._is_given_up = True

    async def close(self, *, at_once: bool) -> None:
        """Close the connection, either at once or when the client has read the last reply. Raises nothing."""
        await self.stream.aclose(0 if at_once or self._is_given_up else self._timeouts.close)


def _shown(sent: Reply, edits: ReplyEdits | None) -> tuple[Observed, ...]:
    """Return the items for observers after `sent`: the reply, and the octets in its place if it was edited."""
    return (sent, OctetsSent(edits.edited, instead=True)) if edits and edits.edited is not None else (sent,)


def _with_host(reply: Reply, hostname: str) -> Reply:
    """Return `reply` with the name of the host at the start of its text (RFC 5321 4.2), as a connection sends it."""
    first, *rest = reply.lines
    if first.partition(" ")[0] == hostname:
        return reply

    return Reply(reply.code, f"{hostname} {first}", *rest, enhanced=reply.enhanced).fitting()


def _fitting(reply: Reply) -> Iterator[Reply]:
    """Yield replies with the code of `reply`. The connection accepts each text more likely than the text before."""
    yield reply.fitting()
    ascii_only = reply.fitting(ascii_only=True)
    yield ascii_only
    # The connection adds its name to the first line, which may then be too long. EHLO takes a single line.
    yield Reply(reply.code, "", *ascii_only.lines, enhanced=reply.enhanced)
    yield Reply(reply.code, ascii_only.lines[0][:_SHORT], enhanced=reply.enhanced)


_SHORT = 200  # characters: with any name of the server, they fit into a line

_LOGGED = frozenset({Decider.FAILURE, Decider.SHUTDOWN})
"""Deciders whose refusals need no log record: a failure has a traceback, and a shutdown ends the session."""

_POSITIVE = frozenset({ReplyClass.COMPLETION, ReplyClass.INTERMEDIATE})

_NOT_IN_ASCII = Reply(252, "The answer needs SMTPUTF8, which the command does not have", enhanced="2.6.8")
"""The reply to a VRFY or EXPN without SMTPUTF8, in place of a reply with non-ASCII text (RFC 6531 3.7.4.2)."""
