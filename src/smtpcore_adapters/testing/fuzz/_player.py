"""Play a plan against a server, and record what happens."""

# The player sends the pieces of each step, and reads as many replies as the step needs. Groups are as large as RFC 2920
# permits. A session ends early if the server stops to answer, closes the connection, or sends more than it should. What
# the server did wrong is judged later, by the laws.

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from ..steps import BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep
from ._logins import Credentials, LoginStep
from ._model import SessionModel
from ._peers import CannotFuzz, Connect, Peer
from ._plans import Plan
from ._replies import EndOfStream, Flood, ReplyReader, Silence, WireReply

_QUIT = LineStep(b"QUIT")
_MAX_REST = 100
"""Replies that are read after the last octets of a session."""
_USUAL_AUTH = 0.1
"""Seconds that a reply to AUTH may take without counting as late."""


class End(Enum):
    """The way in which a session ended."""

    CLOSED = "closed"
    """After QUIT, or after a 421."""
    SILENT = "silent"
    """The server sent no reply in time."""
    DROPPED = "dropped"
    """The server closed the connection while a reply was needed."""
    SURPLUS = "surplus"
    """The server sent a reply that nothing asked for."""
    FLOOD = "flood"
    """The server sent more octets than the fuzzer reads."""
    LEFT_OPEN = "left open"
    """The server did not close the connection after its reply to QUIT."""
    TLS_FAILED = "TLS failed"
    """The handshake after a 220 failed."""
    LOOSE = "loose"
    """The plan has octets without CR LF or an invalid PROXY header, so the number of replies is not defined."""


@dataclass(slots=True)
class Exchange:
    """A step, and the replies to it."""

    step: Step
    """The step."""
    sent: list[bytes] = field(default_factory=list)
    """The pieces that were sent."""
    replies: list[WireReply] = field(default_factory=list)
    """The replies in order."""
    breach: str = ""
    """The violation of the sequence of commands, or an empty text."""
    recipients: int = 0
    """The number of recipients before the step."""
    offers: frozenset[str] = frozenset()
    """The extensions offered before the step."""
    mechanisms: frozenset[str] = frozenset()
    """The mechanisms of AUTH offered before the step."""
    is_authenticated: bool = False
    """Whether a login has succeeded before the step."""
    in_transaction: bool | None = False
    """Whether a transaction was open before the step; None if that is unknown."""

    @property
    def codes(self) -> list[int]:
        """The codes of the replies."""
        return [reply.code for reply in self.replies]


@dataclass(frozen=True, slots=True)
class Entry:
    """Octets of one side of a session."""

    is_client: bool
    """Whether the client sent the octets."""
    group: int
    """The number of the group; the server's entries have the group that they follow."""
    octets: bytes
    """The octets."""


@dataclass(slots=True)
class Recording:
    """A session as it happened."""

    plan: Plan
    """The plan."""
    greeting: WireReply | None = None
    """The greeting."""
    exchanges: list[Exchange] = field(default_factory=list)
    """The exchanges in order, up to the end of the session."""
    awaited: int | None = None
    """The number of the exchange whose reply was read last; None before the first."""
    end: End = End.CLOSED
    """The way in which the session ended."""
    surplus: list[WireReply] = field(default_factory=list)
    """The replies that nothing asked for."""
    messages: list[tuple[bytes, bool]] = field(default_factory=list)
    """The contents of accepted messages, each with whether it has to be delivered unchanged."""
    prefix: str = ""
    """The verbs of the steps before the plan, which are not recorded, with commas."""
    greeting_seconds: float = 0.0
    """The time in seconds that the greeting took."""
    slowest: float = 0.0
    """The longest time in seconds that another reply took."""
    auth_seconds: float = 0.0
    """The time in seconds by which all replies to AUTH were late."""
    failed_login: str = ""
    """The failure of the steps before the plan, or an empty text."""
    log: list[Entry] = field(default_factory=list)
    """The octets of both sides in order."""

    @property
    def replies(self) -> list[WireReply]:
        """All replies in order."""
        found = [] if self.greeting is None else [self.greeting]
        for exchange in self.exchanges:
            found += exchange.replies

        return found + self.surplus


