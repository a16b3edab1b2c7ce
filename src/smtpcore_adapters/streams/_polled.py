"""A stream over a non-blocking socket, driven by the readiness calls of anyio or trio."""

# Before a stream reads, it waits until its socket is readable. To write, the stream first tries to write all octets,
# and waits only to write the rest that the socket did not accept.
#
# A cancel scope with a deadline around each `receive` would take longer than the rest of `receive`. So the streams of a
# server share one task, `TimeoutQueue.run`, which ends the waits that last too long. A stream enters the queue with the
# deadline of its first wait, and later waits with later deadlines do not change its place. When this first deadline
# has passed, the task checks the stream's current deadline. If that deadline has passed too, the task ends the wait;
# otherwise it puts the stream into the queue again.

import socket
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from ssl import SSLContext
from time import monotonic
from typing import Any, TypeVar

from ..tls._info import Tls
from ._connector import connect_socket, prepare_given
from ._framework import Framework
from ._stream import (
    MAX_LINGER,
    NOT_IN_A_THREAD,
    TURN,
    Address,
    Interrupted,
    Stream,
    is_readable,
    reset_on_close,
    shared_address_of,
)
from ._tls_codec import Encryption, read, read_arrived, shake_hands

T = TypeVar("T")

_READ_SIZE = 16_384
_LARGE_READ_SIZE = 131_072
"""Octets of the next read if a read of `_READ_SIZE` has filled its buffer. A large buffer for every read is slow."""
_FEW = 50
"""A `TimeoutQueue` never removes closed streams before their number exceeds this value."""


async def open_polled_stream(
    framework: Framework,
    host: str,
    port: int,
    timeout: float,
    *,
    local_address: str | None = None,
    path: str | None = None,
    sock: socket.socket | None = None,
) -> "PolledStream":
    """Connect to a server: the `open_stream` of an adapter."""
    if sock:
        return PolledStream(framework, sock, prepare_given(sock))

    connection, peer = await connect_socket(framework, host, port, timeout, local_address, path)
    return PolledStream(framework, connection, peer)


