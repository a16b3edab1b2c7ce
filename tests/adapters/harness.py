"""A server of each adapter, run in a thread, and dialogues with it over a blocking socket."""

import asyncio
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any, Final, Literal, Never, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

import smtpcore_adapters
import smtpcore_adapters.anyio
import smtpcore_adapters.asyncio
import smtpcore_adapters.socket
import smtpcore_adapters.trio
from smtpcore_adapters import Address, App, Server
from smtpcore_adapters import Client as MailClient
from smtpcore_adapters.client._connecting import connected
from tests.adapters.clocks import CLOCKS, Clock
from tests.playbook import Playbook

T = TypeVar("T")

_MODULES: Final[dict[str, Any]] = {
    "asyncio": smtpcore_adapters.asyncio,
    "asyncio-uvloop": smtpcore_adapters.asyncio,
    "anyio-asyncio": smtpcore_adapters.anyio,
    "anyio-trio": smtpcore_adapters.anyio,
    "trio": smtpcore_adapters.trio,
    "threads": smtpcore_adapters.socket,
}
BACKENDS: Final = tuple(_MODULES)
LOOPS: Final = BACKENDS[:-1]
"""The backends with an event loop."""
TIMEOUT: Final = 10.0
"""Seconds after which a wait counts as failed."""


def has_ipv6() -> bool:
    """Return whether this machine has IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # pragma: no cover
        return False

    return True


def loop_of(backend: str) -> Literal["asyncio", "trio"]:
    return "trio" if backend.endswith("trio") else "asyncio"


def module_of(backend: str) -> Any:
    return _MODULES[backend]


def _options(backend: str) -> dict[str, Any]:
    return {"use_uvloop": True} if backend == "asyncio-uvloop" else {}


def run_in(backend: str, function: Callable[..., Awaitable[T]], *args: Any, clock: Clock | None = None) -> T:
    """Run a coroutine function in a new event loop, or without an event loop for threads.

    All clients that the function opens use `clock`, by default the real clock.
    """

    async def with_clock(clock: Clock) -> Callable[[], T]:
        result: Callable[[], T]
        async with BlockingPortal() as portal:
            try:
                with clock.attached_to(portal):
                    result = partial(_identity, await function(*args))
            except Exception as exc:  # the portal would wrap the exception in a group
                result = partial(_raise, exc)
            while clock.calls:  # noqa: ASYNC110 - calls of other threads
                await anyio.sleep(0.001)
        return result

    with clock.of_clients() if clock else nullcontext():
        if backend == "threads":
            return smtpcore_adapters.socket.complete(function(*args))  # type: ignore[arg-type]
        if clock:
            options = clock.backend_options(backend)
            return anyio.run(with_clock, clock, backend=loop_of(backend), backend_options=options)()

        return anyio.run(function, *args, backend=loop_of(backend), backend_options=_options(backend))


def _identity(value: T) -> T:
    return value


def _raise(exc: Exception) -> Never:
    raise exc


def connect_of(backend: str) -> Callable[..., AbstractAsyncContextManager[MailClient]]:
    """Return the `connect` of an adapter; for threads the same function over a blocking stream."""
    if backend == "threads":
        return partial(connected, smtpcore_adapters.socket.open_stream)

    connect: Callable[..., AbstractAsyncContextManager[MailClient]] = module_of(backend).connect
    return connect


def within(backend: str, app: App, body: Callable[[Server], None], **options: Any) -> None:
    """Call `body` in a thread while a server runs."""

    async def main() -> None:
        async with module_of(backend).serving(app, **options) as server:
            await anyio.to_thread.run_sync(body, server)

    if backend == "threads":
        with smtpcore_adapters.socket.serving(app, **options) as server:
            body(server)
    else:
        run_in(backend, main)


class Client(Playbook[Never]):
    """A dialogue with a server over a socket. `expect` waits for one reply for each of its arguments."""

    def __init__(self, address: Address, *, receive_buffer: int | None = None, source: str | None = None) -> None:
        super().__init__()
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.socket = socket.socket(family if address.port else socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._input = b""
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect((address.host, address.port) if address.port else address.host)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def read(self) -> str:
        """Return the next reply, its lines joined by newlines, without a comparison."""
        self._collect([str])
        (text,) = self.replies
        self.skip()
        return text

    def _collect(self, items: Sequence[object]) -> None:
        while len(self.record) < self._start + len(items):
            self.record.append(self._take_reply())

    def _take_reply(self) -> str:
        while not (match := re.match(rb"(?:[0-9]{3}-.*\r\n)*[0-9]{3} .*\r\n", self._input)):
            data = self.socket.recv(65536)
            assert data, f"the connection was closed after {self._input!r}"
            self._input += data

        self._input = self._input[match.end() :]
        return match[0].decode().rstrip("\r\n").replace("\r\n", "\n")

    def rest(self) -> bytes:
        """Read up to the end of the stream, and return the data before it."""
        data, self._input = self._input, b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def is_closed(self) -> bool:
        """Wait for the end of the stream or a reset. Return whether no data came before this end."""
        try:
            return self.rest() == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        """Abort the connection with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def start_tls(self, context: ssl.SSLContext, name: str = "s.example") -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname=name, suppress_ragged_eofs=False)

    def send_until_blocked(self, block: bytes, most: int) -> int:
        """Send copies of `block` until the server takes no more. Returns how many octets were sent."""
        self.socket.setblocking(False)
        sent = 0
        try:
            while sent < most:
                try:
                    sent += self.socket.send(block[sent % len(block) :])
                except (BlockingIOError, ssl.SSLWantWriteError):
                    if not select.select([], [self.socket], [], 0.1)[1]:
                        break
        finally:
            self.socket.settimeout(TIMEOUT)

        return sent


