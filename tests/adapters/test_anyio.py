"""What only anyio's sockets can do to a session; all else is in the contract that the adapters share."""

import socket
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from smtpcore_adapters.anyio import _connect_to_any, _Socket

Backend = Literal["asyncio", "trio"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_socket_that_is_readable_may_have_nothing_to_read(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    waits = 0

    async def wait(waiting: socket.socket) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            right.send(b"x")

    async def main() -> None:
        assert await _Socket(left, None).receive() == b"x"

    monkeypatch.setattr(anyio, "wait_readable", wait)
    with left, right:
        anyio.run(main, backend=backend)
    assert waits == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sending_and_receiving_give_others_their_turn(backend: Backend) -> None:
    left, right = socket.socketpair()
    left.setblocking(False)

    async def main() -> None:
        stream = _Socket(left, None)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.send(b"x")
        assert scope.cancelled_caught
        right.send(b"y")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.receive()
        assert scope.cancelled_caught

    with left, right:
        anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_of_two_connections_made_at_the_same_time_one_is_closed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    async def connect(family: int, address: object, local_address: str | None) -> socket.socket:
        made.append(socket.socket())
        with anyio.CancelScope(shield=True):
            while len(made) < 2:
                await anyio.lowlevel.checkpoint()
        return made[-1] if address == "second" else made[0]

    async def main() -> None:
        kept = await _connect_to_any([(socket.AF_INET, "first"), (socket.AF_INET, "second")], None)
        assert [each.fileno() != -1 for each in made] == [each is kept for each in made]
        kept.close()

    monkeypatch.setattr("smtpcore_adapters.anyio._connect", connect)
    monkeypatch.setattr("smtpcore_adapters.anyio.HAPPY_EYEBALLS", 0.0)
    anyio.run(main, backend=backend)
    assert len(made) == 2
