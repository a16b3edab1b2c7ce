"""What a connection tells the program, commands apart."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

from ._base64 import encode_base64
from ._commands import Command, Rcpt
from ._errors import LocalProtocolError
from ._grammar import find_control, is_encodable, match_keyword
from ._replies import Reply


class Signal(Enum):
    """Why `next_event` has no event."""

    NEED_DATA = auto()
    """The input is used up: pass more to `receive_data`."""
    PAUSED = auto()
    """The last event is still owed its reply, or TLS has to be established first."""


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """The client has connected; the reply to this is the greeting (RFC 5321 3.1)."""


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """A command whose verb no extension claims. A handler may answer it; else it gets 500.

    Raises `LocalProtocolError` for a verb that is no word in upper case, and for control characters.
    """

    verb: str
    """The verb in upper case."""
    argument: str = ""
    """What follows the verb, as it was sent."""

    def __post_init__(self) -> None:
        if match_keyword(self.verb) is None or self.verb != self.verb.upper():
            raise LocalProtocolError(f"{self.verb!r} is not a verb: it should be a word in upper case")
        if find_control(self.argument) or not is_encodable(self.argument):
            raise LocalProtocolError(f"argument {self.argument!r} has control characters")

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}".rstrip()

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included."""
        return f"{self}\r\n".encode()


@dataclass(frozen=True, slots=True)
class InvalidCommand:
    """A command that cannot be accepted: unparsable, out of sequence, or over a limit."""

    line: bytes
    """The line as it came, without its end and as far as it was read."""
    reply: Reply
    """The answer that the RFCs ask for."""


@dataclass(frozen=True, slots=True)
class DataLine:
    """A line of the body with its CR LF, its dot-stuffing removed; of a long line of a binary body, a piece."""

    data: bytes
    """The octets."""


def data_lines(lines: Iterable[bytes]) -> list[DataLine]:
    """A `DataLine` for each of `lines`."""
    # There is one for every line of every message, and the constructor of a frozen dataclass takes up to three times
    # as long, because it sets its fields by way of `object`.
    new, set_data = DataLine.__new__, DataLine.__dict__["data"].__set__
    events = []
    for data in lines:
        event = new(DataLine)
        set_data(event, data)
        events.append(event)
    return events


@dataclass(frozen=True, slots=True)
class DataChunk:
    """A run of octets of the body, its dot-stuffing removed."""

    data: bytes
    """The octets; where a run ends means nothing."""


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """The end of a BDAT chunk that is not the last of its body. A negative reply gives the transaction up."""


@dataclass(frozen=True, slots=True)
class DataEnd:
    """The end of the body. A positive reply to this takes responsibility for the message (RFC 5321 4.2.5).

    In LMTP it is owed a reply for each accepted recipient, in their order (RFC 2033 4.2).
    """


@dataclass(frozen=True, slots=True)
class InvalidData:
    """The end of a body that cannot be accepted, in place of `DataEnd`. No positive reply to it is possible.

    Of such a body only what precedes its fault was handed out.
    """

    reply: Reply
    """The answer that the RFCs ask for."""


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """What the client answers to a challenge (RFC 4954 section 4)."""

    data: bytes = field(repr=False)
    """The response, decoded."""

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included."""
        return f"{encode_base64(self.data)}\r\n".encode()


@dataclass(frozen=True, slots=True)
class AuthCancel:
    """The client gives its authentication up."""

    def encode(self) -> bytes:
        """The octets for the wire, CR LF included."""
        return b"*\r\n"


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """Nothing more will be heard: the client has closed its end, or the last reply has closed the dialogue."""


Event: TypeAlias = (
    Command
    | ConnectionOpened
    | UnknownCommand
    | InvalidCommand
    | DataLine
    | DataChunk
    | ChunkEnd
    | DataEnd
    | InvalidData
    | AuthResponse
    | AuthCancel
    | ConnectionClosed
)
"""Whatever `Connection.next_event` returns besides a `Signal`."""

Request: TypeAlias = Command | UnknownCommand | AuthResponse | AuthCancel | DataLine | DataChunk | DataEnd
"""Whatever a client sends. The octets of a chunk follow its `Bdat`, and `DataEnd` ends what follows `Data`."""

Question: TypeAlias = Command | ConnectionOpened | UnknownCommand | AuthResponse | AuthCancel | ChunkEnd | DataEnd
"""What a server answers, as its own end sees it: the greeting answers `ConnectionOpened`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply of the server, and what it answers."""

    to: Question | None
    """What was asked: for a body, and for a chunk of one, its end. None for a 421 that nothing had asked for."""
    reply: Reply
    """The reply."""
    recipient: Rcpt | None = None
    """In LMTP, for which recipient the end of the body is answered (RFC 2033 4.2)."""


ClientEvent: TypeAlias = Answered | ConnectionClosed
"""Whatever `ClientConnection.next_event` returns besides a `Signal`."""