class TimeoutQueue:
    """Ends the waits of many streams at their deadlines, with one task."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._streams: list[tuple[float, int, PolledStream]] = []
        """A heap by the time of the next check. The numbers are unique, so that streams are never compared."""
        self._number = count()
        self._closed = 0
        self._scope = framework.cancel_scope()

    async def run(self) -> None:
        """Check each stream at the time that `add` was given, until the task is cancelled."""
        while True:
            self._scope = self._framework.cancel_scope(deadline=self._streams[0][0] if self._streams else inf)
            with self._scope:
                await self._framework.sleep_forever()

            now = self._framework.current_time()
            while self._streams and self._streams[0][0] <= now:
                _, _, stream = heappop(self._streams)
                stream.check_deadline(self, now)

    def add(self, stream: "PolledStream", when: float) -> None:
        """Check `stream` at the time `when`."""
        heappush(self._streams, (when, next(self._number), stream))
        if when < self._scope.deadline:
            self._scope.deadline = when

    def count_closed(self) -> None:
        """Count a stream that was closed. When many streams are closed, remove them from the queue."""
        self._closed += 1
        if self._closed > _FEW + len(self._streams) // 2:
            self._streams = [each for each in self._streams if not each[2].is_closed]
            heapify(self._streams)
            self._closed = 0


class FrameworkCalls:
    """The methods of a `Stream` that need no socket, with the functions of anyio or trio."""

    __slots__ = ()

    _framework: Framework

    def shield(self, seconds: float) -> AbstractContextManager[object]:
        return self._framework.cancel_scope(deadline=self._framework.current_time() + seconds, shield=True)

    async def sleep(self, seconds: float) -> None:
        await self._framework.sleep(seconds)

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        return await open_polled_stream(self._framework, host, port, timeout, local_address=local_address, path=path)

    async def check_cancelled(self) -> None:
        await self._framework.checkpoint_if_cancelled()

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        result: T = await self._framework.run_in_thread(partial(function, *args))
        # A cancellation during the call takes effect here, before the session does anything with the result.
        await self._framework.checkpoint_if_cancelled()
        return result

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        try:
            self._framework.check_cancelled_in_thread()
        except RuntimeError as exc:
            raise RuntimeError(NOT_IN_A_THREAD) from exc

        result: T = self._framework.run_from_thread(partial(function, *args))
        return result


class PolledStream(FrameworkCalls):
    """A `Stream` over a non-blocking socket."""

    __slots__ = (
        "_checked_at",
        "_deadline",
        "_encryption",
        "_framework",
        "_interrupted",
        "_read_size",
        "_socket",
        "_timeouts",
        "_turn_ends",
        "_woken",
        "is_closed",
        "local",
        "peer",
        "tls",
    )

    def __init__(
        self,
        framework: Framework,
        connection: socket.socket,
        peer: Address | None,
        timeouts: TimeoutQueue | None = None,
    ) -> None:
        self._framework = framework
        self._socket = connection
        self._timeouts = timeouts
        """The queue that ends long waits; without a queue, each wait has a cancel scope of its own."""
        self._encryption: Encryption | None = None
        self._interrupted = False
        self._deadline: float | None = None
        """The end of the current wait for input; None if no task waits."""
        self._woken = False
        """Whether `receive` has to end, even between two reads of one TLS record."""
        self._checked_at = inf
        """The time at which the queue checks this stream next."""
        self._turn_ends = monotonic() + TURN
        self._read_size = _READ_SIZE

        self.is_closed = False
        self.tls: Tls | None = None
        self.peer = peer
        self.local = shared_address_of(connection.getsockname())

    def receive(self, timeout: float) -> Coroutine[Any, Any, bytes]:
        # Returns the inner coroutine instead of awaiting it: each coroutine frame costs memory in every idle session.
        if self._timeouts is None:
            return self._receive_within(timeout)

        deadline = self._framework.current_time() + timeout
        if deadline < self._checked_at:
            self._checked_at = deadline
            self._timeouts.add(self, deadline)

        return self._receive_before(deadline)

    async def _receive_within(self, timeout: float) -> bytes:
        with self._framework.fail_after(timeout):
            return await self._receive_before(inf)

    async def _receive_before(self, deadline: float) -> bytes:
        self._take_interruption()
        self._deadline = deadline
        try:
            return await (read(self._encryption, self._receive) if self._encryption else self._receive())
        except self._framework.closed_resource_error:
            self._take_interruption()
            raise TimeoutError("the peer was silent for too long") from None
        finally:
            self._deadline = None
            self._woken = False
            self._turn_ends = monotonic() + TURN

    async def _receive(self) -> bytes:
        while not self._woken:
            await self._framework.wait_readable(self._socket)
            try:
                data = self._socket.recv(self._read_size)
            except BlockingIOError:
                continue

            self._read_size = _LARGE_READ_SIZE if len(data) == self._read_size else _READ_SIZE
            return data

        # `_wake` was called between two waits: `notify_closing` found no waiting task, so the wait is ended here.
        raise self._framework.closed_resource_error

    def _take_interruption(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

    def check_deadline(self, timeouts: TimeoutQueue, now: float) -> None:
        """End the current wait if its deadline has passed; otherwise enter the queue again."""
        if self._checked_at > now or self.is_closed:
            return  # this entry is outdated: a later wait with an earlier deadline has made another entry

        self._checked_at = inf
        if self._deadline is None:
            return
        if self._deadline <= now:
            self._wake()
        else:
            self._checked_at = self._deadline
            timeouts.add(self, self._deadline)

    def interrupt(self) -> None:
        self._interrupted = True
        if self._deadline is not None:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        self._framework.notify_closing(self._socket)

    async def send(self, data: bytes, timeout: float) -> None:
        if self._encryption:
            data = self._encryption.encrypt(data)

        sent = self._send_some(data)
        if sent < len(data):
            with self._framework.fail_after(timeout):
                await self._send(memoryview(data)[sent:])
        elif monotonic() > self._turn_ends:
            await self._framework.checkpoint()
            self._turn_ends = monotonic() + TURN

    async def _send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view := view[self._send_some(view) :]:
            await self._framework.wait_writable(self._socket)

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def has_input(self) -> bool:
        return bool(self._encryption and self._encryption.has_input) or is_readable(self._socket.fileno())

    async def receive_arrived(self) -> bytes | None:
        return await read_arrived(self._encryption, self._recv_arrived)

    async def _recv_arrived(self) -> bytes | None:
        try:
            return self._socket.recv(self._read_size)
        except BlockingIOError:
            return None

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        self._encryption = Encryption(context, server_name, received)
        self._take_interruption()
        self._deadline = inf  # so `interrupt` can end this wait; the cancel scope below has the timeout
        try:
            with self._framework.fail_after(timeout):
                self.tls = await shake_hands(self._encryption, self._receive, self._send)
        except self._framework.closed_resource_error:
            self._interrupted = False
            raise Interrupted from None
        finally:
            self._deadline = None
            self._woken = False

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout:
                # An error here needs no report: the connection is closed in any case.
                with suppress(OSError), self._framework.fail_after(timeout):
                    await self._linger()
        finally:
            self._socket.close()
            self.is_closed = True
            if self._timeouts:
                self._timeouts.count_closed()

    async def _linger(self) -> None:
        if self._encryption:
            await self._send(self._encryption.close())

        self._socket.shutdown(socket.SHUT_WR)
        left = MAX_LINGER
        while left > 0 and (data := await self._receive()):
            left -= len(data)

    def reset_on_close(self) -> None:
        reset_on_close(self._socket)
