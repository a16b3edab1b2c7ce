"""Compare servers under TLS: handshakes, large messages and small messages.

    python -m benchmarks.tls [--rounds N] [--seconds S] [--contender NAME ...]

Prints a table of the work in a second of the server's CPU time. Needs Linux and trustme. With SMTPCORE_COMPILED_PYTHON,
the interpreter of an environment with the compiled build, this build is measured too.
"""

# TLS starts before the greeting. All servers have the same certificate, with a P-256 key, and speak TLS 1.3. The client
# is this process; only the CPU time of the server's processes counts. Postfix starts many processes: see `cpu_time`.

import argparse
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trustme

from .contenders import CONTENDERS, POSTFIX, Contender, Running, running
from .loads import LOADS, Load, Step
from .rounds import spread
from .servers import cpus, is_available, rotated

SERVERS: dict[str, Contender] = {
    name: CONTENDERS[name]
    for name in ("asyncio", "uvloop", "compiled", "trio", "threads", "aiosmtpd", "nodemailer", "go-smtp")
} | {"postfix": POSTFIX}
REFERENCE = "aiosmtpd"
THREADS = 4
"""Clients that connect at the same time: a server that sleeps after each step would continue with cold caches."""
TIMEOUT = 30.0
_TICK = os.sysconf("SC_CLK_TCK")


class Client:
    """Connects to a server, and counts the sessions that were resumed."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self.last: ssl.SSLSession | None = None
        """The TLS session of the last connection."""
        self.connections = 0
        self.resumed = 0

    def copy(self) -> "Client":
        """Return another client of the same server, which can resume the last session."""
        client = Client(self._port, self._context)
        client.last = self.last
        return client

    def connect(self, session: ssl.SSLSession | None = None) -> None:
        """Connect, do a handshake, read the greeting, and close."""
        with self.connection(session):
            pass

    @contextmanager
    def connection(self, session: ssl.SSLSession | None = None) -> Iterator[ssl.SSLSocket]:
        """Connect, do a handshake, and read the greeting."""
        with socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, server_hostname="mx.example.org", session=session) as connection:
                answered(connection, Step(b"", re.compile(rb"220[^\n]*\n")))
                self.connections += 1
                self.resumed += connection.session_reused or False
                self.last = connection.session  # the ticket has come with the greeting, or before
                yield connection


def answered(connection: ssl.SSLSocket, step: Step) -> None:
    """Send the octets of a step, and wait for its replies."""
    if step.octets:
        connection.sendall(step.octets)
    received = b""
    while not step.replies.fullmatch(received):
        data = connection.recv(65_536)
        if not data or re.search(rb"^[45]", received + data, re.MULTILINE):
            raise OSError(f"the server sent {received + data!r}")
        received += data


# Loads

Work = Callable[[Client, float], float]
"""A function that uses a server for some seconds, at least once, and returns the amount of work."""


def _until(seconds: float) -> Iterator[None]:
    end = time.perf_counter() + seconds
    yield
    while time.perf_counter() < end:
        yield


def full_handshakes(client: Client, seconds: float) -> float:
    """Connect again and again without resumption."""
    return _handshakes(client, seconds, resumes=False)


def resumed_handshakes(client: Client, seconds: float) -> float:
    """Connect again and again, each time with the ticket of the connection before."""
    return _handshakes(client, seconds, resumes=True)


def _handshakes(client: Client, seconds: float, *, resumes: bool) -> float:
    def connect(each: Client) -> None:
        for _ in _until(seconds):
            each.connect(each.last if resumes else None)

    clients = [client.copy() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(connect, clients))
    client.connections = sum(each.connections for each in clients)
    client.resumed = sum(each.resumed for each in clients)
    return client.connections


def _messages(load: Load) -> Work:
    def send(client: Client, seconds: float) -> float:
        dialogue = load.dialogue()
        with client.connection() as connection:
            for step in dialogue.opening[1:]:  # the greeting was read
                answered(connection, step)
            sent = 0
            for _ in _until(seconds):
                for step in dialogue.message:
                    answered(connection, step)
                sent += 1
        return sent * (load.size / 1e6 if load.in_octets else 1)

    return send


WORKS: dict[str, tuple[str, Work]] = {
    "full": ("full handshakes", full_handshakes),
    "resumed": ("resumed handshakes", resumed_handshakes),
    "large": ("10 MB messages, MB", _messages(LOADS["large"])),
    "small": ("2 KB messages, many per connection", _messages(LOADS["small"])),
}


# CPU time


def family(pid: int) -> set[int]:
    """Return a process with its children, and their children."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found.update(*(family(int(child)) for child in task.read_text().split()))
    return found


