"""A message from a queue without a cluster, whose decisions are recorded."""

from collections.abc import AsyncIterator
from typing import Any

from smtpcore import Rcpt, Reply
from smtpcore_adapters.stores import Envelope, StoreFull, StoreUnavailable
from tests.adapters.stores.jetstreams import make_envelope


class FakeMessage:
    """A `QueuedMessage` without a cluster."""

    def __init__(self, *recipients: str, body: bytes = b"A: b\r\n\r\nx\r\n", age: float = 0.0, **fields: Any) -> None:
        self.envelope: Envelope = make_envelope(*recipients, **{"received": b"", **fields})
        self.size = len(body)
        self.attempts = 0
        self.age = age
        self.replies: dict[str, Reply] = {}
        self.decisions: list[tuple[object, ...]] = []
        self.body = body
        self.is_broken = False
        self.is_lost = False
        self.is_full = False

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        return tuple(rcpt for rcpt in self.envelope.recipients if rcpt.forward_path.address not in self.replies)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.is_broken:
            raise StoreUnavailable("lacks its chunk 0")
        yield self.body

    async def ack(self) -> None:
        if self.is_lost:
            raise StoreUnavailable("no leader")
        self.decisions.append(("ack",))

    async def retry(self, seconds: float) -> None:
        self.decisions.append(("retry", round(seconds / 1000)))

    async def fail(self, reply: Reply) -> None:
        if self.is_full:
            raise StoreFull("maximum bytes exceeded")
        self.decisions.append(("fail", reply.code))
