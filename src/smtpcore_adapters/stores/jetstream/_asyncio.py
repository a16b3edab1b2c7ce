"""The connection to a cluster. The library `nats` needs asyncio, so only this module uses both."""

# A session on asyncio, or on anyio over asyncio, uses a connection in its own event loop. All other sessions share a
# connection in an event loop in a thread of its own, and each of their calls changes threads twice.
#
# Failures. The library reconnects by itself, to any server of the cluster, but it does not report which requests were
# lost. So a request without an answer is sent again after a few seconds, until the timeout of the cluster. This is safe
# for publishing: the cluster recognises the id of a message that it has already. Nothing is published while there is no
# connection, because the library would keep it in memory.

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import nats.aio.client
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from smtpcore import Reply

from .._store import Runtime, StoreFull, StoreRefusal, StoreUnavailable
from ..asyncio import AsyncioThread
from ._options import DUPLICATES, Cluster

T = TypeVar("T")

_logger = logging.getLogger("smtpcore")

_FIRST_WAIT = 2.0  # seconds for the first answer; twice as long for each further attempt, because a disk may be slow
_LONGEST_WAIT = 15.0
_PAUSE = 0.1  # seconds between two attempts; an election takes some seconds
_PAUSE_AFTER_LOSS = 0.5
_RECONNECT = 0.25
_CONNECT = 2
_TIME_TO_CLOSE = 2.0
_OVERHEAD = 4096  # octets of a message for the subject and the headers

# Codes of https://github.com/nats-io/nats-server/blob/main/server/errors.json
_FULL: Final = frozenset({10002, 10023, 10028, 10047, 10077})
"""No space: account or server limits of memory and storage, and `max_msgs` or `max_bytes` of a stream."""
_TOO_LARGE: Final = 10054
_UNSUITABLE: Final = frozenset({10005, 10052, 10058, 10065, 10074})
"""The streams cannot be created: too few servers, or names and subjects that are used already."""

_REFUSED: Final = "Authorization Violation"

_FAILURES: Final = (nats.errors.Error, OSError)  # nats.js.errors.Error is a nats.errors.Error


