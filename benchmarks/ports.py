"""Ports for servers that start later, in another process."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_ports(count: int, *other_hosts: str) -> Iterator[list[int]]:
    """Yield ports that only a server with SO_REUSEADDR can use until the end of the block, at 127.0.0.1 and each host.

    Each port is held by sockets that are bound, but do not listen. Otherwise another process could get the port before
    the server starts, for a server of its own or as the source of a connection.
    """
    with ExitStack() as stack:
        yield [_hold_port(stack, other_hosts) for _ in range(count)]


def _hold_port(stack: ExitStack, other_hosts: Iterable[str]) -> int:
    while True:
        with ExitStack() as attempt:
            port: int = _bound(attempt, "127.0.0.1", 0).getsockname()[1]
            try:
                for host in other_hosts:
                    _bound(attempt, host, port)
            except OSError:  # the port is in use at another host
                continue
            stack.enter_context(attempt.pop_all())
            return port


def _bound(stack: ExitStack, host: str, port: int) -> socket.socket:
    holder = stack.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, port))
    return holder