def cpu_time(pid: int) -> float:
    """Return the CPU time in seconds of a process and all its descendants, with those that have ended."""
    while True:
        members = family(pid)
        with suppress(OSError):  # a process has ended, and its time was added to that of its parent
            spent = sum(_time_of(each) for each in members)
            if family(pid) == members:
                return spent


def _time_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    of_ended_children = (int(fields[13]) + int(fields[14])) / _TICK  # proc_pid_stat(5): cutime and cstime
    return _own_time_of(pid) + of_ended_children


def _own_time_of(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)  # the clock of clock_getcpuclockid(3)


def settled_cpu_time(pid: int, pause: float = 0.05) -> float:
    """Return `cpu_time` after the server has finished its work: Postfix delivers after its replies."""
    before, now = -1.0, cpu_time(pid)
    while now - before > pause / 20:
        time.sleep(pause)
        before, now = now, cpu_time(pid)
    return now


# Rounds


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of one server under one load in one round."""

    rate: float
    """The work in a second of the server's CPU time."""
    resumed: float
    """The share of the connections whose TLS session was resumed."""


Found = dict[str, dict[str, list[Sample]]]
"""The samples of the rounds, by server and load."""


def measure(names: Iterable[str], *, rounds: int, seconds: float) -> Found:
    """Measure the servers in interleaved rounds."""
    available = [name for name in names if is_available(name, SERVERS[name])]
    found: Found = {name: {work: [] for work in WORKS} for name in available}
    with ExitStack() as stack:
        files, context = _certificate(Path(stack.enter_context(TemporaryDirectory())))
        server_cpu, _ = cpus()
        servers = {name: stack.enter_context(running(SERVERS[name], server_cpu, *files)) for name in available}
        for number in range(rounds):
            for load in WORKS:
                for name in rotated(available, number):
                    sample = _measure(load, servers[name], context, seconds)
                    found[name][load].append(sample)
                    print(f"{name:16} {load:8} {sample.rate:10,.4g} {sample.resumed:4.0%}", file=sys.stderr)
    return found


def _measure(load: str, server: Running, context: ssl.SSLContext, seconds: float) -> Sample:
    _, work = WORKS[load]
    client = Client(server.port, context)
    client.connect()  # a process of Postfix is started before the measurement
    before = settled_cpu_time(server.pid)
    amount = work(client, seconds)
    spent = settled_cpu_time(server.pid) - before
    return Sample(amount / spent, client.resumed / client.connections)


def _certificate(directory: Path) -> tuple[list[str], ssl.SSLContext]:
    """Return the files of a certificate and its key, and the context of a client that trusts the certificate."""
    directory.chmod(0o755)
    authority = trustme.CA()
    certificate = authority.issue_cert("mx.example.org", key_type=trustme.KeyType.ECDSA)
    certificate.cert_chain_pems[0].write_to_path(directory / "chain.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return [str(directory / "chain.pem"), str(directory / "key.pem")], context


# The table


def table(found: Found) -> Iterator[str]:
    """Yield the lines of the table: medians, and the medians of the ratios to aiosmtpd in each round."""
    titles = [title for title, _ in WORKS.values()]
    yield f"| per second of the server's CPU time | {' | | '.join(titles)} | | really resumed |"
    yield "|---|" + "---|" * (2 * len(WORKS) + 1)
    for name, samples in found.items():
        cells = [SERVERS[name].title]
        for load, values in samples.items():
            rate = spread(each.rate for each in values).median
            cells += [f"{rate:,.0f}", _ratio(values, found.get(REFERENCE, {}).get(load, []))]
        cells.append(f"{median(each.resumed for each in samples['resumed']):.0%}")
        yield f"| {' | '.join(cells)} |"


def _ratio(values: list[Sample], references: list[Sample]) -> str:
    if not references:
        return "-"

    return f"{median(value.rate / other.rate for value, other in zip(values, references, strict=True)):.2f} x"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls", description="Compare servers under TLS.")
    parser.add_argument("--rounds", type=int, default=7, help="how often each server is measured (default 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="the duration of each measurement (default 1)")
    parser.add_argument("--contender", nargs="+", choices=SERVERS, default=list(SERVERS), help="only these servers")
    options = parser.parse_args()
    _, client_cpu = cpus()
    if client_cpu is not None:
        os.sched_setaffinity(0, {client_cpu})
    print("\n".join(table(measure(options.contender, rounds=options.rounds, seconds=options.seconds))))


if __name__ == "__main__":
    main()
