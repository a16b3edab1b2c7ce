"""Connections of sockets to hosts, and to Unix sockets."""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from smtpcore_adapters import Address
from smtpcore_adapters.streams._connector import connect_socket, connect_to_any, new_socket
from smtpcore_adapters.streams._framework import Framework
from tests.adapters.streams.frameworks import FRAMEWORKS

CONNECT = "smtpcore_adapters.streams._connector._connect"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_second_of_two_simultaneous_connections_is_closed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    framework, run = FRAMEWORKS[name]
    sockets: list[socket.socket] = []

    async def connect(framework: Framework, family: int, address: Address, local_address: str | None) -> socket.socket:
        sockets.append(socket.socket())
        number = len(sockets) - 1
        while len(sockets) < 2:
            with framework.cancel_scope(shield=True):
                await framework.checkpoint()
        return sockets[number]

    async def main() -> None:
        addresses = [(socket.AF_INET, ("192.0.2.1", 25)), (socket.AF_INET, ("192.0.2.2", 25))]
        kept, address = await connect_to_any(framework, addresses, None)
        assert [each is kept for each in sockets] == [each.fileno() != -1 for each in sockets]
        assert address == Address(f"192.0.2.{sockets.index(kept) + 1}", 25)
        kept.close()

    monkeypatch.setattr(CONNECT, connect)
    monkeypatch.setattr("smtpcore_adapters.streams._connector.HAPPY_EYEBALLS", 0.0)
    run(main)
    assert len(sockets) == 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_address_families_take_turns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    framework, run = FRAMEWORKS[name]
    tried: list[object] = []

    async def connect(framework: Framework, family: int, address: object, local_address: str | None) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError(address)

    async def main() -> None:
        six, four = socket.AF_INET6, socket.AF_INET
        with pytest.raises(ConnectionRefusedError, match="first"):
            await connect_to_any(framework, [(six, "first"), (six, "third"), (six, "fourth"), (four, "second")], None)

    monkeypatch.setattr(CONNECT, connect)
    run(main)
    assert tried == ["first", "second", "third", "fourth"]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[str]:
    """Yield the path of a Unix socket whose listener accepts nothing and has a full queue."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path := str(tmp_path / "smtp"))
        listener.listen(0)
        error = 0
        while error != errno.EAGAIN:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            error = waiting.connect_ex(path)
        yield path


def test_unix_socket_with_a_full_queue_is_an_os_error(busy: str) -> None:
    framework, run = FRAMEWORKS["trio"]

    async def main() -> None:
        with pytest.raises(BlockingIOError):
            await connect_socket(framework, "", 0, 10, None, busy)

    run(main)


def test_new_socket_is_closed_if_the_block_raises() -> None:
    kept: list[socket.socket] = []

    def use() -> None:
        with new_socket(socket.AF_INET, "127.0.0.1") as connection:
            assert connection.getsockname()[0] == "127.0.0.1"
            kept.append(connection)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        use()
    assert kept[0].fileno() == -1


def test_new_socket_has_its_local_address_also_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with new_socket(socket.AF_INET, "127.0.0.1") as connection, connection:
        assert connection.getsockname()[0] == "127.0.0.1"
