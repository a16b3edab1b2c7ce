"""What only anyio's sockets can do to a session; all else is in the contract that the adapters share."""

import socket
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from smtpcore_adapters.anyio import _connect_to_any

Backend = Literal["asyncio", "trio"]


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
