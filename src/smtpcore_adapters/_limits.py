"""Limits of time and of number, beside the reply that each of them gives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that a session waits. Each of them ends it with `421 4.4.2`, where a reply can still be sent."""

    greeting: float = 300.0
    """For the client's first words (RFC 5321 4.5.3.2.7)."""
    command: float = 300.0
    """For the next command (RFC 5321 4.5.3.2.7)."""
    body: float = 300.0
    """For more of a body. RFC 5321 4.5.3.2.5 gives a client three minutes for each block."""
    session: float = 7200.0
    """For the session as a whole: a client that sends an octet now and then would never end."""
    tls: float = 60.0
    """For a TLS handshake; no reply is possible there."""
    send: float = 300.0
    """For the client to take a reply; none is possible there either."""
    close: float = 2.0
    """For the client to take the last reply and close its end."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"timeout {name} is {getattr(self, name)}, but must be more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Connections that a server serves at the same time. One too many is greeted with `421 4.7.0`, and closed.

    While as many as are served are being refused, a further one is closed without a word.
    """

    connections: int = 1000
    """In total. Each one holds a file descriptor."""
    connections_per_address: int = 100
    """From one IP address."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limit {name} is {getattr(self, name)}, but must be at least 1")
