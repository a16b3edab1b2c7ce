"""Kill a server at random moments while it takes messages, and see whether it has kept its word.

    python -m benchmarks.kill [MESSAGES [SEED]]

A message that was answered 250 has to be in the Maildir, whole and once. None may be there that was not, apart from
those whose 250 was cut off. 2,000 messages are sent by clients of our own to a server that is killed as a whole, then
to one of which single workers are killed, and then by smtp-source, where it is installed.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

SENDERS = 8
PATIENCE = 60.0  # seconds until something is taken for broken


@dataclass
class Outcome:
    """What the clients know, and what lies in the Maildir."""

    answered: set[str] = field(default_factory=set)
    """Messages to which 250 was the reply."""
    cut_off: set[str] = field(default_factory=set)
    """Messages that may have been complete, but whose reply did not come."""
    stored: list[str] = field(default_factory=list)
    """Messages in the Maildir."""
    broken: list[str] = field(default_factory=list)
    """Those of them that are not what was sent."""
    kills: int = 0

    def faults(self) -> list[str]:
        """Every promise that was broken."""
        stored = set(self.stored)
        return [
            *(f"{name} was answered 250, but is not there" for name in sorted(self.answered - stored)),
            *(f"{name} is there, but was not answered 250" for name in sorted(stored - self.answered - self.cut_off)),
            *(f"{name} is not whole" for name in self.broken),
            *(f"{name} is there more than once" for name in sorted(stored) if self.stored.count(name) > 1),
        ]

    def __str__(self) -> str:
        found = len(self.cut_off & set(self.stored))
        return (
            f"{self.kills} kills: {len(self.answered)} messages answered 250, {len(self.stored)} in the Maildir, "
            f"{len(self.cut_off)} cut off ({found} of them stored), {len(self.faults())} faults"
        )


# The server


class Server:
    """`smtpcore serve`, which is killed and started again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.maildir = directory / "Maildir"
        self.port = _free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
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
        """Kill all of it, and start it again."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.start()

    def kill_worker(self, random: Random) -> None:
        """Kill one of its workers, which it has to replace by itself."""
        assert self._process
        workers = children_of(self._process.pid)
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)

    def stop(self) -> None:
        """Let it end gracefully."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            finally:
                self._process.kill()


def children_of(pid: int) -> list[int]:
    """The processes that a process has forked. Needs Linux."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# Clients of our own


def body_of(name: str) -> bytes:
    """The body of the message of this name: always the same one, some are large."""
    random = Random(name)
    lines = (f"{random.getrandbits(256):064x}\r\n" for _ in range(random.choice((1, 10, 100, 3000))))
    return f"Subject: {name}\r\n\r\n".encode() + "".join(lines).encode()


class Senders:
    """Threads that send one message after the other, whatever happens to the server."""

    def __init__(self, port: int, messages: int) -> None:
        self.outcome = Outcome()
        self.done = threading.Event()
        self._port = port
        self._messages = messages
        self._names = count()
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send until `messages` were answered, or the block ends."""
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
                time.sleep(0.02)  # the server is being started again

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
    """Raise `OSError` unless this is the whole of a reply with this code."""
    if not (reply.startswith(code) and reply.endswith(b"\r\n")):
        raise ConnectionError(f"{reply!r} in place of {code!r}")


def look_into(maildir: Path, outcome: Outcome) -> Outcome:
    """Compare what is stored with what was sent."""
    for path in (maildir / "new").iterdir():
        content = path.read_bytes()
        body = content[content.index(b"Subject: ") :] if b"Subject: " in content else content
        name = body[len("Subject: ") :].partition(b"\r\n")[0].decode()
        outcome.stored.append(name)
        if body != body_of(name):
            outcome.broken.append(name)

    return outcome


def torment(directory: Path, messages: int, seed: int, *options: str, pause: float = 1.0) -> Outcome:
    """Send `messages` messages, and kill the server, or its workers where `options` ask for some, meanwhile.

    There are at most `pause` seconds from one kill to the next, and half as many on average. A worker that is killed
    again and again before it has lived for a second is replaced ever later.
    """
    random = Random(seed)
    server = Server(directory, *options)
    kill = server.kill_worker if "--workers" in options else server.kill
    server.start()
    try:
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
    """Where smtp-source is."""
    return shutil.which("smtp-source") or shutil.which("smtp-source", path="/usr/sbin:/sbin")


def torment_with_smtp_source(directory: Path, messages: int, seed: int, pause: float = 1.0) -> Outcome:
    """Let smtp-source send, which gives up when its connection is lost, and begin again until all are answered."""
    random = Random(seed)
    program = find_smtp_source()
    assert program
    server = Server(directory)
    outcome = Outcome()
    server.start()
    try:
        for batch in count():
            left = messages - len(outcome.answered)
            if left <= 0:
                break

            # It numbers the recipients, and tells the dialogue, in which the server names what it has stored.
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
        match = re.search(rb"^X-Original-To: (\S+)\r\n", content, re.MULTILINE)
        name = match[1].decode() if match else path.name
        outcome.stored.append(name)
        if not content.endswith(b"\r\n") or len(content) < 5000:
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
    """Run all three."""
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
