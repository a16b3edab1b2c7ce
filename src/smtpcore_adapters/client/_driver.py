"""The client's driver: send commands and bodies over a stream, and read the replies."""

# Only methods of the stream are awaited here, so this code runs in any framework, and without a framework.
#
# Deadlocks. A server may stop reading while it waits to write its replies. A client that only writes would then wait
# forever. So commands are sent in groups that fit into any network's buffers (`ClientConfig.max_group`), and all
# replies to a group are read before the next group is written.
# Bodies. No reply is due while a body is sent, but the server may refuse the body early or close the connection. So the
# stream is checked for input before each piece. Each BDAT chunk has a reply; with PIPELINING the replies to many chunks
# may be pending while the next chunk is sent, so that a network with a long delay is used fully.
# Early input. A server may close an idle session with a 421, or send a reply too many. So all input that has arrived is
# read before a command is written, before the final dot, and before the last octet of the last chunk. Otherwise the
# client would take this input for the reply to the command or to the message.
#
# Lost connections. Replies are valid even if the connection ends after them. So each reply is added to the caller's
# list at once, and the caller can use the list after an exception. After a failed write, the replies that have arrived
# are still read.
#
# Interruptions. After an error, a timeout or a cancellation in the middle of an exchange, the next reply can no longer
# be assigned to a command. `ClientConnection.send_failed` then makes sure that nothing more is sent.

import logging
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from typing import TypeVar

from smtpcore import (
    EXTENSIONS,
    Answered,
    Bdat,
    ClientBudgets,
    ClientConfig,
    ClientConnection,
    ClientEvent,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Extension,
    Helo,
    LocalProtocolError,
    Mail,
    Noop,
    ProtocolError,
    Quit,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    Request,
    Rset,
    Signal,
    State,
    TimedOut,
    Xclient,
    Xforward,
)

from ..streams._stream import Stream, shielded
from ._naming import missing_input, name, timeout_text, write_timeout_text
from ._progress import Progress
from ._results import Disconnected

T = TypeVar("T")

_logger = logging.getLogger("smtpcore")


@dataclass(slots=True)
class Usage:
    """The use of a connection up to now."""

    messages: int = 0
    """The number of messages that were begun, with MAIL."""
    pieces: int = 0
    """The number of pieces of bodies that were sent; an end counts as a piece."""
    goodbye: Answered | None = None
    """The reply with which the server has ended the session, such as 421, and the command that was answered."""
    is_personal: bool = False
    """Whether XCLIENT or XFORWARD was sent, or a login on demand: the connection may count as another client's."""


