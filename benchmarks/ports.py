"""Ports for servers that start later, in another process."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Yield ports that only a server with SO_REUSEADDR can use until the end of the block.

    Each port is held by a socket that is bound, but does not listen. Otherwise another process could get the port
    before the server starts, for a server of its own or as the source of a connection.
    """
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in holders:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in holders]
