"""A stream over a socket of which the framework tells when it is ready."""

# anyio and trio both do, by functions of the same names, so a framework is a table of them. A socket is read when there
# is something, and written at once: what the session waits for costs a task no more than that.
#
# A scope with a deadline around each wait would cost more than all the rest of it. So one task, the alarm, wakes those
# who have waited for too long, and a stream is put on its list again only when its place there has come up.

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from ssl import SSLContext
from typing import Any, Protocol, TypeVar

from ..tls._info import Tls
from ._stream import TURN, Address, Interrupted, Stream, address_of, is_readable, reset_on_close
from ._tls_codec import Encryption, read, shake_hands

T = TypeVar("T")

_LITTLE = 16_384
_MUCH = 131_072
"""Octets that are read at once: much where a client sends as much, for to make room for it takes time as well."""
_FEW = 50
"""Streams that are closed and still on the list of an alarm, before any are looked for."""


class Scope(Protocol):
    """What a framework cancels as a whole."""

    deadline: float

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> bool | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What is needed of one, by the names that trio and anyio have for it."""

    wait_readable: Callable[[socket.socket], Awaitable[None]]
    wait_writable: Callable[[socket.socket], Awaitable[None]]
    notify_closing: Callable[[socket.socket], None]
    """Wakes those who wait for a socket: they raise what follows."""
    closed_resource_error: type[Exception]
    checkpoint: Callable[[], Awaitable[None]]
    sleep_forever: Callable[[], Awaitable[None]]
    current_time: Callable[[], float]
    cancel_scope: Callable[..., Scope]
    fail_after: Callable[[float], AbstractContextManager[object]]
    """Raises `TimeoutError`."""


class Alarm:
    """Wakes streams that have waited for too long."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._streams: list[tuple[float, int, PolledStream]] = []
        """A heap, by the time at which to look at them."""
        self._number = count()
        self._closed = 0
        self._scope = framework.cancel_scope()

    async def run(self) -> None:
        """Wake streams, until cancelled."""
        while True:
            self._scope = self._framework.cancel_scope(deadline=self._streams[0][0] if self._streams else inf)
            with self._scope:
                await self._framework.sleep_forever()

            now = self._framework.current_time()
            while self._streams and self._streams[0][0] <= now:
                _, _, stream = heappop(self._streams)
                stream.go_off(self, now)

    def watch(self, stream: "PolledStream", when: float) -> None:
        """Let `stream` go off at that time."""
        heappush(self._streams, (when, next(self._number), stream))
        if when < self._scope.deadline:
            self._scope.deadline = when

    def forget_closed(self) -> None:
        """Note that a stream was closed: from time to time they are removed all at once."""
        self._closed += 1
        if self._closed > _FEW + len(self._streams) // 2:
            self._streams = [each for each in self._streams if not each[2].is_closed]
            heapify(self._streams)
            self._closed = 0


class PolledStream(ABC):
    """A `Stream` over a socket that does not block."""

    __slots__ = (
        "_alarm",
        "_deadline",
        "_encryption",
        "_framework",
        "_goes_off",
        "_interrupted",
        "_read_size",
        "_socket",
        "_turn_ends",
        "_woken",
        "is_closed",
        "local",
        "peer",
        "tls",
    )

    def __init__(
        self, framework: Framework, connection: socket.socket, peer: Address | None, alarm: Alarm | None = None
    ) -> None:
        self._framework = framework
        self._socket = connection
        self._alarm = alarm
        self._encryption: Encryption | None = None
        self._interrupted = False
        self._deadline: float | None = None
        """Until when input is waited for; None while it is not."""
        self._woken = False
        """Whether that is to end, whatever a part of a TLS record still waits for."""
        self._goes_off = inf
        """When the alarm comes to this stream."""
        self._turn_ends = 0.0
        self._read_size = _LITTLE

        self.is_closed = False
        self.tls: Tls | None = None
        self.peer = peer
        self.local = address_of(connection.getsockname())

    def receive(self, timeout: float) -> Coroutine[Any, Any, bytes]:
        # No coroutine around a coroutine: an idle session costs what its frames do.
        if self._alarm:
            return self._receive_before(self._set_alarm(self._alarm, timeout))

        return self._receive_within(timeout)

    async def _receive_within(self, timeout: float) -> bytes:
        with self._framework.fail_after(timeout):
            return await self._receive_before(inf)

    def _set_alarm(self, alarm: Alarm, timeout: float) -> float:
        deadline = self._framework.current_time() + timeout
        if deadline < self._goes_off:
            self._goes_off = deadline
            alarm.watch(self, deadline)

        return deadline

    async def _receive_before(self, deadline: float) -> bytes:
        self._take_interruption()
        self._deadline = deadline
        try:
            return await (read(self._encryption, self._receive) if self._encryption else self._receive())
        except self._framework.closed_resource_error:
            self._take_interruption()
            raise TimeoutError("the client was silent for too long") from None
        finally:
            self._deadline = None
            self._woken = False
            self._turn_ends = self._framework.current_time() + TURN

    async def _receive(self) -> bytes:
        while not self._woken:
            await self._framework.wait_readable(self._socket)
            with suppress(BlockingIOError):
                data = self._socket.recv(self._read_size)
                self._read_size = _MUCH if len(data) == self._read_size else _LITTLE
                return data

        raise self._framework.closed_resource_error  # it was between two waits, where there was no one to wake

    def _take_interruption(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise Interrupted

    def go_off(self, alarm: Alarm, now: float) -> None:
        """Come to a place on the list of the alarm."""
        if self._goes_off > now or self.is_closed:
            return  # that was an old one, and there is another

        self._goes_off = inf
        if self._deadline is None:
            return  # no one waits
        if self._deadline <= now:
            self._wake()
        else:
            self._goes_off = self._deadline
            alarm.watch(self, self._deadline)

    def interrupt(self) -> None:
        self._interrupted = True
        if self._deadline is not None:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        self._framework.notify_closing(self._socket)

    async def send(self, data: bytes, timeout: float) -> None:
        if self._encryption:
            self._encryption.write(data)
            data = self._encryption.data_to_send()

        sent = self._send_some(data)
        if sent < len(data):
            with self._framework.fail_after(timeout):
                await self._send(memoryview(data)[sent:])
        elif self._framework.current_time() > self._turn_ends:
            await self._framework.checkpoint()
            self._turn_ends = self._framework.current_time() + TURN

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

    async def start_tls(self, context: SSLContext, timeout: float, *, server_name: str | None = None) -> None:
        self._encryption = encryption = Encryption(context, server_name)
        with self._framework.fail_after(timeout):
            await shake_hands(encryption, self._receive, self._send)

        self.tls = encryption.describe()

    async def aclose(self, timeout: float) -> None:
        try:
            if timeout:
                # What fails here fails on a connection that is closed either way.
                with suppress(OSError), self._framework.fail_after(timeout):
                    await self._linger()
        finally:
            self._socket.close()
            self.is_closed = True
            if self._alarm:
                self._alarm.forget_closed()

    async def _linger(self) -> None:
        if self._encryption:
            self._encryption.close()
            await self._send(self._encryption.data_to_send())

        self._socket.shutdown(socket.SHUT_WR)
        while await self._receive():
            pass

    def reset_on_close(self) -> None:
        reset_on_close(self._socket.fileno())

    # For what a framework has no functions that are like those of another

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream: ...

    @abstractmethod
    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T: ...

    @abstractmethod
    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T: ...
