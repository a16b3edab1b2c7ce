"""The client's driver: send commands and bodies over a stream, and read the replies."""

# Only methods of the stream are awaited here, so this code runs in any framework and without one.
#
# Deadlocks. A server may stop reading while it waits to write its replies. A client that only writes would then wait
# forever. So commands are sent in groups that fit into any network's buffers (`ClientConfig.max_group`), and all
# replies to a group are read before the next group is written.
#
# Bodies. No reply is due while a body is sent, but the server may send a 421 or close the connection. So the stream is
# checked for input after each piece. Each BDAT chunk has a reply; with PIPELINING the reply to one chunk may be pending
# while the next chunk is sent.
#
# Interruptions. After an error, a timeout or a cancellation in the middle of an exchange, the next reply can no longer
# be assigned to a command. `ClientConnection.send_failed` then makes sure that nothing more is sent.

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from ssl import SSLContext

from smtpcore import (
    EXTENSIONS,
    Answered,
    Bdat,
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
    ProtocolError,
    Quit,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    Request,
    Signal,
    State,
    Wait,
)

from ..streams._stream import Stream
from ._results import Disconnected
from ._timeouts import ClientTimeouts


class ClientDriver:
    """A `ClientConnection` over a stream, with timeouts."""

    def __init__(
        self,
        stream: Stream,
        config: ClientConfig,
        timeouts: ClientTimeouts,
        *,
        extensions: Sequence[Extension] = EXTENSIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conn = ClientConnection(config, extensions=extensions)
        self._timeouts = timeouts
        self._clock = clock
        self._goodbye: Reply | None = None
        self._is_busy = False
        self._is_at_end = False
        self._is_closing = False

        self.stream: Stream = stream
        """The stream below the dialogue."""

    @property
    def connection(self) -> ClientConnection:
        """The protocol state, for reading only: commands are sent through this driver."""
        return self._conn

    @property
    def is_open(self) -> bool:
        """Whether commands can still be sent."""
        return self._conn.state is not State.CLOSED

    # Commands

    async def read_greeting(self) -> Reply:
        """Wait for the greeting, and return it."""
        with self._exclusively():
            return (await self._next_answer()).reply

    async def ask(self, request: Request) -> Reply:
        """Send one command or SASL response, and return the reply."""
        (answer,) = await self.ask_all([request])
        return answer.reply

    async def ask_all(self, requests: Sequence[Request]) -> list[Answered]:
        """Send commands, pipelined where possible, and return the replies in order.

        Commands that earlier replies made pointless are not sent: all commands after a refused first command, DATA if
        every recipient was refused, and all commands after a 421.
        """
        with self._exclusively():
            waiting = deque(requests)
            answers: list[Answered] = []
            while waiting and not self._is_pointless(waiting[0], answers):
                self._conn.send(waiting.popleft())
                while waiting and self._conn.may_send(waiting[0]):
                    self._conn.send(waiting.popleft())
                answers += await self._take_answers()

            return answers

    def _is_pointless(self, request: Request, answers: list[Answered]) -> bool:
        if answers and not (self.is_open and answers[0].reply.is_positive):
            return True

        transaction = self._conn.transaction
        return isinstance(request, Data) and bool(answers) and not (transaction and transaction.recipients)

    async def _take_answers(self, left: int = 0) -> list[Answered]:
        await self._flush()
        answers: list[Answered] = []
        while self._conn.replies_due > left:
            answers.append(await self._next_answer())

        return answers

    # Bodies

    async def send_body(self, pieces: AsyncGenerator[bytes, None]) -> list[Answered]:
        """Send a body after the 354 reply to DATA, and return the reply or, in LMTP, the replies.

        A 421 that arrives before the end of the body is returned at once. `LocalProtocolError` is raised for a body
        that may not be sent, for example one with a bare CR. The part that was already sent cannot be withdrawn, so
        the connection is closed then.
        """
        with self._exclusively():
            transaction = self._conn.transaction
            if transaction and transaction.recipients:  # RFC 2920 3.1: without recipients only the final dot is sent
                async with aclosing(pieces):
                    async for piece in pieces:
                        self._conn.send(DataChunk(piece))
                        if goodbye := await self._flush_piece():
                            return [goodbye]

            self._conn.send(DataEnd())
            return await self._take_answers()

    async def _flush_piece(self) -> Answered | None:
        try:
            await self._flush()
        except TimeoutError:
            raise
        except OSError:
            # A server that closes the connection in the middle of a body may have sent the reason first.
            goodbye = await self._receive_goodbye()
            if goodbye is None:
                raise
            return goodbye

        while self.stream.has_input():
            try:
                await self._receive(self._clock() + _GLANCE)
            except TimeoutError:
                return None  # a part of a TLS record, or a record without application data
            event = self._next_event()
            if isinstance(event, Answered):
                return event

        return None

    async def _receive_goodbye(self) -> Answered | None:
        with suppress(OSError, ProtocolError):
            await self._receive(self._clock() + self._timeouts.quit)
            event = self._conn.next_event()
            if isinstance(event, Answered):
                return event

        return None

    async def send_chunks(self, pieces: AsyncGenerator[bytes, None]) -> list[Answered]:
        """Send a body with BDAT, and return the reply or, in LMTP, the replies.

        If the server refuses a chunk, the list has only the reply to that chunk. `LocalProtocolError` is raised for a
        body that may not be sent, for example one with a NUL and without BODY=BINARYMIME. If the BDAT of a forbidden
        chunk was already queued, the connection is closed, because its octets cannot follow.
        """
        with self._exclusively():
            left = 1 if self._conn.is_pipelining else 0
            previous = b""
            async with aclosing(pieces):
                async for piece in pieces:
                    if previous and (refusals := _refusals(await self._send_chunk(previous, left=left))):
                        return refusals[:1]
                    previous = piece

            answers = await self._send_chunk(previous, last=True)
            refused = _refusals([answer for answer in answers if not isinstance(answer.to, DataEnd)])
            return refused[:1] or [answer for answer in answers if isinstance(answer.to, DataEnd)]

    async def _send_chunk(self, data: bytes, *, last: bool = False, left: int = 0) -> list[Answered]:
        self._conn.send(Bdat(len(data), last))
        if data:
            self._conn.send(DataChunk(data))
        answers = await self._take_answers(left)
        if _refusals(answers):
            answers += await self._take_answers()

        return answers

    # The stream

    async def start_tls(self, context: SSLContext, server_name: str) -> None:
        """Do the TLS handshake, after the 220 to STARTTLS or before the greeting. Raise `OSError` if it fails."""
        with self._exclusively():
            self._next_event()  # raises if plaintext arrived before TLS: somebody may have injected it (RFC 3207 4.2)
            await self.stream.start_tls(context, self._timeouts.handshake, server_name=server_name)
            self._conn.tls_established()

    async def aclose(self) -> None:
        """Close the connection, after QUIT where QUIT may be sent. Never raises."""
        self._is_closing = True
        try:
            if not self._is_busy and self._conn.may_send(Quit()):
                with suppress(OSError, ProtocolError):
                    await self.ask(Quit())
        finally:
            self._conn.send_failed()
            # No lingering: the server has answered everything that was sent, or the connection is broken.
            await self.stream.aclose(0)

    async def _next_answer(self) -> Answered:
        deadline = self._clock() + self._limit(_TIMEOUTS[self._conn.waiting_for](self._timeouts))
        while True:
            event = self._next_event()
            if isinstance(event, Answered):
                return event
            if isinstance(event, ConnectionClosed):
                raise Disconnected("the server closed the connection")

            await self._receive(deadline)

    def _next_event(self) -> ClientEvent | Signal:
        try:
            event = self._conn.next_event()
        except RemoteProtocolError as exc:
            if self._is_at_end:
                raise Disconnected(str(exc)) from exc
            raise

        if isinstance(event, Answered) and event.reply.reply_class is ReplyClass.GOODBYE:
            self._goodbye = event.reply

        return event

    async def _receive(self, deadline: float) -> None:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the server did not reply in time")

        data = await self.stream.receive(left)
        self._is_at_end = not data
        self._conn.receive_data(data)

    async def _flush(self) -> None:
        data = self._conn.data_to_send()
        if data:
            await self.stream.send(data, self._limit(self._timeouts.block))

    def _limit(self, timeout: float) -> float:
        return min(timeout, self._timeouts.quit) if self._is_closing else timeout

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if self._is_busy:
            raise LocalProtocolError("this connection is in use by another task: open a connection for each task")
        if not self.is_open:
            raise Disconnected("the connection is closed", self._goodbye)

        self._is_busy = True
        try:
            yield
        except LocalProtocolError:
            if self._conn.replies_due or self._conn.octets_left or self._conn.state is State.DATA:
                self._conn.send_failed()
            raise
        except BaseException:
            self._conn.send_failed()
            raise
        finally:
            self._is_busy = False


_GLANCE = 1.0
"""Seconds to read input that arrives in the middle of a body."""


def _refusals(answers: list[Answered]) -> list[Answered]:
    return [answer for answer in answers if not answer.reply.is_positive]


_TIMEOUTS: dict[Wait, Callable[[ClientTimeouts], float]] = {
    Wait.SERVER_GREETING: lambda timeouts: timeouts.greeting,
    Wait.MAIL_REPLY: lambda timeouts: timeouts.mail,
    Wait.RCPT_REPLY: lambda timeouts: timeouts.rcpt,
    Wait.DATA_REPLY: lambda timeouts: timeouts.data,
    Wait.END_REPLY: lambda timeouts: timeouts.end,
    Wait.COMMAND_REPLY: lambda timeouts: timeouts.command,
}


async def say_hello(driver: ClientDriver) -> Reply:
    reply = await driver.ask(driver.connection.hello)
    # RFC 5321 3.2: a server that does not know EHLO may know HELO.
    if reply.reply_class is ReplyClass.PERMANENT and not driver.connection.config.lmtp:
        return await driver.ask(Helo(driver.connection.config.hostname))

    return reply
