"""Configuration of a connection, fixed before the first octet arrives."""

# Each limit is documented with the harm that it prevents. Where RFC 5321 sets a minimum, the constructor enforces the
# minimum. A limit of None is switched off.

import re
from collections.abc import Set
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from enum import auto
from typing import Self

from ._errors import LocalProtocolError
from ._fields import check_argument, check_fields
from ._grammar import is_domain, match_mechanism
from ._states import Key

MIN_COMMAND_LINE = 512  # RFC 5321 4.5.3.1.4, CRLF included
MIN_REPLY_LINE = 512  # RFC 5321 4.5.3.1.5, CRLF included
MIN_TEXT_LINE = 1000  # RFC 5321 4.5.3.1.6, CRLF included
MIN_MESSAGE_SIZE = 65_536  # RFC 5321 4.5.3.1.7
MIN_RECIPIENTS = 100  # RFC 5321 4.5.3.1.8
MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2
MAX_SECONDS = 999_999_999  # RFC 2852 section 2 (3), RFC 4865 section 3
MAX_CLASSES = 480  # RFC 3865 2.2 allows 1000 octets, but RFC 5321 4.5.3.1.5 limits the reply line that lists them


class _OffByDefault(frozenset[str]):
    __slots__ = ()

    def __repr__(self) -> str:
        return "OFF_BY_DEFAULT"  # the value would make the help of `Config` unreadable


OFF_BY_DEFAULT: frozenset[str] = _OffByDefault(
    {"DELIVERBY", "DSN", "LIMITS", "REQUIRETLS", "RRVS"}  # clients rely on an action of your program
    | {"BURL", "ETRN", "EXPN", "MT-PRIORITY", "NO-SOLICITING"}  # these need code of your own
    | {"XCLIENT", "XFORWARD"}  # these are for trusted clients
)
"""The default of `Config.disabled`: extensions that need code of your own, or a decision that you have to make.

A client that uses DSN, DELIVERBY, RRVS or REQUIRETLS relies on a notification, or on TLS for the whole route, so a
server that accepts these parameters and ignores them deceives the sender. MT-PRIORITY, NO-SOLICITING, ETRN, EXPN and
BURL need code of your own. XCLIENT and XFORWARD replace the client's address and name by what the client sends, so
offer them to trusted clients only. LIMITS commits the server to the limits that it announces.
Enable an extension with `enabled={"DSN"}`.
"""

_match_policy = re.compile(r"[A-Za-z0-9._-]{1,20}").fullmatch  # RFC 6710 section 7
_match_class = re.compile(r"[A-Za-z][A-Za-z0-9._:-]*").fullmatch  # RFC 3865 2.2
_match_word = re.compile(r"[!-~]+").fullmatch


class Bodies(Key):
    """The form in which `next_event` returns the body of a message."""

    LINES = auto()
    """One `DataLine` for each line. A line of a binary body that exceeds `max_text_line` is split at that length."""
    CHUNKS = auto()
    """`DataChunk`s as large as the received input allows. This is the faster form."""


class BareNewlines(Key):
    """Treatment of a bare CR (CR without LF) or bare LF (LF without CR). Neither of them ever ends a body."""

    REJECT = auto()
    """A body with a bare CR or LF is read to its end and gets a 550. A command line with a bare CR or LF gets a 500."""
    NORMALIZE = auto()
    """Each bare CR, bare LF and CR CR LF in a body is replaced by CR LF. A bare LF ends a command line."""
    ACCEPT = auto()
    """Bodies are returned unchanged. A bare LF ends a command line."""


class Tolerance(Key):
    """The treatment of commands that break the grammar of RFC 5321 but can have one meaning only."""

    STRICT = auto()
    """Such commands are refused."""
    LENIENT = auto()
    """Such commands are accepted, and `Command.deviations` names their mistakes. `docs/server.md` lists all mistakes.

    Bodies, TLS, limits and control characters are treated as with `STRICT`."""


