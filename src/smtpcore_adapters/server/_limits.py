"""Timeouts and limits, and the replies of the limits."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from smtpcore import Reply

logger = logging.getLogger("smtpcore")

_RESERVED = 64  # file descriptors for everything else, such as listeners and files


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The timeouts and delays of a session, in seconds, and the minimum rate of a body.

    A timeout ends the session with `421 4.4.2` if a reply can be sent.
    """

    greeting: float = 300.0
    """The time for the client's first command, 300 by default (RFC 5321 4.5.3.2.7)."""
    command: float = 300.0
    """The time for the next command, 300 by default (RFC 5321 4.5.3.2.7). It covers the whole line."""
    body: float = 300.0
    """The time for waits within a body, 300 by default. Each octet extends it, at the rate of `body_rate`. RFC 5321
    4.5.3.2.5 gives a client three minutes for each block."""
    body_rate: float = 500.0
    """The minimum average rate of a body, in octets per second, 500 by default; 0 for no minimum. The time of `body` is
    allowed once in addition. Without a minimum, a client could keep a connection open for hours with a few octets."""
    block: float = 300.0
    """The time for the next octets of a body, 300 by default (RFC 5321 4.5.3.2.5)."""
    session: float = 7200.0
    """The time for the whole session, 7200 by default. A client can extend the other timeouts by sending slowly."""
    handshake: float = 60.0
    """The time for a TLS handshake, 60 by default. After this timeout no reply can be sent."""
    send: float = 300.0
    """The time for the client to read a reply, 300 by default. After this timeout no reply can be sent."""
    crowded: float = 10.0
    """The time for a command while less than a tenth of `Limits.connections` is free, 10 by default. Idle clients then
    make room for new clients, sooner than RFC 5321 4.5.3.2.7 recommends."""
    close: float = 2.0
    """The time for the client to read the last reply and close the connection, 2 by default."""
    greeting_delay: float = 0.0
    """The delay before the greeting, 0 by default. Clients that talk first are rejected (RFC 5321 3.1)."""
    auth_delay: float = 1.0
    """The delay of the reply to a failed authentication, 1 by default; 0 for none. It doubles with each further failure
    from the same address."""
    max_auth_delay: float = 16.0
    """The maximum of `auth_delay` after several failures, 16 by default."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name in _MAY_BE_ZERO and not value >= 0:
                raise ValueError(f"timeout {name} is {value}, but must be at least 0")
            if name not in _MAY_BE_ZERO and not value > 0:
                raise ValueError(f"timeout {name} is {value}, but must be more than 0 seconds")


_MAY_BE_ZERO = frozenset({"body_rate", "greeting_delay", "auth_delay", "max_auth_delay"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The counts and rates of one address, one network, and the whole process. None switches a limit off.

    Each process counts for itself: N workers allow N times as much. `smtpcore.Config` has the limits of a single
    session, and `REPLIES` has the replies.
    """

    connections: int = 1000
    """The number of simultaneous connections, 1000 by default. Each connection uses a file descriptor.

    Beyond this number connections are refused with a 421, and beyond twice this number they are closed at once. A
    server lowers the number if the process may not open enough files, and logs the new number."""
    connections_per_address: int = 100
    """The number of simultaneous connections from one IP address, 100 by default."""
    connections_per_prefix: int | None = None
    """The number of simultaneous connections from one network, by default twice `connections_per_address`."""
    ipv4_prefix: int = 24
    """The number of bits of an IPv4 address that identify its network, 24 by default."""
    ipv6_prefix: int = 64
    """The number of bits of an IPv6 address that identify its network, 64 by default: a provider gives each customer at
    least such a network. So in IPv6 the limits on rates below count the clients of a network together."""
    connections_per_minute: int | None = None
    """The number of new connections from one address in a minute, refused ones included; off by default."""
    auth_failures_per_hour: int | None = 60
    """The number of failed authentications from one address in an hour, in all its sessions, 60 by default. Further
    attempts are refused after `Timeouts.max_auth_delay`, without a call of the handlers."""
    log_records_per_minute: int | None = 100
    """The number of log records that one address can cause in a minute, 100 by default, except those of level DEBUG.
    Logins and errors of the server have another quota of this size. Further records are counted, and their number is
    logged."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise ValueError(f"limit {name} is {value}, but must be at least 1")
        if self.ipv4_prefix > 32 or self.ipv6_prefix > 128:
            raise ValueError("a prefix has at most 32 bits in IPv4, and 128 in IPv6")

    @property
    def most_per_prefix(self) -> int:
        """The value of `connections_per_prefix`, or its default."""
        return self.connections_per_prefix or 2 * self.connections_per_address


def fit_to_descriptors(limits: Limits, per_connection: int) -> Limits:
    """Return `limits` with as many `connections` as this process has file descriptors for (`RLIMIT_NOFILE`).

    The server needs `per_connection` descriptors for each connection, and may be refusing as many connections as it
    admits.
    """
    try:
        import resource
    except ImportError:
        return limits  # Windows has no such limit

    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = max((descriptors - min(_RESERVED, descriptors // 2)) // (2 * per_connection), 1)
    if descriptors == resource.RLIM_INFINITY or limits.connections <= most:
        return limits

    logger.log(
        logging.INFO if limits == Limits() else logging.WARNING,
        "the limit of connections is lowered from %d to %d: this process may open only %d files (ulimit -n)",
        limits.connections,
        most,
        descriptors,
    )
    return replace(limits, connections=most)


REPLIES: Final[Mapping[str, Reply]] = MappingProxyType(
    {
        "connections": Reply(421, "closing: too many connections", enhanced="4.7.0"),
        "connections_per_address": Reply(421, "closing: too many connections from your address", enhanced="4.7.0"),
        "connections_per_prefix": Reply(421, "closing: too many connections from your network", enhanced="4.7.0"),
        "connections_per_minute": Reply(421, "closing: too many new connections from your address", enhanced="4.7.0"),
        # The server closes the connection after this 554, and does not wait for QUIT.
        "greeting_delay": Reply(554, "closing: you talked before the greeting", enhanced="5.7.1"),
        "auth_failures_per_hour": Reply(454, "Too many failures from your address, try again later", enhanced="4.7.0"),
        # A web page can make a browser send SMTP commands in the body of an HTTP request. So the session
        # ends at the first line of a request.
        "http": Reply(421, "closing: this is not a web server", enhanced="4.7.0"),
    }
)
"""The reply of each limit. `greeting_delay` is a field of `Timeouts`; `http` has no options."""
