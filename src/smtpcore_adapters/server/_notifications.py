"""Lifecycle events of a session, for observers, and the special results of handlers."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, TypeAlias

from smtpcore import Event, Reply

from ..tls._info import Tls


class Reason(StrEnum):
    """The reason for the end of a session."""

    QUIT = "QUIT"
    """The client has sent QUIT."""
    GOODBYE = "421"
    """A handler or a limit has ended the session with a 421, or a handler has returned `AtOnce`."""
    CLOSED = "closed"
    """The client closed the connection between two commands."""
    LOST = "lost"
    """The connection broke, a TLS handshake failed, or the client closed the connection within a message."""
    TIMEOUT = "timeout"
    """A time budget is spent. `SessionClosed.budget` names the budget."""
    SHUTDOWN = "shutdown"
    """The server stops."""
    EARLY_TALKER = "early talker"
    """The client has sent something before the greeting."""
    DROPPED = "dropped"
    """A `connect` handler has returned `DROP`, a handler has raised `AbortConnection` with `reset`, or a limit was
    reached with implicit TLS."""
    ABORTED = "aborted"
    """A handler has raised `AbortConnection` without `reset`, or the program has called `Session.drop`."""
    CANCELLED = "cancelled"
    """The session's task was cancelled. `disconnect` handlers are called, but may not be able to await anything."""
    FAILED = "failed"
    """The server itself has failed; the error was logged."""


class Drop(Enum):
    """The type of `DROP`, which a `connect` handler may return in place of a reply."""

    DROP = auto()
    """Close the connection without a reply."""


DROP: Final = Drop.DROP


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A refusal that a `header` or `message` handler may return, to be sent without waiting for the end of the message.

    The connection is closed after `reply`. A client that reads no replies while it sends may not receive `reply`, so
    it may send the message again. An ordinary refusal is sent after the message, or after the current chunk of BDAT.
    """

    reply: Reply
    """The reply, with a code 4yz or 5yz."""

    def __post_init__(self) -> None:
        if self.reply.is_positive:
            raise ValueError(f"{self.reply.code} is no refusal: use 4yz or 5yz")


class AbortConnection(BaseException):  # not an Exception, which would be logged as a failure of the handler
    """Raised by a handler to end the connection abruptly, in tests of clients.

    The pending replies are sent, then `data` unchanged. After that the connection is closed; with `reset`, it is reset.
    """

    def __init__(self, data: bytes = b"", *, reset: bool = False) -> None:
        super().__init__(data)
        self.data = data
        """Octets that are sent unchanged before the connection ends."""
        self.reset = reset
        """Whether the connection is reset, and not closed."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A client has connected. Nothing was received or sent yet, not even a PROXY header."""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session has ended, and its `disconnect` handlers were called."""

    reason: Reason
    """The reason for its end."""
    seconds: float
    """The duration of the session."""
    budget: str = ""
    """The name of the time budget that ended the session: a field of `Budgets`, or `"crowded"`. Empty if no budget
    did."""


@dataclass(frozen=True, slots=True)
class TlsEstablished:
    """A TLS handshake has succeeded."""

    tls: Tls
    """The negotiated parameters."""


@dataclass(frozen=True, slots=True)
class TlsFailed:
    """A TLS handshake has failed."""

    error: str
    """The reason."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit with a reply in `REPLIES` was reached. `Refusal` also covers the limits of `Config` and the timeouts."""

    limit: str
    """A field of `Limits`; or `"greeting_delay"` for an early talker, or `"http"` for an HTTP request."""


class Decider(StrEnum):
    """The kind of rule that caused a refusal."""

    RULE = "rule"
    """A rule of the protocol, or a limit or requirement of `smtpcore.Config`."""
    LIMIT = "limit"
    """A limit of `Limits`, the greeting delay, or the refusal of HTTP requests."""
    TIMEOUT = "timeout"
    """A time budget: a field of `Budgets`, or `Timeouts.crowded`."""
    HANDLER = "handler"
    """A handler."""
    DEFAULT = "default"
    """The default: no handler has decided."""
    FAILURE = "failure"
    """A failure of the server: a handler has raised an exception, or has returned a reply that cannot be sent."""
    SHUTDOWN = "shutdown"
    """The server stops."""


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a reply, for the `wording` functions of an `App`."""

    decided_by: Decider
    """The kind of rule that decided."""
    rule: str
    """The name of the rule: as in `Refusal` for a negative reply, the name of the handler for a positive reply."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A negative reply was sent: 4yz or 5yz."""

    reply: Reply
    """The reply, which observers have also received as a separate item just before."""
    decided_by: Decider
    """The kind of rule that decided."""
    rule: str
    """The name of the rule that decided.

    For a rule of the protocol: `InvalidCommand.rule`. For a limit or a timeout: the name of its field. Otherwise: the
    name of the handler that decided, failed or is missing. A failure of the server itself is called `"session"`.
    """


Decision: TypeAlias = tuple[Reply, Decider, str]
"""A reply, and the `decided_by` and `rule` of its `Refusal` if the reply is negative."""


@dataclass(frozen=True, slots=True)
class HandlerDone:
    """The handlers of one name have returned, or raised an exception."""

    name: str
    """The name under which the handlers are registered."""
    seconds: float
    """The running time of the handlers, without their waits for the client."""


@dataclass(frozen=True, slots=True)
class OctetsSent:
    """Octets of the program were sent unchanged: by `Session.edit_reply`, or by `AbortConnection`."""

    data: bytes
    """The octets. Empty if `edit_reply` has removed a reply."""
    instead: bool
    """Whether the octets take the place of the reply that observers have received just before."""


Notice: TypeAlias = (
    SessionOpened | SessionClosed | TlsEstablished | TlsFailed | LimitReached | Refusal | HandlerDone | OctetsSent
)

Observed: TypeAlias = Event | Reply | Notice
"""The second argument of an observer."""
