"""What the program decides before the first octet arrives."""

# Each limit stands beside the least that RFC 5321 allows, which construction enforces, and beside what would go wrong
# without it. A limit that is None is switched off.

from dataclasses import dataclass
from enum import Enum, auto

from ._errors import LocalProtocolError

MIN_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, CRLF included
MIN_TEXT_LINE = 1000  # RFC 5321 4.5.3.1.6, CRLF included
MIN_MESSAGE_SIZE = 65_536  # RFC 5321 4.5.3.1.7
MIN_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2


class Bodies(Enum):
    """In which form the body of a message is handed out."""

    LINES = auto()
    """One `DataLine` for each line."""
    CHUNKS = auto()
    """`DataChunk`s as large as the input allows: the fast form."""


class BareNewlines(Enum):
    """What a CR without LF, or an LF without CR, does. No member lets one take part in an end of data."""

    REJECT = auto()
    """A body with one is read to its end and answered 550; a command line with one is answered 500."""
    NORMALIZE = auto()
    """Each one in a body becomes CR LF. A bare LF ends a command line."""
    ACCEPT = auto()
    """Bodies pass as they came. A bare LF ends a command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one server's connections behave.

    Raises `LocalProtocolError` for a host name that cannot stand in a reply, and for a limit below its RFC minimum.
    """

    hostname: str
    """The domain, or address literal in brackets, by which the server names itself."""
    bodies: Bodies = Bodies.LINES
    """Whether bodies come as `DataLine` or as `DataChunk`."""
    bare_newlines: BareNewlines = BareNewlines.REJECT
    """What a bare CR or LF does."""
    tls: bool = False
    """Whether the program can negotiate TLS, so that STARTTLS is offered (RFC 3207)."""
    require_tls: bool = False
    """Whether everything but NOOP, EHLO, STARTTLS and QUIT is refused before TLS (RFC 3207 section 4)."""
    disabled: frozenset[str] = frozenset({"EXPN"})
    """Keywords of extensions that are not offered. EXPN is among them because only a program knows of lists."""
    max_command_line: int = MIN_COMMAND_LINE
    """Octets of a command with its CRLF, before extensions add theirs. An endless command would fill the memory."""
    max_text_line: int = 65_536
    """Octets of a line of a body with its CRLF. Real mail exceeds 1,000; an endless line would fill the memory."""
    max_message_size: int | None = 52_428_800
    """Octets of a body, announced by SIZE (RFC 1870). An endless one would fill the disk."""
    max_recipients: int = 1000
    """Accepted recipients of one transaction; more get 452. A list without end would fill the memory."""
    max_errors: int | None = 50
    """Commands answered 5yz in one session; the next one gets 421 (RFC 5321 7.8). Stops guessing of addresses."""
    max_idle_commands: int | None = 100
    """Commands other than MAIL, RCPT and DATA since the last message; the next one gets 421. Stops loops of NOOP."""

    def __post_init__(self) -> None:
        name = self.hostname
        if not (name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= MAX_DOMAIN):
            raise LocalProtocolError(f"hostname {name[:300]!r} is not a domain: give the ASCII name of this server")

        if self.require_tls and not self.tls:
            raise LocalProtocolError("require_tls without tls would refuse every client: set tls=True too")

        self._demand("max_command_line", self.max_command_line, MIN_COMMAND_LINE)
        self._demand("max_text_line", self.max_text_line, MIN_TEXT_LINE)
        self._demand("max_message_size", self.max_message_size, MIN_MESSAGE_SIZE)
        self._demand("max_recipients", self.max_recipients, MIN_RECIPIENTS)
        self._demand("max_errors", self.max_errors, 1)
        self._demand("max_idle_commands", self.max_idle_commands, 1)

    @staticmethod
    def _demand(name: str, value: int | None, least: int) -> None:
        if value is not None and value < least:
            raise LocalProtocolError(f"{name} is {value}, but must be at least {least}")
