"""Write the log of a session."""

# Other software reads the records too, so a value in the text is also an attribute of the record, such as `limit`. Each
# client has a quota: a client that causes many records must not fill the disk.

import logging
from collections.abc import Callable
from typing import Any

from ..streams._stream import host_of
from ._peers import PeerTable
from ._session import Session

logger = logging.getLogger("smtpcore")


class SessionLog:
    """Writes records with the id of one session, up to the quota of its client."""

    __slots__ = ("_clock", "_peers", "_session")

    def __init__(self, session: Session[Any], peers: PeerTable, clock: Callable[[], float]) -> None:
        self._session = session
        self._peers = peers
        self._clock = clock

    def write(
        self,
        level: int,
        text: str,
        *args: object,
        exc_info: bool | BaseException = False,
        important: bool = False,
        **fields: object,
    ) -> None:
        """Write a record with `fields` as its attributes, unless the quota is used up.

        Errors of the server and `important` records, such as logins, have a quota of their own.
        """
        if not logger.isEnabledFor(level):
            return

        # Records of level DEBUG have no quota: the user enables DEBUG to see everything.
        now = self._clock()
        name, host = self._session.id, host_of(self._session.peer)
        if level == logging.DEBUG or self._peers.may_log(
            host or name, now, important=important or level >= logging.ERROR
        ):
            extra = {"session": name, "client": host, **fields}
            logger.log(level, f"{name}: {text}", *args, exc_info=exc_info, extra=extra)

        left_out = self._peers.take_left_out(now)
        if left_out:
            logger.warning("%d log records were left out: some clients cause too many", left_out)