class ClientDriver:
    """A `ClientConnection` over a stream, with timeouts."""

    def __init__(
        self,
        stream: Stream,
        config: ClientConfig,
        budgets: ClientBudgets,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        implicit_tls: bool = False,
        clock: Callable[[], float] = time.monotonic,
        server: str = "",
        observer: Callable[[object], object] | None = None,
    ) -> None:
        self._conn = ClientConnection(config, extensions=extensions, implicit_tls=implicit_tls, budgets=budgets)
        self._clock = clock
        self._server = server
        """The name of the server in errors."""
        self._observer = _guarded(observer, server) if observer else _ignore
        self._is_busy = self._is_at_end = self._is_closed = False
        self._last: Request | None = None
        self._process = os.getpid()

        self.usage: Usage = Usage()
        """The use of the connection."""
        self.progress: Progress = Progress()
        """The progress of the next bodies."""
        self.stream: Stream = stream
        """The stream below the dialogue."""
        if stream.tls:  # a stream of the program may have TLS already
            self._conn.tls_established()

    @property
    def connection(self) -> ClientConnection:
        """The protocol's connection, to read its state only: commands are sent through this driver."""
        return self._conn

    @property
    def is_busy(self) -> bool:
        """Whether a task is in the middle of an exchange."""
        return self._is_busy

    @property
    def is_open(self) -> bool:
        """Whether commands can still be sent."""
        return self._conn.state is not State.CLOSED

    @property
    def _is_copy(self) -> bool:
        return os.getpid() != self._process

    @property
    def last_verb(self) -> str:
        """The verb of the last command; AUTH also for a response to a challenge."""
        return getattr(self._last, "verb", "AUTH")

    # Commands

    async def read_greeting(self) -> Reply:
        """Wait for the greeting, and return it."""
        with self._exclusively():
            return (await self._next_answer()).reply

    async def ask(self, request: Request) -> Reply:
        """Send one command or SASL response, and return the reply."""
        answers: list[Answered] = []
        try:
            await self.ask_all([request], answers)
        except (OSError, RemoteProtocolError):
            if not answers:
                raise

        return answers[0].reply

    async def ask_all(self, requests: Sequence[Request], answers: list[Answered]) -> None:
        """Send commands, pipelined where possible, and add the replies to `answers` in order.

        Commands that earlier replies made pointless are not sent: all commands after a refused first command, DATA if
        every recipient was refused, and all commands after a 421. After an exception, `answers` has the replies that
        arrived before it.
        """
        with self._exclusively():
            waiting = deque(requests)
            while waiting and not self._is_pointless(waiting[0], answers):
                await self._check_silence()
                self._send(waiting.popleft())
                while waiting and self._conn.may_send(waiting[0]):
                    self._send(waiting.popleft())
                await self._take_answers(answers)

    async def give_up(self) -> None:
        """Send RSET after a transaction that has failed. The wait for the reply takes at most `ClientBudgets.quit`."""
        with self._hurried():
            await self.ask(Rset())

    async def check(self, *, ask: bool) -> bool:
        """Return whether the connection is open: judge by the input that has arrived and, with `ask`, send NOOP.

        The wait for the reply takes at most `ClientBudgets.quit`. If the result is false, no more can be sent.
        """
        try:
            with self._exclusively():
                await self._check_silence()
            if ask:
                with self._hurried():
                    await self.ask(Noop())
        except (OSError, RemoteProtocolError):
            return False

        return self.is_open

    def _is_pointless(self, request: Request, answers: list[Answered]) -> bool:
        if answers and not (self.is_open and answers[0].reply.is_positive):
            return True

        transaction = self._conn.transaction
        return isinstance(request, Data) and bool(answers) and not (transaction and transaction.recipients)

    async def _check_silence(self) -> None:
        unasked: list[Answered] = []
        await self._read_arrived(unasked)
        if unasked:  # a 421: the server has closed the idle connection
            raise Disconnected("the server closed the connection", unasked[0].reply)

    def _send(self, request: Request) -> None:
        self._conn.send(request)
        self._observer(request)
        self._last = request
        usage = self.usage
        usage.messages += isinstance(request, Mail)
        usage.pieces += isinstance(request, Bdat | DataChunk | DataEnd)
        usage.is_personal |= isinstance(request, Xclient | Xforward)

    async def _take_answers(self, answers: list[Answered], *, left: int = 0) -> None:
        await self._flush(answers)
        while self._conn.replies_due > left:
            answers.append(await self._next_answer())

    # Bodies

    async def send_body(self, pieces: AsyncGenerator[bytes, None], answers: list[Answered]) -> None:
        """Send a body after the 354 reply to DATA, and add the replies to `answers`: one, or several in LMTP.

        A refusal that arrives before the end of the body stops sending, and closes the connection.
        A body that may not be sent, for example with a bare CR, raises `LocalProtocolError`. The connection is then
        closed, because the part that was already sent cannot be withdrawn. After an exception, `answers` has the
        replies that arrived before it.
        """
        async with self._message():
            transaction = self._conn.transaction
            if transaction and transaction.recipients:  # RFC 2920 3.1: without recipients only the final dot is sent
                async with aclosing(self.progress.watched(pieces, self._clock)) as watched:
                    async for piece in watched:
                        await self._read_arrived(answers)
                        if answers:
                            return
                        self._send(DataChunk(piece))
                        await self._flush(answers)
                        self.progress.add(len(piece))

            await self._read_arrived(answers)
            if not answers:
                self._send(DataEnd())
                await self._take_answers(answers)

    async def send_chunks(self, pieces: AsyncGenerator[bytes, None], answers: list[Answered]) -> None:
        """Send a body with BDAT, and add the replies to all chunks to `answers`.

        A refused chunk stops sending. A body that may not be sent, for example with a NUL and without BODY=BINARYMIME,
        raises `LocalProtocolError`. If the BDAT of a forbidden chunk was already queued, the connection is closed,
        because the octets of this chunk cannot follow. After an exception, `answers` has the replies that arrived
        before it.
        """
        async with self._message():
            left = _MOST_CHUNKS if self._conn.is_pipelining else 0
            previous = b""
            async with aclosing(self.progress.watched(pieces, self._clock)) as watched:
                async for piece in watched:
                    if previous:
                        await self._send_chunk(previous, answers, left=left)
                    if _has_refusal(answers):
                        break
                    previous = piece

            if not _has_refusal(answers):
                await self._send_chunk(previous, answers, last=True)
            await self._take_answers(answers)

    async def _send_chunk(self, data: bytes, answers: list[Answered], *, last: bool = False, left: int = 0) -> None:
        await self._read_arrived(answers)
        if _has_refusal(answers):
            return

        self._send(Bdat(len(data), last))
        head, tail = (data[:-1], data[-1:]) if last else (b"", data)
        if head:
            self._send(DataChunk(head))
            await self._flush(answers)
            await self._read_arrived(answers)
        if last and self.is_open:  # before the end, so that an exception of the program still prevents the delivery
            self.progress.add(len(data))
        if tail and self.is_open:
            self._send(DataChunk(tail))
        await self._take_answers(answers, left=left)
        if not last:
            self.progress.add(len(data))

    @asynccontextmanager
    async def _message(self) -> AsyncGenerator[None, None]:
        self.progress.begin()
        try:
            with self._exclusively():
                yield
        except BaseException:
            if not self.is_open:
                await self._close(reset=True)
            raise

    # The stream

    async def start_tls(self, context: SSLContext, server_name: str) -> None:
        """Do the TLS handshake, after the 220 to STARTTLS or before the greeting. Raise `OSError` if it fails."""
        with self._exclusively():
            self._next_event()  # raises if plaintext arrived after the 220: it may come from an attacker (RFC 3207 4.2)
            await self._before_deadline(partial(self.stream.start_tls, context, server_name=server_name))
            self._conn.tls_established()
            self._observer(self.stream.tls)

    async def aclose(self) -> None:
        """Send QUIT if QUIT may be sent, and close the connection. Never raises.

        In a fork of the process that opened the connection, do nothing: that process still uses the connection.
        """
        if self._is_copy:
            return

        self._hurry()
        is_abandoned = self._is_busy
        try:
            if not self._is_busy and self._conn.may_send(Quit()):
                with suppress(OSError, ProtocolError), shielded(self.stream, self._conn.budgets.quit):
                    await self.ask(Quit())
        finally:
            self._conn.send_failed()
            await self._close(reset=is_abandoned)

    async def _close(self, *, reset: bool) -> None:
        # Without a reset, the system would still deliver the rest of a body when a broken network works again. The
        # message could then arrive twice, because the caller already has the exception and may have sent it again.
        if self._is_closed:
            return

        self._is_closed = True
        if reset:
            with suppress(OSError):  # the connection is lost already
                self.stream.reset_on_close()
        # No lingering: the server has answered everything that was sent, or the connection is broken.
        await self.stream.aclose(0)

    async def _next_answer(self) -> Answered:
        while not isinstance(event := self._next_event(), Answered):
            self._receive(await self._before_deadline(self.stream.receive))

        return event

    async def _before_deadline(self, wait: Callable[[float], Awaitable[T]]) -> T:
        """Return what `wait` returns within its timeout. Raises `TimeoutError` when a time budget is spent."""
        conn, now = self._conn, self._clock()
        conn.tick(now)
        deadline = conn.deadline
        if deadline > now:
            try:
                return await wait(deadline - now)
            except TimeoutError:
                conn.tick(max(self._clock(), deadline))

        event = conn.next_event()
        assert isinstance(event, TimedOut), "the deadline has passed"
        raise TimeoutError(timeout_text(event, conn.budgets, self.last_verb))

    def _next_event(self) -> ClientEvent | Signal:
        missing = missing_input(self._conn.waiting_for, self.last_verb)
        try:
            event = self._conn.next_event()
        except RemoteProtocolError as exc:
            if self._is_at_end:
                place = "inside" if str(exc).endswith("inside a reply") else "before"
                raise Disconnected(f"the connection was closed {place} {missing}") from exc
            exc.args = (f"{exc}, while waiting for {missing}" if missing else str(exc),)
            raise

        if isinstance(event, Answered):
            self._observer(event.reply)
        if isinstance(event, ConnectionClosed):
            raise Disconnected("the server closed the connection", self._goodbye)
        if isinstance(event, Answered) and not self.is_open:
            if event.to is None and event.reply.is_positive:  # a 221 that no command has asked for
                raise Disconnected("the server closed the connection", event.reply)
            self.usage.goodbye = None if event.reply.is_positive else event

        return event

    def _receive(self, data: bytes) -> None:
        self._is_at_end = not data
        self._conn.receive_data(data)
        self._conn.tick(self._clock())

    async def _read_arrived(self, answers: list[Answered]) -> None:
        """Read the replies that have already arrived, and add them to `answers`.

        The next command is sent only after this call, so an earlier reply cannot be mistaken for the reply to it. If no
        command is pending, a 421 is added too; other input raises `Disconnected` or `RemoteProtocolError`.
        """
        while True:
            while self.is_open and isinstance(event := self._next_event(), Answered):
                answers.append(event)
            if not self.is_open or (data := await self.stream.receive_arrived()) is None:
                return
            self._receive(data)

    async def _flush(self, answers: list[Answered]) -> None:
        if not (data := self._conn.data_to_send()):
            return

        now, budgets = self._clock(), self._conn.budgets
        seconds = self._conn.send_deadline(now) - now
        try:
            with explained(write_timeout_text(seconds, budgets)):
                await self.stream.send(data, seconds)
        except OSError as exc:
            # A server that closes the connection, or stops reading, may have sent the reason first.
            with suppress(OSError, ProtocolError):
                await self._read_arrived(answers)
                if not isinstance(exc, TimeoutError):
                    await self._read_last(answers)
            raise

    async def _read_last(self, answers: list[Answered]) -> None:
        """Read the replies of a server that no longer reads, up to the end of its stream."""
        self._hurry()
        end = self._conn.send_deadline(self._clock())
        while self._conn.replies_due or self._conn.state is State.DATA:
            if isinstance(event := self._next_event(), Answered):
                answers.append(event)
            else:
                self._receive(await self.stream.receive(end - self._clock()))

    def _name(self, error: OSError | RemoteProtocolError) -> None:
        slowest = self.progress.slowest
        slow = f"; this side took {slowest:.0f} seconds for a piece of the body"
        missing = missing_input(self._conn.waiting_for, self.last_verb)
        name(error, self._server, missing, slow if slowest > _SLOW else "")

    @property
    def _goodbye(self) -> Reply | None:
        return self.usage.goodbye.reply if self.usage.goodbye else None

    @contextmanager
    def _hurried(self) -> Iterator[None]:
        """Shorten all waits inside the block."""
        budgets = self._conn.budgets
        self._hurry()
        try:
            yield
        finally:
            self._conn.budgets = budgets

    def _hurry(self) -> None:
        """Shorten all waits to `ClientBudgets.quit`, because no result depends on them."""
        self._conn.budgets = self._conn.budgets.at_most(self._conn.budgets.quit)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if self._is_copy:  # two processes would read each other's replies
            raise LocalProtocolError("another process opened this connection: open a connection in each process")
        if self._is_busy:
            raise LocalProtocolError(
                "this connection is in use by another task: use a Pool, or a connection for each task"
            )
        if not self.is_open:
            raise Disconnected(f"the connection to {self._server or 'the server'} is closed", self._goodbye)

        self._is_busy = True
        try:
            yield
        except LocalProtocolError:
            if self._conn.replies_due or self._conn.octets_left or self._conn.state is State.DATA:
                self._conn.send_failed()
            raise
        except (OSError, RemoteProtocolError) as exc:
            if exc is not self.progress.error:
                self._name(exc)
            self._conn.send_failed()
            raise
        except BaseException:
            self._conn.send_failed()
            raise
        finally:
            self._is_busy = False


