"""What happens to a session, its dialogue apart."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, TypeAlias

from smtpcore import Event, Reply

from ..tls._info import Tls


class Reason(StrEnum):
    """Why a session has ended."""

    QUIT = "QUIT"
    """The client said so."""
    GOODBYE = "421"
    """A handler or a limit did, with a 421."""
    CLOSED = "closed"
    """The client closed the connection between two commands."""
    LOST = "lost"
    """The connection broke, a TLS handshake failed, or the client closed the connection within a message."""
    TIMEOUT = "timeout"
    """The client was too slow."""
    SHUTDOWN = "shutdown"
    """The server stops."""
    EARLY_TALKER = "early talker"
    """The client talked before the greeting."""
    DROPPED = "dropped"
    """A `connect` handler returned `DROP`, a handler wanted the connection reset, or a limit was reached where TLS
    comes before the greeting."""
    ABORTED = "aborted"
    """A handler raised `AbortConnection`."""
    CANCELLED = "cancelled"
    """The session's task was cancelled: handlers can still be called, but may not be able to await anything."""
    FAILED = "failed"
    """The server itself has an error, which was logged."""


class Drop(Enum):
    """What a `connect` handler may return in place of a reply."""

    DROP = auto()
    """Close the connection without a word."""


DROP: Final = Drop.DROP


class AbortConnection(BaseException):  # lest it is taken for a failure of the handler
    """Raised by a handler to give its client up, in tests of how clients bear that.

    `data` is written as it is, behind the replies to what came before; then the connection is closed or, with `reset`,
    reset.
    """

    def __init__(self, data: bytes = b"", *, reset: bool = False) -> None:
        super().__init__(data)
        self.data = data
        self.reset = reset


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A client has connected. Neither a PROXY header, nor TLS, nor a greeting has been looked at yet."""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session has ended, and its `disconnect` handlers were called."""

    reason: Reason
    """Why."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True, slots=True)
class TlsEstablished:
    """A TLS handshake is done."""

    tls: Tls
    """What was agreed upon."""


@dataclass(frozen=True, slots=True)
class TlsFailed:
    """A TLS handshake has failed."""

    error: str
    """Why."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit of `Limits` was reached. `Refusal` tells of all other limits as well."""

    limit: str
    """The name of the limit, as in `Limits`."""


class Decider(StrEnum):
    """The kind of thing that has decided to refuse."""

    RULE = "rule"
    """A rule of the protocol, or a limit or requirement of `smtpcore.Config`."""
    LIMIT = "limit"
    """A limit of `Limits`."""
    TIMEOUT = "timeout"
    """A timeout of `Timeouts`."""
    HANDLER = "handler"
    """A handler."""
    DEFAULT = "default"
    """The default: no handler has decided."""
    FAILURE = "failure"
    """A failure of the server: a handler has raised an exception, or has returned a reply that cannot be sent."""
    SHUTDOWN = "shutdown"
    """The server stops."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A negative reply was sent: 4yz or 5yz."""

    reply: Reply
    """The reply, as the observers got it just before."""
    decided_by: Decider
    """The kind of thing that has decided."""
    rule: str
    """The name of the rule that has decided.

    For a rule that is `InvalidCommand.rule`, for a limit or a timeout the name of its field, and otherwise the name of
    the handler that has decided or failed, or that is missing. A failure of the server itself is called `"session"`.
    """


Decision: TypeAlias = tuple[Reply, Decider, str]
"""A reply, with the two other values that `Refusal` has if the reply is negative."""


@dataclass(frozen=True, slots=True)
class HandlerDone:
    """The handlers of something have returned, or raised."""

    name: str
    """What they are handlers of."""
    seconds: float
    """How long they took, without the time in which they waited for the client."""


Notice: TypeAlias = SessionOpened | SessionClosed | TlsEstablished | TlsFailed | LimitReached | Refusal | HandlerDone

Observed: TypeAlias = Event | Reply | Notice
"""Whatever an observer is called with."""
