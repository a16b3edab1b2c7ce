"""Limits of time and of number, beside the reply that each of them gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from smtpcore import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that a session waits. Each of them ends it with `421 4.4.2`, where a reply can still be sent."""

    greeting: float = 300.0
    """For the client's first command (RFC 5321 4.5.3.2.7)."""
    command: float = 300.0
    """For the next command (RFC 5321 4.5.3.2.7), the whole line of it, however it is cut into segments."""
    body: float = 300.0
    """For more of a body, which has to keep to `Limits.body_rate` too. RFC 5321 4.5.3.2.5 gives a client three minutes
    for each block."""
    session: float = 7200.0
    """For the session as a whole: a client that sends an octet now and then would never end."""
    tls: float = 60.0
    """For a TLS handshake; no reply is possible there."""
    send: float = 300.0
    """For the client to take a reply; none is possible there either."""
    crowded: float = 10.0
    """For the first and the next command, while less than a tenth of `Limits.connections` is left: then those who only
    hold a place give it up. RFC 5321 4.5.3.2.7 wants more, but is no help to those who cannot come in."""
    close: float = 2.0
    """For the client to take the last reply and close its end."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"timeout {name} is {getattr(self, name)}, but must be more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one client, and all of them together, may ask of a server. A limit that is None is switched off.

    They are counted in the memory of one process: several workers have as many times the numbers. `smtpcore.Config`
    has the limits of a single dialogue, and `REPLIES` what a client is told.
    """

    connections: int = 1000
    """At the same time, in total. Each one holds a file descriptor.

    While as many as are served are being refused, a further one is closed without a word."""
    connections_per_address: int = 100
    """At the same time, from one IP address."""
    connections_per_prefix: int | None = None
    """At the same time, from one network; by default twice as many as from one address."""
    ipv4_prefix: int = 24
    """How many bits of an IPv4 address name its network."""
    ipv6_prefix: int = 64
    """How many bits of an IPv6 address name its network, which is what one customer is given at least. What is said of
    one address below is said of such a network."""
    connections_per_minute: int | None = None
    """New ones, from one address; those that are refused count too."""
    greeting_delay: float = 0.0
    """Seconds before the greeting. A client that does not wait for it is not one that speaks SMTP (RFC 5321 3.1)."""
    body_rate: float = 500.0
    """Octets a second of a body, on average, apart from `Timeouts.body` once; 0 for none. A client that sends an octet
    now and then would hold its place for hours."""
    auth_delay: float = 1.0
    """Seconds by which the reply to a failed authentication is held back; twice as long with each further one from the
    same address. 0 for none."""
    max_auth_delay: float = 16.0
    """Seconds by which it is held back at most."""
    auth_failures_per_hour: int | None = 60
    """From one address, over all its sessions. Further tries are refused as late as that, without asking anyone."""
    recipients_per_session: int | None = None
    """Accepted ones, over all messages of a session."""
    refusals: int | None = 1000
    """Of a session, those that `Config.max_errors` does not count: commands answered 4yz, and messages."""
    log_records_per_minute: int | None = 100
    """That one address can cause, those of level DEBUG apart. Further ones are counted, and the log tells how many."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, float | int) and not value >= _LEAST.get(name, 1):
                raise ValueError(f"limit {name} is {value}, but must be at least {_LEAST.get(name, 1)}")
        if self.ipv4_prefix > 32 or self.ipv6_prefix > 128:
            raise ValueError("a prefix has at most 32 bits in IPv4, and 128 in IPv6")

    @property
    def most_per_prefix(self) -> int:
        """`connections_per_prefix`, or its default."""
        return self.connections_per_prefix or 2 * self.connections_per_address


_LEAST: Final = {"greeting_delay": 0, "body_rate": 0, "auth_delay": 0, "max_auth_delay": 0}

REPLIES: Final[Mapping[str, Reply]] = MappingProxyType(
    {
        "connections": Reply(421, "closing: too many connections", enhanced="4.7.0"),
        "connections_per_address": Reply(421, "closing: too many connections from your address", enhanced="4.7.0"),
        "connections_per_prefix": Reply(421, "closing: too many connections from your network", enhanced="4.7.0"),
        "connections_per_minute": Reply(421, "closing: too many new connections from your address", enhanced="4.7.0"),
        # The connection is closed behind it, though a 554 greeting by itself would let the client say QUIT.
        "greeting_delay": Reply(554, "closing: you talked before the greeting", enhanced="5.7.1"),
        "auth_failures_per_hour": Reply(454, "Too many failures from your address, try again later", enhanced="4.7.0"),
        "recipients_per_session": Reply(452, "Too many recipients in one session", enhanced="4.5.3"),
        "refusals": Reply(421, "closing: too many refusals", enhanced="4.7.0"),
        # A web browser can be made to send commands in the body of a request: nothing behind its first line is heard.
        "http": Reply(421, "closing: this is not a web server", enhanced="4.7.0"),
    }
)
"""What a client is told, by the name of the limit. `http` is not in `Limits`, as nothing about it can be chosen."""
