"""Send one large message with the client, and measure the client's memory.

    python -m benchmarks.sending [MEGABYTES] [SERVER ...]

The default is 200 MB, to our own server and to the installed servers that the tests know. The message is sent with DATA
and with BDAT, and under TLS if the server offers it. The client is a separate process. The peak resident sets (VmHWM)
of this process after a small message and after the large message are compared. Needs Linux.
"""

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from smtpcore_adapters import TlsMode
from smtpcore_adapters.asyncio import connect
from tests.adapters.fakes import accepting
from tests.adapters.harness import running
from tests.interop import servers

from .memory import BLOCK, peak_memory

OURS = "smtpcore"


def pieces(megabytes: int) -> Iterator[bytes]:
    """Return the body in pieces."""
    yield b"Subject: large\r\n\r\n"
    for _ in range(megabytes * 1_000_000 // len(BLOCK)):
        yield BLOCK


async def send(port: int, megabytes: int, options: dict[str, Any]) -> dict[str, float]:
    """Send the message, and return its duration and the memory before and after the message."""
    if options.pop("ca"):
        options |= {"tls": TlsMode.REQUIRED, "context": ssl.create_default_context(cafile=options.pop("ca_file"))}
    else:
        options |= {"tls": TlsMode.NONE}
        options.pop("ca_file")

    async with connect("localhost", port, **options) as client:
        await client.send("s@client.example", "a@example.org", b"warm up")
        before, start = peak_memory("self"), time.perf_counter()
        result = await client.send("s@client.example", "a@example.org", pieces(megabytes))
        assert result.accepted, result.final
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "idle": before, "peak": peak_memory("self")}


@contextmanager
def server(name: str) -> Iterator[dict[str, Any]]:
    """Run a server during the block, and yield the options to connect to it."""
    if name != OURS:
        with servers.server(name) as real:
            offers = real.offers
            yield {"port": real.port, "ca_file": str(real.ca or ""), "lmtp": real.lmtp, "offers": offers}
        return

    from smtpcore import Bodies, Config, Reply

    app = accepting()

    @app.on("message")
    async def discard(session: Any, message: Any) -> Reply:
        async for _ in message:
            pass
        return Reply(250, "Discarded")

    config = Config(hostname="s.example", bodies=Bodies.CHUNKS, max_message_size=None)
    with running("asyncio", app, config=config) as ours:
        yield {"port": ours.server.address.port, "ca_file": "", "lmtp": False, "offers": {"CHUNKING"}}


def measure(name: str, megabytes: int) -> None:
    """Send the message in each way that the server offers, and print the results."""
    with server(name) as reach:
        for tls in [False, True] if reach["ca_file"] else [False]:
            for chunking in [False, True] if "CHUNKING" in reach["offers"] else [False]:
                options = {"ca": tls, "ca_file": reach["ca_file"], "lmtp": reach["lmtp"], "chunking": chunking}
                command = [sys.executable, "-m", "benchmarks.sending", "--child"]
                arguments = [str(reach["port"]), str(megabytes), json.dumps(options)]
                done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
                figures = json.loads(done.stdout)
                how = f"{'BDAT' if chunking else 'DATA'}{' TLS' if tls else ''}"
                print(f"{name:10} {how:8} {megabytes:5} MB in {figures['seconds']:5.2f} s", end="")
                print(f" = {megabytes / figures['seconds']:5.0f} MB/s   idle {figures['idle']:5.1f} MB,", end="")
                print(f" peak {figures['peak']:5.1f} MB, difference {figures['peak'] - figures['idle']:4.1f} MB")


def main() -> None:
    """Measure each server."""
    if sys.argv[1:2] == ["--child"]:
        port, megabytes, options = int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
        print(json.dumps(asyncio.run(send(port, megabytes, options))))
        return

    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name in sys.argv[2:] or (OURS, *servers.NAMES):
        try:
            measure(name, megabytes)
        except pytest.skip.Exception as exc:
            print(f"{name:10} {exc}")


if __name__ == "__main__":
    main()
