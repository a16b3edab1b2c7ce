"""The store that writes messages into JetStream."""

from typing import Unpack

from smtpcore import Reply

from .._envelope import Envelope
from .._store import Runtime, StoreRefusal
from ._asyncio import Link, Links, Task
from ._options import JetStreamOptions, cluster_of
from ._records import domain_token, record_of

_TIME_TO_END = 2.0  # seconds


class JetStream:
    """A store in a cluster of NATS servers: `app.include(StoreHandler(JetStream("nats://a,b,c/MAIL")))`.

    The 250 means that a quorum of the cluster has the message. Without a connection, or while the cluster has no
    leader, the client gets a 451. If the cluster has no space, the client gets a 452. The streams `MAIL` and
    `MAIL_bodies` are created if they are missing.

    Memory for a message: at most two blocks of the `StoreHandler`, in addition to its own.

    Raises `ValueError` for another URL or an impossible value, `TypeError` for an unknown option, and `OSError` if the
    file of credentials cannot be read.
    """

    def __init__(self, url: str, **options: Unpack[JetStreamOptions]) -> None:
        self._links = Links(cluster_of(url, **options))

    async def open(self, envelope: Envelope, runtime: Runtime) -> "MessageWriter":
        """Begin a message. Nothing is sent to the cluster yet."""
        return MessageWriter(self._links, envelope, runtime)

    def check(self) -> None:
        """Connect to the cluster, and create the streams that are missing. Raises `StoreUnavailable`.

        The call blocks. The connection is closed again, so a later fork of this process shares nothing.
        """
        try:
            self._links.call_blocking(Link.ready)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection for sessions outside of asyncio. A later message opens another connection."""
        self._links.close()

    def __repr__(self) -> str:
        return f"JetStream({str(self._links.cluster)!r})"


class MessageWriter:
    """A message that is being written into JetStream."""

    # The last block is held back, because only a message of a single block is written in one step. Each other block is
    # published while the next block arrives.

    def __init__(self, links: Links, envelope: Envelope, runtime: Runtime) -> None:
        self._links = links
        self._runtime = runtime
        self._upload = _Upload(envelope)
        self._held = b""

    async def write(self, block: bytes) -> None:
        """Publish the block before this block as a chunk."""
        held, self._held = self._held, block
        if held:
            await self._links.call(self._runtime, self._upload.add, held)

    async def commit(self) -> str:
        """Publish the record, and return its id when the cluster has acknowledged it."""
        return await self._links.call(self._runtime, self._upload.commit, self._held)

    async def abort(self) -> None:
        """Delete the chunks, unless the record may have been stored."""
        if self._upload.has_chunks:
            await self._links.call(self._runtime, self._upload.abort)


class _Upload:
    """The part of a writer that runs in the event loop of the connection."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._size = 0
        self._chunks = 0
        self._pending: Task | None = None
        self._is_recorded = False

    @property
    def has_chunks(self) -> bool:
        """Whether a part of the message was published before its record."""
        return bool(self._pending or self._chunks)

    async def add(self, link: Link, block: bytes) -> None:
        """Begin to publish a block, after the earlier blocks are acknowledged."""
        await self._finish()
        self._pending = Task(self._publish(link, block))

    async def commit(self, link: Link, block: bytes) -> str:
        """Publish the rest of the body and the record."""
        envelope, stream, largest = self._envelope, link.cluster.stream, await link.largest()
        record = record_of(envelope, self._size + len(block), body=block).encode()
        if self.has_chunks or len(record) > largest:
            await self._finish()
            await self._publish(link, block)
            record = record_of(envelope, self._size, chunks=self._chunks).encode()
        if len(record) > largest:
            raise StoreRefusal(Reply(452, "Too many recipients for the store", enhanced="4.5.3"))

        subject = f"{stream}.new.{domain_token(envelope.recipients[0].forward_path)}"
        self._is_recorded = True  # from here on the cluster may have the record, even if no acknowledgement comes
        await link.publish(stream, subject, record, envelope.key)
        return envelope.key

    async def abort(self, link: Link) -> None:
        """Delete the chunks, unless the record may have been stored."""
        if self._pending:
            # A chunk that is on its way could otherwise be stored after the purge.
            await self._pending.end(_TIME_TO_END)
        if not self._is_recorded:
            await link.purge(f"{link.cluster.stream}.body.{self._envelope.key}.>")

    async def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            await pending.wait()

    async def _publish(self, link: Link, block: bytes) -> None:
        key, cluster, largest = self._envelope.key, link.cluster, await link.largest()
        for start in range(0, len(block), largest):
            piece = block[start : start + largest]
            number, self._chunks = self._chunks, self._chunks + 1
            self._size += len(piece)
            name = f"{key}.{number}"
            await link.publish(cluster.bodies, f"{cluster.stream}.body.{name}", piece, name)
