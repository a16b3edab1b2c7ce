"""Open connections before they are needed, for servers that delay the greeting."""

from collections import deque

from ._peers import Connect, Peer


class EarlyConnections:
    """Returns connections that were opened some sessions ago, so their greetings have probably arrived.

    Args:
        connect: Opens a connection.
        count: The number of connections that are open at the same time.
    """

    def __init__(self, connect: Connect, count: int) -> None:
        self._connect = connect
        self._count = count
        self._open: deque[Peer] = deque()

    def __call__(self) -> Peer:
        """Return the oldest open connection. Raise `OSError` if another one cannot be opened."""
        while len(self._open) < self._count:
            self._open.append(self._connect())
        return self._open.popleft()

    def close(self) -> None:
        """Close the connections that were not used."""
        while self._open:
            self._open.popleft().close()
