"""Measure servers that store mail in a replicated queue: 1, 2 and 3 nodes, beside the same nodes that discard all mail.

    python -m benchmarks.queue [--quick] [--nodes 1 2 3] [--adapter asyncio]

The queue is a cluster of three NATS servers on this machine. Every figure is the median of interleaved rounds. `per CPU
second` counts the CPU time of the nodes alone. The rate per second of wall time also depends on the CPU time of the
NATS servers and of the clients, which share this machine.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median

from smtpcore import Config, Reply
from smtpcore_adapters import App, Limits, Message, Session
from smtpcore_adapters.recipients import AnyRecipient
from smtpcore_adapters.stores import StoreHandler
from smtpcore_adapters.stores.jetstream import JetStream
from tests.adapters.stores.nats_servers import PROGRAM, WITHOUT_PROGRAM, nats_cluster

from .traffic import DATA, EHLO, MAIL, RCPT, body_of

_CLIENTS = 64
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Kind:
    """A size of messages, and the number of messages in a round."""

    name: str
    size: int
    messages: int


KINDS = (Kind("2 KB", 2_000, 4_000), Kind("1 MB", 1_000_000, 200))


@dataclass(frozen=True, slots=True)
class Figures:
    """The result of one round."""

    per_second: float
    """Messages in a second of wall time."""
    per_cpu_second: float
    """Messages in a second of the CPU time of the nodes."""


class Node:
    """A server in a process of its own, with a queue at the URL `queue`, or without a queue."""

    def __init__(self, adapter: str, queue: str) -> None:
        command = [sys.executable, "-m", "benchmarks.queue", "--node", queue, "--adapter", adapter]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout, "the standard output is a pipe"
        self.port = int(self._process.stdout.readline())

    def cpu(self) -> float:
        """Return the CPU time of the process in seconds."""
        # The name of the program, in parentheses, may contain spaces. The fields after it begin with the third.
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


def serve(adapter: str, queue: str) -> None:
    """Run a node until SIGTERM. Print its port."""
    app = App()
    app.include(AnyRecipient())
    if queue:
        app.include(StoreHandler(JetStream(queue)))
    else:

        @app.on("message")
        async def discard(session: Session, message: Message) -> Reply:
            async for _ in message:
                pass
            return Reply(250)

    run: Callable[..., None] = import_module(f"smtpcore_adapters.{adapter}").run
    config = Config(hostname="mx.example.org", max_messages=None, max_message_size=10_000_000)
    limits = Limits(connections_per_minute=None)
    run(app, 0, config=config, limits=limits, on_ready=lambda address: print(address.port, flush=True))


async def _send(port: int, messages: int, body: bytes) -> None:
    """Send messages in one session, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def reply(code: bytes) -> None:
        line = await reader.readline()
        while line[3:4] == b"-":
            line = await reader.readline()
        if line[:3] != code:
            raise RuntimeError(f"the server replied {line!r} instead of {code.decode()}")

    await reply(b"220")
    writer.write(EHLO)
    await reply(b"250")
    for _ in range(messages):
        writer.write(MAIL + RCPT + DATA)
        for code in (b"250", b"250", b"354"):
            await reply(code)
        writer.write(body)
        await reply(b"250")
    writer.close()
    await writer.wait_closed()


async def _send_all(ports: Sequence[int], messages: int, body: bytes) -> None:
    clients = min(_CLIENTS, messages)
    await asyncio.gather(
        *(
            _send(ports[number % len(ports)], messages // clients + (number < messages % clients), body)
            for number in range(clients)
        )
    )


def measure(nodes: Sequence[Node], kind: Kind) -> Figures:
    """Send the messages of one round to all nodes."""
    begun, cpu = time.perf_counter(), sum(node.cpu() for node in nodes)
    asyncio.run(_send_all([node.port for node in nodes], kind.messages, body_of(kind.size)))
    seconds, cpu = time.perf_counter() - begun, sum(node.cpu() for node in nodes) - cpu
    return Figures(kind.messages / seconds, kind.messages / max(cpu, 1 / _TICKS))


@contextmanager
def running(adapter: str, queue: str, number: int) -> Iterator[list[Node]]:
    """Run a number of nodes for the time of a `with` block."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(number):
            node = Node(adapter, queue)
            stack.callback(node.stop)
            nodes.append(node)
        yield nodes


def compare(adapter: str, numbers: Sequence[int], kinds: Sequence[Kind], rounds: int) -> Iterator[str]:
    """Measure all numbers of nodes with and without a queue, and yield the lines of a table."""
    yield "| messages | nodes | discarded, per s | stored, per s | discarded, per CPU s | stored, per CPU s |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as directory, nats_cluster(Path(directory), 3) as cluster, ExitStack() as stack:
        queues = {"discarded": "", "stored": cluster.url("MAIL")}
        nodes = {
            (name, number): stack.enter_context(running(adapter, queue, number))
            for name, queue in queues.items()
            for number in numbers
        }
        for kind in kinds:
            results: dict[tuple[str, int], list[Figures]] = {key: [] for key in nodes}
            for key, each in nodes.items():
                measure(each, Kind(kind.name, kind.size, max(1, kind.messages // 10)))  # connects, creates streams
                assert not results[key]
            for _ in range(rounds):
                for key, each in nodes.items():
                    results[key].append(measure(each, kind))
            for number in numbers:
                discarded, stored = results["discarded", number], results["stored", number]
                figures = [
                    *(median(figure.per_second for figure in result) for result in (discarded, stored)),
                    *(median(figure.per_cpu_second for figure in result) for result in (discarded, stored)),
                ]
                yield f"| {kind.name} | {number} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round with few messages")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3], help="numbers of nodes")
    parser.add_argument("--adapter", choices=["asyncio", "trio", "anyio", "socket"], default="asyncio")
    parser.add_argument("--node", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.node is not None:
        serve(options.adapter, options.node)
        return
    if PROGRAM is None:
        sys.exit(WITHOUT_PROGRAM)

    kinds = [Kind(kind.name, kind.size, kind.messages // 40) for kind in KINDS] if options.quick else KINDS
    for line in compare(options.adapter, options.nodes, kinds, 1 if options.quick else 5):
        print(line, flush=True)


if __name__ == "__main__":
    main()
