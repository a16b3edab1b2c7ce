"""Connect to a host, trying its addresses one after the other (RFC 8305), or to a Unix socket."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Any

from ._framework import Event, Framework
from ._stream import (
    HAPPY_EYEBALLS,
    Address,
    address_of,
    check_unix_sockets,
    family_of,
    send_at_once,
    unknown_hosts_as_os_errors,
)

Connected = tuple[socket.socket, Address | None]
"""A connected socket that does not block, and the address of its peer."""

_IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); Python has this constant only from 3.12 on


async def connect_socket(
    framework: Framework, host: str, port: int, timeout: float, local_address: str | None, path: str | None
) -> Connected:
    """Connect to a server. An adapter's `open_stream` documents the parameters and the errors."""
    if path:
        return connect_to_path(path)

    with framework.fail_after(timeout), unknown_hosts_as_os_errors(host):
        found = await framework.getaddrinfo(host, port, family=family_of(local_address), type=socket.SOCK_STREAM)
        return await connect_to_any(framework, [(each[0], each[4]) for each in found], local_address)


def connect_to_path(path: str) -> Connected:
    """Connect to a Unix socket. Raises `OSError`."""
    check_unix_sockets()
    with new_socket(socket.AF_UNIX, None) as connection:
        connection.setblocking(False)
        connection.connect(path)  # succeeds or fails at once; BlockingIOError: the listener's queue is full
    return connection, Address(path)


async def connect_to_any(
    framework: Framework, addresses: Sequence[tuple[int, Any]], local_address: str | None
) -> Connected:
    """Return the first connection that succeeds.

    The next address is tried when the last attempt has failed, or has taken `HAPPY_EYEBALLS` seconds; slow attempts
    continue in parallel. Raises the `OSError` of the first failed attempt if all attempts fail.
    """
    connections: list[Connected] = []
    failures: list[OSError] = []

    async def attempt(family: int, address: object, failed: Event) -> None:
        try:
            connection = await _connect(framework, family, address, local_address)
            connections.append((connection, address_of(address)))
            attempts.cancel_scope.cancel()
        except OSError as exc:
            failures.append(exc)
            failed.set()

    try:
        async with framework.task_group() as attempts:
            for family, address in interleaved(addresses):
                failed = framework.event()
                attempts.start_soon(attempt, family, address, failed)
                with framework.cancel_scope(deadline=framework.current_time() + HAPPY_EYEBALLS):
                    await failed.wait()

        if not connections:
            raise failures[0]

        return connections.pop(0)
    finally:
        for unused, _ in connections:
            unused.close()


def interleaved(addresses: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Return families and addresses in the order in which they are tried.

    RFC 8305 section 4: the families take turns, so that an unreachable family delays the other family only once.
    """
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in zip_longest(first, others) for each in pair if each]


async def _connect(framework: Framework, family: int, address: Any, local_address: str | None) -> socket.socket:
    with new_socket(family, local_address) as connection:
        begin_connecting(connection, address)
        await framework.wait_writable(connection)
        check_connected(connection)

    return connection


def begin_connecting(connection: socket.socket, address: Any) -> None:
    """Begin to connect. When the attempt has succeeded or failed, the socket becomes writable."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        connection.connect(address)


def check_connected(connection: socket.socket) -> None:
    """Raise `OSError` if the attempt to connect has failed. The attempt must have ended."""
    error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        # On Windows `os.strerror` has no texts for the errors of sockets.
        raise OSError(error, getattr(socket, "errorTab", {}).get(error) or os.strerror(error))


def prepare_given(connection: socket.socket) -> Address | None:
    """Prepare a connected socket of the program, and return the address of its peer.

    Raises:
        OSError: the socket is not connected.
    """
    peer = address_of(connection.getpeername())
    connection.setblocking(False)
    send_at_once(connection)
    return peer


@contextmanager
def new_socket(family: int, local_address: str | None) -> Iterator[socket.socket]:
    """Make a stream socket, bound to `local_address` if given, and close it if the block fails."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        send_at_once(connection)
        if local_address:
            if sys.platform == "linux":
                # With this option `connect` chooses the port, and connections to different servers can share a port.
                with suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((local_address, 0))

        yield connection
    except BaseException:
        connection.close()
        raise
