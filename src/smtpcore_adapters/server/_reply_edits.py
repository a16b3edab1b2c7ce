"""Changes of the octets of replies on their way to the client, for tests of clients."""

from collections import deque
from collections.abc import Callable

from smtpcore import Connection, Reply


class ReplyEdits:
    """The sending side of a connection, with edited replies. The state follows the original replies.

    `send` and `data_to_send` take the place of the same methods of the connection.
    """

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._edits: deque[list[Callable[[bytes], bytes]]] = deque()
        """The functions for the next reply, for the reply after it, and so on."""
        self._output = bytearray()
        self.edited: bytes | None = None
        """The octets that replace the last reply; None if this reply was not edited."""

    def add(self, edit: Callable[[bytes], bytes], skip: int) -> None:
        """Let `edit` change the next reply, or the reply that follows `skip` other replies."""
        while len(self._edits) <= skip:
            self._edits.append([])
        self._edits[skip].append(edit)

    def send(self, reply: Reply) -> Reply:
        """Queue `reply` with its edits, and return the original as `Connection.send` does."""
        conn = self._conn
        self._output += conn.data_to_send()
        sent = conn.send(reply)
        octets = conn.data_to_send()
        edits = self._edits.popleft() if self._edits else ()
        for edit in edits:
            octets = edit(octets)
        self.edited = octets if edits else None
        self._output += octets
        return sent

    def data_to_send(self) -> bytes:
        """Remove and return the octets to send."""
        octets = bytes(self._output) + self._conn.data_to_send()
        self._output.clear()
        return octets
