"""The stream of anyio on the event loop of asyncio."""

# anyio cannot keep a socket registered with the event loop between two waits, so each wait of a `PolledStream` costs
# two more system calls. A `ScopedStream` waits as the stream of asyncio does: a cancel scope of anyio also cancels the
# wait for a future of asyncio. All other methods use anyio, because a cancelled scope cancels every further wait.

import socket
from typing import Any

from ._asyncio import AsyncioStream
from ._framework import Framework
from ._polled import FrameworkCalls
from ._stream import Address


class ScopedStream(FrameworkCalls, AsyncioStream):
    """A `Stream` of asyncio whose task belongs to a cancel scope of `framework`, which is anyio."""

    __slots__ = ("_framework",)

    def __init__(self, framework: Framework, loop: Any, connection: socket.socket, peer: Address | None) -> None:
        self._framework = framework
        super().__init__(loop, connection, peer)
