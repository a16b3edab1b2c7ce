r"""Many messages through a pool to a server that closes, drops and defers.

    python -m tests.adapters.client.storm [MESSAGES [BACKEND...]]

The server ends each connection after 7 messages, with or without a 421, drops every 50th connection at one of several
points, and defers every 10th message. No message may arrive twice, and each message that did not arrive must be
reported.
"""

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import anyio

from smtpcore import ProtocolError
from smtpcore_adapters import SendResult, TlsMode
from tests.adapters.harness import BACKENDS, module_of, run_in
from tests.adapters.peers import Peer, serving
from tests.adapters.playbook import BYE, SENDER
from tests.playbook import GO_AHEAD, GREETING, OK, offer

Outcome = SendResult | Exception

PER_CONNECTION = 7
DEFERRED = 10
TASKS = 40
"""Tasks, or threads, that send at the same time."""
POINTS = ("greeting", "EHLO", "MAIL", "DATA", "body", "end", "accepted")
"""The points at which connections are dropped, in turn. After `accepted` the message has arrived, but not the reply."""


class Storm:
    """The server, and the messages that have arrived."""

    def __init__(self, messages: int, *, silent: bool, dropped: int = 50, size: int = 8) -> None:
        self._messages = messages
        self._size = size
        self._silent = silent
        self._dropped = dropped
        self._connections = itertools.count(1)
        self._bodies = itertools.count(1)
        self._lock = threading.Lock()
        self.arrived: Counter[str] = Counter()
        """The number of copies of each message."""
        self.begun = 0
        """The number of connections."""
        self.limits = 0
        """The number of times that a client reached the limit of messages."""

    def run(self, backend: str) -> Mapping[str, Outcome]:
        """Send all messages, and return the outcome of each."""
        with serving(self._serve) as address:
            return (
                _in_threads(self, address.port)
                if backend == "threads"
                else run_in(backend, _in_tasks, self, backend, address.port)
            )

    def pool(self, backend: str, port: int) -> Any:
        return module_of(backend).Pool("127.0.0.1", port, self._size, tls=TlsMode.NONE, hostname="c.example")

    def names(self) -> Iterator[str]:
        return (f"m{number}@s.example" for number in range(self._messages))

    # The server

    def _serve(self, peer: Peer) -> None:
        with self._lock:
            number = next(self._connections)
            self.begun += 1
        point = POINTS[number // self._dropped % len(POINTS)] if number % self._dropped == 0 else ""
        _drop_at(point == "greeting", peer)
        peer.send(GREETING)
        for messages in itertools.count():
            while (line := peer.until(b"\r\n")).startswith((b"EHLO", b"NOOP", b"RSET", b"QUIT")):
                _drop_at(point == "EHLO", peer)
                if line == b"QUIT":
                    peer.send(BYE).close()
                peer.send(offer("PIPELINING") if line.startswith(b"EHLO") else OK)
            if messages == PER_CONNECTION:
                self.limits += 1
                peer.send(b"421 4.7.0 too many messages\r\n").close()
            _drop_at(point == "MAIL", peer)
            self._take_message(peer, point)
            if self._silent and messages == PER_CONNECTION - 1:
                peer.close()

    def _take_message(self, peer: Peer, point: str) -> None:
        recipient = peer.until(b"\r\n").decode().partition("<")[2].rstrip(">")
        assert peer.until(b"\r\n") == b"DATA"
        _drop_at(point == "DATA", peer)
        peer.send(OK + OK + GO_AHEAD)
        _drop_at(point == "body", peer)
        peer.until(b"\r\n.\r\n")
        with self._lock:
            is_deferred = next(self._bodies) % DEFERRED == 0
        _drop_at(point == "end", peer)
        if is_deferred:
            peer.send(b"451 4.3.0 later\r\n")
            return
        with self._lock:
            self.arrived[recipient] += 1
        _drop_at(point == "accepted", peer)
        peer.send(OK)


def _drop_at(is_here: bool, peer: Peer) -> None:
    if is_here:
        peer.reset()


async def _in_tasks(storm: Storm, backend: str, port: int) -> Mapping[str, Outcome]:
    outcome: dict[str, Outcome] = {}
    names = storm.names()

    async def work(pool: Any) -> None:
        for name in names:
            try:
                outcome[name] = await pool.send(b"hi\r\n", SENDER, name)
            except (OSError, ProtocolError) as exc:
                outcome[name] = exc

    async with storm.pool(backend, port) as pool, anyio.create_task_group() as tasks:
        for _ in range(TASKS):
            tasks.start_soon(work, pool)
    return outcome


def _in_threads(storm: Storm, port: int) -> Mapping[str, Outcome]:
    outcome: dict[str, Outcome] = {}
    names = storm.names()
    lock = threading.Lock()

    def work(pool: Any) -> None:
        while True:
            with lock:
                name = next(names, None)
            if name is None:
                return
            try:
                outcome[name] = pool.send(b"hi\r\n", SENDER, name)
            except (OSError, ProtocolError) as exc:
                outcome[name] = exc

    with storm.pool("threads", port) as pool:
        threads = [threading.Thread(target=work, args=(pool,)) for _ in range(TASKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcome


def report_of(storm: Storm, outcome: Mapping[str, Outcome]) -> list[str]:
    """Return the messages that were lost without a report, or arrived twice."""
    faults: list[str] = []
    for name, each in outcome.items():
        is_accepted = isinstance(each, SendResult) and bool(each.accepted)
        copies = storm.arrived[name]
        if copies > 1 or (is_accepted and copies != 1) or (isinstance(each, SendResult) and not is_accepted and copies):
            faults.append(f"{name}: {copies} copies, {each!r}")
    return faults


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for backend, silent in itertools.product(sys.argv[2:] or BACKENDS, (False, True)):
        storm = Storm(messages, silent=silent)
        begin = time.monotonic()
        outcome = storm.run(backend)
        kinds = Counter(
            type(each).__name__ if isinstance(each, Exception) else str(each.final.code) for each in outcome.values()
        )
        faults = report_of(storm, outcome)
        sys.stdout.write(
            f"{backend}, {'closes' if silent else '421'}: "
            f"{len(outcome)} messages in {time.monotonic() - begin:.1f} s, {storm.begun} connections, "
            f"{storm.limits} limits reached, {dict(kinds)}, {len(faults)} faults\n"
        )
        if faults or len(outcome) != messages:
            sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
