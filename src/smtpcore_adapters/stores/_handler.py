"""The handler that writes messages into a store."""

# This handler does for every store what is the same for all: content checks, header fields on top, blocks of bounded
# size, replies to failures, and the abort of a message that was not committed.
#
# One buffer collects the pieces of the body. A list of pieces would take more memory than the octets themselves if a
# client sends small chunks.

import errno
import logging
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any, TypeAlias

from smtpcore import Reply
from smtpcore.trace import MAX_HOPS, end_of_fields

from ..server._content import ContentCheck
from ..server._foreign_replies import mildest, mixed, presentable
from ..server._message import Message
from ..server._session import Session
from ._envelope import Envelope
from ._store import Runtime, Store, StoreFull, StoreRefusal, StoreUnavailable, Writer

Fields: TypeAlias = Callable[[Envelope], bytes]
"""A function that returns header fields to add at the top of a message, each with its CR LF."""

logger = logging.getLogger("smtpcore")

BLOCK_SIZE = 262_144
"""Maximum octets of a block, for stores that need no other size."""
_TIME_TO_ABORT = 5.0  # seconds
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILURES = (OSError, StoreFull, StoreUnavailable, StoreRefusal)


def received_field(envelope: Envelope) -> bytes:
    """Return the `Received:` field of this server, which every server adds (RFC 5321 4.4)."""
    return envelope.received


class StoreHandler:
    """A handler that writes every message into a store: `app.include(StoreHandler(store))`.

    The client gets a 250 after the commit of the store, a 452 if the store is full, a 451 if the store cannot be used,
    and the store's own refusal. A message is also refused if it is in a mail loop, or contains NUL although it was not
    announced as binary. The log gets one record for each message that could not be stored.
    """

    def __init__(
        self,
        store: Store,
        *,
        fields: Fields = received_field,
        max_hops: int = MAX_HOPS,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        """Configure the handler of `store`.

        Args:
            store: the store.
            fields: a function that returns the header fields to add on top, by default `Received:`.
            max_hops: maximum `Received:` fields; a message with more fields is refused as a mail loop (RFC 5321 6.3).
            block_size: maximum octets of a block. The memory for a message is at most two blocks.
        """
        if block_size < 1:
            raise ValueError(f"block_size is {block_size!r}: it must be at least 1")

        self.store: Store = store
        """The store."""
        self.fields: Fields = fields
        """The function that returns the header fields to add on top."""
        self.max_hops: int = max_hops
        """Maximum `Received:` fields."""
        self.block_size: int = block_size
        """Maximum octets of a block."""

    async def on_message(self, session: Session[Any], message: Message) -> Reply | list[Reply]:
        """Store `message`, and return the reply, in LMTP one for each recipient."""
        return await self.deliver(Envelope.of(session, message), message, session)

    async def deliver(self, envelope: Envelope, body: AsyncIterable[bytes], runtime: Runtime) -> Reply | list[Reply]:
        """Write a message into the store, and return the reply, in LMTP one for each recipient.

        An exception of `body` aborts the message, and is raised again.
        """
        result = await self._store(envelope, body, runtime)
        return result if isinstance(result, Reply) else _answer(envelope, result)

    async def deliver_each(self, envelope: Envelope, body: AsyncIterable[bytes], runtime: Runtime) -> list[Reply]:
        """Do the same as `deliver`, and return a reply for each recipient with every protocol of the envelope."""
        result = await self._store(envelope, body, runtime)
        if isinstance(result, Reply):
            return [result] * len(envelope.recipients)

        return [presentable(reply) for reply in result]

    async def _store(self, envelope: Envelope, body: AsyncIterable[bytes], runtime: Runtime) -> Reply | Sequence[Reply]:
        try:
            writer = await self.store.open(envelope, runtime)
        except _FAILURES as exc:
            return _failed(envelope, exc)

        is_committed = False
        try:
            refusal = await self._write(envelope, body, writer)
            if refusal:
                return refusal

            result = await writer.commit()
            is_committed = True
        except _FAILURES as exc:
            return _failed(envelope, exc)
        finally:
            if not is_committed:
                await _abort(envelope, writer, runtime)

        if isinstance(result, str):
            return Reply(250, f"Stored as {result}", enhanced="2.0.0")

        _check_results(envelope, result)
        return result

    async def _write(self, envelope: Envelope, body: AsyncIterable[bytes], writer: Writer) -> Reply | None:
        check = ContentCheck(self.max_hops, is_binary=envelope.is_binary)
        top: bytes | None = self.fields(envelope)
        block = bytearray()
        async for data in body:
            refusal = check.feed(data)
            if refusal:
                return refusal

            if top is not None:
                block += top + (end_of_fields(data) if top else b"")
                top = None
            block += data
            while len(block) >= self.block_size:
                await writer.write(_take(block, self.block_size))

        block += top or b""
        while block:
            await writer.write(_take(block, self.block_size))
        return None


def _take(block: bytearray, size: int) -> bytes:
    with memoryview(block) as view:
        taken = bytes(view[:size])
    del block[:size]
    return taken


async def _abort(envelope: Envelope, writer: Writer, runtime: Runtime) -> None:
    with runtime.shield(_TIME_TO_ABORT):
        try:
            await writer.abort()
        except Exception:
            logger.exception("%s: message %s could not be aborted", envelope.session, envelope.id)


def _failed(envelope: Envelope, exc: Exception) -> Reply:
    names = envelope.session, envelope.id
    extra = {"session": envelope.session}
    if isinstance(exc, StoreRefusal):
        logger.info("%s: message %s was refused by the store: %s", *names, exc, extra=extra)
        return presentable(exc.reply)

    logger.error("%s: message %s could not be stored: %s", *names, exc, extra=extra)
    if isinstance(exc, StoreFull) or (isinstance(exc, OSError) and exc.errno in _NO_SPACE):
        return Reply(452, "No space left for this message", enhanced="4.3.1")

    return Reply(451, f"Message {envelope.id} could not be stored", enhanced="4.3.0")


def _check_results(envelope: Envelope, results: Any) -> None:
    # Otherwise a mistake of a store could become a 250.
    if not isinstance(results, Sequence) or not all(isinstance(reply, Reply) for reply in results):
        raise TypeError(f"commit returned {results!r:.200}: return a name, or a Reply for each recipient")
    if len(results) != len(envelope.recipients):
        raise ValueError(f"commit returned {len(results)} replies for {len(envelope.recipients)} recipients")
    if any(300 <= reply.code < 400 for reply in results):
        raise ValueError(f"commit returned {results!r:.200}: a 3yz reply neither accepts nor refuses a message")


def _answer(envelope: Envelope, results: Sequence[Reply]) -> Reply | list[Reply]:
    paths = [rcpt.forward_path for rcpt in envelope.recipients]
    replies = [presentable(reply) for reply in results]
    refused = [(path, reply) for path, reply in zip(paths, replies, strict=True) if not reply.is_positive]
    if envelope.is_lmtp:
        return replies
    if len(refused) in (0, len(replies)):
        return mildest(replies)

    # The client of an SMTP session expects one reply. It gets a refusal, because lost mail is worse than mail that
    # comes twice.
    return mixed(refused, len(replies))
