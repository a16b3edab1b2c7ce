"""The state and the behaviour that both ends of a session share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Generic, TypeVar

from ._addresses import Mailbox
from ._budgets import Budgets, ClientBudgets
from ._buffer import ReceiveBuffer
from ._commands import Ehlo, Helo, Lhlo, Mail, Rcpt, StartTls
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import ConnectionClosed, Event, TimedOut
from ._extensions._builtin import EXTENSIONS
from ._extensions._definition import Extension
from ._fields import check_argument, check_octets
from ._replies import Reply, ReplyClass
from ._state import IN_TRANSACTION, MOVES, State, Step, Wait


@dataclass(slots=True)
class Transaction:
    """A mail transaction (RFC 5321 3.3)."""

    mail: Mail
    """The accepted MAIL command."""
    recipients: list[Rcpt] = field(default_factory=list)
    """The accepted RCPT commands, in order. Only the connection adds commands."""
    submitter: Mailbox | None = None
    """The submitter, which an authenticated client names with AUTH=; None if unknown (RFC 4954 section 5)."""
    priority: int = 0
    """The priority from MT-PRIORITY, -9 to 9, default 0; at most 0 unless authenticated (RFC 6710 4.1)."""
    body: list[bytes] = field(default_factory=list)
    """A list that is free for your program to collect the body, so that two messages cannot mix."""

    @classmethod
    def opened(cls, mail: Mail, *, is_authenticated: bool) -> "Transaction":
        """Return the transaction that an accepted MAIL opens, on the server's side."""
        params = mail.params
        if is_authenticated:
            return cls(mail, submitter=params.auth.mailbox if params.auth else None, priority=params.mt_priority)

        # RFC 4954 section 5: as if AUTH=<> had been given. RFC 6710 4.1: a priority above 0 needs AUTH.
        return cls(mail, priority=min(params.mt_priority, 0))


# Time
#
# A per-read timeout can be defeated by sending one octet just before it expires. So waits add up: for a command line
# until the line is complete, for a reply until the whole reply has arrived, for a message until its end. Only `block`
# starts again with each octet, and each octet of a message extends its deadline at the minimum rate.
#
# The time of your own program does not count. `tick` is called before each wait, and again after `receive_data`, so
# that two kinds of intervals alternate:
#
#     tick  (wait)  receive_data  tick  (next_event, handlers, send)  tick  (wait)  receive_data  tick ...
#
# An interval belongs to the program if a reply was pending at its beginning, or if during the interval the connection
# took input out of its buffer, but received nothing. All other intervals are waits. If a program calls `tick` less
# often, its intervals are longer, and count as waits as a whole: the peer gets less time, never more.
#
# `worked` is the sum of the intervals of the program. `now - worked` is a clock that stands still while the program
# works. The starts of waits are times of that clock. So while a wait lasts, its deadline does not change at all, and a
# program that sleeps until the deadline needs no tolerance for rounding.
#
# Input that arrives after the deadline may complete the command. So the first `tick` after input never ends a wait: the
# next `tick` does, if the command is still incomplete.


@dataclass(slots=True, eq=False)
class Timer:
    """Measures the waits of one connection, from the first `tick` on."""

    now: float
    """The time of the last tick."""
    opened: float
    """The time of the first tick."""
    octet_from: float
    _item_from: float
    _message_from: float
    """The starts of the waits for the next octet, for the rest of a line or reply, and for the rest of a message.
    These are times of the clock that stands still while the program works."""

    deadline: float = inf
    """The time at which the current wait has to end."""
    budget: str = ""
    """The name of the budget that sets the deadline."""
    wait: Wait = Wait.NOTHING
    """The kind of the current wait."""
    timed_out: TimedOut | None = None
    """The event that `next_event` has to return next."""

    worked: float = 0.0
    """Seconds for which the program worked, and did not wait for the peer."""
    received: int = 0
    taken: int = 0
    """Octets received, and octets taken out of the receive buffer, up to the last tick."""
    was_input: bool = False
    """Whether input arrived before the last tick."""
    _of: object | None = None
    _item: int = 0
    """A number that identifies the awaited line or reply. For a line: its position in the stream. For a reply: the
    number of replies that the request in `_of` still needs."""
    _message: object | None = None
    """The message that is being received, or None."""
    _message_octets: int = 0
    """Octets received before the first wait within the message."""

    def stop(self) -> None:
        """End the wait: the program has to act, or the session is over."""
        self.wait = Wait.NOTHING
        self.deadline = inf
        self.timed_out = None

    def await_client(self, wait: Wait, budgets: Budgets, message: object | None, line: int | None) -> None:
        """Set the deadline of a server.

        `message` is the message that is being received. `line` is the position in the stream of octets at which the
        current line begins; None while the rest of a faulty line is being skipped.
        """
        worked = self.worked
        at = self.now - worked
        if (line is not None and line != self._item) or wait is not self.wait:
            self._item = self._item if line is None else line
            self._item_from = at
            self.wait = wait
        if message is not self._message:
            self._message = message
            self._message_from = at
            self._message_octets = self.received

        if wait is Wait.BODY:
            budget = "block" if budgets.block < budgets.body else "body"
            end = self.octet_from + getattr(budgets, budget)
        else:
            budget = _OF_SERVER[wait]
            end = self._item_from + getattr(budgets, budget)
        if message is not None and budgets.body_rate:
            end_of_message = (
                self._message_from + budgets.body + (self.received - self._message_octets) / budgets.body_rate
            )
            if end_of_message < end:
                end, budget = end_of_message, "body"
        end += worked
        if self.opened + budgets.session < end:
            end, budget = self.opened + budgets.session, "session"

        self.deadline, self.budget = end, budget

    def await_server(self, wait: Wait, budgets: ClientBudgets, budget: str, request: object, replies: int) -> None:
        """Set the deadline of a client that waits for a reply to `request`, which needs `replies` more."""
        if replies != self._item or request is not self._of or wait is not self.wait:
            self._item = replies
            self._of = request
            self._item_from = self.now - self.worked
            self.wait = wait

        end = self._item_from + getattr(budgets, budget) + self.worked
        if self.opened + budgets.session < end:
            end, budget = self.opened + budgets.session, "session"

        self.deadline, self.budget = end, budget


