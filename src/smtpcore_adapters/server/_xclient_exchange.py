"""Answer XCLIENT and XFORWARD of a trusted peer (Postfix XCLIENT_README and XFORWARD_README)."""

import logging

from smtpcore import ConnectionOpened, Xclient, Xforward

from ._admission import Admission
from ._handlers import Handlers
from ._notifications import Decider
from ._session import SessionRecord
from ._wire import Wire


class XclientExchange:
    """One XCLIENT or XFORWARD command."""

    __slots__ = ("_admission", "_handlers", "_record", "_wire")

    def __init__(self, wire: Wire, handlers: Handlers, admission: Admission, record: SessionRecord) -> None:
        self._wire = wire
        self._handlers = handlers
        self._admission = admission
        self._record = record

    async def run(self, event: Xclient | Xforward) -> None:
        """Answer the command, and store its attributes if it was accepted."""
        wire, session = self._wire, self._wire.session
        reply, decided_by, rule = await self._handlers.decide(event)
        is_default = decided_by is Decider.DEFAULT
        if isinstance(event, Xforward):
            if reply.is_positive:
                self._record.forward(event.attributes)
                wire.log.write(logging.INFO, "forwarded: %s", dict(session.forwarded))
        elif is_default or reply.is_positive:
            self._record.begin_xclient(event.attributes)
            self._admission.leave()
            await self._admission.enter()
            wire.log.write(logging.INFO, "XCLIENT: the client is now %s", session.peer)
            if is_default:  # the session starts again: `connect` handlers decide about the new client
                reply, decided_by, rule = await self._handlers.decide(ConnectionOpened())

        wire.answer(event, reply, decided_by, rule)
        self._record.end_xclient()
