"""Send one large message through `smtpcore serve`, and measure the server's memory.

    python benchmarks/memory.py [OCTETS]

The default is 1 GB. The peak resident set (VmHWM) before and after the message is compared. Needs Linux.
"""

import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINE = b"x" * 76 + b"\r\n"
BLOCK = LINE * 1000


def peak_memory(pid: int | str) -> float:
    """Return the peak memory of a process so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match
    return int(match[1]) * 1024 / 1e6


def converse(client: socket.socket, line: bytes) -> bytes:
    """Send a line and return the reply."""
    client.sendall(line)
    reply = client.recv(65_536)
    assert reply[:1] in b"23", reply
    return reply


def send_message(port: int, size: int) -> float:
    """Send a message of `size` octets, and return its duration in seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as client:
        client.recv(65_536)
        for line in (b"EHLO client.example", b"MAIL FROM:<a@client.example>", b"RCPT TO:<b@example.org>", b"DATA"):
            converse(client, line + b"\r\n")

        start = time.perf_counter()
        for _ in range(size // len(BLOCK)):
            client.sendall(BLOCK)
        converse(client, LINE * (size % len(BLOCK) // len(LINE)) + b".\r\n")
        return time.perf_counter() - start


def measure(backend: str, size: int, directory: str) -> None:
    """Start a server, send the message, and print the result."""
    command = [sys.executable, "-m", "smtpcore_adapters", "serve", "--port", "0", "--maildir", f"{directory}/Maildir"]
    command += ["--max-size", str(2 * size), "--backend", backend]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stderr
            port = int(server.stderr.readline().rpartition(":")[2])
            send_message(port, 100_000)
            idle = peak_memory(server.pid)
            seconds = send_message(port, size)
            peak = peak_memory(server.pid)
        finally:
            server.terminate()

    print(f"{backend:8} {size / 1e6:8.0f} MB in {seconds:6.1f} s = {size / 1e6 / seconds:5.0f} MB/s", end="")
    print(f"   idle {idle:6.1f} MB, peak {peak:6.1f} MB, difference {peak - idle:5.1f} MB")


def main() -> None:
    """Measure each backend."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000_000
    for backend in ("asyncio", "trio"):
        with tempfile.TemporaryDirectory() as directory:
            measure(backend, size, directory)


if __name__ == "__main__":
    main()
