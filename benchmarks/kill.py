"""Kill a server at random moments while it receives messages, and check that it lost no message that it accepted.

    python -m benchmarks.kill [MESSAGES [SEED]]

Each message that was answered with 250 must be in the Maildir, complete and exactly once. No other message may be
there, except those whose 250 was lost. By default, 2,000 messages are sent by our own clients to a server that is
killed as a whole, then to a server whose single workers are killed, and then by smtp-source, if it is installed.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from .ports import reserved_ports

SENDERS = 8
PATIENCE = 60.0  # seconds until a wait counts as failed


@dataclass
class Outcome:
    """The results of the clients, and the content of the Maildir."""

    answered: set[str] = field(default_factory=set)
    """Messages that were answered with 250."""
    cut_off: set[str] = field(default_factory=set)
    """Messages whose reply was lost, so that the server may or may not have stored them."""
    stored: list[str] = field(default_factory=list)
    """Messages in the Maildir."""
    broken: list[str] = field(default_factory=list)
    """Stored messages that differ from the sent messages."""
    kills: int = 0

    def faults(self) -> list[str]:
        """Return a description of each message that is missing, unexpected, altered or stored twice."""
        stored = set(self.stored)
        return [
            *(f"{name} was answered 250, but is not stored" for name in sorted(self.answered - stored)),
            *(f"{name} is stored, but was not answered 250" for name in sorted(stored - self.answered - self.cut_off)),
            *(f"{name} is incomplete or altered" for name in self.broken),
            *(f"{name} is stored more than once" for name in sorted(stored) if self.stored.count(name) > 1),
        ]

    def __str__(self) -> str:
        found = len(self.cut_off & set(self.stored))
        return (
            f"{self.kills} kills: {len(self.answered)} messages answered 250, {len(self.stored)} in the Maildir, "
            f"{len(self.cut_off)} cut off ({found} of them stored), {len(self.faults())} faults"
        )


# The server


class Server:
    """`smtpcore serve`, to be killed and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.maildir = directory / "Maildir"
        self._ports = ExitStack()
        (self.port,) = self._ports.enter_context(reserved_ports(1))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        command = [sys.executable, "-m", "smtpcore_adapters", "serve", "--port", str(self.port)]
        command += ["--maildir", str(self.maildir), "--max-connections-per-address", "1000", *self._options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as probe:
                if probe.recv(100).startswith(b"220"):
                    return
            time.sleep(0.02)

        raise TimeoutError("the server does not listen")

    def kill(self, random: Random) -> None:
        """Kill the server and its workers, and start it again."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.start()

    def kill_worker(self, random: Random) -> None:
        """Kill one worker, which the server has to replace."""
        assert self._process
        workers = children_of(self._process.pid)
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)

    def stop(self) -> None:
        """Terminate the server gracefully."""
        with self._ports:
            if self._process:
                self._process.terminate()
                try:
                    self._process.wait(PATIENCE)
                finally:
                    self._process.kill()


def children_of(pid: int) -> list[int]:
    """Return the child processes of a process. Needs Linux."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


# Our own clients


def body_of(name: str) -> bytes:
    """Return the body of the message `name`. The size depends on the name; a name always gives the same body."""
    random = Random(name)
    lines = (f"{random.getrandbits(256):064x}\r\n" for _ in range(random.choice((1, 10, 100, 3000))))
    return f"Subject: {name}\r\n\r\n".encode() + "".join(lines).encode()


class Senders:
    """Threads that send messages continuously, even while the server restarts."""

    def __init__(self, port: int, messages: int) -> None:
        self.outcome = Outcome()
        self.done = threading.Event()
        self._port = port
        self._messages = messages
        self._names = count()
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send during the block, until `messages` were answered."""
        threads = [threading.Thread(target=self._send_all) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.done.set()
            for thread in threads:
                thread.join()

    def _send_all(self) -> None:
        while not self.done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as connection:
                    self._converse(connection)
            except OSError:
                time.sleep(0.02)  # the server is restarting

    def _converse(self, connection: socket.socket) -> None:
        replies = connection.makefile("rb")
        expect(replies.readline(), b"220")
        connection.sendall(b"HELO c.example\r\n")
        expect(replies.readline(), b"250")
        while not self.done.is_set():
            with self._lock:
                name = f"message-{next(self._names)}"

            connection.sendall(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
            for code in (b"250", b"250", b"354"):
                expect(replies.readline(), code)

            connection.sendall(body_of(name))
            self._finish(connection, replies.readline, name)

    def _finish(self, connection: socket.socket, reply: Callable[[], bytes], name: str) -> None:
        with self._lock:
            self.outcome.cut_off.add(name)

        connection.sendall(b".\r\n")
        expect(reply(), b"250")
        with self._lock:
            self.outcome.cut_off.discard(name)
            self.outcome.answered.add(name)
            if len(self.outcome.answered) >= self._messages:
                self.done.set()


def expect(reply: bytes, code: bytes) -> None:
    """Raise `OSError` unless `reply` is complete and has this code."""
    if not (reply.startswith(code) and reply.endswith(b"\r\n")):
        raise ConnectionError(f"expected {code!r}, but received {reply!r}")


def look_into(maildir: Path, outcome: Outcome) -> Outcome:
    """Compare the stored messages with the sent messages."""
    for path in (maildir / "new").iterdir():
        content = path.read_bytes().replace(b"\n", b"\r\n")  # the store has LF line ends
        body = content[content.index(b"Subject: ") :] if b"Subject: " in content else content
        name = body[len("Subject: ") :].partition(b"\r\n")[0].decode()
        outcome.stored.append(name)
        if body != body_of(name):
            outcome.broken.append(name)

    return outcome


def torment(directory: Path, messages: int, seed: int, *options: str, pause: float = 1.0) -> Outcome:
    """Send `messages` messages, and meanwhile kill the server, or single workers if `options` configure workers.

    There are at most `pause` seconds between two kills, and half as many on average. If workers are killed in their
    first second, the server waits longer and longer before it starts the next worker.
    """
    random = Random(seed)
    server = Server(directory, *options)
    kill = server.kill_worker if "--workers" in options else server.kill
    try:
        server.start()
        senders = Senders(server.port, messages)
        with senders.running():
            while not senders.done.wait(random.uniform(0, pause)):
                kill(random)
                senders.outcome.kills += 1
    finally:
        server.stop()

    return look_into(server.maildir, senders.outcome)


# smtp-source


def find_smtp_source() -> str | None:
    """Return the path of smtp-source, or None."""
    return shutil.which("smtp-source") or shutil.which("smtp-source", path="/usr/sbin:/sbin")


def torment_with_smtp_source(directory: Path, messages: int, seed: int, pause: float = 1.0) -> Outcome:
    """Send with smtp-source, and start it again after each lost connection, until all messages are answered."""
    random = Random(seed)
    program = find_smtp_source()
    assert program
    server = Server(directory)
    outcome = Outcome()
    try:
        server.start()
        for batch in count():
            left = messages - len(outcome.answered)
            if left <= 0:
                break

            # smtp-source numbers the recipients and prints the dialogue, in which the server names each stored message.
            recipient = f".{batch}@example.org"
            command = [program, "-v", "-N", "-d", "-s", "1", "-l", "5000", "-m", str(left), "-t", recipient]
            with subprocess.Popen(
                [*command, f"127.0.0.1:{server.port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as source:
                timer = threading.Timer(random.uniform(0, pause), server.kill, [random])
                timer.start()
                assert source.stdout
                text = source.stdout.read()
                timer.join() if source.wait() else timer.cancel()

            outcome.kills += source.returncode != 0
            _read_dialogue(text, outcome)
    finally:
        server.stop()

    for path in (server.maildir / "new").iterdir():
        content = path.read_bytes()
        match = re.search(rb"^X-Original-To: (\S+)\n", content, re.MULTILINE)
        name = match[1].decode() if match else path.name
        outcome.stored.append(name)
        if not content.endswith(b"\n") or len(content) < 5000:
            outcome.broken.append(name)

    return outcome


def _read_dialogue(text: str, outcome: Outcome) -> None:
    name = ""
    for line in text.splitlines():
        said = line.partition(": ")[2]
        if match := re.fullmatch(r"RCPT TO:<(.*)>", said):
            name = match[1]
        elif said == ".":
            outcome.cut_off.add(name)
        elif said.startswith("<<< 250 2.0.0 Stored as ") and name in outcome.cut_off:
            outcome.cut_off.discard(name)
            outcome.answered.add(name)


def main() -> None:
    """Run all three tests."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    runs: dict[str, Callable[[Path], Outcome]] = {
        "the server is killed": lambda directory: torment(directory, messages, seed),
        "workers are killed": lambda directory: torment(directory, messages, seed, "--workers", "2", pause=1.5),
    }
    if find_smtp_source():
        title = "smtp-source, the server is killed"
        runs[title] = lambda directory: torment_with_smtp_source(directory, messages, seed)

    failed = False
    for title, run in runs.items():
        with tempfile.TemporaryDirectory() as directory:
            start = time.monotonic()
            outcome = run(Path(directory))
            print(f"{title}, seed {seed}, {time.monotonic() - start:.0f} s: {outcome}", flush=True)
            for fault in outcome.faults():
                print(f"  {fault}")
                failed = True

    sys.exit(failed)


if __name__ == "__main__":
    main()
