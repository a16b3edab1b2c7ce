"""An event loop like the default loop of Windows: the loop of asyncio for I/O completion ports, with simulated ports.

The system performs an operation when it is possible, and reports later that the operation is complete. So a pending
read takes input from the socket before the program is called.
"""

import asyncio
import select
import socket
from asyncio.proactor_events import BaseProactorEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class _Operation:
    future: "asyncio.Future[Any]"
    connection: socket.socket
    event: int
    perform: Callable[[], Any]
    """Raises `BlockingIOError` as long as the operation is not complete."""
    result: Any = None
    error: OSError | None = None
    is_complete: bool = False


class Proactor:
    """Simulated I/O completion ports."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._operations: list[_Operation] = []

    def set_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    # Operations

    def recv(self, connection: socket.socket, count: int, flags: int = 0) -> "asyncio.Future[bytes]":
        return self._start(connection, select.POLLIN, lambda: connection.recv(count, flags))

    def recv_into(self, connection: socket.socket, buffer: bytearray, flags: int = 0) -> "asyncio.Future[int]":
        return self._start(connection, select.POLLIN, lambda: connection.recv_into(buffer, 0, flags))

    def send(self, connection: socket.socket, data: bytes, flags: int = 0) -> "asyncio.Future[int]":
        left = memoryview(data)

        def send() -> int:
            nonlocal left
            left = left[connection.send(left, flags) :]
            if left:
                raise BlockingIOError
            return len(data)

        return self._start(connection, select.POLLOUT, send)

    def accept(self, listener: socket.socket) -> "asyncio.Future[tuple[socket.socket, Any]]":
        def accept() -> tuple[socket.socket, Any]:
            connection, peer = listener.accept()
            connection.setblocking(False)
            return connection, peer

        return self._start(listener, select.POLLIN, accept)

    def connect(self, connection: socket.socket, address: Any) -> "asyncio.Future[socket.socket]":
        connection.setblocking(False)
        connection.connect_ex(address)

        def check() -> socket.socket:
            if not select.select([], [connection], [], 0)[1]:
                raise BlockingIOError
            if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "the attempt to connect has failed")
            return connection

        return self._start(connection, select.POLLOUT, check)

    def _start(self, connection: socket.socket, event: int, perform: Callable[[], Any]) -> "asyncio.Future[Any]":
        assert self._loop
        operation = _Operation(self._loop.create_future(), connection, event, perform)
        self._operations.append(operation)
        self._perform(operation)
        return operation.future

    # Completion

    def complete(self, timeout: float | None = 0) -> None:
        """Perform the operations that are possible, after at most `timeout` seconds. The program is not called."""
        poll = select.poll()
        events: dict[int, int] = {}
        for each in [each for each in self._operations if each.future.cancelled()]:
            self._operations.remove(each)
            if isinstance(each.result, tuple):
                each.result[0].close()  # a connection that was accepted
        for each in self._operations:
            number = each.connection.fileno()
            if number < 0:
                each.is_complete, each.error = True, ConnectionResetError("the socket was closed")
            elif not each.is_complete:
                events[number] = events.get(number, 0) | each.event
        for number, event in events.items():
            poll.register(number, event)
        if any(each.is_complete for each in self._operations):
            timeout = 0
        ready = dict(poll.poll(None if timeout is None else timeout * 1000))
        for each in self._operations:
            found = ready.get(each.connection.fileno(), 0)
            if not each.is_complete and found & (each.event | select.POLLERR | select.POLLHUP):
                self._perform(each)

    def _perform(self, operation: _Operation) -> None:
        try:
            operation.result = operation.perform()
        except BlockingIOError:
            return
        except OSError as exc:
            operation.error = exc
        operation.is_complete = True

    def select(self, timeout: float | None = None) -> list[object]:
        self.complete(timeout)
        complete = [each for each in self._operations if each.is_complete]
        self._operations = [each for each in self._operations if not each.is_complete]
        for each in complete:
            if each.error:
                each.future.set_exception(each.error)
            else:
                each.future.set_result(each.result)
        return []

    def _stop_serving(self, listener: socket.socket) -> None:
        pass

    def close(self) -> None:
        self._operations.clear()


class ProactorLoop(BaseProactorEventLoop):
    """A loop with a simulated proactor."""

    def __init__(self) -> None:
        super().__init__(Proactor())

    def run_forever(self) -> None:
        loop: Any = self  # the private names of asyncio have no types
        self.call_soon(loop._loop_self_reading)
        try:
            super().run_forever()
        finally:
            if loop._self_reading_future is not None:
                loop._self_reading_future.cancel()
                loop._self_reading_future = None

    @property
    def proactor(self) -> Proactor:
        """The simulated completion ports."""
        loop: Any = self
        proactor: Proactor = loop._proactor
        return proactor
