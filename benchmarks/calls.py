"""Count the function calls between the octets of a command and its reply.

    python -m benchmarks.calls [--list NAME]

Each row of the table is one exchange with a session over a stream in memory. Counting starts when the stream returns
the octets of the command, and ends when the session has sent its reply and waits for the next octets. For `connection`,
counting starts before the session is made, and ends with the session. The calls of the stream and of the handlers are
not counted. The application has a handler for RCPT and one for messages. `--list` prints
every counted call of one exchange, indented by its depth.
"""

import argparse
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from ssl import SSLContext
from types import FrameType
from typing import Any, TypeVar

from smtpcore import Bodies, Config, Rcpt, Reply
from smtpcore_adapters import Address, App, Message, Session, Stream, Tls
from smtpcore_adapters.embedding import Sessions

from .traffic import DATA, EHLO, MAIL, QUIT, RCPT, body_of

T = TypeVar("T")

_EHLO_TO_RCPT = (EHLO, MAIL, RCPT)

EXCHANGES: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    "connection": ((), (EHLO, QUIT)),
    "NOOP": ((EHLO,), (b"NOOP\r\n",)),
    "MAIL": ((EHLO,), (MAIL,)),
    "RCPT": (_EHLO_TO_RCPT, (RCPT,)),
    "DATA": (_EHLO_TO_RCPT, (DATA,)),
    "body of 2 KB": ((*_EHLO_TO_RCPT, DATA), (body_of(2_000),)),
    "message of 2 KB": ((EHLO,), (MAIL, RCPT, DATA, body_of(2_000))),
    "message of 2 KB, pipelined": ((EHLO,), (MAIL + RCPT + DATA, body_of(2_000))),
}
"""For each exchange, the segments that are sent before the exchange, and the segments of the exchange itself.

If no segments are sent before, the exchange includes the beginning of the session."""

_CORE = "smtpcore"
_ADAPTERS = "smtpcore_adapters"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a Python function, or one resumption of a coroutine."""

    module: str
    """The module of the function."""
    name: str
    """The qualified name of the function."""
    depth: int
    """The number of callers on the stack."""

    @property
    def package(self) -> str:
        """The top-level package of the module."""
        return self.module.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Count:
    """The function calls made during one exchange: a command and its reply."""

    calls: tuple[Call, ...]
    """The calls of Python functions of all packages, in order."""
    builtins: int
    """The number of calls of functions written in C."""

    @property
    def core(self) -> int:
        """The number of calls of functions in `smtpcore`."""
        return sum(call.package == _CORE for call in self.calls)

    @property
    def adapters(self) -> int:
        """The number of calls of functions in `smtpcore_adapters`."""
        return sum(call.package == _ADAPTERS for call in self.calls)

    @property
    def modules(self) -> int:
        """The number of different modules of this project."""
        return len({call.module for call in self._ours})

    @property
    def changes(self) -> int:
        """How often a function of this project is called right after a function of another module of this project."""
        return sum(before.module != after.module for before, after in pairwise(self._ours))

    @property
    def _ours(self) -> list[Call]:
        return [call for call in self.calls if call.package in (_CORE, _ADAPTERS)]


class _Counter:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.builtins = 0

    def start(self) -> None:
        sys.setprofile(self._count)

    def stop(self) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call":
            self.builtins += argument is not sys.setprofile
        elif event == "call" and (module := frame.f_globals["__name__"]) != __name__:
            self.calls.append(Call(module, frame.f_code.co_qualname, _depth_of(frame)))


def _depth_of(frame: FrameType) -> int:
    depth = 0
    while frame.f_back:
        frame = frame.f_back
        depth += 1
    return depth


class _CountingStream:
    """A `Stream` that returns given segments, and counts calls from the first segment of the exchange on."""

    def __init__(self, before: tuple[bytes, ...], counted: tuple[bytes, ...]) -> None:
        self.peer: Address | None = Address("192.0.2.1", 49152)
        self.local: Address | None = Address("192.0.2.25", 25)
        self.tls: Tls | None = None
        self.sent: list[bytes] = []
        self.counter = _Counter()
        self._segments = iter([*before, *counted])
        self._left_before = len(before)
        self._left_counted = len(counted)

    async def receive(self, timeout: float) -> bytes:
        self.counter.stop()
        data = next(self._segments, b"")
        if self._left_before:
            self._left_before -= 1
        elif self._left_counted:
            self._left_counted -= 1
            self.counter.start()
        return data

    async def send(self, data: bytes, timeout: float) -> None:
        self.sent.append(data)

    def has_input(self) -> bool:
        return False

    async def receive_arrived(self) -> bytes | None:
        return None

    async def start_tls(
        self, context: SSLContext, timeout: float, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        raise NotImplementedError

    async def aclose(self, timeout: float) -> None:
        pass

    def reset_on_close(self) -> None:
        raise NotImplementedError

    def interrupt(self) -> None:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def open(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream:
        raise NotImplementedError

    async def check_cancelled(self) -> None:
        pass

    async def run_blocking(self, function: Callable[..., T], /, *args: Any) -> T:
        raise NotImplementedError

    def run_async(self, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any) -> T:
        raise NotImplementedError


def _app() -> App:
    app = App()

    @app.on("RCPT")
    async def accept(session: Session, rcpt: Rcpt) -> Reply:
        return _ACCEPTED

    @app.on("message")
    async def take(session: Session, message: Message) -> Reply:
        async for _ in message:
            pass
        return _TAKEN

    return app


_ACCEPTED = Reply(250, "Accepted", enhanced="2.1.5")
_TAKEN = Reply(250, "Taken", enhanced="2.0.0")


def count(name: str) -> Count:
    """Count the calls of the exchange `name`. Raises `RuntimeError` if the server refuses a part of it."""
    for _ in range(2):  # the first session also fills caches
        before, counted = EXCHANGES[name]
        stream = _CountingStream(before, counted)
        sessions = Sessions(_app(), config=Config(hostname="mx.example.org", bodies=Bodies.CHUNKS))
        if not before:
            stream.counter.start()
        with suppress(StopIteration):
            sessions.run(stream).send(None)
        stream.counter.stop()

        if any(reply[:1] not in b"23" for reply in stream.sent):
            raise RuntimeError(f"refused: {stream.sent}")

    return Count(tuple(stream.counter.calls), stream.counter.builtins)


def lines() -> Iterator[str]:
    """Yield the lines of a Markdown table with the counts of all exchanges."""
    yield "| | calls | of the core | of the adapters | calls of C functions | modules | changes of module |"
    yield "|---|---|---|---|---|---|---|"
    for name in EXCHANGES:
        found = count(name)
        figures = (len(found.calls), found.core, found.adapters, found.builtins, found.modules, found.changes)
        yield f"| {name} | {' | '.join(map(str, figures))} |"


def main() -> None:
    """Print the table, or the calls of one exchange."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description="Count calls from octets to reply.")
    parser.add_argument("--list", choices=EXCHANGES, metavar="NAME", help=f"one of {', '.join(EXCHANGES)}")
    options = parser.parse_args()
    if options.list:
        calls = count(options.list).calls
        least = min(call.depth for call in calls)
        for call in calls:
            print(f"{'  ' * (call.depth - least)}{call.module} {call.name}")
    else:
        print("\n".join(lines()))


if __name__ == "__main__":
    main()
