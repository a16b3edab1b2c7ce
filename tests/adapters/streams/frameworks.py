"""The function tables of trio and anyio, each with the function that runs an event loop."""

from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import trio

from smtpcore_adapters import anyio as anyio_adapter
from smtpcore_adapters import trio as trio_adapter
from smtpcore_adapters.streams._framework import Framework

TRIO = trio_adapter._trio._framework
ANYIO = anyio_adapter._anyio._framework

FRAMEWORKS: dict[str, tuple[Framework, Callable[[Any], object]]] = {
    "trio": (TRIO, trio.run),
    "anyio-asyncio": (ANYIO, anyio.run),
    "anyio-trio": (ANYIO, lambda main: anyio.run(main, backend="trio")),
}
