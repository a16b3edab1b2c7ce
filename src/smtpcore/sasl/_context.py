"""What an exchange is given before it begins."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .._errors import LocalProtocolError
from ._keys import MIN_ITERATIONS, SALT_SIZE
from ._stringprep import saslprep

_match_binding_type = re.compile(r"[A-Za-z0-9.-]+").fullmatch  # RFC 5802 section 7, cb-name
_match_token = re.compile(r"[!-~]+").fullmatch  # RFC 7628 3.1 sends it as VCHAR
_find_control = re.compile(r"[\x00-\x1f\x7f]").search


@dataclass(frozen=True, slots=True)
class ChannelBinding:
    """What ties an exchange to the TLS channel that carries it (RFC 5056): both ends know it, and no one between."""

    type: str
    """`"tls-exporter"` (RFC 9266), `"tls-server-end-point"` or `"tls-unique"` (RFC 5929)."""
    data: bytes = field(repr=False)
    """What the TLS library gives for it."""

    def __post_init__(self) -> None:
        if not _match_binding_type(self.type):
            raise LocalProtocolError(f"{self.type!r} is not the name of a channel binding")
        if not self.data:
            raise LocalProtocolError(f"channel binding {self.type} has no data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What is known of the connection that carries the exchange. Both ends describe it with the same words."""

    tls: bool = False
    """Whether it is under TLS. On the client: with a server that showed a valid certificate (RFC 4954 section 14)."""
    bindings: tuple[ChannelBinding, ...] = ()
    """The channel bindings at hand. The client takes the first. On the server, leave it empty unless the -PLUS
    mechanisms are offered: a client that does not see them is then no sign of an attack.

    Leave out `tls-unique` under TLS 1.3, and where a session was resumed without RFC 7627 (RFC 7677 section 4)."""
    external: str | None = None
    """Who the client is by other means, such as the subject of its certificate; None if there are none."""
    host: str | None = None
    """The name of the server. The client sends it along with a token."""
    port: int | None = None
    """The port of the server. The client sends it along with a token."""

    def __post_init__(self) -> None:
        if self.host is not None and (not self.host or _find_control(self.host) or not _is_encodable(self.host)):
            raise LocalProtocolError(f"{self.host!r} is not the name of a host")
        if self.port is not None and not 0 < self.port < 65536:
            raise LocalProtocolError(f"{self.port!r} is not a port")

    def binding_data(self, type: str) -> bytes | None:
        """The data of the binding of that type."""
        return next((binding.data for binding in self.bindings if binding.type == type), None)


PLAINTEXT = Channel()
"""A connection without TLS, of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who a client is, and what it can show for that."""

    username: str | None = None
    """Whose password or token it is."""
    password: str | None = field(default=None, repr=False)
    """The password."""
    token: str | None = field(default=None, repr=False)
    """An OAuth 2.0 bearer token."""
    authorization: str | None = None
    """Whom to act as, if not as `username`. Few servers allow that."""
    trace: str | None = None
    """What an anonymous client leaves behind: a mail address, or a word without `@`; may be empty."""

    def __post_init__(self) -> None:
        for field_, value in (("username", self.username), ("authorization", self.authorization)):
            if value is not None and (not value or _find_control(value) or not _is_encodable(value)):
                raise LocalProtocolError(f"{field_} is empty or has control characters")
        if self.password is not None and not (self.password and "\0" not in self.password):
            raise LocalProtocolError("the password is empty or has a NUL in it")
        if self.password is not None and not _is_encodable(self.password):
            raise LocalProtocolError("the password has half a surrogate pair in it")
        if self.token is not None and not _match_token(self.token):
            raise LocalProtocolError("a token consists of visible ASCII characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a server decides once for all exchanges."""

    prepare: Callable[[str], str] = saslprep
    """Prepares the names and passwords that clients send; raises `ValueError`. Pass `str` to leave them as they are,
    where passwords are compared with hashes that were made without preparation."""
    scram_iterations: int = MIN_ITERATIONS
    """The iteration count of the user database. Users who do not exist seem to have it, too."""
    scram_salt_size: int = SALT_SIZE
    """The octets of a salt in the user database. Users who do not exist seem to have such a salt, too."""
    scram_secret: bytes | None = field(default=None, repr=False)
    """What the salts of users who do not exist are derived from. By default another one in every process: where
    several serve the same users, give all of them the same random octets."""

    def __post_init__(self) -> None:
        if self.scram_iterations < 1 or self.scram_salt_size < 1:
            raise LocalProtocolError("SCRAM keys have a salt, and at least one iteration")


DEFAULT_POLICY = Policy()


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    else:
        return True
