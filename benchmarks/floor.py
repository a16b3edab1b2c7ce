"""Measure the minimum cost of a framework with sinks: servers that reply at once, without looking at their input.

    python -m benchmarks.floor [--seconds SECONDS] [--rounds ROUNDS]

A server cannot handle more messages than the sink of its framework.
"""

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

from . import servers
from .contenders import CONTENDERS, Contender, allow_many_files

LOADS = ("small", "envelope", "connections", "recipients")
SINKS = {
    "callback": "asyncio, in the callback that receives the data",
    "task": "asyncio, a task for each session",
    "trio": "trio, a task for each session",
}


class Sink:
    """The replies to one client."""

    def __init__(self) -> None:
        self._input = b""
        self._in_body = False

    def answer(self, data: bytes) -> bytes:
        """Return the replies to the received octets."""
        self._input += data
        replies = []
        while line := self._line():
            replies.append(self._reply(line))

        return b"".join(replies)

    def _line(self) -> bytes:
        end = b"\r\n.\r\n" if self._in_body else b"\r\n"
        line, found, rest = self._input.partition(end)
        if found:
            self._input = rest

        return found and line + found

    def _reply(self, line: bytes) -> bytes:
        if line.startswith(b"QUIT"):
            return b"221 Bye\r\n"

        self._in_body = line.startswith(b"DATA")
        return b"354 Go on\r\n" if self._in_body else b"250 OK\r\n"


class Callback(asyncio.BufferedProtocol):
    """A sink that replies in the callback that receives the data."""

    _buffer = memoryview(bytearray(65_536))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink = Sink()
        transport.write(b"220 Ready\r\n")

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self.take(bytes(self._buffer[:count]))

    def take(self, data: bytes) -> None:
        """Reply at once."""
        self._transport.write(self._sink.answer(data))


class InTask(Callback):
    """A sink that replies in a task."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._data = b""
        self._arrived = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve())

    def connection_lost(self, _exc: Exception | None) -> None:
        self._task.cancel()

    def take(self, data: bytes) -> None:
        """Pass the data to the task."""
        self._data += data
        if not self._arrived.done():
            self._arrived.set_result(None)

    async def _serve(self) -> None:
        while True:
            await self._arrived
            self._arrived = asyncio.get_running_loop().create_future()
            data, self._data = self._data, b""
            super().take(data)


async def serve_in_asyncio(protocol: type[Callback], port: int) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


def serve_in_trio(port: int) -> None:
    import trio  # imported here, because trio is optional

    async def session_for(client: socket.socket) -> None:
        sink = Sink()
        try:
            with client:
                client.send(b"220 Ready\r\n")
                while True:
                    await trio.lowlevel.wait_readable(client)
                    data = client.recv(65_536)
                    if not data:
                        return

                    client.send(sink.answer(data))
        except OSError:
            pass

    async def accept() -> None:
        with socket.create_server(("127.0.0.1", port), backlog=1_024) as listener:
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    client, _ = listener.accept()
                    client.setblocking(False)
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    nursery.start_soon(session_for, client)

    trio.run(accept)


def contender(kind: str) -> Contender:
    """Return a sink as a `Contender`, like the other servers."""
    return Contender(
        SINKS[kind], lambda port: [sys.executable, "-m", "benchmarks.floor", "--serve", kind, str(port)], lambda: None
    )


def measure(rounds: int, seconds: float) -> None:
    """Print the CPU time of a message, in microseconds."""
    allow_many_files()
    CONTENDERS.update({kind: contender(kind) for kind in SINKS})
    found = servers.measure(SINKS, LOADS, rounds=rounds, seconds=seconds)
    print("| us of CPU time for each message |", " | ".join(LOADS), "|")
    print("|---" * (len(LOADS) + 1) + "|")
    for kind, title in SINKS.items():
        costs = (1e6 / median(sample["per_cpu"] for sample in found[load][kind]) for load in LOADS)
        print(f"| {title} |", " | ".join(f"{cost:.0f}" for cost in costs), "|")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--serve", nargs=2, metavar=("SINK", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.serve:
        measure(options.rounds, options.seconds)
        return

    kind, port = options.serve
    serve: dict[str, Callable[[], None]] = {
        "callback": lambda: asyncio.run(serve_in_asyncio(Callback, int(port))),
        "task": lambda: asyncio.run(serve_in_asyncio(InTask, int(port))),
        "trio": partial(serve_in_trio, int(port)),
    }
    serve[kind]()


if __name__ == "__main__":
    main()
