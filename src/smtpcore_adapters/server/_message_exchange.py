"""Receive one message while its handlers run, and answer it."""

# If there are `header` handlers, they are called with the whole header first. The `message` handlers pull the body: the
# client waits while they work, and a large message never has to fit into memory. The decision of these handlers is sent
# only when they have returned and the body was read to its true end. Two things complicate this:
#
# - Handlers may decide early, or fail. The rest of the body is then dropped by the connection, up to the end that the
#   protocol defines, or to the end of the current chunk. After `AtOnce` the connection is closed instead.
# - Other commands may come between the chunks of a body (BDAT, BURL), and are answered as usual. Some of them abandon
#   the message, for example RSET (RFC 3030 section 2). Reading the body then raises `MessageAborted`.

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from smtpcore import (
    NEED_PART,
    Bdat,
    BodyAborted,
    Burl,
    Data,
    DataChunk,
    DataEnd,
    Event,
    HeaderEnd,
    InvalidData,
    LocalProtocolError,
    Path,
    Reply,
    ReplyClass,
    Signal,
    State,
    Transaction,
)

from ._burl import BurlPart
from ._handler_types import Replies
from ._handlers import Handlers
from ._header import Header
from ._message import Message, MessageAborted
from ._notifications import AbortConnection, AtOnce, Decider, Decision
from ._session import SessionRecord
from ._wire import Wire

_Answer: TypeAlias = tuple[Reply | AtOnce | Replies | None, Decider, str]
"""An answer of handlers, with the `decided_by` and `rule` of its `Refusal`."""


class _GivenUp(MessageAborted):
    """The client has abandoned the message between two chunks, with a command or by closing its end."""


