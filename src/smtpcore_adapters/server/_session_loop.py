"""Drive one connection: the loop between a stream, a `smtpcore.Connection` and the handlers."""

# This is the only loop that there is. It awaits nothing but the stream and the handlers, so it runs in any framework,
# and also in none: over a stream whose coroutines never suspend.
#
# The order of things in it is what the promises rest on. A body is handed to the handler while it arrives, and only
# when the handler has returned, and the body has been read to its true end, is the reply sent. Replies leave before
# anything is waited for. Whatever fails, the connection is closed and the disconnect handlers are called, once.

import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ssl import SSLContext
from types import MappingProxyType
from typing import Any, TypeVar

from smtpcore import (
    EXTENSIONS,
    NEED_DATA,
    PAUSED,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Burl,
    Challenge,
    Command,
    Config,
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    Data,
    DataChunk,
    DataEnd,
    DataLine,
    Event,
    Expn,
    Extension,
    InvalidCommand,
    InvalidData,
    LocalProtocolError,
    Path,
    Quit,
    Rcpt,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    Signal,
    State,
    Transaction,
    UnknownCommand,
    Vrfy,
    Wait,
    Xclient,
    Xforward,
)
from smtpcore.proxy import ProxyCommand, ProxyReader
from smtpcore.sasl import Accepted, Answer, Question

from ..streams._stream import Interrupted, Stream, host_of
from ._app import App
from ._authentication import authenticate, make_channel
from ._burl import BurlPart, is_for
from ._deadlines import Deadlines
from ._limits import REPLIES, Limits, Timeouts
from ._message import Message, MessageAborted
from ._notifications import (
    AbortConnection,
    Drop,
    HandlerDone,
    LimitReached,
    Observed,
    Reason,
    SessionClosed,
    SessionOpened,
    TlsEstablished,
    TlsFailed,
)
from ._peers import PeerTable
from ._session import NOTHING_FORWARDED, Session
from ._session_log import SessionLog

T = TypeVar("T")

_NAP = 0.5  # seconds
_MOST_REPLIES = 100  # that may wait for each other: a client that takes none of them would fill the memory


class _GivenUp(MessageAborted):
    """The client goes on with something else."""


class _Dropped(Exception):
    """A handler wants the connection closed without a word."""


