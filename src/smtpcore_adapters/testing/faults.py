r"""Scripted faults of a server, to test clients.

`App.include(Faults("RCPT 2 -> 451", "QUIT -> delay 2"))` adds two faults to a server. Each line has an event, an arrow,
and the action of the server:

    connect -> 554                      the greeting
    connect 1 -> drop                   the first connection only
    EHLO -> no PIPELINING               the extension is not offered
    MAIL <a@b.example> -> 451           the command with this address
    RCPT 2 -> 451 4.2.2 Mailbox full    the second RCPT of each message
    RCPT 2- -> 452                      all recipients of a message except the first; `2-4` ends at the fourth
    RCPT 10% -> 451                     each RCPT with this probability
    RCPT first -> 451                   the first RCPT for this client, sender and recipient (greylisting)
    MAIL over 10/min -> 421             all MAIL but ten in any minute; also `/s` and `/h`
    message every 3 -> delay 2          the third message, the sixth, and so on
    MAIL -> 550 Listed, then drop       the connection is closed after the reply; `then reset` resets it
    BDAT 2 -> 552                       the second chunk of each message
    DATA -> cut 3                       three octets of a reply, then the connection is closed
    DATA after 3000 octets -> drop      the connection is closed in the middle of a message
    message 1 -> 452 4.3.1 Full         the reply to the first message
    QUIT -> delay 2                     the usual reply, two seconds late
    NOOP -> garbage "HTTP/1.1 400\r\n"  octets instead of a reply, then the connection is closed
    STARTTLS -> reset                   the connection is reset
    RCPT -> stray 250                   one more reply after the usual reply, without a command
    RCPT -> early 354                   the reply to the next command, before this command
    EHLO -> line "X-FOO 1"              a further line in the reply
    TLS -> expired certificate          a certificate that clients refuse; also `wrong` (name) and `untrusted`

RCPT and BDAT are counted within their message, all other events from the start of the server; rates are counted from
the start of the server. If several lines match an event, the first line applies, but each line counts. Lines with
`DATA after` and `line` are exceptions: all of them apply. `DATA after` lines apply one after the other, until a reply
or a closed connection ends the message. If all of them are delays, the whole message is delivered. A fault that can
never happen is an error when the server starts: for example `STARTTLS -> 454` without TLS.
"""

# Faults are ordinary handlers, included before all others. An action that does not send a complete reply raises
# `AbortConnection`. Additional replies and lines are edits of the octets of a reply. A certificate is chosen in the
# handshake, in the SNI callback of the server's TLS context.

import logging
import secrets
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from smtpcore import Bdat, Config, Mail, Rcpt, Reply

from ..server._message import Message
from ..server._notifications import AbortConnection, Observed
from ..server._session import Session
from ._script import Fault, FaultError, parse_fault

if TYPE_CHECKING:
    import trustme

__all__ = ["Fault", "FaultError", "Faults", "parse_fault"]

# For each extension, the extensions that depend on it and are left out with it.
_DEPENDENT = {"CHUNKING": {"BINARYMIME"}, "8BITMIME": {"SMTPUTF8", "BURL"}}


_logger = logging.getLogger("smtpcore")


class _Trigger:
    """A fault, with the records of earlier events that its selector needs."""

    def __init__(self, fault: Fault, random: Random, clock: Callable[[], float]) -> None:
        self.fault = fault
        self._random = random
        self._clock = clock
        self._seen: set[object] = set()
        self._taken: deque[float] = deque()
        """The times of the last events within the rate."""

    def matches(self, number: int, key: object, address: object) -> bool:
        """Count an event, and return whether it triggers the fault.

        `number` is the number of the event, `key` its client, sender and recipients, and `address` the address in it.
        """
        fault = self.fault
        if fault.numbers is not None:
            return number in fault.numbers
        if fault.percent is not None:
            return 100 * self._random.random() < fault.percent
        if fault.first:
            is_new = key not in self._seen
            self._seen.add(key)
            return is_new
        if fault.rate is not None:
            return self._is_over(*fault.rate)

        return fault.address in (None, address)

    def _is_over(self, limit: int, seconds: int) -> bool:
        now = self._clock()
        while self._taken and self._taken[0] <= now - seconds:
            self._taken.popleft()
        if len(self._taken) >= limit:
            return True

        self._taken.append(now)
        return False