_MOST_CHUNKS = 100
"""Maximum number of chunks whose replies may be pending.

These replies have to fit into the network's buffers: if the buffers are full, a server may stop reading. The octets of
the chunks are limited by these buffers anyway.
"""


def _ignore(item: object) -> None:
    pass


def _guarded(observer: Callable[[object], object], server: str) -> Callable[[object], object]:
    """Return a function that calls `observer`, and logs its exceptions.

    The server may have accepted the message already: an exception would let the program send the message again.
    """

    def observe(item: object) -> None:
        try:
            observer(item)
        except Exception:
            _logger.exception("an observer of the connection to %s failed", server)

    return observe


def _has_refusal(answers: list[Answered]) -> bool:
    return any(not answer.reply.is_positive for answer in answers)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Replace a `TimeoutError` inside the block by a `TimeoutError` with the text `what`."""
    try:
        yield
    except TimeoutError as exc:
        raise TimeoutError(what) from exc


_SLOW = 10.0
"""An error says that this side was slow if a piece of the body took more than this many seconds."""


async def say_hello(driver: ClientDriver) -> Reply:
    reply = await driver.ask(driver.connection.hello)
    # RFC 5321 3.2: a server that does not know EHLO may know HELO.
    if reply.reply_class is ReplyClass.PERMANENT and not driver.connection.config.lmtp:
        return await driver.ask(Helo(driver.connection.config.hostname))

    return reply
