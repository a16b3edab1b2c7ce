"""No mail is lost while three servers behind HAProxy, three NATS servers and two consumers are killed.

All are processes. While messages are sent, each mail server is killed once with SIGKILL, the leader of the stream
twice, and a consumer once. Every message that got 250 has to be consumed whole and with its envelope. A message may
come twice only if a reply was cut off, or if its consumer was killed.
"""

import asyncio
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random

from benchmarks.ports import reserved_ports
from smtpcore import ProtocolError
from smtpcore_adapters import Client, TlsMode
from smtpcore_adapters.asyncio import connect
from tests.adapters.stores.nats_servers import NatsCluster, NatsServer, nats_cluster, needs_nats
from tests.long import long

pytestmark = needs_nats

CLIENTS = 24
DEADLINE = 240.0
"""Seconds for a whole run."""

# `smtpcore serve`, if wanted with a store that does not wait for the acknowledgement of the cluster.
SERVER = """
import asyncio, sys
from smtpcore_adapters.cli import main
if sys.argv[1] == "careless":
    from smtpcore_adapters.stores.jetstream._asyncio import Link
    original, tasks = Link.publish, set()
    async def publish(*args):
        tasks.add(asyncio.ensure_future(original(*args)))
    Link.publish = publish
sys.exit(main(sys.argv[2:]))
"""
CONSUMER = """
import asyncio, hashlib, json, sys
from contextlib import aclosing
from smtpcore_adapters.stores import StoreUnavailable
from smtpcore_adapters.stores.jetstream import consume
async def work(url, file):
    async with aclosing(consume(url, durable="acceptance", ack_wait=10)) as messages:
        async for message in messages:
            try:
                digest, octets = hashlib.sha256(), bytearray()
                async for piece in message:
                    octets += piece
                content = bytes(octets).partition(b"\\r\\nX-Id: ")[2]
                values = {
                    "id": int(content.partition(b"\\r\\n")[0]),
                    "key": message.envelope.key,
                    "sender": message.envelope.sender,
                    "recipients": message.envelope.addresses,
                    "digest": hashlib.sha256(content).hexdigest(),
                }
                file.write(json.dumps(values) + "\\n")
                file.flush()
                await message.ack()
            except StoreUnavailable as exc:
                print(exc, file=sys.stderr)
async def main(url, path):
    with open(path, "a") as file:
        await asyncio.gather(*(work(url, file) for _ in range(4)))
asyncio.run(main(*sys.argv[1:]))
"""
HAPROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 120s
    timeout server 120s
    retries 5
    option redispatch
frontend front
    bind fd@{front}
    default_backend nodes
backend nodes
    balance leastconn
    {nodes}
"""


class Fleet:
    """Processes that can be killed and started again with the same arguments."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._commands: dict[str, list[str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        if command:
            self._commands[name] = [*command]
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(self._commands[name], stdout=log, stderr=log, cwd=self._directory)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def close(self) -> None:
        for name in self._processes:
            self.kill(name)