class Links:
    """The connections of a process to a cluster: one for each event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
        self._thread = AsyncioThread()

    async def call(self, runtime: Runtime, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function with the connection of this event loop, or of the thread, and return its result."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio, or a thread
            return await self._thread.call(runtime, self._call_here, function, *args)

        result: T = await function(self._link(loop), *args)
        return result

    def call_blocking(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        """Call a coroutine function with the connection of the thread, and block until it returns."""
        result: T = self._thread.call_blocking(self._call_here, function, *args)
        return result

    def close(self) -> None:
        """Close the connection of the thread, and end the thread."""
        self._thread.close()

    async def _call_here(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        return await function(self._link(asyncio.get_running_loop()), *args)

    def _link(self, loop: asyncio.AbstractEventLoop) -> "Link":
        if loop not in self._links:
            self._links[loop] = Link(self.cluster)
        return self._links[loop]


class _Client(nats.aio.client.Client):
    """A connection that knows whether it has TLS: the library continues without TLS if the server does not offer it."""

    has_tls = False

    @property
    def ssl_context(self) -> Any:
        self.has_tls = True  # the library asks for the context when it begins the handshake
        return super().ssl_context


class _Unusable(nats.errors.Error):
    """The login is refused, or TLS is missing or not verified, so another attempt would fail too."""


class Link:
    """A connection to a cluster that reconnects, and that knows that the streams exist."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.is_queue: bool = True
        """Whether the stream deletes a message once it is consumed, so that its chunks can be deleted too."""
        self._client: _Client | None = None
        self._context: JetStreamContext | None = None
        self._connecting = asyncio.Lock()
        self._has_streams = False
        self._why = ""
        """The last error of the library."""
        self._open: AsyncGenerator[None, None] | None = None
        """The generator that closes the connection when the event loop ends."""

    # Requests

    async def ready(self) -> None:
        """Wait for a connection to a cluster with both streams.

        Raises `StoreUnavailable` after the timeout of the cluster, or if the streams cannot be used.
        """

        async def once(context: JetStreamContext, seconds: float) -> None:
            pass

        await self.attempt(once)

    async def largest(self) -> int:
        """Return the most octets of a message that the server accepts."""
        if self._client is None:
            await self.ready()
        assert self._client, "there was a connection"
        return self._client.max_payload - _OVERHEAD

    async def publish(self, stream: str, subject: str, data: bytes, id: str | None) -> None:
        """Publish a message, and return when a quorum of the cluster has acknowledged it.

        A message with an `id` is stored once. Raises `StoreFull`, `StoreRefusal` or `StoreUnavailable`.
        """
        headers = {"Nats-Msg-Id": id} if id else {}

        async def once(context: JetStreamContext, seconds: float) -> None:
            await context.publish(subject, data, timeout=seconds, stream=stream, headers=dict(headers))

        await self.attempt(once)

    async def get(self, stream: str, subject: str, *, newest: bool = False) -> bytes | None:
        """Return the last message of a subject, or None without one. With `newest`, only the leader is asked."""

        async def once(context: JetStreamContext, seconds: float) -> bytes | None:
            if not newest:
                # Any server answers this. The leader is asked again if it has not, because a follower may be late.
                with suppress(nats.js.errors.NotFoundError, nats.errors.NoRespondersError):
                    return (await context.get_last_msg(stream, subject, direct=True)).data or b""
            try:
                return (await context.get_last_msg(stream, subject)).data or b""
            except nats.js.errors.NotFoundError:
                return None

        return await self.attempt(once)

    async def purge(self, subject: str) -> None:
        """Delete the messages of a subject in the stream of bodies. A failure is logged: they expire later."""
        try:
            async with asyncio.timeout(_FIRST_WAIT):
                context = await self._ready_context()
                await context.purge_stream(self.cluster.bodies, subject=subject)
        except (*_FAILURES, StoreUnavailable) as exc:
            why = self._explain(exc)
            _logger.warning("%s: the chunks %s are not deleted now, and expire later: %s", self.cluster, subject, why)

    async def attempt(self, once: Callable[[JetStreamContext, float], Awaitable[T]]) -> T:
        """Call `once` with the context and a timeout in seconds until it succeeds, or until the cluster's timeout."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.cluster.timeout
        wait = _FIRST_WAIT
        while True:
            seconds = min(wait, max(end - loop.time(), _PAUSE))
            try:
                async with asyncio.timeout(seconds):
                    return await once(await self._ready_context(), seconds)
            except _FAILURES as exc:
                self._raise_for(exc)
                why = self._explain(exc)

            wait = min(wait * 2, _LONGEST_WAIT)
            if loop.time() + _PAUSE >= end:
                raise StoreUnavailable(f"{self.cluster}: {why} within {self.cluster.timeout:g} seconds")
            await asyncio.sleep(_PAUSE)

    def _raise_for(self, exc: Exception) -> None:
        """Raise the exception of stores for an error that another attempt does not change."""
        if isinstance(exc, nats.js.errors.NoStreamResponseError):
            self._has_streams = False  # there is no leader, or the stream was deleted
        if isinstance(exc, _Unusable):
            raise StoreUnavailable(f"{self.cluster}: {exc}") from exc
        code = exc.err_code if isinstance(exc, nats.js.errors.APIError) else None
        if code in _FULL:
            raise StoreFull(f"{self.cluster}: {_words(exc)}") from exc
        if code in _UNSUITABLE:
            raise StoreUnavailable(f"{self.cluster}: {_words(exc)}") from exc
        if code == _TOO_LARGE:
            raise StoreRefusal(Reply(552, "The message is too large for the store", enhanced="5.3.4")) from exc

    def _explain(self, exc: Exception) -> str:
        if self._client is None or not self._client.is_connected:
            return f"no connection ({self._why})" if self._why else "no connection"
        if isinstance(exc, TimeoutError):
            return "no acknowledgement"

        return f"no acknowledgement ({_words(exc)})"

    # The connection

    async def _ready_context(self) -> JetStreamContext:
        async with self._connecting:
            client = self._client
            if client is None or client.is_closed:
                await self.close()
                client = await self._connect()
            while not client.is_connected:  # noqa: ASYNC110 - the library reconnects, and has no event for this
                await asyncio.sleep(_PAUSE / 2)
            if self.cluster.tls and not client.has_tls:
                raise _Unusable(_words(nats.errors.SecureConnRequiredError()))
            assert self._context, "a client has a context"
            if not self._has_streams:
                await self._prepare(self._context)
                self._has_streams = True
            return self._context

    async def _connect(self) -> _Client:
        cluster = self.cluster
        client = _Client()
        self._why = ""

        def give_secret(secret: str) -> str:
            if cluster.tls and not client.has_tls:
                raise nats.errors.SecureConnRequiredError
            return secret

        async def note(exc: Exception) -> None:
            self._why = _words(exc)
            _logger.debug("%s: %s", cluster, self._why)
            is_final = isinstance(exc, nats.errors.SecureConnRequiredError | ssl.SSLCertVerificationError)
            if (is_final or _REFUSED in self._why) and client is not self._client:
                raise _Unusable(self._why)  # ends the attempts to connect

        async def forget_tls() -> None:
            client.has_tls = False

        connecting = client.connect(
            [f"nats://{server}" for server in cluster.servers],
            name="smtpcore",
            error_cb=note,
            disconnected_cb=forget_tls,
            max_reconnect_attempts=-1,
            connect_timeout=_CONNECT,
            pending_size=0,
            tls=cluster.tls,
            tls_handshake_first=cluster.tls_first,
            **_login(cluster, give_secret),
        )
        try:
            await Task(connecting).wait_or_end()
        except BaseException:
            if client.is_connecting or client.is_connected:  # otherwise there is no socket
                await Task(client.close()).end(_PAUSE)  # after a failed handshake, this could take long
            raise

        self._client = client
        self._context = client.jetstream(timeout=_LONGEST_WAIT)
        self._open = self._open_until_end(client)
        _open.add(self._open)
        await anext(self._open)
        return client

    # The streams

    async def _prepare(self, context: JetStreamContext) -> None:
        """Create the streams that are missing, and check the others."""
        cluster = self.cluster
        shared = StreamConfig(
            num_replicas=cluster.replicas,
            max_age=cluster.max_age,
            # Otherwise a full stream would drop its oldest messages, which were acknowledged.
            discard=DiscardPolicy.NEW,
            duplicate_window=DUPLICATES,
            allow_direct=True,
        )
        records = await _config_of(context, cluster.stream)
        bodies = await _config_of(context, cluster.bodies)
        if bodies is None:
            age = max(cluster.max_age, _lifetime(records)) if records else cluster.max_age
            wanted = shared.evolve(name=cluster.bodies, subjects=[f"{cluster.stream}.body.>"], max_msgs_per_subject=1)
            bodies = (await context.add_stream(wanted.evolve(max_age=0 if age == inf else age))).config
        self._check(bodies)
        if records is None:
            wanted = shared.evolve(
                name=cluster.stream,
                subjects=[f"{cluster.stream}.new.*", f"{cluster.stream}.dead.*"],
                retention=RetentionPolicy.WORK_QUEUE,
            )
            records = (await context.add_stream(wanted)).config
        self._check(records)
        if _lifetime(records) > _lifetime(bodies):
            raise StoreUnavailable(
                f"{cluster}: the stream {cluster.bodies} deletes bodies after {_lifetime(bodies):.0f} seconds, before "
                f"{cluster.stream} deletes their messages: give {cluster.bodies} the same max_age, or a longer one"
            )
        self.is_queue = records.retention == RetentionPolicy.WORK_QUEUE

    def _check(self, found: StreamConfig) -> None:
        replicas = found.num_replicas or 1
        if replicas < self.cluster.replicas:
            raise StoreUnavailable(
                f"{self.cluster}: the stream {found.name} has replicas={replicas}, and {self.cluster.replicas} are "
                "required: change the stream, or the option replicas"
            )
        fault = self._fault_of(found)
        if fault:
            raise StoreUnavailable(f"{self.cluster}: the stream {found.name} {fault}")

    def _fault_of(self, found: StreamConfig) -> str:
        """Return why this stream may lose or double a message that it has acknowledged, or an empty text."""
        # Each chunk of a body has a subject of its own, so the stream of bodies needs one message of a subject only.
        is_limited_by_subject = found.name == self.cluster.stream and (found.max_msgs_per_subject or 0) > 0
        is_limited = max(found.max_msgs or 0, found.max_bytes or 0) > 0
        window = found.duplicate_window or 0
        faults = {
            "drops old messages when it is full: set its discard policy to new": (
                is_limited and found.discard != DiscardPolicy.NEW
            ),
            "drops the older messages of a domain: remove its limit of messages per subject": (
                is_limited_by_subject and not found.discard_new_per_subject
            ),
            "drops messages without a consumer: it must not have the retention policy interest": (
                found.retention == RetentionPolicy.INTEREST
            ),
            "is in memory, so a restart loses it: use the storage file": found.storage == StorageType.MEMORY,
            "does not acknowledge messages: remove its option no_ack": bool(found.no_ack),
            f"finds duplicates for {window:g} seconds only: set its duplicate window to {DUPLICATES:g} seconds": (
                window < self.cluster.timeout
            ),
        }
        return next((text for text, is_true in faults.items() if is_true), "")

    # Consumers

    async def subscribe(self, config: ConsumerConfig) -> JetStreamContext.PullSubscription:
        """Create a durable consumer, or find the consumer that exists, and return a subscription to it.

        Raises `StoreUnavailable` if the consumer that exists reads other subjects: the server would change them, and
        other programs would get the wrong messages.
        """
        name = config.durable_name
        assert name, "a durable consumer has a name"

        async def once(context: JetStreamContext, seconds: float) -> JetStreamContext.PullSubscription:
            with suppress(nats.js.errors.NotFoundError):
                found = (await context.consumer_info(self.cluster.stream, name, timeout=seconds)).config
                if found.filter_subject != config.filter_subject:
                    raise StoreUnavailable(
                        f"{self.cluster}: the queue {name} reads {found.filter_subject}, not {config.filter_subject}: "
                        "use another durable name, or delete this consumer"
                    )
            await context.add_consumer(self.cluster.stream, config, timeout=seconds)
            return await context.pull_subscribe_bind(name, self.cluster.stream)

        return await self.attempt(once)

    async def next_message(self, subscription: JetStreamContext.PullSubscription, seconds: float) -> Msg | None:
        """Return the next message of a subscription. Return None if no message comes within this time.

        Raises `StoreUnavailable` if there is no consumer: a subscription is needed again.
        """
        try:
            (message,) = await subscription.fetch(1, timeout=seconds)
        except TimeoutError:
            await asyncio.sleep(_PAUSE)  # a refusal, such as "too many requests wait", is reported as a timeout too
            return None
        except _FAILURES as exc:
            with suppress(*_FAILURES):
                await subscription.unsubscribe()
            await asyncio.sleep(_PAUSE_AFTER_LOSS)
            raise StoreUnavailable(f"{self.cluster}: the queue is lost: {_words(exc)}") from exc

        return message

    def repeat(self, seconds: float, subject: str, data: bytes, is_wanted: Callable[[], object]) -> "Task":
        """Send a message every `seconds`, without waiting for an answer, while `is_wanted` returns a true value."""
        client = self._client
        assert client, "a message came over a connection"

        async def run() -> None:
            await asyncio.sleep(seconds)
            while is_wanted():
                with suppress(*_FAILURES):
                    await client.publish(subject, data)
                await asyncio.sleep(seconds)

        return Task(run())

    async def request(self, subject: str, data: bytes) -> None:
        """Send an acknowledgement of a consumer, and wait until the cluster has processed it."""

        async def once(context: JetStreamContext, seconds: float) -> None:
            assert self._client, "a context has a client"
            await self._client.request(subject, data, timeout=seconds)

        await self.attempt(once)

    async def close(self) -> None:
        """Close the connection."""
        if self._open:
            await self._open.aclose()

    async def _open_until_end(self, client: _Client) -> AsyncGenerator[None, None]:
        # An event loop closes the asynchronous generators that are still open before it ends.
        try:
            yield
        finally:
            self._client = None
            _open.discard(self._open)
            await Task(client.close()).end(_TIME_TO_CLOSE)  # a server that reads nothing could delay the end


_open: set[AsyncGenerator[None, None] | None] = set()  # an event loop has only weak references to its generators


class Task:
    """A coroutine that runs beside others."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(coroutine)

    async def wait(self) -> None:
        """Wait for the end, and raise the exception of the coroutine."""
        await self._task

    async def wait_or_end(self) -> None:
        """Do the same as `wait`, and do not return from a cancellation before the coroutine has ended."""
        try:
            await asyncio.wait([self._task])
        finally:
            # A single cancellation may be lost: `asyncio.wait_for` has this defect before Python 3.12.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=_PAUSE)
        await self._task

    async def end(self, seconds: float) -> None:
        """Wait for the end for at most `seconds`, then cancel the coroutine. Its exception is dropped."""
        await asyncio.wait([self._task], timeout=seconds)
        self.cancel()

    def cancel(self) -> None:
        """Cancel the coroutine, and drop its exception."""
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._task.cancel()