class SessionLoop:
    """One session, from its greeting to its end."""

    __slots__ = (
        "_admitted_from",
        "_app",
        "_auth_event",
        "_behind_proxy",
        "_body_end",
        "_body_failure",
        "_clock",
        "_closed_by",
        "_conn",
        "_deadlines",
        "_draining",
        "_holding_greeting",
        "_implicit_tls",
        "_limits",
        "_log",
        "_message",
        "_on_end",
        "_part",
        "_peers",
        "_recipients",
        "_refusal",
        "_refusals",
        "_stream",
        "_timeouts",
        "_tls",
        "_trusted",
        "_unsent",
        "session",
    )

    def __init__(
        self,
        app: App,
        stream: Stream,
        config: Config,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        timeouts: Timeouts,
        limits: Limits | None = None,
        peers: PeerTable | None = None,
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
        proxied: bool = False,
        trusted: bool = False,
        on_end: "Callable[[SessionLoop], object] | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._stream = stream
        self._conn = Connection(config, extensions=extensions)
        self._timeouts = timeouts
        self._limits = limits or Limits()
        self._peers = peers or PeerTable(self._limits)
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._behind_proxy = proxied
        self._trusted = trusted
        """Whether the peer may speak for others."""
        self._on_end = on_end
        self._clock = clock

        self.session: Session = Session(stream, self._conn, self._sleep)
        self._log = SessionLog(self.session, self._peers, clock)
        self._deadlines = Deadlines(timeouts, self._limits, self._peers, clock)
        self._admitted_from: str | None = None
        """The host whose place among the clients this session takes."""
        self._recipients = 0
        self._refusals = 0
        self._unsent = 0
        """Replies that wait for those to the rest of a pipelined group."""
        self._draining = False
        self._holding_greeting = False
        self._refusal: Reply | None = None
        self._message: Message | None = None
        """Whose handlers are at work."""
        self._part: BurlPart | None = None
        """What a BURL asks for, until it was fetched."""
        self._body_end: DataEnd | InvalidData | None = None
        self._body_failure: Exception | None = None
        self._closed_by = Reason.CLOSED

    # From outside

    def refuse(self, reply: Reply) -> None:
        """Greet the client with `reply` instead of asking the handlers. To be called before `run`."""
        self._refusal = reply

    def reach(self, limit: str) -> Reply:
        """Tell the observers that a limit was reached, and return its reply."""
        self._show(LimitReached(limit))
        return REPLIES[limit]

    def drain(self) -> None:
        """End the session with a 421: at once if it waits for a command, else before the next one."""
        self._draining = True
        if self._holding_greeting or self._conn.waiting_for in (Wait.GREETING, Wait.COMMAND):
            self._stream.interrupt()

    async def run(self) -> None:
        """Serve the client. Raises nothing but what cancels it."""
        reason = Reason.CANCELLED
        opened = self._clock()
        self._show(SessionOpened())
        try:
            try:
                self._log.write(logging.DEBUG, "connection from %s", self._stream.peer)
                reason = await self._converse()
            except (Exception, AbortConnection) as exc:
                reason = await self._break_off(exc)
        finally:
            try:
                await self._disconnect(reason, opened)
            finally:
                try:
                    await self._stream.aclose(0 if reason in _ABRUPT else self._timeouts.close)
                finally:
                    self._leave()
                    if self._on_end:
                        self._on_end(self)

    async def _break_off(self, exc: Exception | AbortConnection) -> Reason:
        # Not in the frame of `run`, which every session holds as long as it lasts.
        match exc:
            case TimeoutError():
                await self._say_goodbye("you took too long", "4.4.2")
                return Reason.TIMEOUT
            case _Dropped():
                return Reason.DROPPED
            case AbortConnection():
                return await self._abandon(exc)
            case RemoteProtocolError():
                self._log.write(logging.INFO, "%s", exc)
                await self._try_to_flush()
                return Reason.LOST
            case OSError():
                self._log.write(logging.INFO, "connection lost: %s", exc)
                self._conn.send_failed()
                return Reason.LOST
            case _:
                self._log.write(logging.ERROR, "the session failed", exc_info=True)
                await self._say_goodbye(f"internal error, session {self.session.id}", "4.3.0")
                return Reason.FAILED

    async def _abandon(self, how: AbortConnection) -> Reason:
        await self._try_to_flush()
        self._conn.send_failed()
        with suppress(OSError):
            await self._stream.send(how.data, self._timeouts.close)
        if how.reset:
            self._stream.reset_on_close()
            return Reason.DROPPED

        return Reason.ABORTED

    async def _disconnect(self, reason: Reason, opened: float) -> None:
        try:
            await self._app.tell("disconnect", self.session, reason)
        except Exception:
            self._log.write(logging.ERROR, "the disconnect handler failed", exc_info=True)
        finally:
            seconds = self._clock() - opened
            self._show(SessionClosed(reason, seconds))
            self._log.write(logging.DEBUG, "disconnected: %s", reason, reason=str(reason), seconds=seconds)

    # Coming in

    def _enter(self) -> None:
        # Behind a proxy it is only known now who the client is; one that speaks for others is no client.
        if self._refusal:
            return

        host = "" if self._trusted and not self.session._xclient else host_of(self.session.peer)
        limit = self._peers.enter(host, self._clock())
        if limit is None:
            self._admitted_from = host
        else:
            self._refusal = self.reach(limit)
            self._log.write(
                logging.WARNING, "connection from %s refused: %s", self.session.peer, self._refusal, limit=limit
            )

    def _leave(self) -> None:
        if self._admitted_from is not None:
            self._peers.leave(self._admitted_from)
            self._admitted_from = None

    async def _talks_early(self) -> bool:
        delay = self._limits.greeting_delay
        if not delay or self._refusal or self._draining:
            return False

        self._holding_greeting = True
        try:
            data = await self._stream.receive(self._deadlines.within_session(delay))
        except (TimeoutError, Interrupted):
            return bool(self._conn.trailing_data)
        finally:
            self._holding_greeting = False

        self._conn.receive_data(data)
        return bool(self._conn.trailing_data)

    async def _turn_away(self) -> Reason:
        reply = self.reach("greeting_delay")
        self._log.write(logging.INFO, "talked before the greeting", limit="greeting_delay")
        event = self._conn.next_event()
        assert isinstance(event, ConnectionOpened), "nothing was said yet"
        self._answer(event, reply)
        await self._flush()
        return Reason.EARLY_TALKER

    # The loop

    async def _converse(self) -> Reason:
        if self._behind_proxy:
            await self._take_proxy_header()

        self._enter()
        if self._implicit_tls and self._refusal:
            raise _Dropped  # a handshake costs more than the connection is worth
        if self._implicit_tls:
            await self._start_tls()
        if await self._talks_early():
            return await self._turn_away()

        while True:
            if self._draining and self._conn.state not in (State.TLS, State.CLOSED):
                await self._say_goodbye("the server is shutting down", "4.3.2")
                return Reason.SHUTDOWN

            event = self._conn.next_event()
            if event is NEED_DATA:
                await self._receive()
            elif event is PAUSED:
                assert self._conn.state is State.TLS, "every event was answered"
                await self._start_tls()
            elif isinstance(event, ConnectionClosed):
                await self._flush()
                return self._closed_by
            else:
                self._deadlines.restart()
                await self._handle(event)
                if self._conn.state is State.DATA:
                    await self._take_message()
                self._deadlines.restart()

    def _handle(self, event: Event) -> Awaitable[None]:
        self._show(event)
        if isinstance(event, Bdat):
            return self._take_message()

        handle = _HANDLE.get(type(event), SessionLoop._handle_command)
        return handle(self, event)

    async def _handle_command(self, event: Event) -> None:
        reply = self._undisputed(event) or await self._ask_handlers(event)
        self._answer(event, reply)
        if self._conn.must_flush or self._unsent >= _MOST_REPLIES:
            await self._flush()

    async def _decide(self, event: Event) -> Reply:
        return self._undisputed(event) or await self._ask_handlers(event)

    def _undisputed(self, event: Event) -> Reply | None:
        # What no handler has a say in, and what none is there for.
        limit = self._limit_reached_by(event)
        if limit:
            return self.reach(limit)
        if self._refusal and isinstance(event, ConnectionOpened):
            return self._refusal

        return self._default_reply(event) if self._app.names.isdisjoint(_handlers_of(event)) else None

    def _default_reply(self, event: Event) -> Reply:
        if isinstance(event, UnknownCommand) and _is_http(event):
            return self.reach("http")

        return self._conn.default_reply(event)

    async def _ask_handlers(self, event: Event) -> Reply:
        reply = None
        try:
            for name in _handlers_of(event):
                if name in self._app.names:
                    reply = await self._timing(name, self._app.ask(name, self.session, event))
                if reply:
                    break
        except Exception:
            return self._internal_error(event)

        if isinstance(reply, Drop):
            raise _Dropped

        return reply or self._default_reply(event)

    async def _hear_of_another(self, event: Xclient | Xforward) -> None:
        reply = await self._decide(event)
        is_undecided = reply is self._conn.default_reply(event)
        if isinstance(event, Xforward) and reply.is_positive:
            self.session.forwarded = MappingProxyType({**self.session.forwarded, **event.attributes})
            self._log.write(logging.INFO, "forwarded: %s", dict(self.session.forwarded))
        if isinstance(event, Xclient) and (is_undecided or reply.is_positive):
            self._speak_for(event.attributes)
            reply = await self._decide(ConnectionOpened()) if is_undecided else reply

        self._answer(event, reply)
        await self._flush()

    def _speak_for(self, attributes: Mapping[str, str | None]) -> None:
        session = self.session
        session._xclient = session._xclient.updated(attributes)
        session._identity = session._xclient.login
        session._begins_again = True
        self._leave()
        self._enter()
        self._log.write(logging.INFO, "speaks for %s", session.peer)

    def _limit_reached_by(self, event: Event) -> str | None:
        limits = self._limits
        if limits.refusals is not None and self._refusals >= limits.refusals:
            return "refusals"
        if limits.recipients_per_session is not None and self._recipients >= limits.recipients_per_session:
            return "recipients_per_session" if isinstance(event, Rcpt) else None

        return None

    def _timing(self, name: str, answer: Awaitable[T]) -> Awaitable[T]:
        return self._showing_time(name, answer) if self._app.observed and name in self._app.names else answer

    async def _showing_time(self, name: str, answer: Awaitable[T]) -> T:
        begun, waited = self._clock(), self._deadlines.waited
        try:
            return await answer
        finally:
            waited = self._deadlines.waited - waited
            self._show(HandlerDone(name, self._clock() - begun - waited))

    def _answer(self, event: Event, reply: Reply) -> Reply:
        transaction = self._conn.transaction
        try:
            sent = self._conn.send(reply)
        except LocalProtocolError:
            if _needs_utf8(event, reply):
                return self._answer(event, _NOT_IN_ASCII)

            self._log.write(logging.ERROR, "the reply of a handler cannot be sent", exc_info=True)
            sent = self._conn.send(self._failure_reply(event))

        self._count(event, sent)
        self._unsent += 1
        if self._trusted:
            self._go_on_for_others(transaction)

        self._show(sent)
        return sent

    def _count(self, event: Event, sent: Reply) -> None:
        if sent.reply_class is ReplyClass.GOODBYE:
            self._closed_by = Reason.GOODBYE
        elif isinstance(event, Quit):
            self._closed_by = Reason.QUIT
        elif sent.is_positive:
            self._recipients += isinstance(event, Rcpt)
        elif sent.reply_class is ReplyClass.TRANSIENT or isinstance(event, _ENDS):
            self._refusals += 1

    def _go_on_for_others(self, before: Transaction | None) -> None:
        self.session._begins_again = False
        if before and not self._conn.transaction:
            self.session.forwarded = NOTHING_FORWARDED  # XFORWARD_README: it is for one message

    def _show(self, item: Observed) -> None:
        if not self._app.observed:
            return

        try:
            self._app.show(self.session, item)
        except Exception:
            self._log.write(logging.ERROR, "an observer failed", exc_info=True)

    # Messages

    async def _fetch(self, burl: Burl) -> None:
        await self._begin_part(burl)
        if self._part:
            await self._take_message()

    async def _begin_part(self, burl: Burl) -> None:
        answer = await self._ask_for_part(burl)
        if isinstance(answer, Reply):
            self._answer(burl, answer)
        else:
            self._part = BurlPart(burl, answer)

    async def _ask_for_part(self, burl: Burl) -> bytes | AsyncIterable[bytes] | Reply:
        limit = self._limit_reached_by(burl)
        if limit:
            return self.reach(limit)
        if not is_for(burl.uri, self.session.identity):
            return Reply(554, "This URL is for someone else", enhanced="5.7.0")

        try:
            answer = await self._timing(Burl.verb, self._app.ask_for_part(self.session, burl))
        except Exception:
            return self._internal_error(burl)

        return self._conn.default_reply(burl) if answer is None else answer

    async def _go_on_with_part(self, part: BurlPart) -> None:
        try:
            data = await part.next_piece()
            self._conn.receive_part(data)
        except Exception:
            self._answer(part.burl, self._internal_error(part.burl))
        else:
            self._part = part if data else None

    async def _drop_part(self, part: BurlPart) -> None:
        self._part = None
        try:
            await part.aclose()
        except Exception:
            self._log.write(logging.ERROR, "the handler of BURL failed", exc_info=True)

    async def _take_message(self) -> None:
        try:
            await self._receive_message()
        finally:
            if self._part:
                await self._drop_part(self._part)

    async def _receive_message(self) -> None:
        transaction = self._conn.transaction
        assert transaction, "a body has a transaction"
        self.session.messages += 1
        self._body_end = None
        self._body_failure = None
        self._message = Message(self, self._stream, transaction, f"{self.session.id}.{self.session.messages}")

        reply = None
        try:
            reply = await self._timing("message", self._app.ask_for_message(self.session, self._message))
        except MessageAborted:
            pass  # what it was is known below
        except Exception:
            reply = self._internal_error(Data())
        finally:
            self._message = None

        end = await self._finish_body()
        if end is None:
            return

        if isinstance(end, InvalidData):
            reply = end.reply
        self._answer_body(end, reply, transaction)
        await self._flush()

    def _answer_body(
        self, end: DataEnd | InvalidData, reply: Reply | Mapping[Path, Reply] | None, transaction: Transaction
    ) -> None:
        # In LMTP one reply for each recipient (RFC 2033 4.2), else one for all.
        paths = [rcpt.forward_path for rcpt in transaction.recipients]
        for path in paths[: self._conn.replies_owed]:
            decided = reply.get(path) if isinstance(reply, Mapping) else reply
            self._answer(end, decided or self._conn.default_reply(end))

    @property
    def is_aborted(self) -> bool:
        """Whether the body of the message that the handlers are at work on has proved to be none."""
        return self._body_failure is not None or isinstance(self._body_end, InvalidData)

    async def pull_body(self, message: Message) -> bytes:
        """The next piece of the body, empty at its end. Raises `MessageAborted`."""
        if message is not self._message:
            raise RuntimeError("the handlers of this message have returned: take its body before that")

        try:
            data = await self._next_piece()
        except Exception as exc:
            self._body_failure = exc
            raise MessageAborted(str(exc) or type(exc).__name__) from exc

        if not data and isinstance(self._body_end, InvalidData):
            raise MessageAborted(str(self._body_end.reply))

        return data

    async def _next_piece(self) -> bytes:
        if self._body_failure:
            raise self._body_failure

        while self._body_end is None:
            event = self._conn.next_event()
            if isinstance(event, _PIECES):
                self._show(event)
                return event.data
            if isinstance(event, _ENDS):
                self._show(event)
                self._body_end = event
            else:
                await self._go_on_with_body(event)

        return b""

    async def _go_on_with_body(self, event: Event | Signal) -> None:
        # Between the chunks of BDAT there may be other commands, which may give the message up (RFC 3030 section 2).
        if isinstance(event, Bdat):
            self._show(event)
        elif isinstance(event, Burl):
            self._show(event)
            await self._begin_part(event)
        elif event is PAUSED and self._part:
            await self._go_on_with_part(self._part)
        elif event is NEED_DATA:
            await self._receive()
        elif not isinstance(event, Signal | ConnectionClosed):
            self._show(event)
            await self._handle_command(event)

        if self._conn.state not in _TAKING_BODY or (self._draining and self._conn.state is State.CHUNKED):
            raise _GivenUp("the client has given the message up")

    async def _finish_body(self) -> DataEnd | InvalidData | None:
        # A handler that has decided early does not change where the body ends.
        try:
            while self._body_end is None:
                await self._next_piece()
        except _GivenUp:
            return None

        return self._body_end

    # Authentication

    async def _authenticate(self, auth: Auth) -> None:
        self._auth_event: Event = auth
        host = host_of(self.session.peer) or self.session.id
        if not self._peers.may_authenticate(host, self._clock()):
            reply = self.reach("auth_failures_per_hour")
            await self._sleep(self._limits.max_auth_delay)
            self._answer(auth, reply)
            await self._flush()
            return

        channel = make_channel(self._stream.tls, self._conn.config)
        try:
            outcome = await authenticate(auth, channel, challenge=self._challenge, ask=self._ask_for_identity)
        except LocalProtocolError:
            outcome = self._internal_error(auth)  # an answer of a wrong type

        if outcome is None:
            return
        if isinstance(outcome, Accepted):
            self.session._identity = outcome.authorization
            self._log.write(
                logging.INFO,
                "authenticated as %r by %s",
                outcome.authorization,
                auth.mechanism,
                identity=outcome.authorization,
            )
            outcome = Reply(235, "Welcome", enhanced="2.7.0")
        elif outcome.reply_class is ReplyClass.PERMANENT:
            self._log.write(logging.INFO, "failed to authenticate by %s", auth.mechanism)
            await self._sleep(self._peers.auth_failed(host, self._clock()))

        self._answer(self._auth_event, outcome)
        await self._flush()

    async def _ask_for_identity(self, question: Question) -> Answer | Reply:
        try:
            return await self._timing("auth", self._app.ask_for_identity(self.session, question))
        except Exception:
            return self._internal_error(self._auth_event)

    async def _challenge(self, data: bytes) -> bytes | None:
        if not self._answer(self._auth_event, Challenge(data)).is_positive:
            return None
        while (event := self._conn.next_event()) is NEED_DATA:
            await self._receive()

        if isinstance(event, AuthResponse):
            self._show(event)
            self._auth_event = event
            return event.data
        if isinstance(event, AuthCancel | InvalidCommand):
            self._show(event)
            await self._handle_command(event)

        return None

    # Failures of handlers

    def _internal_error(self, event: Event) -> Reply:
        reply = self._failure_reply(event)
        self._log.write(logging.ERROR, "a handler failed, the client gets %s", reply, exc_info=True)
        return reply

    def _failure_reply(self, event: Event) -> Reply:
        # RFC 5321 4.2.1: the client may try again. What went wrong is for the log, not for the client.
        if isinstance(event, ConnectionOpened):
            return Reply(421, f"internal error, session {self.session.id}", enhanced="4.3.0")
        if isinstance(event, Quit):
            return self._conn.default_reply(event)
        if isinstance(event, Auth | AuthResponse):
            return Reply(454, f"Internal error, session {self.session.id}", enhanced="4.7.0")

        return Reply(451, f"Internal error, session {self.session.id}", enhanced="4.3.0")

    # The stream

    async def _take_proxy_header(self) -> None:
        # It comes before TLS and before the greeting, and from a peer that was named as trusted only.
        reader = ProxyReader()
        while (header := reader.next_header()) is NEED_DATA:
            await self._receive(reader)

        if reader.trailing_data:
            if self._implicit_tls:
                raise RemoteProtocolError("the PROXY header and what follows it came at once, which TLS cannot follow")

            self._conn.receive_data(reader.trailing_data)

        if header.command is ProxyCommand.PROXY:
            self.session._proxied = header
            self._log.write(logging.DEBUG, "connection of %s by way of the proxy", self.session.peer)

    async def _receive(self, header: ProxyReader | None = None) -> None:
        if self._conn.must_flush:
            await self._flush()

        begun = self._clock()
        timeout = self._deadlines.remaining(Wait.GREETING if header else self._conn.waiting_for, begun)
        data = b""
        try:
            data = await self._stream.receive(timeout)
        except Interrupted:
            return
        finally:
            self._deadlines.record_wait(self._clock() - begun, len(data))

        (header or self._conn).receive_data(data)

    async def _sleep(self, seconds: float) -> None:
        # In naps, so that no stream needs a way to be woken.
        end = self._clock() + seconds
        with suppress(TimeoutError):
            while not self._draining and (left := end - self._clock()) > 0:
                await self._stream.sleep(self._deadlines.within_session(min(left, _NAP)))

    async def _flush(self) -> None:
        # Before the replies are taken, so that none is lost.
        timeout = self._deadlines.within_session(self._timeouts.send)
        data = self._conn.data_to_send()
        self._unsent = 0
        if not data:
            return

        try:
            await self._stream.send(data, timeout)
        except TimeoutError:
            # Some of it may have been written: a goodbye behind that could be part of another reply.
            self._conn.send_failed()
            raise

    async def _start_tls(self) -> None:
        await self._flush()
        if self._tls is None:
            raise OSError("TLS was accepted, but there is no SSLContext")

        try:
            await self._stream.start_tls(self._tls, self._deadlines.within_session(self._timeouts.tls))
        except OSError as exc:
            # There is no plaintext to go back to (RFC 3207 section 4): not even a goodbye can be said.
            self._conn.send_failed()
            self._show(TlsFailed(str(exc) or type(exc).__name__))
            raise ConnectionAbortedError(f"the TLS handshake failed: {exc}") from exc

        self._conn.tls_established()
        assert self._stream.tls, "the handshake is done"
        self._show(TlsEstablished(self._stream.tls))

    async def _say_goodbye(self, why: str, enhanced: str) -> None:
        with suppress(LocalProtocolError):  # where the dialogue is over, or in a handshake
            self._show(self._conn.send(Reply(421, f"closing: {why}", enhanced=enhanced)))

        await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            data = self._conn.data_to_send()
            if data:
                await self._stream.send(data, self._timeouts.close)
        except OSError as exc:
            self._log.write(logging.DEBUG, "the last reply did not arrive: %s", exc)


def _handlers_of(event: Event) -> tuple[str, ...]:
    if isinstance(event, Command):
        return (event.verb,)
    if isinstance(event, UnknownCommand):
        return (event.verb, "default")

    return ("connect",) if isinstance(event, ConnectionOpened) else ()


def _needs_utf8(event: Event, reply: Reply) -> bool:
    is_lookup = isinstance(event, Vrfy | Expn) and not event.smtputf8
    return is_lookup and not all(map(str.isascii, reply.lines))


_NOT_IN_ASCII = Reply(252, "The answer cannot be said without SMTPUTF8", enhanced="2.6.8")  # RFC 6531 3.7.4.2


def _is_http(command: UnknownCommand) -> bool:
    return command.argument.rpartition(" ")[2].startswith("HTTP/")


_PIECES = (DataChunk, DataLine)
_ENDS = (DataEnd, InvalidData)
_TAKING_BODY = frozenset({State.DATA, State.CHUNK, State.CHUNKED, State.LAST_CHUNK})

_ABRUPT = frozenset({Reason.LOST, Reason.CANCELLED, Reason.DROPPED})
"""What leaves nothing for the client to take."""

_HANDLE: Mapping[type[object], Callable[[SessionLoop, Any], Awaitable[None]]] = {
    Auth: SessionLoop._authenticate,
    Burl: SessionLoop._fetch,
    Xclient: SessionLoop._hear_of_another,
    Xforward: SessionLoop._hear_of_another,
}
"""What is no command that is simply answered."""
