"""The input of an exchange: the channel, the client's credentials, and the server's policy."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .._errors import LocalProtocolError
from .._fields import check_fields
from ._keys import MIN_ITERATIONS, SALT_SIZE
from ._stringprep import saslprep

_match_binding_type = re.compile(r"[A-Za-z0-9.-]+").fullmatch  # RFC 5802 section 7, cb-name
_match_token = re.compile(r"[!-~]+").fullmatch  # RFC 7628 3.1: a token consists of VCHARs
_find_control = re.compile(r"[\x00-\x1f\x7f]").search


@dataclass(frozen=True, slots=True)
class ChannelBinding:
    """Data that ties an exchange to one TLS channel (RFC 5056). Only the two ends of the channel know the data."""

    type: str
    """`"tls-exporter"` (RFC 9266), `"tls-server-end-point"` or `"tls-unique"` (RFC 5929)."""
    data: bytes = field(repr=False)
    """The binding data from the TLS library."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not _match_binding_type(self.type):
            raise LocalProtocolError(f"{self.type!r} is not the name of a channel binding")
        if not self.data:
            raise LocalProtocolError(f"channel binding {self.type} has no data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Properties of the connection that carries the exchange. Both ends use the same class."""

    tls: bool = False
    """Whether TLS is active; on the client, with a verified certificate of the server (RFC 4954 section 14)."""
    bindings: tuple[ChannelBinding, ...] = ()
    """The available channel bindings. The client uses the first binding. A server should set this only if it offers
    -PLUS mechanisms. Otherwise a client that supports -PLUS is rejected, as if an attacker had changed the offer.

    Leave out `tls-unique` under TLS 1.3, and if a session was resumed without RFC 7627 (RFC 7677 section 4)."""
    external: str | None = None
    """The client's identity from outside SASL, such as the subject of its certificate. None if there is no identity."""
    host: str | None = None
    """The name of the server, which the client sends together with a token."""
    port: int | None = None
    """The port of the server, which the client sends together with a token."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if self.host is not None and (not self.host or _find_control(self.host) or not _is_encodable(self.host)):
            raise LocalProtocolError(f"{self.host!r} is not the name of a host")
        if self.port is not None and not 0 < self.port < 65536:
            raise LocalProtocolError(f"{self.port!r} is not a port: use 1 to 65535")

    def binding_data(self, type: str) -> bytes | None:
        """Return the data of the channel binding of `type`, or None."""
        return next((binding.data for binding in self.bindings if binding.type == type), None)


PLAINTEXT = Channel()
"""A connection without TLS, channel bindings or external identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The identity of a client, with its secrets."""

    username: str | None = None
    """The user that the password or token belongs to."""
    password: str | None = field(default=None, repr=False)
    """The password."""
    token: str | None = field(default=None, repr=False)
    """An OAuth 2.0 bearer token."""
    authorization: str | None = None
    """The user to act as, if this user is not `username`. Few servers allow a user to act as another user."""
    trace: str | None = None
    """Information that an anonymous client leaves: a mail address, or a word without `@`. May be empty."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        for field_, value in (("username", self.username), ("authorization", self.authorization)):
            if value is not None and (not value or _find_control(value) or not _is_encodable(value)):
                raise LocalProtocolError(f"{field_} is empty or has control characters")
        if self.password is not None and not (self.password and "\0" not in self.password):
            raise LocalProtocolError("the password is empty or has a NUL in it")
        if self.password is not None and not _is_encodable(self.password):
            raise LocalProtocolError("the password has half a surrogate pair in it")
        if self.token is not None and not _match_token(self.token):
            raise LocalProtocolError("the token is empty or has characters other than visible ASCII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Settings of a server for all exchanges."""

    prepare: Callable[[str], str] = saslprep
    """A function that prepares the names and passwords from clients, and raises `ValueError` for a prohibited text.

    Pass `str` to leave the text unchanged, for a database of password hashes that were made without preparation.
    """
    scram_iterations: int = MIN_ITERATIONS
    """The iteration count in the user database. Unknown users appear to have the same count."""
    scram_salt_size: int = SALT_SIZE
    """The length of a salt in the user database, in octets. Unknown users appear to have a salt of the same length."""
    scram_secret: bytes | None = field(default=None, repr=False)
    """The secret from which the salts of unknown users are derived. By default random for each process. If several
    processes serve the same users, give all of them the same random octets."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if self.scram_iterations < 1 or self.scram_salt_size < 1:
            raise LocalProtocolError("SCRAM keys need a salt and at least one iteration")


DEFAULT_POLICY = Policy()


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    else:
        return True