async def _config_of(context: JetStreamContext, stream: str) -> StreamConfig | None:
    try:
        return (await context.stream_info(stream)).config
    except nats.js.errors.NotFoundError:
        return None


def _lifetime(stream: StreamConfig) -> float:
    """Return the seconds for which a stream keeps a message."""
    return stream.max_age or inf


def _login(cluster: Cluster, give: Callable[[str], str]) -> dict[str, Any]:
    """Return the options of the library for the login and its delay. `give` returns a secret when the login is sent."""
    options: dict[str, Any] = {"reconnect_time_wait": _RECONNECT}
    if cluster.credentials is not None:
        options["user_credentials"] = cluster.credentials
    if cluster.password is not None:
        options |= {"user": cluster.user, "password": partial(give, cluster.password)}
    if cluster.token is not None:
        options["token"] = partial(give, cluster.token)
    return options


async def pause(seconds: float) -> None:
    """Wait before another attempt."""
    await asyncio.sleep(seconds)


def check_asyncio() -> None:
    """Raise `RuntimeError` outside of an event loop of asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError as exc:
        raise RuntimeError("messages are consumed in an event loop of asyncio: the library nats needs asyncio") from exc


def _words(exc: Exception) -> str:
    if isinstance(exc, nats.js.errors.APIError):
        return exc.description or type(exc).__name__

    return str(exc).removeprefix("nats: ") or type(exc).__name__