class MessageExchange:
    """One message, from the command that begins its body to the reply."""

    __slots__ = ("_dispatch", "_end", "_failure", "_handlers", "_is_open", "_part", "_record", "_unread", "_wire")

    def __init__(
        self,
        wire: Wire,
        handlers: Handlers,
        record: SessionRecord,
        dispatch: Callable[[Event], Awaitable[None]],
    ) -> None:
        self._wire = wire
        self._handlers = handlers
        self._record = record
        self._dispatch = dispatch
        """The function that handles a command between two chunks."""
        self._is_open = False
        """Whether the handlers are running."""
        self._part: BurlPart | None = None
        """The part of the message that is being fetched for a BURL."""
        self._end: DataEnd | InvalidData | None = None
        self._unread = b""
        """The header, which `header` handlers have seen, until the `message` handlers pull it."""
        self._failure: Exception | None = None
        """The exception that has ended the body."""

    async def run(self, event: Data | Bdat | Burl) -> None:
        """Reply to `event`, except to BDAT, whose octets follow at once. Then receive the body, if there is one."""
        wire = self._wire
        if type(event) is Data:
            wire.answer(event, *await self._handlers.decide(event))
            if wire.conn.state is not State.DATA:
                return

            await wire.flush()  # the handlers may work for some time before they ask for the body
        elif isinstance(event, Burl):
            await self._begin_part(event)
            if self._part is None:
                return

        try:
            await self._receive()
        finally:
            self._failure = None  # its traceback refers to this object; without this cycle, both are freed at once
            if self._part:
                await self._drop_part(self._part)

    async def _receive(self) -> None:
        transaction = self._wire.conn.transaction
        assert transaction, "a body belongs to a transaction"
        name = f"{self._wire.session.id}.{self._record.count_message()}"
        message = Message(self, self._wire.stream, transaction, name)
        answer: Reply | AtOnce | Replies | None = None
        decided_by, rule = Decider.HANDLER, "header"
        try:
            if self._handlers.decides_on_headers():
                answer, decided_by, rule = await self._ask_about_header(transaction)
            if self._end is None and answer is None:
                answer, decided_by, rule = await self._ask_about_message(message)
            if isinstance(answer, AtOnce):
                if self._wire.conn.state in _RECEIVING and self._end is None:
                    await self._wire.refuse_at_once(answer.reply, decided_by, rule)
                    return

                answer = answer.reply

            was_read = self._end is not None
            if not was_read and isinstance(answer, Reply) and not answer.is_positive:
                self._drop_rest(answer)
            while self._end is None:
                await self._next_piece()
        except _GivenUp:
            return

        # In LMTP one reply for each recipient (RFC 2033 4.2), in SMTP one reply for all.
        conn, end = self._wire.conn, self._end
        owed = conn.replies_owed
        if type(end) is InvalidData and end.rule != _PROGRAM:
            decisions: list[Decision] = [(end.reply, Decider.RULE, end.rule)] * owed
        elif isinstance(answer, Reply):
            decisions = [(answer, decided_by, rule)] * owed
        elif answer is not None:
            decisions = self._decisions_of(answer, [recipient.forward_path for recipient in transaction.recipients])
        elif was_read:
            decisions = [self._mistake("a message handler has read the body, but returned no reply")] * owed
        else:
            decisions = [(conn.default_reply(end), Decider.DEFAULT, rule)] * owed

        for decision in decisions:
            sent = self._wire.answer(end, *decision)
            if sent.reply_class is ReplyClass.GOODBYE:
                break  # this reply ends the dialogue, for the other recipients too

    async def _ask_about_header(self, transaction: Transaction) -> _Answer:
        """Receive the header, and return the decision of the `header` handlers. Raises `_GivenUp`."""
        decided_by = Decider.HANDLER
        answer: Reply | AtOnce | None = None
        header = await self._receive_header()
        if header is not None:
            self._unread = header
            try:
                answer = await self._handlers.ask_for_header(Header(header, transaction))
            except BaseException as exc:
                answer, decided_by, _ = await self._handlers.failed(Data(), "header", exc)

        return answer, decided_by, "header"

    async def _receive_header(self) -> bytes | None:
        """Return the header of the message, or None if the message is invalid. The pieces of the header are dropped."""
        while self._end is None:
            event = await self._wire.next_event()
            if isinstance(event, HeaderEnd):
                return event.header
            if isinstance(event, _ENDS):
                self._end = event
            elif not isinstance(event, DataChunk):
                await self._handle_other(event)

        return None

    async def _ask_about_message(self, message: Message) -> _Answer:
        """Return the decision of the `message` handlers, which may receive the body meanwhile."""
        decided_by = Decider.HANDLER
        answer: Reply | AtOnce | Replies | None = None
        self._is_open = True
        try:
            answer = await self._handlers.ask_for_message(message)
        except MessageAborted:
            pass  # the end of the body decides
        except BaseException as exc:
            answer, decided_by, _ = await self._handlers.failed(Data(), "message", exc)
        finally:
            self._is_open = False

        return answer, decided_by, "message"

    def _drop_rest(self, refusal: Reply) -> None:
        """Let the connection drop the rest of the body, or of the current chunk."""
        self._unread = b""
        conn = self._wire.conn
        # A BURL that has no octets yet is refused at its end.
        if conn.state in _RECEIVING or (conn.state is State.CHUNKED and not conn.replies_owed):
            # The text is made to fit when the reply is sent.
            conn.refuse_body(Reply(refusal.code))

    def _decisions_of(self, replies: Replies, paths: Sequence[Path]) -> list[Decision]:
        """Return the decision for each path. A path without a reply gets a temporary failure, and is logged."""
        if isinstance(replies, Mapping):
            found = self._replies_by_key(replies, paths)
        else:
            given: Sequence[object] = replies
            found = [reply if isinstance(reply, Reply) else None for reply in given]
            if len(found) != len(paths):
                text = f"a message handler returned {len(found)} replies for {len(paths)} recipients"
                return [self._mistake(text)] * len(paths)

        if any(reply and reply.reply_class is ReplyClass.GOODBYE for reply in found[:-1]):
            mistake = self._mistake("a message handler closes the session before the last recipient has a reply")
            return [mistake] * len(paths)

        return [
            (reply, Decider.HANDLER, "message")
            if reply
            else self._mistake(f"a message handler returned no reply for {str(path)!r}")
            for path, reply in zip(paths, found, strict=True)
        ]

    def _replies_by_key(self, replies: Mapping[Any, object], paths: Sequence[Path]) -> list[Reply | None]:
        """Return the reply for each path. A key that is exactly the text of a path comes before an equal key."""
        by_text: dict[str, Reply] = {}
        by_path: dict[Path, Reply] = {}
        for key, reply in replies.items():
            path = _path_of(key)
            if path is not None and path in paths and isinstance(reply, Reply):
                by_text[path.address] = by_path[path] = reply
            else:
                self._mistake(f"a message handler returned {reply!r} for {str(key)!r}")

        return [by_text.get(path.address, by_path.get(path)) for path in paths]

    def _mistake(self, text: str) -> Decision:
        """Log a mistake of a `message` handler, and return the temporary failure that the client gets."""
        self._wire.log.write(logging.ERROR, "%s", text, decided_by=str(Decider.FAILURE), rule="message")
        return self._wire.failure_reply(Data()), Decider.FAILURE, "message"

    # The body

    @property
    def is_aborted(self) -> bool:
        """Whether the message turned out to be invalid or incomplete."""
        return self._failure is not None or isinstance(self._end, InvalidData)

    async def pull_body(self) -> bytes:
        """Return the next octets of the body, empty at its end. Raises `MessageAborted`."""
        if not self._is_open:
            raise RuntimeError("the handlers of this message have returned: read its body before that")

        try:
            data = await self._next_piece()
        except Exception as exc:
            self._failure = exc
            raise MessageAborted(str(exc) or type(exc).__name__) from exc

        if type(self._end) is InvalidData:
            raise MessageAborted(str(self._end.reply))

        return data

    async def _next_piece(self) -> bytes:
        if self._failure:
            raise self._failure

        if self._unread:
            header, self._unread = self._unread, b""
            return header

        while self._end is None:
            event = await self._wire.next_event()
            if type(event) is DataChunk:
                return event.data
            if type(event) is HeaderEnd:
                continue
            if isinstance(event, _ENDS):
                self._end = event
            else:
                await self._handle_other(event)

        return b""

    async def _handle_other(self, event: Event | Signal) -> None:
        wire = self._wire
        if isinstance(event, Burl):
            await self._begin_part(event)
        elif event is NEED_PART and self._part:
            await self._fetch_more(self._part)
        elif isinstance(event, BodyAborted):
            wire.end_within_message()
        elif not isinstance(event, Bdat | Signal):
            await self._dispatch_between_chunks(event)

        if wire.conn.state not in _IN_BODY or (self._record.draining and wire.conn.state is State.CHUNKED):
            await wire.flush()  # the handlers may work for some time before they return
            raise _GivenUp("the client has abandoned the message")

    async def _dispatch_between_chunks(self, event: Event) -> None:
        try:
            await self._dispatch(event)
        except (AbortConnection, SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # If a `message` handler waits for the body with a timeout, the end of this timeout also cancels the handler
            # of the command between two chunks.
            self._wire.answer(event, self._wire.failure_reply(event), Decider.FAILURE, "message")
            raise

    # Parts that the server fetches (RFC 4468)

    async def _begin_part(self, burl: Burl) -> None:
        part = await self._handlers.ask_for_part(burl)
        if isinstance(part, tuple):
            self._wire.answer(burl, *part)
        else:
            self._part = BurlPart(burl, part)

    async def _fetch_more(self, part: BurlPart) -> None:
        try:
            data = await part.next_piece()
            self._wire.conn.receive_part(data)
        except BaseException as exc:
            self._wire.answer(part.burl, *await self._handlers.failed(part.burl, part.burl.verb, exc))
        else:
            self._part = part if data else None

    async def _drop_part(self, part: BurlPart) -> None:
        try:
            await part.aclose()
        except BaseException as exc:
            await self._handlers.check(exc)
            self._wire.log.write(logging.ERROR, "the handler of BURL failed", exc_info=exc)


def _path_of(key: object) -> Path | None:
    with suppress(LocalProtocolError):
        return Path(str(key))

    return None


_ENDS = (DataEnd, InvalidData)
_PROGRAM: Final = "program"  # the rule of `InvalidData` after `Connection.refuse_body`
_RECEIVING = frozenset({State.DATA, State.CHUNK, State.LAST_CHUNK})
_IN_BODY = _RECEIVING | {State.CHUNKED}
