"""Compute what a rate of messages needs, from measured costs: the tables of docs/scaling.md.

    python -m benchmarks.scaling            # print the tables
    python -m benchmarks.scaling --measure  # measure TLS handshakes and shared limits on this machine

The costs of the servers are those of results.json. The measurement needs redis-server.
"""

import argparse
import asyncio
import json
import math
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import trustme

from smtpcore_adapters import Limits
from smtpcore_adapters.server._peers import PeerTable
from smtpcore_adapters.shared_limits import RedisCounts

from .ports import reserved_ports

UTILIZATION = 0.6
"""The share of a core that is used in the long run, so that peaks and the loss of a node have room."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The rates of one core and one stream, and the memory of a session, as measured on one machine."""

    session_messages: float
    """Messages of 2 KB, each in a session of its own, that a core receives in a second."""
    pipelined_messages: float
    """Messages of 2 KB with a pipelined envelope, in long sessions."""
    megabytes: float
    """Megabytes of large messages that a core receives in a second."""
    idle_octets: float
    """Memory of an idle session."""
    handshakes: float = 2_200.0
    """Connections for whose TLS, with a P-256 certificate, a core of a node has time in a second: what `benchmarks.tls`
    measures with TLS and without it, subtracted."""
    limit_sessions: float = 4_300.0
    """Sessions for which a core of a node has time in a second to ask the shared limits, and nothing else."""
    limit_store: float = 23_000.0
    """Sessions in a second for which a core of the store of the limits has time."""
    publishing: float = 3_300.0
    """Messages of 2 KB that a core of a node publishes in a second, and nothing else: docs/jetstream.md."""
    acknowledgements: float = 5_600.0
    """Messages of 2 KB in a second that one replicated stream acknowledges, with 64 at a time: docs/jetstream.md."""
    queueing: float = 2_800.0
    """Messages of 2 KB for which a core has time in a second to run all three replicas of a stream: 5,600 messages with
    two cores, which the clients used too."""


def published(path: Path = Path(__file__).parent / "results.json") -> Costs:
    """Return the costs, with the medians of the published results."""
    servers = json.loads(path.read_text())["servers"]

    def figure(load: str, name: str = "per_cpu") -> float:
        return float(median(sample[name] for sample in servers[load]["asyncio"]))

    return Costs(figure("connections"), figure("envelope"), figure("large"), figure("idle", "octets"))


@dataclass(frozen=True, slots=True)
class Need:
    """The machines that a rate of messages needs."""

    nodes: int
    """Cores of the nodes, for sessions, bodies, TLS, the shared limits and publishing."""
    queue: int
    """Cores of the queue, for three replicas."""
    streams: int
    """Replicated streams, each for a part of the subjects."""
    stores: int
    """Stores of the shared limits, each with a core."""
    sessions: int
    """Open sessions, if each takes two seconds."""
    gigabits: float
    """Traffic in Gbit/s from the clients to the nodes. Between the nodes and the queue there is three times as much."""


def seconds_per_message(octets: float, costs: Costs, per_session: float = 1.0) -> dict[str, float]:
    """Return the seconds of a core that a message takes, by their cause, with `per_session` messages in a session."""
    sessions = 1 / per_session
    bodies = max(0.0, octets - 2_000) / 1e6 / costs.megabytes
    blocks = max(1.0, octets / 256_000)  # a longer message is published in blocks of 256 KiB
    return {
        "sessions and bodies": sessions / costs.session_messages + (1 - sessions) / costs.pipelined_messages + bodies,
        "TLS handshakes": sessions / costs.handshakes,
        "shared limits": sessions / costs.limit_sessions,
        "publishing to the queue": blocks / costs.publishing,
        "store of the limits": sessions / costs.limit_store,
        "queue, three replicas": blocks / costs.queueing,
    }


OF_NODES = ("sessions and bodies", "TLS handshakes", "shared limits", "publishing to the queue")
"""The causes that take time of the nodes."""


def need(rate: float, octets: float, costs: Costs, per_session: float = 1.0) -> Need:
    """Return what `rate` messages of `octets` in a second need."""
    seconds = seconds_per_message(octets, costs, per_session)
    return Need(
        nodes=_whole(rate * sum(seconds[name] for name in OF_NODES)),
        queue=_whole(rate * seconds["queue, three replicas"]),
        streams=_whole(rate / costs.acknowledgements),
        stores=_whole(rate * seconds["store of the limits"]),
        sessions=round(2 * rate / per_session),
        gigabits=rate * octets * 8 / 1e9,
    )


