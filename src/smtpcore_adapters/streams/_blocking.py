"""A stream that blocks, for sessions and clients in threads, without an event loop."""

import math
import socket
from collections.abc import Sequence
from typing import ClassVar

from ._connector import prepare_given
from ._socket_stream import SocketStream, open_socket
from ._wakeup import HasFileno, wait_for_any


async def _select(readers: Sequence[HasFileno], writers: Sequence[HasFileno], timeout: float) -> None:
    wait_for_any(readers, writers, timeout)


class BlockingStream(SocketStream):
    """A `Stream` that blocks: its coroutines are never suspended, so a single step runs a whole coroutine."""

    _turn: ClassVar[float] = math.inf  # the other sessions have threads of their own

    select = staticmethod(_select)


async def open_blocking_stream(
    host: str,
    port: int,
    timeout: float,
    *,
    local_address: str | None = None,
    path: str | None = None,
    sock: socket.socket | None = None,
) -> BlockingStream:
    """Connect to a server: the `open_stream` of the adapter, without an event loop."""
    if sock:
        return BlockingStream(sock, prepare_given(sock))

    opened = await open_socket(_select, SocketStream.run_blocking, host, port, timeout, local_address, path)
    return BlockingStream(*opened)
