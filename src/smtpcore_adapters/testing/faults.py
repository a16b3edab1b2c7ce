r"""Scripted faults of a server, to test clients.

`App.include(Faults("RCPT 2 -> 451", "QUIT -> delay 2"))` adds two faults to a server. Each line has an event, an arrow,
and the action of the server:

    connect -> 554                      the greeting
    connect 1 -> drop                   the first connection only
    EHLO -> no PIPELINING               the extension is not offered
    MAIL <a@b.example> -> 451           the command with this address
    RCPT 2 -> 451 4.2.2 Mailbox full    the second RCPT of each message
    RCPT 2- -> 452                      all recipients of a message except the first; `2-4` ends at the fourth
    MAIL -> 550 Listed, then close      the connection is closed after the reply; `then reset` resets it
    BDAT 2 -> 552                       the second chunk of each message
    DATA -> cut 3                       three octets of a reply, then the connection is closed
    DATA after 3000 octets -> drop      the connection is closed in the middle of a message
    message 1 -> 452 4.3.1 Full         the reply to the first message
    QUIT -> delay 2                     the usual reply, two seconds late
    NOOP -> garbage "HTTP/1.1 400\r\n"  octets instead of a reply, then the connection is closed
    STARTTLS -> reset                   the connection is reset

RCPT and BDAT are counted within their message, all other events from the start of the server. If several lines match
an event, the first line applies. Lines with `DATA after` are an exception: all of them apply, one after the other,
until a reply or a closed connection ends the message. If all of them are delays, the whole message is delivered. A
fault that can never happen is an error when the server starts: for example `STARTTLS -> 454` without TLS.
"""

# Faults are ordinary handlers, included before all others. An action that does not send a complete reply raises
# `AbortConnection`.

import threading
from collections import Counter, deque
from dataclasses import replace
from functools import partial

from smtpcore import Bdat, Config, Mail, Rcpt, Reply

from ..server._message import Message
from ..server._notifications import AbortConnection, Observed
from ..server._session import Session
from ._script import Fault, FaultError, parse_fault

__all__ = ["Fault", "FaultError", "Faults", "parse_fault"]

# For each extension, the extensions that depend on it and are left out with it.
_DEPENDENT = {"CHUNKING": {"BINARYMIME"}, "8BITMIME": {"SMTPUTF8", "BURL"}}


class Faults:
    """Handlers that apply the faults in `lines`; include them before other handlers. Raises `FaultError`."""

    def __init__(self, *lines: str, trusted: bool = True, implicit_tls: bool = False) -> None:
        """Parse the lines.

        Args:
            lines: the fault script.
            trusted: whether the server has the option `trusted`; otherwise faults of XCLIENT and XFORWARD are errors.
            implicit_tls: whether TLS starts before the greeting; a fault of STARTTLS is then an error.
        """
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._faults = tuple(parse_fault(line) for line in lines)
        for fault in self._faults:
            if fault.event in ("XCLIENT", "XFORWARD") and not trusted:
                raise _has_no_effect(fault, "the server has no trusted peers")
            if fault.event == "STARTTLS" and implicit_tls:
                raise _has_no_effect(fault, "TLS starts before the greeting")
        for event in {fault.event for fault in self._faults if not fault.disabled} - {"message", "BDAT"}:
            setattr(self, f"on_{event.lower()}", partial(self._on_event, event))

    def on_config(self, config: Config) -> Config:
        """Return the configuration without the extensions that faults disable.

        Raises `FaultError` for a fault that cannot happen on a server with this configuration.
        """
        for fault in self._faults:
            if not fault.disabled and (lack := _lacking(fault.event, config)):
                raise _has_no_effect(fault, lack)

        keywords = {fault.disabled for fault in self._faults if fault.disabled}
        dependent = {other for keyword in keywords for other in _DEPENDENT.get(keyword, ())}
        return replace(config, disabled=config.disabled | keywords | dependent)

    def on_event(self, session: Session, item: Observed) -> None:
        """Count the chunks of a message."""
        if isinstance(item, Bdat):
            self._count("BDAT", session)

    async def on_message(self, session: Session, message: Message) -> Reply | None:
        """Apply a fault in the middle or at the end of a message."""
        found = self._find("message")
        of_chunks = [fault for fault in self._faults if fault.event == "BDAT"]
        if not found and not of_chunks:
            return None

        pieces: list[bytes] = []
        size = 0
        early = deque(sorted((fault for fault in found if fault.octets is not None), key=_octets))
        done = 0
        async for piece in message:
            pieces.append(piece)
            size += len(piece)
            due: list[Fault] = []
            while early and size >= _octets(early[0]):
                due.append(early.popleft())
            chunk = self._number_of_chunk(session)
            if chunk > done:
                due += [fault for fault in of_chunks if fault.numbers is None or chunk in fault.numbers][:1]
                done = chunk
            for fault in due:
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

    def _find(self, event: str, session: Session | None = None, subject: object = None) -> list[Fault]:
        number = self._count(event, session)
        address = _address_of(subject)
        return [
            fault
            for fault in self._faults
            if fault.event == event
            and not fault.disabled
            and (fault.numbers is None or number in fault.numbers)
            and fault.address in (None, address)
        ]

    def _count(self, event: str, session: Session | None) -> int:
        if session is None:
            with self._lock:
                self._counts[event] += 1
                return self._counts[event]

        # RCPT and BDAT are counted within their transaction, whether they are accepted or not.
        counts: dict[str, tuple[object, int]] = session.state.__dict__.setdefault("faults", {})
        transaction, count = counts.get(event, (None, 0))
        count = count + 1 if transaction is session.transaction else 1
        counts[event] = session.transaction, count
        return count

    def _number_of_chunk(self, session: Session) -> int:
        counts: dict[str, tuple[object, int]] = session.state.__dict__.get("faults", {})
        return counts.get("BDAT", (None, 0))[1]

    async def _act(self, session: Session, fault: Fault) -> Reply | None:
        if fault.delay:
            await session.sleep(fault.delay)

        if fault.octets_instead is not None:
            raise AbortConnection(fault.octets_instead, reset=fault.reset)
        if fault.reply and fault.closes:
            raise AbortConnection(fault.reply.encode(), reset=fault.reset)

        return fault.reply


def _has_no_effect(fault: Fault, why: str) -> FaultError:
    return FaultError(f"fault {fault.line!r}: {why}, so it would have no effect")


def _lacking(event: str, config: Config) -> str:
    """Return the reason why this event cannot happen on a server with `config`, or ""."""
    if event in ("EHLO", "HELO", "LHLO") and (event == "LHLO") is not config.lmtp:
        return f"the server speaks {'LMTP' if config.lmtp else 'SMTP'}"
    if event == "STARTTLS" and not config.starttls:
        return "the server has no TLS context"
    if event == "AUTH" and not (config.auth_mechanisms and (config.starttls or config.plaintext_auth)):
        return "the server does not offer AUTH"

    keyword = _EXTENSIONS.get(event)
    return f"the server does not offer {keyword}" if keyword in config.disabled else ""


_EXTENSIONS = {"BDAT": "CHUNKING", "ETRN": "ETRN", "EXPN": "EXPN", "HELP": "HELP"}


def _octets(fault: Fault) -> int:
    return fault.octets or 0


def _address_of(subject: object) -> object:
    match subject:
        case Mail(reverse_path=path) | Rcpt(forward_path=path):
            return path
        case _:
            return None
