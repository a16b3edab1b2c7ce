"""Open many idle sessions, and measure how fast a new client gets a reply, and the memory of a session.

    python benchmarks/idle.py [SESSIONS]

The default is 10,000 sessions. Server and clients are separate processes, each with as many file descriptors as the
system allows. The clients use several addresses of 127.0.0.0/8, since one address has too few ports. Needs Linux.
"""

import asyncio
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import smtpcore_adapters.anyio
from smtpcore import Budgets, Config
from smtpcore_adapters import Address, App, Limits

PER_ADDRESS = 20_000
NEW_CLIENTS = 50


def raise_limit() -> int:
    """Set the limit of open files of this process to the maximum, and return the new limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


# The server


def serve(backend: str, sessions: int) -> None:
    """Run a server until it is terminated. The first line of its output is its port."""
    raise_limit()
    most = 2 * sessions  # the server would disconnect idle clients if few connections were left
    limits = Limits(connections=most, connections_per_address=most)
    budgets = Budgets(greeting=3600, command=3600)
    options = {"config": Config(hostname="s.example"), "limits": limits, "budgets": budgets, "grace": 0}

    def announce(address: Address) -> None:
        print(address.port, flush=True)

    runner(backend)(App(), 0, on_ready=announce, **options)


def runner(backend: str) -> Callable[..., None]:
    """Return the `run` function of an adapter. Without a trio adapter, anyio's is used on trio."""
    if backend == "trio" and not find_spec("smtpcore_adapters.trio"):
        return partial(smtpcore_adapters.anyio.run, backend="trio")

    run: Callable[..., None] = import_module(f"smtpcore_adapters.{backend}").run
    return run


def memory_of(pid: int) -> float:
    """Return the resident memory of a process, in kB."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return float(match[1])


# The clients


async def hold(port: int, sessions: int) -> None:
    """Open sessions, send EHLO in each, report when all are open, and keep them until stdin ends."""
    raise_limit()
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(sessions):
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((f"127.0.1.{1 + number // PER_ADDRESS}", 0))
        await loop.sock_connect(connection, ("127.0.0.1", port))
        connections.append(connection)
        if number % 500 == 499:
            await asyncio.gather(*(greet(each) for each in connections[-500:]))

    await asyncio.gather(*(greet(each) for each in connections[sessions - sessions % 500 :]))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def greet(connection: socket.socket) -> None:
    """Receive the greeting and send EHLO."""
    loop = asyncio.get_running_loop()
    for line in (b"EHLO c.example\r\n", b""):
        reply = await loop.sock_recv(connection, 4096)
        assert reply[:1] == b"2", reply
        await loop.sock_sendall(connection, line)


def answer_time(port: int) -> float:
    """Return the seconds until a new client has received the greeting and the reply to EHLO."""
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.recv(4096)
        client.sendall(b"EHLO c.example\r\n")
        client.recv(4096)
        return time.perf_counter() - start


def measure(backend: str, sessions: int) -> None:
    """Run a server and its clients, and print the result."""
    command = [sys.executable, __file__]
    with subprocess.Popen([*command, "serve", backend, str(sessions)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            port = int(server.stdout.readline())
            answer_time(port)
            before = memory_of(server.pid)
            start = time.perf_counter()
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen([*command, "hold", str(port), str(sessions)], text=True, **pipes) as clients:  # type: ignore[call-overload]
                assert clients.stdout.readline() == "ready\n"
                seconds = time.perf_counter() - start
                after = memory_of(server.pid)
                times = [answer_time(port) for _ in range(NEW_CLIENTS)]
                clients.stdin.close()
        finally:
            server.terminate()

    print(f"{backend:8} {sessions:6} idle sessions, opened in {seconds:5.1f} s", end="")
    print(f"   {(after - before) / sessions:5.1f} kB a session, {after / 1000:5.0f} MB in all", end="")
    print(f"   reply to a new client in {statistics.median(times) * 1000:5.1f} ms", end="")
    print(f" (at most {max(times) * 1000:.1f} ms)", flush=True)
    if max(times) >= 1:
        sys.exit("a new client had to wait for more than a second")


def main() -> None:
    """Measure each backend."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if raise_limit() < sessions + 1000:
        sys.exit(f"{sessions} sessions need more open files than the system allows: {raise_limit()}")

    for backend in ("asyncio", "trio"):
        measure(backend, sessions)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["hold"]:
        asyncio.run(hold(int(sys.argv[2]), int(sys.argv[3])))
    else:
        main()