def _whole(used: float) -> int:
    return math.ceil(used / UTILIZATION)


CASES = (
    (10_000, 2_000, 1.0),
    (10_000, 75_000, 1.0),
    (10_000, 75_000, 20.0),
    (1_000_000, 2_000, 1.0),
    (1_000_000, 75_000, 20.0),
)
"""The rates of the page: messages in a second, octets of each, and messages in each session."""


def tables(costs: Costs) -> Iterator[str]:
    """Yield the lines of the tables."""
    titles = ("messages/s", "size", "per session", "cores of nodes", "cores of the queue", "streams", "stores")
    yield f"| {' | '.join(titles)} | open sessions | Gbit/s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for rate, octets, per_session in CASES:
        each = need(rate, octets, costs, per_session)
        numbers = (each.nodes, each.queue, each.streams, each.stores, each.sessions)
        shown = " | ".join(f"{number:,}" for number in numbers)
        yield f"| {rate:,} | {octets // 1000} KB | {per_session:g} | {shown} | {float(f'{each.gigabits:.2g}'):g} |"
    yield ""
    columns = [seconds_per_message(*case) for case in ((2_000, costs), (75_000, costs), (75_000, costs, 20.0))]
    yield "| core hours per million messages | 2 KB, 1 per session | 75 KB, 1 per session | 75 KB, 20 per session |"
    yield "|---|---|---|---|"
    for name in columns[0]:
        yield f"| {name} | " + " | ".join(f"{column[name] * 1e6 / 3600:.3f}" for column in columns) + " |"
    yield "| all | " + " | ".join(f"{sum(column.values()) * 1e6 / 3600:.3f}" for column in columns) + " |"


# Measurements


def handshakes(count: int) -> float:
    """Return the handshakes for which one core has time in a second: only the CPU time of the server's end counts."""
    authority = trustme.CA()
    certificate = authority.issue_cert("s.example", key_type=trustme.KeyType.ECDSA)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    certificate.configure_cert(server)
    authority.configure_trust(client)
    spent = 0.0
    for _ in range(count):
        (to_server, to_client) = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            server.wrap_bio(to_server, to_client, server_side=True),
            client.wrap_bio(to_client, to_server, server_hostname="s.example"),
        ]
        for end in (1, 0, 1, 0):
            begun = time.thread_time()
            with suppress(ssl.SSLWantReadError):
                ends[end].do_handshake()
            if end == 0:
                spent += time.thread_time() - begun
    return count / spent


@contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a store, and yield its URL and the id of its process."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("redis-server is not installed")

    with tempfile.TemporaryDirectory() as directory, reserved_ports(1) as (port,):
        path = f"{directory}/redis.sock"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", ""]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
            while not Path(path).exists():
                time.sleep(0.01)
            try:
                yield f"redis://127.0.0.1:{port}?timeout=10", process.pid
            finally:
                process.kill()


def shared_limits(count: int) -> tuple[float, float]:
    """Return the sessions in a second for which a core of a node, and a core of the store, have time."""
    with redis_server() as (url, pid), RedisCounts(url) as counts:
        table = PeerTable(Limits(connections_per_address=count, connections_per_prefix=count), counts)
        table.enter("192.0.2.1", 0)
        before = time.process_time(), _cpu_of(pid)
        asyncio.run(_visit(table, count))
        node, store = time.process_time() - before[0], _cpu_of(pid) - before[1]
    return count / node, count / store


async def _visit(table: PeerTable, count: int) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):  # as a session does: in a thread, so that the loop is free
        host = f"198.51.{number // 200 % 200}.{number % 200}"
        assert await loop.run_in_executor(None, table.enter, host, 0.0) is None
        table.leave(host)


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the costs that results.json does not have")
    options = parser.parse_args()
    if options.measure:
        node, store = shared_limits(10_000)
        print(f"TLS handshakes: {handshakes(1_000):,.0f} per second of CPU time")
        print(f"shared limits: {node:,.0f} sessions per second of CPU time of a node, {store:,.0f} of the store")
    else:
        print("\n".join(tables(published())))


if __name__ == "__main__":
    main()
