"""What the program decides before the first octet arrives."""

# Each limit stands beside the least that RFC 5321 allows, which construction enforces, and beside what would go wrong
# without it. A limit that is None is switched off.

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from ._errors import LocalProtocolError
from ._grammar import is_domain, match_mechanism

MIN_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, CRLF included
MIN_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, CRLF included
MIN_TEXT_LINE = 1000  # RFC 5321 4.5.3.1.6, CRLF included
MIN_MESSAGE_SIZE = 65_536  # RFC 5321 4.5.3.1.7
MIN_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2
MAX_SECONDS = 999_999_999  # RFC 2852 section 2 (3), RFC 4865 section 3
MAX_CLASSES = 480  # RFC 3865 2.2 allows for 1000, but RFC 5321 4.5.3.1.5 only for what a line of a reply can hold

OFF_BY_DEFAULT = frozenset(
    {
        "BURL",
        "DELIVERBY",
        "DSN",
        "ETRN",
        "EXPN",
        "LIMITS",
        "MT-PRIORITY",
        "NO-SOLICITING",
        "REQUIRETLS",
        "RRVS",
        "XCLIENT",
        "XFORWARD",
    }
)
"""Extensions that `Config.disabled` names unless told otherwise: each is a promise that only a program can keep.

To take DSN, DELIVERBY, RRVS or REQUIRETLS and do nothing would deceive the sender, who counts on being told, or on TLS
on the whole way. MT-PRIORITY, NO-SOLICITING, ETRN, EXPN and BURL need someone to do the work. XCLIENT and XFORWARD
believe what the client says of itself, so they are for trusted clients only. LIMITS binds to the limits it names.
Enable some with `disabled=OFF_BY_DEFAULT - {"DSN"}`.
"""

_match_policy = re.compile(r"[A-Za-z0-9._-]{1,20}").fullmatch  # RFC 6710 section 7
_match_class = re.compile(r"[A-Za-z][A-Za-z0-9._:-]*").fullmatch  # RFC 3865 2.2
_match_word = re.compile(r"[!-~]+").fullmatch