class Running:
    """A running server."""

    def __init__(
        self, pool: ThreadPoolExecutor, app: App, serving: AbstractContextManager[Server], clock: Clock
    ) -> None:
        self._pool = pool
        self.clock = clock
        self._left: Future[object] | None = None
        self.reasons: Queue[str] = Queue()
        """The reasons of the `disconnect` handler."""
        app.on("disconnect")(lambda session, reason: self.reasons.put(reason))
        self._serving = serving
        self.server = self._serving.__enter__()

    def connect(self, *, receive_buffer: int | None = None) -> Client:
        self.clock.expected += 1
        return Client(self.server.address, receive_buffer=receive_buffer)

    def reason(self) -> str:
        """Wait for the end of a session, and return its reason."""
        return self.reasons.get(timeout=TIMEOUT)

    def leave(self, failure: BaseException | None = None) -> "Future[object]":
        """Begin to leave the `async with` block. The result is set when the block has been left."""
        if self._left is None:
            kind = type(failure) if failure else None
            self._left = self._pool.submit(self._serving.__exit__, kind, failure, None)

        return self._left


@contextmanager
def running(backend: str, app: App, *, clock: Clock | None = None, **options: Any) -> Iterator[Running]:
    """Run a server, by default with the real clock, and check that it leaves no threads or tasks behind."""
    if clock:
        CLOCKS[app] = clock
    with ThreadPoolExecutor(1) as pool, _serving(backend, app, clock, **options) as serving:
        server = Running(pool, app, serving, clock or Clock())
        try:
            yield server
        finally:
            server.leave().result(TIMEOUT)


@contextmanager
def _serving(backend: str, app: App, clock: Clock | None, **options: Any) -> Iterator[AbstractContextManager[Server]]:
    serving = module_of(backend).serving(app, **options)
    if backend == "threads":
        yield serving
        for thread in threading.enumerate():
            if thread.name.startswith("smtpcore"):
                thread.join(TIMEOUT)
                assert not thread.is_alive()
        return

    loop_options = clock.backend_options(backend) if clock else _options(backend)
    with start_blocking_portal(loop_of(backend), loop_options) as portal:
        with clock.attached_to(portal) if clock else nullcontext():
            yield portal.wrap_async_context_manager(serving)
        if loop_of(backend) == "asyncio":
            assert portal.call(_own_tasks) == []


def _own_tasks() -> list[str]:
    package = str(Path(smtpcore_adapters.__file__).parent)
    codes = [(task, getattr(task.get_coro(), "cr_code", None)) for task in asyncio.all_tasks()]
    return [repr(task) for task, code in codes if code and code.co_filename.startswith(package)]
