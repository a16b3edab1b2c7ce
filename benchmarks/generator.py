"""The clients of a measurement, in a process of their own.

    python -m benchmarks.generator MODE LOAD --port PORT --pid PID [--seconds SECONDS]

Prints the result as JSON. `benchmarks.servers` starts this process.
"""

# The clients must cost less CPU time than any server. So all octets to send are prepared, a single regular expression
# matches all replies to a group of commands, and one epoll object serves all clients. The result has the share of CPU
# time that the clients still need.

import argparse
import json
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from .loads import LOADS, Dialogue, Load, Step

PATIENCE = 60.0
"""Seconds without a reply, after which the measurement fails."""
AT_A_TIME = 64
"""Clients that connect at the same time: fewer than any server's backlog, but several, as some servers greet late."""


class Failed(Exception):
    """The server sent an unexpected reply, or no reply."""


class Client:
    """A connection that runs a dialogue."""

    def __init__(self, crowd: "Crowd") -> None:
        self._crowd = crowd
        self.connect()

    def connect(self) -> None:
        """Connect and start the opening steps."""
        self._socket = socket.create_connection(("127.0.0.1", self._crowd.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._received = b""
        self._unsent = memoryview(b"")
        self._crowd.watch(self, self._socket.fileno())
        self._do(self._crowd.dialogue.opening, self._crowd.ready)

    def close(self) -> None:
        """Close the connection."""
        self._crowd.forget(self._socket.fileno())
        self._socket.close()

    def send_message(self) -> None:
        """Start the steps of the next message."""
        self._do(self._crowd.steps, self._crowd.done)

    def _do(self, steps: tuple[Step, ...], then: "Callable[[Client], None]") -> None:
        self._steps = iter(steps)
        self._then = then
        self._begin(next(self._steps))

    def _begin(self, step: Step) -> None:
        self._is_answered = step.replies.fullmatch
        if step.octets:
            self._unsent = memoryview(step.octets)
            self._send()
            if self._unsent:
                self._crowd.poll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return

        self._unsent = self._unsent[sent:]

    def advance(self, events: int) -> None:
        """Send and receive what is possible without waiting. `events` comes from epoll."""
        if events & select.EPOLLOUT:
            self._send()
            if not self._unsent:
                self._crowd.poll.modify(self._socket, select.EPOLLIN)
        if events & ~select.EPOLLOUT:
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        received = self._received + data
        if not self._is_answered(received):
            self._received = _incomplete(received, ended=not data)
            return

        self._received = b""
        step = next(self._steps, None)
        if step:
            self._begin(step)
        else:
            self._then(self)


def _incomplete(received: bytes, *, ended: bool) -> bytes:
    if ended or re.search(rb"^[45]\d\d", received, re.MULTILINE):
        raise Failed(f"the server sent {received[:500]!r}" + " and closed the connection" * ended)

    return received


class Crowd:
    """Several clients of one server, with a single epoll."""

    def __init__(self, load: Load, port: int, pid: int) -> None:
        self.port = port
        self.dialogue: Dialogue = load.dialogue()
        self.steps = (*self.dialogue.message, *self.dialogue.closing)
        self.poll = select.epoll()
        self._load = load
        self._pid = pid
        self._cpu_clock = (~pid << 3) | 2  # the value of clock_getcpuclockid(3)
        self._clients: dict[int, Client] = {}
        self._opening = load.clients
        self.finished = 0
        """The number of accepted messages."""

    spins = False
    """Whether to poll in a busy loop instead of sleeping."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in tuple(self._clients.values()):
            client.close()
        self.poll.close()

    def watch(self, client: Client, descriptor: int) -> None:
        """Register `client` for events."""
        self._clients[descriptor] = client
        self.poll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """Remove a client whose socket is about to be closed."""
        del self._clients[descriptor]

    def open(self) -> list[Client]:
        """Connect all clients, some at a time, and return them after their opening steps."""
        clients: list[Client] = []
        while len(clients) < self._load.clients:
            clients += [Client(self) for _ in range(min(AT_A_TIME, self._load.clients - len(clients)))]
            while self._opening > self._load.clients - len(clients):
                self._wait()

        return clients

    def ready(self, client: Client) -> None:
        """Continue when a client has completed its opening steps."""
        if self._opening:
            self._opening -= 1
        else:
            client.send_message()

    def done(self, client: Client) -> None:
        """Continue after a client's message was accepted."""
        raise NotImplementedError

    def step(self, timeout: float) -> bool:
        """Let each client with events advance, and return whether any client had events."""
        happened = self.poll.poll(timeout)
        for descriptor, events in happened:
            self._clients[descriptor].advance(events)

        return bool(happened)

    def run(self) -> None:
        """Advance until all clients have closed."""
        while self._clients:
            self._wait()

    def _wait(self) -> None:
        if not self.step(PATIENCE):
            raise Failed(f"the server has sent nothing for {PATIENCE:.0f} seconds")

    def clocks(self) -> tuple[float, float, float]:
        """Return seconds: of wall time, of the server's CPU time, and of the clients' CPU time."""
        return time.perf_counter(), time.clock_gettime(self._cpu_clock), time.process_time()


class Steady(Crowd):
    """Clients that send as fast as they can, for some seconds."""

    idle = 0.0
    """Seconds that the busy loop spent without any event."""

    def _wait(self) -> None:
        # Sending to a sleeping process includes waking it up, which is the most expensive part of sending on a virtual
        # machine. A fast server would wait for its clients more often, and would spend more CPU time on these wake-ups.
        if not self.spins:
            super()._wait()
            return

        begun = begin = time.perf_counter()
        while not self.step(0):
            now = time.perf_counter()
            self.idle += now - begin
            begin = now
            if now > begun + PATIENCE:
                raise Failed(f"the server has sent nothing for {PATIENCE:.0f} seconds")

    def measure(self, seconds: float) -> dict[str, Any]:
        """Return the number of messages and their cost."""
        clients = self.open()
        self.idle = 0.0
        before = self.clocks()
        self._deadline = before[0] + seconds
        for client in clients:
            client.send_message()
        self.run()
        wall, server, load = (after - start for after, start in zip(self.clocks(), before, strict=True))
        return {"messages": self.finished, "seconds": wall, "server": server, "load": max(load - self.idle, 0.0)}

    def done(self, client: Client) -> None:
        """Send the next message, unless the time is over."""
        self.finished += 1
        goes_on = time.perf_counter() < self._deadline
        if self.dialogue.closing or not goes_on:
            client.close()
        if goes_on:
            client.connect() if self.dialogue.closing else client.send_message()


class Paced(Crowd):
    """Clients that send at a fixed rate, even if the server cannot keep up."""

    RATE = 200.0

    def measure(self, seconds: float) -> dict[str, Any]:
        """Return the seconds that each message took, from the time at which it was due."""
        self._free = deque(self.open())
        self._due: dict[Client, float] = {}
        self._waiting: deque[float] = deque()
        self.latencies: list[float] = []
        start = time.perf_counter()
        for number in range(int(seconds * self.RATE)):
            due = start + number / self.RATE
            while (left := due - time.perf_counter()) > 0:
                self.step(left)
            self._waiting.append(due)
            self._serve_waiting()

        while self._waiting or self._due:
            self._wait()

        return {"latencies": self.latencies}

    def _serve_waiting(self) -> None:
        while self._waiting and self._free:
            client = self._free.popleft()
            self._due[client] = self._waiting.popleft()
            client.send_message()

    def done(self, client: Client) -> None:
        """Record the duration of a message, and start the next one that is due."""
        self.latencies.append(time.perf_counter() - self._due.pop(client))
        self._free.append(client)
        self._serve_waiting()


class Idle(Crowd):
    """Clients that send EHLO and then stay idle."""

    def measure(self, _seconds: float) -> dict[str, Any]:
        """Return the server's memory per session, in octets."""
        Client(self)  # warm up: the first session has further costs
        self._opening += 1
        while self._opening > self._load.clients:
            self._wait()

        before = self._memory()
        self.open()
        return {"octets": (self._memory() - before) / self._load.clients}

    def _memory(self) -> float:
        # The proportional set size: memory that is shared with other processes counts in part.
        text = Path(f"/proc/{self._pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        assert match, "Linux reports Pss"
        return int(match[1]) * 1024


MODES: dict[str, type[Steady | Paced | Idle]] = {"steady": Steady, "paced": Paced, "idle": Idle}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--spin", action="store_true", help="busy-wait, on a CPU that nothing else needs")
    options = parser.parse_args()
    try:
        with MODES[options.mode](LOADS[options.load], options.port, options.pid) as crowd:
            crowd.spins = options.spin
            result = crowd.measure(options.seconds)
    except (Failed, OSError) as exc:
        sys.exit(f"{options.load}: {exc}")

    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
