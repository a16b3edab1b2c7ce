"""A pool of connections for threads."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self, Unpack

from ._blocking import BlockingClient, Complete
from ._envelope import Recipients, Sender, SendOptions
from ._pool import Pool
from ._results import SendResult
from ._sources import Body


class ThreadEvent:
    """An event of a pool for threads: `wait` blocks."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake the thread that waits."""
        self._event.set()

    async def wait(self) -> None:
        """Block until `set` is called."""
        self._event.wait()


class BlockingPool:
    """A pool of connections to one server, with the methods of `Pool` as plain methods that block.

    Any thread may use the pool. `Pool` documents what each method does and which exceptions it raises.
    """

    def __init__(self, pool: Pool, complete: Complete) -> None:
        self._pool = pool
        self._complete = complete

    @contextmanager
    def client(self) -> Generator[BlockingClient, None, None]:
        """Lend a connection to a `with` block. See `Pool.client`."""
        lending = self._pool.client()
        client: BlockingClient = BlockingClient(self._complete(lending.__aenter__()), self._complete)
        try:
            yield client
        finally:
            self._complete(lending.__aexit__(None, None, None))

    def send(
        self,
        message: Body,
        sender: Sender | None = None,
        recipients: Recipients | None = None,
        **options: Unpack[SendOptions],
    ) -> SendResult:
        """Send a message over a connection of the pool. See `Pool.send`."""
        result: SendResult = self._complete(self._pool.send(message, sender, recipients, **options))
        return result

    def close(self) -> None:
        """Close the pool, and wait until all connections are closed. See `Pool.aclose`."""
        self._complete(self._pool.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
