"""aiosmtpd as a benchmark server: `python -m benchmarks.contenders.aiosmtpd_server [--uvloop] PORT`."""

import asyncio
import importlib
import sys
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP


class ThrowAway:
    async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 Thrown away"


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    protocol = partial(SMTP, ThrowAway(), hostname="mx.example.org", data_size_limit=1_000_000_000, loop=loop)
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


def main() -> None:
    factory = importlib.import_module("uvloop").new_event_loop if "--uvloop" in sys.argv else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(int(sys.argv[-1])))


if __name__ == "__main__":
    main()
