"""A server of Redis for the tests, on loopback and without a file. Each test process starts one, and empties it."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from redis import Redis

from benchmarks.ports import reserved_ports

TIMEOUT = 30.0
PASSWORD = "s3cret/pass"


@dataclass
class RedisServer:
    """A process of redis-server, which can be stopped and started again."""

    program: str
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Redis:
        return Redis(port=self.port, password=PASSWORD)

    def start(self) -> None:
        # Without an address of the client in the command, a second server at the port fails instead of sharing it.
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --requirepass {PASSWORD}"
        self.process = subprocess.Popen([self.program, *options.split(), "--save", ""], stdout=subprocess.DEVNULL)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
                return
            except OSError:
                assert time.monotonic() < end, "redis-server does not listen"
                assert self.process.poll() is None, "redis-server has ended"
                time.sleep(0.005)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(TIMEOUT)
            self.process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for a while, so that it accepts connections and answers nothing."""
        assert self.process, "the server runs"
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("redis-server is not installed")

    with reserved_ports(1) as (port,):
        server = RedisServer(program, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()
