"""aiosmtpd as a benchmark server: `python -m benchmarks.contenders.aiosmtpd_server [--uvloop] PORT [CHAIN KEY]`."""

import asyncio
import importlib
import ssl
import sys
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP


class ThrowAway:
    async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 Thrown away"


async def serve(port: int, *files: str) -> None:
    loop = asyncio.get_running_loop()
    protocol = partial(SMTP, ThrowAway(), hostname="mx.example.org", data_size_limit=1_000_000_000, loop=loop)
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=1_024, ssl=context)
    await server.serve_forever()


def main() -> None:
    factory = importlib.import_module("uvloop").new_event_loop if "--uvloop" in sys.argv else None
    port, *files = [each for each in sys.argv[1:] if each != "--uvloop"]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(int(port), *files))


if __name__ == "__main__":
    main()
