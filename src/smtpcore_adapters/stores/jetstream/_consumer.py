"""Consume the messages that `JetStream` has stored."""

# The stream is a queue: a message is deleted when its consumer has acknowledged it. Programs that use the same durable
# name share the messages. If a program ends without an answer about a message, another program gets the message after
# `ack_wait` seconds, so a message may be delivered twice.
#
# The results of an attempt are stored before the message is handed back to the queue: recipients that have the message
# do not get it again. The time of the next attempt is stored with them, because a new leader may forget the delay.
#
# The results are read for a message that was delivered before. The number of deliveries belongs to the consumer in the
# cluster, and begins again if the consumer is deleted or has another name. So the results are also read for messages
# that are older than the subscription.

import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from io import BytesIO
from typing import Unpack
from weakref import ref

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.client import JetStreamContext

from smtpcore import LocalProtocolError, Path, Rcpt, Reply

from .._envelope import Envelope
from .._store import StoreFull, StoreUnavailable
from ._asyncio import Link, check_asyncio, pause
from ._options import JetStreamOptions, cluster_of
from ._records import LONGEST_DELAY, Record, State, domain_token, parse_record, parse_state

_logger = logging.getLogger("smtpcore")

ACK_WAIT = 60.0
"""The default of the option `ack_wait` of `consume`, in seconds."""
_FETCH = 5.0  # seconds of a request for a message; a new leader does not know the requests to the old one
_UNREADABLE = 3600.0  # seconds until a record that cannot be read is tried again, perhaps by a newer version
_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
"""Seconds before another attempt to consume after a failure: the pause doubles with each failure in a row."""
_MOST_PENDING = 100_000  # a message that waits for its next attempt counts too
_NEW, _DEAD = "new", "dead"
_match_durable = re.compile(r"[A-Za-z0-9_-]{1,32}").fullmatch


