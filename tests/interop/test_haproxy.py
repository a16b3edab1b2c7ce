"""Several nodes behind HAProxy, with docs/deploy/haproxy.cfg: they are found by DNS, and restarted without a loss."""

import csv
import shutil
import signal
import smtplib
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import reserved_ports
from tests.adapters.command import command
from tests.forking import start_python
from tests.paths import DOCS

TIMEOUT = 60.0
CONFIGURATION = (DOCS / "deploy" / "haproxy.cfg").read_text()
HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
NAME = "smtpcore.internal"
SENDERS = 4


def program() -> str:
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if found is None:
        pytest.skip("haproxy is not installed")

    return found


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "a condition was not met in time"
        time.sleep(0.005)


class Dns:
    """A server of DNS (RFC 1035) that knows the addresses of one name."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self) -> None:
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return

            end = query.index(b"\0", 12) + 5
            is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
            answers = self.addresses if is_ipv4 else []
            header = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(answers), 0, 0)
            record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4)
            body = b"".join(record + socket.inet_aton(each) for each in answers)
            self.socket.sendto(header + query[12:end] + body, client)


@contextmanager
def dns() -> Iterator[Dns]:
    server = Dns()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", server.port))
        thread.join(TIMEOUT)
        server.socket.close()


class Node:
    """A process of smtpcore serve at an address of its own."""

    def __init__(self, host: str, ports: Sequence[int], directory: Path) -> None:
        self.host = host
        self.log = directory / f"{host}.log"
        self._command = command(
            *("serve", "--host", host, "--port", str(ports[0]), "--accept", "s.example", "--proxy-protocol"),
            *("--metrics-host", host, "--metrics-port", str(ports[1]), "--drain-delay", "1000"),
            *("--maildir", str(directory / "Maildir"), "--log-level", "info", "--quiet"),
        )
        self._ready = f"http://{host}:{ports[1]}/ready"
        self._directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = start_python(self._command, stdout=log, stderr=log, cwd=self._directory)

    def is_ready(self) -> bool:
        """Return the answer of the node itself: HAProxy takes a new node as ready until its first check."""
        try:
            with urllib.request.urlopen(self._ready, timeout=TIMEOUT):
                return True
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process, "the node runs"
        self.process.send_signal(number)

    def wait(self) -> None:
        assert self.process, "the node runs"
        assert self.process.wait(TIMEOUT) == 0
        self.process = None


class Proxy:
    """A process of HAProxy."""

    def __init__(self, port: int, admin: Path) -> None:
        self.port = port
        self._admin = admin

    def nodes(self, status: str) -> dict[str, int]:
        """Return the addresses of the nodes with this status, with their open sessions."""
        with socket.socket(socket.AF_UNIX) as admin, admin.makefile() as answer:
            admin.connect(str(self._admin))
            admin.sendall(b"show stat\n")
            rows = list(csv.DictReader(answer))
        found = [row for row in rows if row["addr"] and row["status"].startswith(status)]
        return {row["addr"].partition(":")[0]: int(row["scur"]) for row in found}


@contextmanager
def proxy(directory: Path, ports: Sequence[int], dns_port: int) -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as front:
        changes = {
            "/run/haproxy/admin.sock": str(directory / "admin.sock"),
            ":25\n": f"fd@{front.fileno()}\n",
            "10.0.0.53:53": f"127.0.0.1:{dns_port}",
            f"{NAME}:2525": f"{NAME}:{ports[0]}",
            "check port 9125": f"check port {ports[1]}",
            "maxconn 20000": "maxconn 1000",  # fewer open files
            # Everything takes a tenth of the time.
            "inter 1s": "inter 100ms",
            "resolve 1s": "resolve 100ms",
            "valid 5s": "valid 500ms",
        }
        text = CONFIGURATION
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (directory / "haproxy.cfg").write_text(text)
        arguments = [program(), "-db", "-f", str(directory / "haproxy.cfg")]
        with (
            (directory / "haproxy.log").open("w") as log,
            subprocess.Popen(arguments, pass_fds=[front.fileno()], stdout=log, stderr=log) as process,
        ):
            try:
                until(lambda: process.poll() is not None or (directory / "admin.sock").exists())
                assert process.poll() is None, (directory / "haproxy.log").read_text()
                yield Proxy(front.getsockname()[1], directory / "admin.sock")
            finally:
                process.kill()


class Load:
    """Clients that send one message after the other, each in a session of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.sent = 0

    def send(self) -> int:
        """Send until the end, and return the number of messages. Raise the first error of a client."""
        sent = 0
        while not self._is_over.is_set():
            with smtplib.SMTP("127.0.0.1", self._port, "c.example", timeout=TIMEOUT) as client:
                client.sendmail("a@c.example", ["b@s.example"], b"Subject: x\r\n\r\nbody\r\n")
            sent += 1
            self.sent += 1
        return sent

    def end(self) -> None:
        self._is_over.set()


def test_configuration_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIGURATION.replace(NAME, "localhost"))
    done = subprocess.run(
        [program(), "-c", "-f", str(path)], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr


def restart(node: Node, front: Proxy, load: Load) -> None:
    before = load.sent
    until(lambda: load.sent > before + 20)
    node.signal(signal.SIGTERM)
    until(lambda: front.nodes("DOWN").get(node.host) == 0)  # no more connections, and no open session
    node.signal(signal.SIGTERM)  # ends the rest of drain_delay
    node.wait()
    node.start()
    until(lambda: front.nodes("UP").keys() == {*HOSTS})


def test_nodes_are_added_by_dns_and_restarted_in_turn_without_a_refused_or_lost_connection(tmp_path: Path) -> None:
    with (
        reserved_ports(2, *HOSTS) as ports,
        dns() as names,
        proxy(tmp_path, ports, names.port) as front,
        ThreadPoolExecutor(SENDERS) as pool,
    ):
        nodes = [Node(host, ports, tmp_path) for host in HOSTS]
        load = Load(front.port)
        try:
            for node in nodes:
                node.start()
            until(lambda: all(node.is_ready() for node in nodes))
            names.addresses = [*HOSTS[:2]]
            until(lambda: front.nodes("UP").keys() == {*HOSTS[:2]})
            senders = [pool.submit(load.send) for _ in range(SENDERS)]
            names.addresses = [*HOSTS]
            until(lambda: front.nodes("UP").keys() == {*HOSTS})
            for node in nodes:
                restart(node, front, load)
            load.end()
            sent = sum(each.result(TIMEOUT) for each in senders)
        finally:
            load.end()
            for node in nodes:
                if node.process:
                    node.process.kill()
                    node.process.wait(TIMEOUT)

    assert len(list((tmp_path / "Maildir" / "new").iterdir())) == sent
    assert sent > 60
    # The checks of HAProxy, about 30 for each node, have caused no record, and neither has any session.
    assert [line for node in nodes for line in node.log.read_text().splitlines() if "as root" not in line] == []