@dataclass
class Run:
    """The messages of a run, and the results."""

    count: int
    sizes: list[int]
    accepted: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    consumed: dict[int, list[dict[str, object]]] = field(default_factory=lambda: defaultdict(list))

    def content(self, number: int) -> bytes:
        """Return the message from the value of its first field on."""
        line = b"%06d 0123456789abcdefghijklmnopqrstuvwxyz\r\n" % number
        return b"%d\r\n\r\n" % number + line * (self.sizes[number] // len(line))

    def envelope(self, number: int) -> tuple[str, list[str]]:
        recipients = [f"u{number}@d{number % 7}.example", f"v{number}@d{number % 5}.example"][: number % 2 + 1]
        return f"s{number}@c.example", recipients

    def read(self, files: list[Path]) -> None:
        self.consumed.clear()
        for file in files:
            for line in file.read_text().splitlines() if file.exists() else ():
                try:
                    values = json.loads(line)
                except ValueError:  # the consumer was killed while it wrote the line
                    continue
                self.consumed[values["id"]].append(values)

    @property
    def lost(self) -> set[int]:
        return self.accepted - set(self.consumed)

    def damaged(self) -> list[int]:
        """Return the messages that did not arrive whole, or with another envelope."""
        found = []
        for number, copies in self.consumed.items():
            sender, recipients = self.envelope(number)
            digest = hashlib.sha256(self.content(number)).hexdigest()
            expected = {"id": number, "sender": sender, "recipients": recipients, "digest": digest}
            if any({name: each[name] for name in expected} != expected for each in copies):
                found.append(number)
        return found

    def unexplained(self) -> list[int]:
        """Return the messages that are in the queue more often than a reply was cut off."""
        keys = {number: {each["key"] for each in copies} for number, copies in self.consumed.items()}
        return [number for number, found in keys.items() if len(found) > self.attempts[number]]


@contextmanager
def proxied(directory: Path, ports: list[int]) -> Iterator[list[int]]:
    """Run HAProxy in front of ports, and yield its port. Without HAProxy, yield the ports themselves."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        yield ports
        return

    nodes = "\n    ".join(f"server n{port} 127.0.0.1:{port} check inter 250ms fall 1 rise 1" for port in ports)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as front:
        (directory / "haproxy.cfg").write_text(HAPROXY.format(front=front.fileno(), nodes=nodes))
        command = [program, "-db", "-q", "-f", str(directory / "haproxy.cfg")]
        with subprocess.Popen(command, pass_fds=[front.fileno()], stderr=subprocess.DEVNULL) as proxy:
            try:
                yield [front.getsockname()[1]]
            finally:
                proxy.terminate()


async def send_all(run: Run, ports: list[int]) -> None:
    """Send all messages with several clients. Each client sends a message again until it gets 250."""
    waiting = list(range(run.count))
    targets = cycle(ports)

    async def work() -> None:
        while waiting:
            try:
                async with connect("127.0.0.1", next(targets), tls=TlsMode.NONE, hostname="c.example") as client:
                    while waiting:
                        number = waiting.pop()
                        try:
                            await deliver(client, number)
                        except BaseException:
                            waiting.append(number)
                            raise
            except (OSError, ProtocolError):
                await asyncio.sleep(0.1)

    async def deliver(client: Client, number: int) -> None:
        run.attempts[number] += 1
        sender, recipients = run.envelope(number)
        body = b"Subject: x\r\nX-Id: " + run.content(number)
        result = await client.send(sender, recipients, body)
        if result.refused:
            raise ConnectionError(str(result.final))
        run.accepted.add(number)

    await asyncio.gather(*(work() for _ in range(CLIENTS)))


@dataclass
class Step:
    """A kill, once a part of the messages was accepted."""

    part: float
    action: Callable[[], object]


async def play(run: Run, steps: list[Step], sending: "asyncio.Task[None]") -> None:
    for step in steps:
        while len(run.accepted) < step.part * run.count and not sending.done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.to_thread(step.action)


def kill_leader(cluster: NatsCluster, killed: list[NatsServer]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        leader = cluster.leader("MAIL")
        if leader:
            leader.kill()
            killed.append(leader)
            return
        time.sleep(0.1)
    raise AssertionError("the stream has no leader")


def scenario(directory: Path, count: int, *, largest: int, is_careless: bool = False) -> Run:
    """Send messages while everything is killed, and return what was accepted and what was consumed."""
    random = Random(7)
    sizes = [random.choice([0, random.randrange(2000), random.randrange(20_000)]) for _ in range(count)]
    for number in random.sample(range(count), count // 50):
        sizes[number] = random.randrange(300_000, 1_000_000)
    for number in random.sample(range(count), 6):
        sizes[number] = random.randrange(largest // 2, largest)
    run = Run(count, sizes)
    fleet, killed = Fleet(directory), list[NatsServer]()
    files = [directory / f"consumed{number}" for number in range(2)]
    with ExitStack() as stack:
        cluster = stack.enter_context(nats_cluster(directory, 3))
        stack.callback(fleet.close)
        url = cluster.url("MAIL")
        ports = stack.enter_context(reserved_ports(3))
        kind = "careless" if is_careless else "careful"
        for number, port in enumerate(ports):
            options = ["serve", "--port", str(port), "--deliver", url, "--quiet", "--max-size", "50000000"]
            fleet.start(f"node{number}", sys.executable, "-c", SERVER, kind, *options)
        for number, file in enumerate(files):
            fleet.start(f"consumer{number}", sys.executable, "-c", CONSUMER, url, str(file))
        front = stack.enter_context(proxied(directory, ports))

        def revive() -> None:
            for each in killed:
                each.start()
            killed.clear()

        steps = [
            Step(0.1, lambda: fleet.restart("node0")),
            Step(0.2, lambda: fleet.restart("consumer0")),
            Step(0.3, lambda: kill_leader(cluster, killed)),
            Step(0.3, lambda: time.sleep(1.5)),
            Step(0.3, lambda: fleet.restart("node1")),
            Step(0.4, revive),
            Step(0.6, lambda: kill_leader(cluster, killed)),
            Step(0.6, lambda: time.sleep(1.5)),
            Step(0.6, lambda: fleet.restart("node2")),
            Step(0.7, revive),
        ]

        async def main() -> None:
            async with asyncio.timeout(DEADLINE):
                sending = asyncio.ensure_future(send_all(run, front))
                await play(run, steps, sending)
                await sending

        asyncio.run(main())
        end = time.monotonic() + (10 if is_careless else 90)
        run.read(files)
        while run.lost and time.monotonic() < end:
            time.sleep(0.5)
            run.read(files)
    return run


@long
def test_no_accepted_message_is_lost(tmp_path: Path) -> None:
    run = scenario(tmp_path, 5000, largest=20_000_000)
    assert len(run.accepted) == 5000
    assert run.lost == set()
    assert run.damaged() == []
    assert run.unexplained() == []


@long
def test_store_that_does_not_wait_for_the_acknowledgement_loses_messages(tmp_path: Path) -> None:
    run = scenario(tmp_path, 600, largest=1_000_000, is_careless=True)
    assert run.lost != set()