class Bodies(Enum):
    """In which form the body of a message is handed out."""

    LINES = auto()
    """One `DataLine` for each line; of a binary line that exceeds `max_text_line`, one for each such piece."""
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
    lmtp: bool = False
    """Whether LMTP is spoken: LHLO, and a reply for each recipient behind the body (RFC 2033)."""
    auth_mechanisms: tuple[str, ...] = ()
    """SASL mechanisms that the program can serve, in upper case, so that AUTH is offered (RFC 4954)."""
    plaintext_auth: bool = False
    """Whether AUTH is offered without TLS too. Then passwords may be read by anyone on the way."""
    require_auth: bool = False
    """Whether mail is taken from authenticated clients only (RFC 6409 section 4.3)."""
    disabled: frozenset[str] = OFF_BY_DEFAULT
    """Keywords of extensions that are not offered."""
    unknown_parameters: bool = False
    """Whether MAIL and RCPT may carry parameters that no extension knows, for the program to read as text. By default
    they are refused, since the client counts on their effect (RFC 5321 4.1.1.11)."""
    min_by_time: int | None = None
    """The least number of seconds that DELIVERBY allows for, which it announces (RFC 2852)."""
    max_hold_for: int | None = None
    """The most seconds of FUTURERELEASE, which is offered if this and `max_hold_until` are given (RFC 4865).

    Do so for the submission service only, and if the program does hold back messages.
    """
    max_hold_until: datetime | None = None
    """The latest time of FUTURERELEASE, in UTC."""
    priority_policy: str | None = None
    """The name of the policy that MT-PRIORITY announces (RFC 6710)."""
    solicitation_classes: tuple[str, ...] = ()
    """The classes of messages that no one here wants, which NO-SOLICITING announces (RFC 3865)."""
    burl: tuple[str, ...] = ()
    """What BURL announces, `imap` for instance: the URLs that the program can fetch (RFC 4468)."""
    max_command_line: int = MIN_COMMAND_LINE
    """Octets of a command with its CRLF, before extensions add theirs. An endless command would fill the memory."""
    max_text_line: int = 65_536
    """Octets of a line of a body with its CRLF. Real mail exceeds 1,000; an endless line would fill the memory."""
    max_message_size: int | None = 52_428_800
    """Octets of a body, announced by SIZE (RFC 1870). An endless one would fill the disk."""
    max_recipients: int = 1000
    """Accepted recipients of one transaction; more get 452. A list without end would fill the memory."""
    max_recipient_domains: int | None = None
    """Different domains of recipients in one session, announced by LIMITS (RFC 9422)."""
    max_messages: int | None = None
    """Messages in one session, announced by LIMITS (RFC 9422)."""
    max_errors: int | None = 50
    """Commands answered 5yz in one session; the next one gets 421 (RFC 5321 7.8). Stops guessing of addresses."""
    max_idle_commands: int | None = 100
    """Commands other than MAIL, RCPT and DATA since the last message; the next one gets 421. Stops loops of NOOP."""

    max_auth_failures: int | None = 3
    """Failed authentications in one session; the next command gets 421 (RFC 4954 section 9). Stops guessing."""

    def __post_init__(self) -> None:
        name = self.hostname
        if not (name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= MAX_DOMAIN):
            raise LocalProtocolError(f"hostname {name[:300]!r} is not a domain: give the ASCII name of this server")

        if self.require_tls and not self.tls:
            raise LocalProtocolError("require_tls without tls would refuse every client: set tls=True too")
        if self.require_auth and not self.auth_mechanisms:
            raise LocalProtocolError("require_auth without auth_mechanisms would refuse every client: name some")
        for mechanism in self.auth_mechanisms:
            if match_mechanism(mechanism) is None:
                raise LocalProtocolError(f"{mechanism!r} is not the name of a SASL mechanism: use capitals")

        _demand("max_command_line", self.max_command_line, MIN_COMMAND_LINE)
        _demand("max_text_line", self.max_text_line, MIN_TEXT_LINE)
        _demand("max_message_size", self.max_message_size, MIN_MESSAGE_SIZE)
        _demand("max_recipients", self.max_recipients, MIN_RECIPIENTS)
        _demand("max_errors", self.max_errors, 1)
        _demand("max_idle_commands", self.max_idle_commands, 1)
        _demand("max_auth_failures", self.max_auth_failures, 1)

        _demand("max_recipient_domains", self.max_recipient_domains, 1)
        _demand("max_messages", self.max_messages, 1)
        _demand("min_by_time", self.min_by_time, 1)
        _demand("max_hold_for", self.max_hold_for, 1)
        self._check_arguments()

    def _check_arguments(self) -> None:
        if max(self.min_by_time or 0, self.max_hold_for or 0) > MAX_SECONDS:
            raise LocalProtocolError("min_by_time and max_hold_for have at most nine digits")
        if (self.max_hold_for is None) != (self.max_hold_until is None):
            raise LocalProtocolError("FUTURERELEASE needs both max_hold_for and max_hold_until")
        if self.max_hold_until and self.max_hold_until.utcoffset() != timedelta(0):
            raise LocalProtocolError(f"max_hold_until is {self.max_hold_until}, but must be in UTC: give it a tzinfo")
        if self.priority_policy is not None and not _match_policy(self.priority_policy):
            raise LocalProtocolError(f"{self.priority_policy!r} is not the name of a policy of RFC 6710")
        if not all(map(_match_class, self.solicitation_classes)) or not all(map(_match_word, self.burl)):
            raise LocalProtocolError("solicitation_classes or burl has what cannot stand in the reply to EHLO")
        if len(",".join(self.solicitation_classes)) > MAX_CLASSES:
            raise LocalProtocolError(f"solicitation_classes has more than {MAX_CLASSES} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """How one client's connections behave.

    Raises `LocalProtocolError` for a host name that is neither a domain nor an address literal, and for a limit below
    its RFC minimum.
    """

    hostname: str
    """The fully qualified domain, or address literal in brackets, by which the client names itself."""
    lmtp: bool = False
    """Whether LMTP is spoken: LHLO, and a reply for each recipient behind the body (RFC 2033)."""
    pipelining: bool = True
    """Whether commands go out before the replies to those before them, where the server offers it (RFC 2920)."""
    plaintext_auth: bool = False
    """Whether AUTH may be sent without TLS. Then passwords may be read by anyone on the way."""
    bare_newlines: BareNewlines = BareNewlines.REJECT
    """What a bare CR or LF in a body does: it is an error, or becomes CR LF, which a chunk has no room for.

    `ACCEPT` is none of the choices: nobody may send one (RFC 5321 2.3.8), and some who receive one take it for the
    end of a line, and so a message for two.
    """
    max_text_line: int | None = MIN_TEXT_LINE
    """Octets of a line of a body with its CRLF: what every server has to take. None if any length will do."""
    max_reply_line: int = 4096
    """Octets of a line of a reply with its CRLF; challenges of AUTH may have 12,288 besides. An endless line would
    fill the memory."""
    max_reply_lines: int = 1000
    """Lines of one reply. A reply without end would fill the memory."""
    max_group: int | None = 16_384
    """Octets of commands that may wait for their replies. RFC 2920 3.1: where both ends wait for the other to read, a
    group that does not fit into what the network takes would wait for ever; hosts take this much."""

    def __post_init__(self) -> None:
        # RFC 5321 4.1.4: a client makes sure, as far as it can, that this is its name.
        if not self.hostname.isascii() or len(self.hostname) > MAX_DOMAIN or not is_domain(self.hostname):
            raise LocalProtocolError(f"hostname {self.hostname[:300]!r} is neither a domain nor an address literal")
        if self.bare_newlines is BareNewlines.ACCEPT:
            raise LocalProtocolError("bare_newlines cannot be ACCEPT: a client sends no bare CR or LF")

        _demand("max_text_line", self.max_text_line, MIN_TEXT_LINE)
        _demand("max_reply_line", self.max_reply_line, MIN_REPLY_LINE)
        _demand("max_reply_lines", self.max_reply_lines, 1)
        _demand("max_group", self.max_group, 1)


def _demand(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise LocalProtocolError(f"{name} is {value}, but must be at least {least}")
