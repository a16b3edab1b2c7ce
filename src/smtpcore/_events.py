"""The events that `next_event` returns, except commands, and the types of requests and of replies to them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

from ._base64 import encode_base64
from ._command import Command, UnknownCommand
from ._commands import Rcpt
from ._fields import Checked, check_argument
from ._replies import Reply
from ._states import Wait


class Signal(Enum):
    """A reason why `next_event` has no event."""

    NEED_DATA = auto()
    """All input is processed: pass more to `receive_data`."""
    NEED_REPLY = auto()
    """The last event still needs a reply: pass it to `answer`. A client never gets this signal."""
    NEED_TLS = auto()
    """The TLS handshake is due: do it, then call `tls_established`."""
    NEED_PART = auto()
    """The part that a BURL names is needed: pass it to `receive_part`, or refuse. A client never gets this signal."""


NEED_DATA: Final = Signal.NEED_DATA
NEED_REPLY: Final = Signal.NEED_REPLY
NEED_TLS: Final = Signal.NEED_TLS
NEED_PART: Final = Signal.NEED_PART


@dataclass(frozen=True, slots=True, init=False)
class ConnectionOpened:
    """The client has connected. The reply to this event is the greeting (RFC 5321 3.1)."""


@dataclass(frozen=True, slots=True)
class InvalidCommand(Checked):
    """A command that cannot be accepted: malformed, out of sequence, or over a limit."""

    line: bytes
    """The received line, without its line end. A line that is too long is cut off."""
    reply: Reply
    """The reply that the RFCs prescribe."""
    rule: str
    """The name of the rule that decided.

    The name is that of a field in `Config` (`"max_recipients"`), the keyword of an extension in upper case
    (`"SIZE"`), or one of `"syntax"`, `"address"`, `"sequence"` and `"verb"`.
    """


@dataclass(frozen=True, slots=True)
class DataLine(Checked):
    """A line of the body with CR LF, without dot-stuffing. A long line of a binary body comes in several pieces."""

    data: bytes
    """The octets of the line."""


_new: Final[Callable[[type[DataLine]], DataLine]] = DataLine.__new__
_set_data: Final[Callable[[DataLine, bytes], None]] = DataLine.__dict__["data"].__set__


def data_lines(lines: Sequence[bytes]) -> deque[DataLine]:
    """Return a `DataLine` for each of `lines`."""
    # The loop runs for every line of every message. The constructor of a frozen dataclass takes up to three times as
    # long, because it sets fields through `object.__setattr__`.
    events = deque(map(_new, (DataLine,) * len(lines)))
    for _ in map(_set_data, events, lines):
        pass

    return events


@dataclass(frozen=True, slots=True, init=False)
class DataChunk:
    """A run of octets of the body, without dot-stuffing."""

    data: bytes
    """The octets. The boundary between two runs has no meaning."""

    def __init__(self, data: bytes) -> None:
        if data.__class__ is not bytes:
            check_argument("data", data, bytes)
        _set_octets(self, data)


_set_octets: Final[Callable[[DataChunk, bytes], None]] = DataChunk.__dict__["data"].__set__


@dataclass(frozen=True, slots=True)
class HeaderEnd(Checked):
    """The end of the header of a message, if `Config.max_header` is set. This event needs no reply.

    The data events before this event have the octets of the header, the data events after it have the rest. A body
    without an empty line is all header. Call `Connection.refuse_body` to refuse the message now.
    """

    header: bytes
    """The octets of the header (RFC 5322 2.2), up to and including the empty line after it."""


@dataclass(frozen=True, slots=True, init=False)
class ChunkEnd:
    """The end of a BDAT chunk that is not the last chunk of its body. A negative reply aborts the transaction."""


@dataclass(frozen=True, slots=True, init=False)
class DataEnd:
    """The end of the body. A positive reply accepts responsibility for the message (RFC 5321 4.2.5).

    In LMTP this event needs one reply for each accepted recipient, in the order of the RCPT commands (RFC 2033 4.2).
    """


@dataclass(frozen=True, slots=True)
class InvalidData(Checked):
    """The end of a body that cannot be accepted, instead of `DataEnd`. A positive reply to this event is an error.

    The preceding data events have the octets before the fault; the octets after the fault are dropped. Discard all
    octets of this body.
    """

    reply: Reply
    """The reply that the RFCs prescribe, or that your program passed to `Connection.refuse_body`."""
    rule: str
    """The name of the rule that decided, such as `"max_message_size"`; see `InvalidCommand.rule`. The name is
    `"program"` if your program called `Connection.refuse_body`."""


@dataclass(frozen=True, slots=True, init=False)
class BodyAborted:
    """The end of a body that stays incomplete, instead of `DataEnd`. Discard all octets of this body. No reply follows.

    The event follows the reply to a refused chunk, to RSET, EHLO, QUIT or STARTTLS between two chunks, and to a 421; or
    the end of the client's stream. Each body has exactly one end: `DataEnd`, `InvalidData` or `BodyAborted`.
    """


@dataclass(frozen=True, slots=True)
class AuthResponse(Checked):
    """The client's response to a SASL challenge (RFC 4954 section 4)."""

    data: bytes = field(repr=False)
    """The response, decoded from base64."""

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included."""
        return f"{encode_base64(self.data)}\r\n".encode()


@dataclass(frozen=True, slots=True, init=False)
class AuthCancel:
    """The client cancels the authentication (`*`)."""

    def encode(self) -> bytes:
        """Return the octets for the wire, CR LF included."""
        return b"*\r\n"


@dataclass(frozen=True, slots=True, init=False)
class ConnectionClosed:
    """The end of the dialogue: the peer closed its side, or the last reply ended the session."""


@dataclass(frozen=True, slots=True)
class TimedOut(Checked):
    """A time budget is spent, and the session is over. A call of `tick` finds this; only `ConnectionClosed` follows."""

    wait: Wait
    """The wait in which the budget was spent."""
    budget: str
    """The name of the budget: a field of `Budgets`, or of `ClientBudgets`."""
    reply: Reply | None = None
    """The 421 that a server has queued; None if no reply can be sent."""


_Line: TypeAlias = Command | UnknownCommand | InvalidCommand | AuthResponse | AuthCancel
_Body: TypeAlias = DataLine | DataChunk | HeaderEnd | ChunkEnd | DataEnd | InvalidData | BodyAborted
Event: TypeAlias = ConnectionOpened | _Line | _Body | TimedOut | ConnectionClosed
"""An event that `Connection.next_event` returns. The method can also return a `Signal`."""

Request: TypeAlias = Command | UnknownCommand | AuthResponse | AuthCancel | DataLine | DataChunk | DataEnd
"""An item that a client sends. A chunk's octets follow its `Bdat`. After `Data` the body ends with `DataEnd`."""

Question: TypeAlias = Command | ConnectionOpened | UnknownCommand | AuthResponse | AuthCancel | ChunkEnd | DataEnd
"""An item that a server replies to, as seen by the server: the greeting is the reply to `ConnectionOpened`."""


@dataclass(frozen=True, slots=True)
class Answered(Checked):
    """A reply of the server, with the item that it answers."""

    to: Question | None
    """The answered item; for a body or chunk, its end. None for a 421 or 221 that the server sent without a request."""
    reply: Reply
    """The server's reply."""
    recipient: Rcpt | None = None
    """The recipient to which a reply to the end of an LMTP body applies (RFC 2033 4.2). None in SMTP."""


ClientEvent: TypeAlias = Answered | TimedOut | ConnectionClosed
"""An event that `ClientConnection.next_event` returns. The method can also return a `Signal`."""
