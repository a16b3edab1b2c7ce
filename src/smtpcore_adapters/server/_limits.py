"""Delays and limits, and the replies of the limits."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from smtpcore import Budgets, Reply, check_fields

logger = logging.getLogger("smtpcore")

_RESERVED = 64  # file descriptors for everything else, such as listeners and files


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The delays of a session and two special time limits, in seconds. `smtpcore.Budgets` has the other time limits."""

    crowded: float = 10.0
    """The most time for a command while less than a tenth of `Limits.connections` is free, 10 by default. Idle clients
    then make room for new clients, sooner than RFC 5321 4.5.3.2.7 recommends."""
    close: float = 2.0
    """The time for the client to read the last reply and close the connection, 2 by default."""
    greeting_delay: float = 0.0
    """The delay before the greeting, 0 by default. Clients that talk first are rejected (RFC 5321 3.1)."""
    auth_delay: float = 1.0
    """The delay of the reply to a failed authentication, 1 by default; 0 for none. The delay doubles with each further
    failure from the same address, or as the same user."""
    max_auth_delay: float = 16.0
    """The maximum of `auth_delay` after several failures, 16 by default."""

    def __post_init__(self) -> None:
        check_fields(self, ValueError)
        for name in self.__slots__:
            value = getattr(self, name)
            if name in _MAY_BE_ZERO and not value >= 0:
                raise ValueError(f"timeout {name} is {value}, but must be at least 0")
            if name not in _MAY_BE_ZERO and not value > 0:
                raise ValueError(f"timeout {name} is {value}, but must be more than 0 seconds")


_MAY_BE_ZERO = frozenset({"greeting_delay", "auth_delay", "max_auth_delay"})


@lru_cache(maxsize=16)
def with_crowded(budgets: Budgets, timeouts: Timeouts) -> tuple[Budgets, Budgets]:
    """Return the budgets of a session, and the budgets that hold while the server is nearly full."""
    most = timeouts.crowded
    return budgets, replace(budgets, greeting=min(budgets.greeting, most), command=min(budgets.command, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The counts and rates of one address, one network, and the whole server. None switches a limit off.

    The workers of `run_workers` and of `smtpcore serve --workers` count together. `smtpcore.Config` has the limits of
    a single session, and `REPLIES` has the replies.
    """

    connections: int = 1000
    """The number of simultaneous connections, 1000 by default. Each connection uses a file descriptor.

    Beyond this number connections are refused with a 421, and beyond twice this number in one process they are closed
    at once. A process lowers the number for itself if it may not open enough files, and logs the new number."""
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
    account_failures_per_hour: int | None = 100
    """The number of failed logins as one user in an hour, from all addresses together, 100 by default. Further attempts
    are refused after `Timeouts.max_auth_delay`, without a call of the handlers.

    The limit does not apply to an address from which the user has logged in within the last week, so that others cannot
    lock the user out there."""
    log_records_per_minute: int | None = 100
    """The number of log records that one address can cause in a minute, 100 by default, except those of level DEBUG.
    Logins and errors of the server have another quota of this size. Further records are counted, and their number is
    logged."""

    def __post_init__(self) -> None:
        check_fields(self, ValueError)
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
        "account_failures_per_hour": Reply(454, "Too many failures of this user, try again later", enhanced="4.7.0"),
        # A web page can make a browser send SMTP commands in the body of an HTTP request. So the session
        # ends at the first line of a request.
        "http": Reply(421, "closing: this is not a web server", enhanced="4.7.0"),
    }
)
"""The reply of each limit. `greeting_delay` is a field of `Timeouts`; `http` has no options."""
