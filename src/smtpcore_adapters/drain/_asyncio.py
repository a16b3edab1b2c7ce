"""Take messages from a queue, deliver each, and decide what becomes of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from typing import Any, TypeAlias, TypeVar, Unpack

from smtpcore import Reply

from ..server._asyncio import calling_on_signals
from ..stores import Runtime, StoreFull, StoreUnavailable
from ..stores.jetstream import JetStreamOptions, QueuedMessage, consume
from ..streams._asyncio import open_stream
from ..streams._stream import Stream
from ._deliveries import addresses_of
from ._schedule import Schedule

T = TypeVar("T")

Deliver: TypeAlias = Callable[[QueuedMessage, Runtime], Awaitable[Mapping[str, Reply]]]
"""A function that delivers a message to its recipients, and returns a reply for each, by address.

An object that is also an asynchronous context manager is entered before the first message, and left at the end.
"""

_logger = logging.getLogger("smtpcore")

_PAUSE = 0.5  # seconds
_FAILED = Reply(451, "The message could not be delivered", enhanced="4.3.0")


class _Runtime:
    """The surroundings of a store in this event loop."""

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        done = asyncio.ensure_future(asyncio.to_thread(function, *args))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])  # the thread cannot be stopped, and may still use the objects of its caller
            raise

    async def open_stream(self, host: str, port: int, timeout: float) -> Stream:
        return await open_stream(host, port, timeout)

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        return nullcontext()


async def drain(
    url: str,
    deliver: Deliver,
    *,
    durable: str = "drain",
    domain: str | None = None,
    schedule: Schedule | None = None,
    concurrency: int = 10,
    grace: float = 30.0,
    handle_signals: bool = False,
    **options: Unpack[JetStreamOptions],
) -> None:
    """Deliver the messages of a queue until the task is cancelled or, with `handle_signals`, until SIGINT or SIGTERM.

    A recipient with a 2yz or 5yz reply is not tried again. The others are tried again as `schedule` says. A message
    that was refused for a recipient, or is too old, becomes a dead letter for these recipients.

    Args:
        url: the URL of the stream: see `smtpcore_adapters.stores.jetstream.JetStream`.
        deliver: the function that delivers a message.
        durable: the name of the queue. Programs with the same name share its messages.
        domain: the domain of the first recipient, by default all domains.
        schedule: the times of the attempts; by default those of RFC 5321 4.5.4.1.
        concurrency: the number of messages that are delivered at the same time.
        grace: the seconds that these messages have after a signal.
        handle_signals: whether SIGINT and SIGTERM end the function.
        options: the options of the connection.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}: it must be at least 1")

    workers = _Workers(deliver, schedule or Schedule(), concurrency)
    async with _opened(deliver):
        with calling_on_signals(workers.stop.set) if handle_signals else nullcontext():
            await workers.run(grace, url, durable=durable, domain=domain, **options)


async def _end(tasks: Collection["asyncio.Future[Any]"]) -> None:
    # A single cancellation may be lost: `asyncio.wait_for` has this defect before Python 3.12.
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PAUSE)


def _opened(deliver: object) -> AbstractAsyncContextManager[object]:
    return deliver if isinstance(deliver, AbstractAsyncContextManager) else nullcontext()


def run(url: str, deliver: Deliver, **options: Any) -> None:
    """Call `drain` in a new event loop, with the same arguments, until SIGINT or SIGTERM."""
    asyncio.run(drain(url, deliver, handle_signals=True, **options))


def _checked(replies: object) -> Mapping[str, Reply]:
    """Return the result of a `Deliver`. Raises `TypeError` for another type, before the message is decided about."""
    if not isinstance(replies, Mapping) or not all(map(_is_decision, replies.values())):
        raise TypeError(f"deliver returned {replies!r:.200}: return a 2yz, 4yz or 5yz Reply for each address")

    return replies


def _is_decision(reply: object) -> bool:
    return isinstance(reply, Reply) and reply.code // 100 != 3


def _is_cut(replies: Collection[Reply]) -> bool:
    """Return whether the server has taken the message for some recipients, and has too many with the others.

    It accepts the others in the next transaction (RFC 5321 4.5.3.1.10).
    """
    codes = {reply.code for reply in replies if reply.code // 100 == 4}
    return codes == {_TOO_MANY} and any(reply.is_positive for reply in replies)


_TOO_MANY = 452


class _Workers:
    """Tasks that deliver one message after the other."""

    def __init__(self, deliver: Deliver, schedule: Schedule, concurrency: int) -> None:
        self._deliver = deliver
        self._schedule = schedule
        self._concurrency = concurrency
        self._runtime = _Runtime()
        self._busy: set[asyncio.Task[Any] | None] = set()
        """The tasks that deliver a message now."""
        self.stop = asyncio.Event()
        """Set to end `run`."""

    async def run(self, grace: float, url: str, **options: Any) -> None:
        """Deliver messages until `stop` is set, or until a task fails. Messages in work then have `grace` seconds."""
        tasks = [asyncio.ensure_future(self._work(url, **options)) for _ in range(self._concurrency)]
        waiting: asyncio.Future[Any] = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task not in self._busy:
                    task.cancel()
            await asyncio.wait(tasks, timeout=grace if self.stop.is_set() else 0)
        finally:
            await _end([waiting, *tasks])

        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _work(self, url: str, **options: Any) -> None:
        task = asyncio.current_task()
        async with aclosing(consume(url, **options)) as messages:
            async for message in messages:
                self._busy.add(task)
                try:
                    await self._handle(message)
                except StoreUnavailable as exc:
                    _logger.warning("message %s comes again later: %s", message.envelope.key, exc)
                self._busy.discard(task)
                del message
                if self.stop.is_set():
                    return

    async def _handle(self, message: QueuedMessage) -> None:
        replies: Mapping[str, Reply] = {}
        try:
            # A dead letter that waits for space has no recipients left to deliver to.
            if message.recipients:
                replies = _checked(await self._deliver(message, self._runtime))
        except StoreUnavailable as exc:  # the body could not be read
            _logger.warning("message %s is not delivered now: %s", message.envelope.key, exc)
        except Exception:
            _logger.exception("message %s is not delivered now", message.envelope.key)

        await self._conclude(message, replies)

    async def _conclude(self, message: QueuedMessage, replies: Mapping[str, Reply]) -> None:
        last = _FAILED
        for address, reply in replies.items():
            if reply.is_positive or reply.code >= 500:
                message.replies[address] = reply
            else:
                last = reply

        key = message.envelope.key
        if message.recipients:
            delay = self._schedule.delay(message.attempts, message.age)
            if delay is not None:
                if _is_cut(replies.values()):
                    delay = 0.0
                _logger.info("message %s waits %d seconds for its next attempt: %s", key, delay, last)
                await message.retry(delay)
                return

        # Each recipient keeps its own reply, also a temporary one, in the dead letter.
        remaining = set(addresses_of(message))
        message.replies |= {address: reply for address, reply in replies.items() if address in remaining}
        refused = {address: reply for address, reply in message.replies.items() if not reply.is_positive}
        if message.recipients or refused:
            reply = next(iter(refused.values()), last)
            _logger.warning("message %s is a dead letter for some or all recipients: %s", key, reply)
            try:
                await message.fail(last)
            except StoreFull as exc:
                _logger.warning("message %s cannot be a dead letter yet: %s", key, exc)
                await message.retry(self._schedule.delays[-1])
        else:
            _logger.info("message %s is delivered", key)
            await message.ack()