class _Given:
    __slots__ = ("_given",)  # this is a separate class, because a dataclass has slots for its fields only
    _given: frozenset[str]

    def __new__(cls, *_: object, **fields: object) -> Self:
        """Store the names of the given fields."""
        self = super().__new__(cls)
        object.__setattr__(self, "_given", frozenset(fields))
        return self


def given_fields(config: "Config") -> frozenset[str]:
    """Return the names of the fields passed to `Config(...)`: all fields after `replace`, no fields after a copy."""
    check_argument("config", config, Config)
    return config._given


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(_Given):
    """Configuration of a server's connections.

    Raises `LocalProtocolError` for a host name that cannot be part of a reply, and for a limit below its RFC minimum.
    """

    hostname: str
    """The name of this server in its replies: a domain, or an address literal in brackets."""
    bodies: Bodies = Bodies.LINES
    """The form of message bodies: `DataLine` or `DataChunk` events. Default: lines. The adapters always use chunks."""
    bare_newlines: BareNewlines = BareNewlines.REJECT
    """The treatment of a bare CR or LF. Default: reject."""
    tolerance: Tolerance = Tolerance.STRICT
    """The treatment of commands with malformed syntax or addresses. Default: strict."""
    starttls: bool = False
    """Whether STARTTLS is offered (RFC 3207). Your program performs the TLS handshake."""
    require_tls: bool = False
    """Whether commands other than NOOP, EHLO, STARTTLS and QUIT are refused before TLS (RFC 3207 section 4)."""
    lmtp: bool = False
    """Whether the protocol is LMTP: LHLO, and one reply per recipient after the body (RFC 2033)."""
    auth_mechanisms: tuple[str, ...] = ()
    """The SASL mechanisms that your program implements, in upper case. By default none, and no AUTH (RFC 4954)."""
    plaintext_auth: bool | tuple[str, ...] = False
    """Whether AUTH is also offered without TLS, where anyone on the path can read passwords. A tuple names
    such mechanisms."""
    require_auth: bool = False
    """Whether only authenticated clients may send mail (RFC 6409 section 4.3)."""
    disabled: frozenset[str] = OFF_BY_DEFAULT
    """Keywords of extensions that are not offered."""
    enabled: InitVar[Set[str]] = frozenset()
    """Keywords to remove from `disabled`: `{"DSN"}`."""
    unknown_parameters: bool = False
    """Whether MAIL and RCPT accept parameters of unknown extensions, as text. By default they are refused: the client
    relies on their effect (RFC 5321 4.1.1.11)."""
    min_by_time: int | None = None
    """The minimum by-time in seconds that DELIVERBY accepts and announces (RFC 2852)."""
    max_hold_for: int | None = None
    """The maximum delay in seconds that FUTURERELEASE accepts (RFC 4865).

    FUTURERELEASE is offered if `max_hold_until` is set too. Set both only if your program holds
    messages back.
    """
    max_hold_until: datetime | None = None
    """The latest release time that FUTURERELEASE accepts, in UTC."""
    priority_policy: str | None = None
    """The priority policy that MT-PRIORITY announces (RFC 6710)."""
    solicitation_classes: tuple[str, ...] = ()
    """Classes of unwanted messages that NO-SOLICITING announces (RFC 3865)."""
    burl: tuple[str, ...] = ()
    """The kinds of URLs that your program can fetch, announced by BURL, such as `imap` (RFC 4468)."""
    max_command_line: int = MIN_COMMAND_LINE
    """Maximum octets of a command line with CR LF; extensions raise this limit. Bounds memory."""
    max_text_line: int | None = 65_536
    """Maximum octets of a body line with CR LF. Bounds memory.

    None, for no limit, needs `Bodies.CHUNKS`."""
    max_message_size: int | None = 52_428_800
    """Maximum octets of a body, announced by SIZE (RFC 1870)."""
    max_header: int | None = None
    """Maximum octets of the header of a message. If set, `next_event` returns `HeaderEnd`, and a larger header gets a
    552. Bounds memory: the header is held until its end. Default: no event, no limit."""
    max_recipients: int = 1000
    """Maximum accepted recipients of a transaction. Further recipients get a 452. Bounds memory."""
    max_recipients_per_session: int | None = None
    """Maximum accepted recipients of all messages of a session. Further recipients get a 452."""
    max_recipient_domains: int | None = None
    """Maximum different recipient domains in a session, announced by LIMITS (RFC 9422)."""
    max_messages: int | None = None
    """Maximum messages in a session, announced by LIMITS (RFC 9422)."""
    max_errors: int | None = 50
    """Maximum 5yz replies since the last accepted message. The next command gets a 421 (RFC 5321 7.8)."""
    max_refusals: int | None = 1000
    """Maximum other refusals in a session: 4yz replies, and refused messages. The next command gets a 421."""
    max_idle_commands: int | None = 100
    """Maximum accepted commands between two messages, besides MAIL, RCPT and DATA. The next command gets a 421."""
    max_auth_failures: int | None = 3
    """Maximum failed logins in a session. The next command gets a 421 (RFC 4954 section 9)."""

    def __post_init__(self, enabled: Set[str]) -> None:
        check_fields(self)
        _check_hostname(self.hostname)
        for keyword in enabled:
            if keyword not in OFF_BY_DEFAULT | self.disabled:
                use = ", ".join(sorted(OFF_BY_DEFAULT | self.disabled))
                raise LocalProtocolError(f"enabled: {keyword!r} is not off by default; use a set of {use}")
        # So `disabled` alone decides, and code that adds a keyword to `disabled` later switches the extension off.
        object.__setattr__(self, "disabled", self.disabled.difference(enabled))
        if self.require_tls and not self.starttls:
            raise LocalProtocolError("require_tls without starttls would refuse every client: set starttls=True too")
        if self.max_text_line is None and self.bodies is Bodies.LINES:
            raise LocalProtocolError("max_text_line=None needs bodies=Bodies.CHUNKS: a line has to fit into memory")
        if self.require_auth and not self.auth_mechanisms:
            raise LocalProtocolError("require_auth without auth_mechanisms would refuse every client: name a mechanism")
        for mechanism in self.auth_mechanisms:
            if match_mechanism(mechanism) is None:
                raise LocalProtocolError(f"{mechanism!r} is not the name of a SASL mechanism: use capitals")
        if isinstance(self.plaintext_auth, tuple):
            for mechanism in self.plaintext_auth:
                if mechanism not in self.plaintext_mechanisms:
                    use = "name auth_mechanisms that do not need TLS"
                    raise LocalProtocolError(f"plaintext_auth has {mechanism!r}: {use}")

        _check_limits(self)
        if max(self.min_by_time or 0, self.max_hold_for or 0) > MAX_SECONDS:
            raise LocalProtocolError(f"min_by_time and max_hold_for must be at most {MAX_SECONDS} seconds")
        if (self.max_hold_for is None) != (self.max_hold_until is None):
            raise LocalProtocolError("FUTURERELEASE needs both max_hold_for and max_hold_until: set both or neither")
        if self.max_hold_until and self.max_hold_until.utcoffset() != timedelta(0):
            raise LocalProtocolError(f"max_hold_until is {self.max_hold_until}, but must be in UTC: set tzinfo=UTC")
        if self.priority_policy is not None and not _match_policy(self.priority_policy):
            raise LocalProtocolError(f"priority_policy {self.priority_policy!r} needs 1 to 20 of A-Z, a-z, 0-9, . _ -")
        if not all(map(_match_class, self.solicitation_classes)) or not all(map(_match_word, self.burl)):
            raise LocalProtocolError("solicitation_classes or burl has a word that cannot stand in the EHLO reply")
        if len(",".join(self.solicitation_classes)) > MAX_CLASSES:
            raise LocalProtocolError(f"solicitation_classes must have at most {MAX_CLASSES} characters in total")

    @property
    def plaintext_mechanisms(self) -> tuple[str, ...]:
        """The `auth_mechanisms` that are offered without TLS: without tokens (RFC 7628 section 3), without -PLUS."""
        named = self.plaintext_auth
        if isinstance(named, bool):
            named = self.auth_mechanisms if named else ()
        return tuple(name for name in self.auth_mechanisms if name in named and not name.endswith(_ONLY_WITH_TLS))