class _Stop(Exception):
    def __init__(self, end: End) -> None:
        super().__init__(end.value)
        self.end = end


def play(
    plan: Plan,
    connect: Connect,
    deadline: float,
    *,
    lmtp: bool = False,
    login: Sequence[Step] = (),
    credentials: Credentials | None = None,
    auth_deadline: float = 0.0,
    greeting_deadline: float = 0.0,
) -> Recording:
    """Play `plan` in a new session, and return the recording. Raise `OSError` if connecting fails.

    Args:
        plan: The session.
        connect: Opens the connection.
        deadline: Maximum seconds to wait for each reply.
        lmtp: Whether the protocol is LMTP.
        login: Steps before the plan, which are not recorded. AUTH is left out if the plan is not logged in.
        credentials: The user and the password of each `LoginStep`.
        auth_deadline: Maximum seconds to wait for a reply to AUTH, if they are more than `deadline`. Many servers delay
            the reply to a failed login.
        greeting_deadline: Maximum seconds to wait for the greeting, if they are more than `deadline`.
    """
    peer = connect()
    try:
        player = _Player(plan, peer, deadline, lmtp=lmtp, credentials=credentials, auth_deadline=auth_deadline)
        steps = [step for step in login if plan.is_logged_in or step.verb != "AUTH"]
        return player.run(steps, max(deadline, greeting_deadline))
    finally:
        peer.close()