class QueuedMessage:
    """A message from the queue. `async for` yields its body in pieces; `await read()` returns the whole body.

    Call one of `ack`, `retry` and `fail` once: they decide what becomes of the message. Until then the message is
    reserved for this program. A program that drops the object without a decision gives the message back after
    `ack_wait` seconds. Every method raises `smtpcore_adapters.stores.StoreUnavailable` if the cluster does not answer
    in time; the message is then delivered again later.
    """

    def __init__(self, link: Link, taken: Msg, record: Record, state: State, ack_wait: float) -> None:
        self._link = link
        self._taken = taken
        self._record = record
        self._is_settled = False
        # Not a strong reference: the task must not keep a message that the program has dropped.
        self._keeping = link.repeat(ack_wait / 3, taken.reply, b"+WPI", ref(self))

        self.envelope: Envelope = record.envelope
        """The envelope, with all recipients."""
        self.size: int = record.size
        """The octets of the body."""
        self.attempts: int = state.attempts
        """The number of earlier attempts to deliver the message that ended in `retry`."""
        self.replies: dict[str, Reply] = dict(state.replies)
        """The decisive replies, by the address of the recipient. `retry` and `fail` store what a program adds here."""
        self.failures: Mapping[str, Reply] = record.replies
        """The replies for which a consumer has given up this message, by the address of the recipient. Only a message
        of `consume` with `dead=True` has some."""

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """The recipients without a decisive reply."""
        return tuple(rcpt for rcpt in self.envelope.recipients if rcpt.forward_path.address not in self.replies)

    @property
    def age(self) -> float:
        """The seconds since the message was received."""
        return time.time() - self.envelope.received_at.timestamp()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        record, cluster = self._record, self._link.cluster
        if record.body:
            yield record.body
        size = len(record.body)
        for number in range(record.chunks):
            subject = f"{cluster.stream}.body.{self.envelope.key}.{number}"
            piece = await self._link.get(cluster.bodies, subject)
            if piece is None:
                raise StoreUnavailable(f"{cluster}: the message {self.envelope.key} lacks its chunk {number}")
            size += len(piece)
            yield piece
        if size != self.size:
            raise StoreUnavailable(f"{cluster}: the message {self.envelope.key} has {size} of {self.size} octets")

    async def read(self) -> bytes:
        """Return the whole body."""
        buffer = BytesIO()
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                buffer.write(piece)
        return buffer.getvalue()

    async def ack(self) -> None:
        """Delete the message from the queue: it is delivered, or needs no delivery."""
        await self._settle(b"+ACK")
        if self._link.is_queue and (self._record.chunks or self.attempts):
            await self._link.purge(f"{self._link.cluster.stream}.body.{self.envelope.key}.>")

    async def retry(self, after: float) -> None:
        """Store `replies`, and give the message back to the queue for an attempt after `after` seconds.

        If the cluster has no space for the replies, the next attempt begins without them, and the log gets a record.
        Raises `ValueError` for a delay of more than 1,000,000,000 seconds.
        """
        if not abs(after) <= LONGEST_DELAY:
            raise ValueError(f"after is {after}: it must be at most {LONGEST_DELAY:.0f} seconds")

        number = self._taken.metadata.sequence.stream
        state = State(self.attempts + 1, time.time() + after, self.replies, number)
        subject = state_subject(self._link, self._taken, self.envelope)
        try:
            await self._link.publish(self._link.cluster.bodies, subject, state.encode(), None)
        except StoreFull as exc:
            _logger.warning("the results of message %s are not stored: %s", self.envelope.key, exc)
        await self._settle(_later(after))

    async def fail(self, reply: Reply | None = None) -> None:
        """Move the message to the subject of dead letters, for the recipients whose decisive reply is negative.

        `reply` is the reply for the recipients without a decisive reply. `consume` with `dead=True` reads dead letters.
        Raises `StoreFull` if the cluster has no space; the message is then still to be decided about.
        """
        replies = self.replies | {rcpt.forward_path.address: reply for rcpt in self.recipients if reply}
        failed = {address: each for address, each in replies.items() if not each.is_positive}
        rcpts = tuple(rcpt for rcpt in self.envelope.recipients if rcpt.forward_path.address in failed)
        if not rcpts:
            raise ValueError("a message that fails needs a negative reply")

        record = replace(self._record, envelope=replace(self.envelope, recipients=rcpts), replies=failed)
        stream = self._link.cluster.stream
        subject = f"{stream}.{_DEAD}.{domain_token(rcpts[0].forward_path)}"
        name = f"{self.envelope.key}.{_DEAD}.{self._taken.metadata.sequence.stream}"
        await self._link.publish(stream, subject, record.encode(), name)
        await self._settle(b"+ACK")

    async def _settle(self, answer: bytes) -> None:
        if self._is_settled:
            raise RuntimeError("this message was acknowledged or given back already")

        self._is_settled = True
        self._keeping.cancel()
        await self._link.request(self._taken.reply, answer)

    def __repr__(self) -> str:
        return f"<QueuedMessage {self.envelope.key} of {self.size} octets>"


async def consume(
    url: str,
    *,
    durable: str,
    domain: str | None = None,
    dead: bool = False,
    ack_wait: float = ACK_WAIT,
    **options: Unpack[JetStreamOptions],
) -> AsyncGenerator[QueuedMessage, None]:
    """Yield the messages of a stream, in an event loop of asyncio, until the program leaves the loop.

    While the cluster cannot be reached, the log gets a record, and the function tries again.

    Args:
        url: the URL of the stream: see `JetStream`.
        durable: the name of the queue. Programs with the same name share its messages, and need the same
            `domain`. The dead letters are a queue of their own.
        domain: the domain of the first recipient, by default all domains. Two queues must not have a domain in common.
        dead: whether to read the dead letters in place of the new messages.
        ack_wait: seconds after which a message is delivered again if its program has ended, at least 1.
        options: the options of the connection.

    Raises `ValueError`, `TypeError` and `OSError` as `JetStream`, and `RuntimeError` without an event loop of asyncio.
    """
    cluster = cluster_of(url, **options)
    check_queue(durable, domain)
    if not 1 <= ack_wait <= LONGEST_DELAY:
        raise ValueError(f"ack_wait is {ack_wait}: it must be from 1 to {LONGEST_DELAY:.0f} seconds")

    check_asyncio()
    kind, place = _DEAD if dead else _NEW, domain_token(Path(f"postmaster@{domain}")) if domain is not None else "*"
    config = ConsumerConfig(
        durable_name=f"{durable}_{kind}" if dead else durable,
        filter_subject=f"{cluster.stream}.{kind}.{place}",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_deliver=-1,
        max_ack_pending=_MOST_PENDING,
    )
    queue = _Queue(Link(cluster), config, ack_wait)
    try:
        while True:
            message = await queue.next()
            if message:
                yield message
            del message  # the program alone decides how long the message lives
    finally:
        await queue.link.close()


