"""Write the log of a session."""

# The records are for machines as well: what is in the text is beside it in fields of its own. A client that causes
# many records is not allowed to fill the disk with them.

import logging
from collections.abc import Callable

from ..streams._stream import host_of
from ._peers import PeerTable
from ._session import Session

logger = logging.getLogger("smtpcore")


class SessionLog:
    """Writes records with the id of one session, and as many as its client is allowed to cause."""

    __slots__ = ("_clock", "_peers", "_session")

    def __init__(self, session: Session, peers: PeerTable, clock: Callable[[], float]) -> None:
        self._session = session
        self._peers = peers
        self._clock = clock

    def write(self, level: int, text: str, *args: object, exc_info: bool = False, **fields: object) -> None:
        """Write a record; `fields` are attributes of it."""
        if not logger.isEnabledFor(level):
            return

        # Who has DEBUG enabled wants to see it all.
        now = self._clock()
        name, host = self._session.id, host_of(self._session.peer)
        if level == logging.DEBUG or self._peers.may_log(host or name, now):
            extra = {"session": name, "client": host, **fields}
            logger.log(level, f"{name}: {text}", *args, exc_info=exc_info, extra=extra)

        left_out = self._peers.take_left_out(now)
        if left_out:
            logger.warning("%d records were left out, of clients that cause too many", left_out)
