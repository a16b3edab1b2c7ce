r"""Scripted faults of a server, to test clients.

`App.include(Faults("RCPT 2 -> 451", "QUIT -> delay 2"))` adds two faults to a server. Each line has an event, an arrow,
and the action of the server:

    connect -> 554                      the greeting
    connect 1 -> drop                   the first connection only
    EHLO -> no PIPELINING               the extension is not offered
    MAIL <a@b.example> -> 451           the command with this address
    RCPT 2 -> 451 4.2.2 Mailbox full    the second RCPT of each message
    DATA -> cut 3                       three octets of a reply, then the connection is closed
    DATA after 3000 octets -> drop      the connection is closed in the middle of a message
    message 1 -> 452 4.3.1 Full         the reply to the first message
    QUIT -> delay 2                     the usual reply, two seconds late
    NOOP -> garbage "HTTP/1.1 400\r\n"  octets instead of a reply, then the connection is closed
    STARTTLS -> reset                   the connection is reset

RCPT is counted within its message, all other events from the start of the server. If several lines match an event, the
first line applies. Lines with `DATA after` are an exception: all of them apply, one after the other, until a reply or a
closed connection ends the message. If all of them are delays, the whole message is delivered.
"""

# Faults are ordinary handlers, included before all others. An action that does not send a complete reply raises
# `AbortConnection`.

import threading
from collections import Counter, deque
from dataclasses import replace
from functools import partial

from smtpcore import Config, Mail, Rcpt, Reply

from ..server._message import Message
from ..server._notifications import AbortConnection
from ..server._session import Session
from ._script import Fault, FaultError, parse_fault

__all__ = ["Fault", "FaultError", "Faults", "parse_fault"]

# For each extension, the extensions that depend on it and are left out with it.
_DEPENDENT = {"CHUNKING": {"BINARYMIME"}, "8BITMIME": {"SMTPUTF8", "BURL"}}


class Faults:
    """Handlers that apply the faults in `lines`; include them before other handlers. Raises `FaultError`."""

    def __init__(self, *lines: str) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._faults = tuple(parse_fault(line) for line in lines)
        for event in {fault.event for fault in self._faults if not fault.disabled} - {"message"}:
            setattr(self, f"on_{event.lower()}", partial(self._on_event, event))

    def on_config(self, config: Config) -> Config:
        """Return the configuration without the extensions that faults disable."""
        keywords = {fault.disabled for fault in self._faults if fault.disabled}
        dependent = {other for keyword in keywords for other in _DEPENDENT.get(keyword, ())}
        return replace(config, disabled=config.disabled | keywords | dependent)

    async def on_message(self, session: Session, message: Message) -> Reply | None:
        """Apply a fault in the middle or at the end of a message."""
        found = self._find("message", None)
        if not found:
            return None

        pieces: list[bytes] = []
        size = 0
        early = deque(sorted((fault for fault in found if fault.octets is not None), key=_octets))
        async for piece in message:
            pieces.append(piece)
            size += len(piece)
            while early and size >= _octets(early[0]):
                fault = early.popleft()
                reply = await self._act(session, fault)
                if fault.reply is not None:
                    return reply

        # Only delays have happened: the handlers after this one need the whole body.
        message.put_back(b"".join(pieces))
        late = [fault for fault in found if fault.octets is None]
        return await self._act(session, late[0]) if late else None

    async def _on_event(self, event: str, session: Session, subject: object) -> Reply | None:
        found = self._find(event, session if isinstance(subject, Rcpt) else None, subject)
        return await self._act(session, found[0]) if found else None

    def _find(self, event: str, session: Session | None, subject: object = None) -> list[Fault]:
        number = self._count(event, session)
        address = _address_of(subject)
        return [
            fault
            for fault in self._faults
            if fault.event == event
            and not fault.disabled
            and fault.number in (None, number)
            and fault.address in (None, address)
        ]

    def _count(self, event: str, session: Session | None) -> int:
        if session is None:
            with self._lock:
                self._counts[event] += 1
                return self._counts[event]

        # RCPT is counted within its transaction, whether it is accepted or not.
        transaction, count = getattr(session.state, "faults", (None, 0))
        count = count + 1 if transaction is session.transaction else 1
        session.state.faults = session.transaction, count
        return count

    async def _act(self, session: Session, fault: Fault) -> Reply | None:
        if fault.delay:
            await session.sleep(fault.delay)

        if fault.octets_instead is not None:
            raise AbortConnection(fault.octets_instead, reset=fault.reset)

        return fault.reply


def _octets(fault: Fault) -> int:
    return fault.octets or 0


def _address_of(subject: object) -> object:
    match subject:
        case Mail(reverse_path=path) | Rcpt(forward_path=path):
            return path
        case _:
            return None