def check_queue(durable: str, domain: str | None) -> None:
    """Raise `ValueError` for a name or a domain that a queue cannot have."""
    if _match_durable(durable) is None:
        raise ValueError(f"durable is {durable!r}: use at most 32 letters, digits, hyphens and underscores")
    try:
        if domain is not None:
            Path(f"postmaster@{domain}")
    except LocalProtocolError as exc:
        raise ValueError(f"domain is {domain!r}: it should look like example.org") from exc


class _Queue:
    """A durable consumer."""

    def __init__(self, link: Link, config: ConsumerConfig, ack_wait: float) -> None:
        self.link = link
        self._config = config
        self._ack_wait = ack_wait
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._subscribed = 0.0
        """The time of the subscription, in seconds since 1970."""
        self._pause = _PAUSE

    async def next(self) -> QueuedMessage | None:
        """Return the next message, or None if no message comes within some seconds."""
        try:
            if self._subscription is None:
                self._subscription = await self.link.subscribe(self._config)
                self._subscribed = time.time()
            taken = await self.link.next_message(self._subscription, _FETCH)
            self._pause = _PAUSE
            return await self._opened(taken) if taken else None
        except (StoreFull, StoreUnavailable) as exc:
            _logger.warning("no message can be consumed now: %s", exc)
            self._subscription = None
            await pause(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return None

    async def _opened(self, taken: Msg) -> QueuedMessage | None:
        """Return the message, or None for a message that cannot be delivered now."""
        link = self.link
        try:
            record = parse_record(taken.data)
            state = await self._state_of(taken, record.envelope)
        except ValueError as exc:
            _logger.error("%s: record %d: %s", link.cluster, taken.metadata.sequence.stream, exc)
            await link.request(taken.reply, _later(_UNREADABLE))
            return None

        wait = state.due - time.time()
        if wait > _EARLY:
            await link.request(taken.reply, _later(wait))
            return None

        return QueuedMessage(link, taken, record, state, self._ack_wait)

    async def _state_of(self, taken: Msg, envelope: Envelope) -> State:
        """Return the results of earlier attempts. Raises `ValueError` if they cannot be read."""
        is_new = taken.metadata.timestamp.timestamp() > self._subscribed + _SKEW
        if is_new and taken.metadata.num_delivered == 1:
            return State()

        stored = await self.link.get(self.link.cluster.bodies, state_subject(self.link, taken, envelope), newest=True)
        state = parse_state(stored) if stored else State()
        return state if state.record in (0, taken.metadata.sequence.stream) else State()


def state_subject(link: Link, taken: Msg, envelope: Envelope) -> str:
    """Return the subject of the state of a message.

    In a stream that keeps its messages for several queues, each queue has its own results.
    """
    name = "dead" if taken.subject.split(".")[1] == _DEAD else "state"
    queue = "" if link.is_queue else f"_{taken.metadata.consumer}"
    return f"{link.cluster.stream}.body.{envelope.key}.{name}{queue}"


_EARLY = 1.0  # seconds; the clocks of the machines differ
_SKEW = 60.0  # seconds by which the clocks may differ, for a message that seems to be newer than the subscription


def _later(seconds: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": max(int(seconds * 1e9), 1)}).encode()