_ONLY_WITH_TLS = ("-PLUS", "OAUTH2", "OAUTHBEARER")


def _check_hostname(name: str) -> None:
    # RFC 5321 4.2 and 4.4: the name is part of the greeting and of the field Received.
    if not name.isascii() or len(name) > MAX_DOMAIN or not is_domain(name):
        raise LocalProtocolError(f"hostname {name[:300]!r} is neither a domain nor an address literal in ASCII")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Configuration of a client's connections.

    Raises `LocalProtocolError` for a host name that is neither a domain nor an address literal, and for a limit below
    its RFC minimum.
    """

    hostname: str
    """The name of this client in EHLO: a fully qualified domain, or an address literal in brackets."""
    lmtp: bool = False
    """Whether the protocol is LMTP: LHLO, and one reply per recipient after the body (RFC 2033)."""
    pipelining: bool = True
    """Whether commands are sent before earlier replies have arrived, if the server offers PIPELINING (RFC 2920)."""
    plaintext_auth: bool = False
    """Whether AUTH may be sent without TLS. Passwords can then be read by anyone on the network path."""
    bare_newlines: BareNewlines = BareNewlines.REJECT
    """The treatment of a bare CR or LF in a body: an error (default), or replacement by CR LF.

    Chunks sent with BDAT have a fixed size, so there a bare CR or LF is always an error. `ACCEPT` is not allowed:
    RFC 5321 2.3.8 forbids sending a bare CR or LF, and a receiver that treats it as a line end may see two messages
    where the sender saw one.
    """
    max_text_line: int | None = MIN_TEXT_LINE
    """Maximum octets of a body line with CR LF. The default is accepted by every server. None for no limit."""
    max_reply_line: int = 4096
    """Maximum octets of a reply line with CR LF. Bounds memory per connection. A challenge of AUTH (334) may have
    12,288 octets of base64 in any case."""
    max_reply_lines: int = 1000
    """Maximum lines of a reply. Bounds memory per connection."""
    max_group: int | None = 16_384
    """Maximum octets of commands that are sent before their replies arrive. A larger group could fill the network
    buffers while both ends wait for each other to read (RFC 2920 3.1). Common hosts buffer at least the default."""

    def __post_init__(self) -> None:
        check_fields(self)
        # RFC 5321 4.1.4: a client checks, as far as possible, that this is a valid name of its host.
        _check_hostname(self.hostname)
        if self.bare_newlines is BareNewlines.ACCEPT:
            raise LocalProtocolError("bare_newlines cannot be ACCEPT: a client may not send a bare CR or LF")
        _check_limits(self)


_LEAST = {
    "max_command_line": MIN_COMMAND_LINE,
    "max_text_line": MIN_TEXT_LINE,
    "max_message_size": MIN_MESSAGE_SIZE,
    "max_recipients": MIN_RECIPIENTS,
    "max_reply_line": MIN_REPLY_LINE,
}


def _check_limits(config: Config | ClientConfig) -> None:
    for name in config.__slots__:
        value, least = getattr(config, name), _LEAST.get(name, 1)
        if name.startswith(("max_", "min_")) and isinstance(value, int) and value < least:
            raise LocalProtocolError(f"{name} is {value}, but must be at least {least}")