class Faults:
    """Handlers that apply the faults in `lines`; include them before other handlers. Raises `FaultError`."""

    def __init__(
        self,
        *lines: str,
        trusted: bool = True,
        implicit_tls: bool = False,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Parse the lines.

        Args:
            lines: the fault script.
            trusted: whether the server has the option `trusted`; otherwise faults of XCLIENT and XFORWARD are errors.
            implicit_tls: whether TLS starts before the greeting; a fault of STARTTLS is then an error.
            seed: the seed of all random choices, such as `RCPT 10%`: the n-th event has the same result in each run
                with this seed. By default the seed is random, and is logged.
            clock: a function that returns the time in seconds, for rates such as `MAIL over 10/min`.
        """
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._within: WeakKeyDictionary[Session[Any], dict[str, tuple[object, int]]] = WeakKeyDictionary()
        """For each session, the last transaction in which an event was counted, and the count in this transaction."""
        self._chooses_certificates = False
        faults = [parse_fault(line) for line in lines]
        self.seed: int = secrets.randbelow(_MAX_SEED) if seed is None else seed
        """The seed of all random choices."""
        if seed is None and any(fault.percent is not None for fault in faults):
            _logger.warning("the faults have the seed %d: the same seed repeats the run", self.seed)

        # Each line has its own random numbers, so that the events of one line have no influence on another line.
        self._triggers = [
            _Trigger(fault, Random(f"{self.seed} {number}"), clock)  # noqa: S311 - not for cryptography
            for number, fault in enumerate(faults)
        ]
        for fault in faults:
            if fault.event in ("XCLIENT", "XFORWARD") and not trusted:
                raise _has_no_effect(fault, "the server has no trusted peers")
            if fault.event == "STARTTLS" and implicit_tls:
                raise _has_no_effect(fault, "TLS starts before the greeting")
        for event in {fault.event for fault in faults if not fault.disabled} - {"message", "BDAT", "TLS"}:
            setattr(self, f"on_{event.lower()}", partial(self._on_event, event))

    def apply_to(self, context: ssl.SSLContext, *, authority: "trustme.CA | None" = None) -> None:
        """Let the server's TLS context show the certificates of faults such as `TLS -> expired certificate`.

        `authority` signs the expired certificate and the certificate with a wrong name, both for localhost; by default
        a new authority, which no client trusts. Without faults of certificates, the context is not changed. Raises
        `ImportError` if trustme is not installed.
        """
        kinds = {trigger.fault.certificate for trigger in self._triggers} - {""}
        if not kinds:
            return

        contexts = {kind: _context_with(kind, authority) for kind in kinds}
        usual = context.sni_callback

        def choose(connection: ssl.SSLObject, name: str, given: ssl.SSLContext) -> int | None:
            found = self._find("TLS")
            if found:
                connection.context = contexts[found[0].certificate]
                return None

            return usual(connection, name, given) if usual else None

        context.sni_callback = choose
        self._chooses_certificates = True

    def on_config(self, config: Config) -> Config:
        """Return the configuration without the extensions that faults disable.

        Raises `FaultError` for a fault that cannot happen on a server with this configuration.
        """
        faults = [trigger.fault for trigger in self._triggers]
        for fault in faults:
            if not fault.disabled and (lack := _lacking(fault.event, config)):
                raise _has_no_effect(fault, lack)
            if fault.certificate and not self._chooses_certificates:
                raise FaultError(f"fault {fault.line!r}: call apply_to(context) with the TLS context of the server")

        keywords = {fault.disabled for fault in faults if fault.disabled}
        dependent = {other for keyword in keywords for other in _DEPENDENT.get(keyword, ())}
        return replace(config, disabled=config.disabled | keywords | dependent)

    def on_event(self, session: Session[Any], item: Observed) -> None:
        """Count the chunks of a message."""
        if isinstance(item, Bdat):
            self._count("BDAT", session)

    async def on_message(self, session: Session[Any], message: Message) -> Reply | None:
        """Apply a fault in the middle or at the end of a message."""
        found = self._find("message", session)
        has_chunks = any(trigger.fault.event == "BDAT" for trigger in self._triggers)
        if not found and not has_chunks:
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
                due += self._matching("BDAT", chunk, session)[:1]
                done = chunk
            for fault in due:
                reply = await self._act(session, [fault])
                if fault.reply is not None:
                    return reply

        # Only delays and additional replies have happened: the handlers after this one need the whole body.
        message.put_back(b"".join(pieces))
        return await self._act(session, [fault for fault in found if fault.octets is None])

    async def _on_event(self, event: str, session: Session[Any], subject: object) -> Reply | None:
        return await self._act(session, self._find(event, session, subject))

    def _find(self, event: str, session: Session[Any] | None = None, subject: object = None) -> list[Fault]:
        number = self._count(event, session if event == "RCPT" else None)
        return self._matching(event, number, session, subject)

    def _matching(self, event: str, number: int, session: Session[Any] | None, subject: object = None) -> list[Fault]:
        """Return the faults of `event` that apply, and count the event for each of them."""
        key, address = _key(session, subject), _address_of(subject)
        with self._lock:
            return [
                trigger.fault
                for trigger in self._triggers
                if trigger.fault.event == event and not trigger.fault.disabled and trigger.matches(number, key, address)
            ]

    def _count(self, event: str, session: Session[Any] | None) -> int:
        if session is None:
            with self._lock:
                self._counts[event] += 1
                return self._counts[event]

        # RCPT and BDAT are counted within their transaction, whether they are accepted or not.
        with self._lock:
            counts = self._within.setdefault(session, {})
        transaction, count = counts.get(event, (None, 0))
        count = count + 1 if transaction is session.transaction else 1
        counts[event] = session.transaction, count
        return count

    def _number_of_chunk(self, session: Session[Any]) -> int:
        with self._lock:
            counts = self._within.get(session, {})
        return counts.get("BDAT", (None, 0))[1]

    async def _act(self, session: Session[Any], faults: Sequence[Fault]) -> Reply | None:
        """Apply the first of `faults`, and all that add a line to the reply to EHLO."""
        for each in faults:
            if each.ehlo_line:
                session.edit_reply(partial(_with_line, each.ehlo_line))

        fault = next((each for each in faults if not each.ehlo_line), None)
        if fault is None:
            return None
        if fault.delay:
            await session.sleep(fault.delay)

        if fault.octets_instead is not None:
            raise AbortConnection(fault.octets_instead, reset=fault.reset)
        if fault.reply and fault.closes:
            raise AbortConnection(fault.reply.encode(), reset=fault.reset)
        if fault.extra:
            session.edit_reply(partial(_with_octets, fault.extra.encode()))
        if fault.early:
            session.edit_reply(_without_octets, skip=1)

        return fault.reply


def _with_octets(added: bytes, octets: bytes) -> bytes:
    return octets + added


def _without_octets(octets: bytes) -> bytes:
    return b""


def _with_line(line: str, octets: bytes) -> bytes:
    """Return the octets of a positive reply to EHLO with one more line at its end."""
    if not octets.startswith(b"250"):
        return octets

    before, _, last = octets[:-2].rpartition(b"250 ")
    return b"%b250-%b\r\n250 %b\r\n" % (before, last, line.encode())


def _context_with(kind: str, authority: "trustme.CA | None") -> ssl.SSLContext:
    """Return a context with a certificate whose only fault is `kind`, for a client that trusts `authority`."""
    import trustme

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer = trustme.CA() if authority is None or kind == "untrusted" else authority
    names = ("wrong.invalid",) if kind == "wrong" else ("localhost", "127.0.0.1", "::1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    begin, end = (yesterday - timedelta(days=1), yesterday) if kind == "expired" else (None, None)
    issuer.issue_cert(*names, not_before=begin, not_after=end).configure_cert(context)
    return context


_MAX_SEED = 2**32


def _has_no_effect(fault: Fault, why: str) -> FaultError:
    return FaultError(f"fault {fault.line!r}: {why}, so it would have no effect")


def _lacking(event: str, config: Config) -> str:
    """Return the reason why this event cannot happen on a server with `config`, or ""."""
    if event in ("EHLO", "HELO", "LHLO") and (event == "LHLO") is not config.lmtp:
        return f"the server speaks {'LMTP' if config.lmtp else 'SMTP'}"
    if event in ("STARTTLS", "TLS") and not config.starttls:
        return "the server has no TLS context"
    if event == "AUTH" and not (config.auth_mechanisms and (config.starttls or config.plaintext_auth)):
        return "the server does not offer AUTH"

    keyword = _EXTENSIONS.get(event)
    return f"the server does not offer {keyword}" if keyword in config.disabled else ""


_EXTENSIONS = {"BDAT": "CHUNKING", "ETRN": "ETRN", "EXPN": "EXPN", "HELP": "HELP"}


def _octets(fault: Fault) -> int:
    return fault.octets or 0


def _key(session: Session[Any] | None, subject: object) -> object:
    """Return the client, the sender and the recipients of an event, as far as they are known, as a greylist does."""
    if session is None:
        return None

    client = session.peer.host if session.peer else None
    if isinstance(subject, Mail):
        return client, str(subject.reverse_path)

    transaction = session.transaction
    if transaction is None:
        return client

    paths = (
        [subject.forward_path] if isinstance(subject, Rcpt) else [rcpt.forward_path for rcpt in transaction.recipients]
    )
    return client, str(transaction.mail.reverse_path), *map(str, paths)


def _address_of(subject: object) -> object:
    match subject:
        case Mail(reverse_path=path) | Rcpt(forward_path=path):
            return path
        case _:
            return None