class _Player:
    def __init__(
        self,
        plan: Plan,
        peer: Peer,
        deadline: float,
        *,
        lmtp: bool,
        credentials: Credentials | None,
        auth_deadline: float,
    ) -> None:
        self._plan = plan
        self._credentials = credentials
        self._auth_deadline = max(deadline, auth_deadline)
        self._peer = peer
        self._deadline = deadline
        self._lmtp = lmtp
        self._reader = ReplyReader(peer, deadline)
        self._model = SessionModel()
        self._recording = Recording(plan)
        self._unsent: list[bytes] = []
        self._shown: list[bytes] = []
        """The octets in `_unsent`, with words in place of a password."""
        self._pending: list[tuple[Exchange, bool]] = []
        self._group = 0

    def run(self, login: Sequence[Step], greeting_deadline: float) -> Recording:
        try:
            if self._plan.header is not None:
                self._play_without_greeting(self._plan.header)
            self._recording.greeting = self._read(greeting_deadline)
            self._recording.greeting_seconds, self._reader.slowest = self._reader.slowest, 0.0
            if login:
                self._log_in(login)
            for step in self._plan.steps:
                self._play(step, cuts=True)
            self._flush()
            self._quit()
        except _Stop as stop:
            self._recording.end = stop.end

        self._recording.messages = self._model.messages
        self._recording.slowest = self._reader.slowest
        return self._recording

    def _log_in(self, login: Sequence[Step]) -> None:
        for step in login:
            self._recording.failed_login = f"{step.verb} failed"
            self._play(step, cuts=False)
            codes = self._recording.exchanges[-1].codes
            if codes[-1] >= 400:
                self._recording.failed_login = f"{step.verb} got {codes[-1]}"
                raise _Stop(End.CLOSED)

        self._recording.failed_login = ""
        self._recording.prefix = ", ".join(step.verb for step in login)
        self._recording.exchanges.clear()
        self._recording.awaited = None
        self._recording.log.clear()

    # Steps

    def _play(self, step: Step, *, cuts: bool) -> None:
        exchange = Exchange(step)
        if isinstance(step, RawStep):
            self._play_raw(exchange)
        self._recording.exchanges.append(exchange)
        if self._lmtp and isinstance(step, ChunkStep) and step.is_last:
            self._flush()
            if not self._model.recipients:
                return  # RFC 2033 4.3 requires zero replies in a transaction, and leaves other states open

        *first, last = zip(step.pieces, self._wire_of(step), strict=True)
        for piece, octets in first:
            self._queue(exchange, piece, octets, is_final=False)
            self._flush()
            if exchange.codes[-1:] != [step.continues]:
                self._resume(exchange)
                self._observe(exchange)
                return

        self._queue(exchange, *last, is_final=True)
        must_wait = step.must_end_group and not isinstance(step, BodyStep)  # a command may follow a body
        if must_wait or not self._may_pipeline():
            self._flush()

    def _wire_of(self, step: Step) -> tuple[bytes, ...]:
        if not isinstance(step, LoginStep):
            return step.pieces
        if self._credentials is None:
            raise CannotFuzz("the session has a login, which needs a user and a password")

        return step.with_secrets(self._credentials).pieces

    def _may_pipeline(self) -> bool:
        return self._plan.is_pipelined and "PIPELINING" in self._model.offers

    def _queue(self, exchange: Exchange, piece: bytes, octets: bytes, *, is_final: bool) -> None:
        exchange.sent.append(piece)
        self._shown.append(piece)
        # A cut after STARTTLS would leave injected octets to the handshake.
        self._unsent += _cut(octets, () if isinstance(exchange.step, TlsStep) else self._plan.cuts)
        self._pending.append((exchange, is_final))

    def _flush(self) -> None:
        """Send the group, and read its replies."""
        if not self._pending:
            return
        self._check_surplus()
        segments, pending, shown = self._unsent, self._pending, self._shown
        self._unsent, self._pending, self._shown = [], [], []
        self._group += 1
        self._note(b"".join(shown))
        is_cut = bool(self._plan.cuts)
        self._send(segments if is_cut else [b"".join(segments)])
        for exchange, is_final in pending:
            self._await(exchange)
            self._note_state(exchange)
            step = exchange.step
            count = step.final_replies(self._model.recipients, lmtp=self._lmtp) if is_final else 1
            for _ in range(count):
                reply = self._read_of_auth() if step.verb == "AUTH" else self._read()
                exchange.replies.append(reply)
                if reply.code == 421:
                    raise _Stop(End.CLOSED)
                if isinstance(step, ChunkStep) and reply.code // 10 == 50:
                    break  # a refused command gets one reply also in LMTP
            if is_final:
                self._resume(exchange)
                self._observe(exchange)

    def _read_of_auth(self) -> WireReply:
        started = time.monotonic()
        try:
            return self._read(self._auth_deadline)
        finally:
            self._recording.auth_seconds += max(time.monotonic() - started - _USUAL_AUTH, 0.0)

    def _await(self, exchange: Exchange) -> None:
        exchanges = self._recording.exchanges
        self._recording.awaited = next(n for n, each in enumerate(exchanges) if each is exchange)

    def _note_state(self, exchange: Exchange) -> None:
        model = self._model
        exchange.recipients, exchange.offers, exchange.mechanisms = model.recipients, model.offers, model.mechanisms
        exchange.is_authenticated, exchange.in_transaction = model.is_authenticated, model.in_transaction

    def _resume(self, exchange: Exchange) -> None:
        """End a body or an exchange of AUTH that the step does not continue, so that the next line is a command."""
        escape = {354: b".\r\n", 334: b"*\r\n"}.get(exchange.codes[-1] if exchange.codes else 0)
        is_expected = isinstance(exchange.step, BodyStep) and len(exchange.sent) > 1
        if escape is None or is_expected:
            return

        exchange.sent.append(escape)
        self._note(escape)
        self._send([escape])
        exchange.replies.append(self._read())

    def _observe(self, exchange: Exchange) -> None:
        step = exchange.step
        exchange.breach = self._model.observe(step, exchange.codes)
        if step.verb in ("EHLO", "LHLO") and exchange.codes[-1:] == [250]:
            self._model.take_offers(exchange.replies[-1].lines[1:])
        if step.verb in ("MAIL", "VRFY", "EXPN") and b"SMTPUTF8" in step.pieces[0]:
            self._reader.allows_utf8 = True
        if step.verb == "STARTTLS" and exchange.codes == [220]:
            self._start_tls()

    def _start_tls(self) -> None:
        self._check_surplus()
        try:
            self._peer.start_tls(max(self._deadline, 1.0))
        except OSError as exc:
            if self._recording.failed_login:
                self._recording.failed_login += f": {getattr(exc, 'verify_message', '') or exc.strerror or exc}"
            raise _Stop(End.TLS_FAILED) from None

    def _play_raw(self, exchange: Exchange) -> None:
        """Send octets without CR LF, then an empty line and QUIT, and read all that comes."""
        self._flush()
        self._group += 1
        exchange.sent += [exchange.step.pieces[0], b"\r\nQUIT\r\n"]
        self._recording.exchanges.append(exchange)
        self._await(exchange)
        self._note(b"".join(exchange.sent))
        self._send(exchange.sent)
        raise _Stop(End.LOOSE if self._read_rest(exchange) in (End.DROPPED, End.SILENT) else End.FLOOD)

    def _play_without_greeting(self, header: bytes) -> None:
        """Send an invalid PROXY header and the first lines of the session, and read all that comes."""
        lines = [step.pieces[0] for step in (*self._plan.steps, _QUIT)]
        exchange = Exchange(LineStep(b"PROXY"), sent=lines)
        self._recording.exchanges.append(exchange)
        self._await(exchange)
        self._note(header + b"".join(lines))
        self._send([b"".join(lines)])
        raise _Stop(End.LOOSE if self._read_rest(exchange) in (End.DROPPED, End.SILENT) else End.FLOOD)

    # Octets and replies

    def _send(self, segments: Sequence[bytes]) -> None:
        with suppress(OSError):  # the replies that the server has sent show the reason
            self._peer.send(segments, self._deadline)

    def _note(self, octets: bytes, *, is_client: bool = True) -> None:
        self._recording.log.append(Entry(is_client, self._group, octets))

    def _read(self, deadline: float | None = None) -> WireReply:
        try:
            reply = self._reader.read(deadline)
            self._note(b"".join(reply.lines), is_client=False)
            return reply
        except Silence:
            raise _Stop(End.SILENT) from None
        except EndOfStream:
            raise _Stop(End.DROPPED) from None
        except Flood:
            raise _Stop(End.FLOOD) from None

    def _check_surplus(self) -> None:
        """End the session if there are replies before the next group was sent."""
        if not self._reader.has_more():
            return

        self._recording.surplus.append(self._read())

        is_goodbye = self._recording.surplus[0].code == 421
        raise _Stop(End.CLOSED if is_goodbye else End.SURPLUS)

    def _quit(self) -> None:
        """Send QUIT, and read to the end of the stream."""
        exchange = Exchange(_QUIT, sent=[*_QUIT.pieces])
        self._check_surplus()
        self._group += 1
        self._recording.exchanges.append(exchange)
        self._await(exchange)
        self._note(b"QUIT\r\n")
        self._send(exchange.sent)
        exchange.replies.append(self._read())
        end = self._read_rest(exchange)
        if end not in (End.DROPPED, End.SURPLUS):
            raise _Stop(End.LEFT_OPEN if end is End.SILENT else end)

        if len(exchange.replies) > 1:
            self._recording.surplus = exchange.replies[:-1]
            del exchange.replies[:-1]
            raise _Stop(End.SURPLUS)

    def _read_rest(self, exchange: Exchange) -> End:
        """Read replies until the end of the stream or another end, and return this end."""
        for _ in range(_MAX_REST):
            try:
                exchange.replies.append(self._read())
            except _Stop as stop:
                return stop.end

        return End.SURPLUS


def _cut(piece: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({len(piece) - cut for cut in cuts if 0 < cut < len(piece)})
    return [piece[start:end] for start, end in zip([0, *edges], [*edges, len(piece)], strict=True)]