_OF_SERVER: Final = {
    Wait.GREETING: "greeting",
    Wait.COMMAND: "command",
    Wait.AUTH: "command",
    Wait.TLS: "handshake",
}
"""The budget of each wait of a server, except for a body."""


# The endpoint

B = TypeVar("B", Budgets, ClientBudgets)


class Endpoint(ABC, Generic[B]):
    """One end of a session, without I/O."""

    def __init__(self, budgets: B, extensions: Sequence[Extension], *, implicit_tls: bool) -> None:
        check_argument("implicit_tls", implicit_tls, bool)
        if extensions != EXTENSIONS:  # the check of all built-in extensions takes longer than a command
            check_argument("extensions", extensions, Sequence[Extension])
        self.budgets: B = budgets
        """The time budgets, replaceable at any time, for example by shorter budgets while a server is full."""
        self._state = State.CONNECTED
        self._tls = False
        self._implicit_tls = implicit_tls
        """Whether a TLS handshake precedes the greeting."""
        self._timer: Timer | None = None
        self.deadline: float = inf
        """The time for the next call of `tick` if nothing arrives; `math.inf` if no time limits the wait. Read only."""
        self._helo: Helo | Ehlo | Lhlo | None = None
        self._authenticated = False
        self._transaction: Transaction | None = None
        self._asked: Event | None = None
        """The event whose reply is pending. Always None in a client."""
        self._buffer = ReceiveBuffer()
        self._received = 0
        """Octets received in total."""
        self._end_of_stream = False
        self._output: list[bytes] = []

    # Properties

    @property
    def state(self) -> State:
        """The state that the replies so far have led to."""
        return self._state

    @property
    def transaction(self) -> Transaction | None:
        """The accepted MAIL with the accepted recipients, until the reply to the end of the body."""
        return self._transaction

    @property
    def helo(self) -> Helo | Ehlo | Lhlo | None:
        """The accepted HELO, EHLO or LHLO."""
        return self._helo

    @property
    def tls(self) -> bool:
        """Whether TLS is active."""
        return self._tls

    @property
    def authenticated(self) -> bool:
        """Whether the client has authenticated (RFC 4954), or a trusted proxy named its login with XCLIENT."""
        return self._authenticated

    @property
    def trailing_data(self) -> bytes:
        """The octets that were received but not used."""
        return bytes(self._buffer.octets)

    # Receiving

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Add received octets; `b""` is the end of the peer's stream.

        To keep the buffer bounded, call this only when `next_event` has returned `NEED_DATA`.
        Raises `RemoteProtocolError` for octets between STARTTLS and TLS, which an attacker may have injected.
        """
        if not data:
            check_octets(data)  # None would be taken for the end of the stream
            self._end_of_stream = True
            return
        if self._state is State.CLOSED or self._end_of_stream:
            return
        if (self._asked or self._state in _HANDSHAKES) and self._expects_handshake():
            raise self._injected()

        self._buffer.octets += data
        self._received += len(data)

    def _expects_handshake(self) -> bool:
        """Return whether the next octets belong to a TLS handshake."""
        is_implicit = self._implicit_tls and not self._tls and self._state is State.CONNECTED
        return is_implicit or self._state is State.TLS or type(self._asked) is StartTls

    # Time

    def within_session(self, end: float) -> float:
        """Return `end`, or the time at which the budget of the session is spent if that time is earlier."""
        end_of_session = self._timer.opened + self.budgets.session if self._timer else inf
        return end if end < end_of_session else end_of_session

    def send_deadline(self, now: float) -> float:
        """Return the deadline of a write that begins now. If the write is not complete by then, call `send_failed`."""
        return self.within_session(now + self.budgets.send)

    @property
    def waited(self) -> float:
        """The seconds that were spent on waiting for the peer, up to the last `tick`."""
        timer = self._timer
        return timer.now - timer.opened - timer.worked if timer else 0.0

    def tick(self, now: float) -> None:
        """State the time, in seconds of a clock that never goes back. Without `tick`, nothing has a time limit.

        Call this method before each wait for input, after each `receive_data`, and at `deadline`. The time between a
        `receive_data` and the next wait does not count, because the program works then.

        If a budget is spent, the session is over: `next_event` returns `TimedOut`, after `BodyAborted` if a body was
        open. A server queues a 421 if the client can read it.
        """
        timer = self._timer
        if timer is None:
            timer = self._timer = Timer(now, now, now, now, now)
        if self._state is State.CLOSED:
            return

        received = self._received
        taken = received - len(self._buffer.octets)
        has_taken, was_input, before = taken != timer.taken, timer.was_input, timer.now
        if now < before:
            now = before
        timer.now, timer.taken = now, taken
        is_waiting = timer.wait is not Wait.NOTHING
        timer.was_input = has_input = received != timer.received
        if not is_waiting or (has_taken and not has_input):
            timer.worked += now - before
        if has_input:
            timer.received = received
            timer.octet_from = now - timer.worked
            if is_waiting and not has_taken and not was_input:
                return  # the input may complete the command

        self._set_deadline(timer)
        self.deadline = timer.deadline
        if timer.deadline <= now:
            timer.timed_out = TimedOut(timer.wait, timer.budget, self._time_out())

    @abstractmethod
    def _set_deadline(self, timer: Timer) -> None:
        """Set the deadline of the current wait."""

    @abstractmethod
    def _time_out(self) -> Reply | None:
        """Close the session because a budget is spent. Return the last reply, if there is one."""

    def _closed(self) -> TimedOut | ConnectionClosed:
        """Return the next event of a session that is over."""
        timer = self._timer
        event = timer.timed_out if timer else None
        if timer:
            timer.stop()
            self.deadline = inf

        return event or ConnectionClosed()

    # Writing

    def data_to_send(self) -> bytes:
        """Return the octets to write to the peer. Each octet is returned once."""
        output, self._output = self._output, []
        return b"".join(output)

    def send_failed(self) -> None:
        """Close after a failed write. The peer may have received a part of the octets, so nothing more can be sent."""
        self._advance(Step.CLOSE)
        self._output.clear()

    # TLS

    def tls_established(self) -> None:
        """Continue under TLS, after the handshake that follows a 220 to STARTTLS, or that precedes the greeting.

        The results of earlier commands are discarded, such as EHLO and AUTH (RFC 3207 4.2). The counters of limits,
        such as the number of errors, are kept.
        Raises `LocalProtocolError` if TLS cannot start in this state, and `RemoteProtocolError` for octets that arrived
        before TLS, which an attacker may have injected.
        """
        if self._asked or not self._expects_handshake():
            use = "implicit_tls=True" if self._state is State.CONNECTED else "STARTTLS and its 220 first"
            raise LocalProtocolError(f"TLS cannot start in {self._state}: use {use}")
        if self._has_input():
            raise self._injected()

        self._advance(Step.HANDSHAKE)
        self._tls = True
        self._forget_peer()

    def _has_input(self) -> bool:
        return bool(self._buffer.octets)

    @abstractmethod
    def _forget_peer(self) -> None:
        self._helo = None
        self._authenticated = False

    def _injected(self) -> RemoteProtocolError:
        # RFC 3207 4.2: an attacker on the network can put plaintext before the handshake.
        return self._broken("plaintext came before TLS")

    def _broken(self, why: str) -> RemoteProtocolError:
        self._advance(Step.CLOSE)
        return RemoteProtocolError(why)

    # The state

    def _advance(self, cause: type[object] | Step, reply_class: ReplyClass | None = None) -> None:
        """Change the state as `MOVES` says for a reply to an event of type `cause`, or for the `Step` in `cause`.

        No other code assigns `_state`.
        """
        state = MOVES.get((self._state, cause, reply_class), self._state)
        if state is self._state:
            return

        self._state = state
        if state not in IN_TRANSACTION:
            self._transaction = None
        if state is not State.MAIL and state is not State.RCPT:  # no body precedes
            self._enter(state)

    @abstractmethod
    def _enter(self, state: State) -> None:
        """Drop the data that is not needed in `state`, which begins now. Not called for MAIL and RCPT."""


_HANDSHAKES: Final = frozenset({State.CONNECTED, State.TLS})
"""States in which a TLS handshake may be due."""
