"""The timeouts of a client."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """Timeouts of a client in seconds. When a timeout expires, `TimeoutError` is raised and the connection is closed.

    A timeout until a reply covers the whole reply: a server cannot extend the wait by sending single octets.
    """

    connect: float = 30.0
    """Seconds to connect."""
    handshake: float = 60.0
    """Seconds for the TLS handshake."""
    greeting: float = 300.0
    """Seconds until the greeting (RFC 5321 4.5.3.2.1)."""
    mail: float = 300.0
    """Seconds until the reply to MAIL (RFC 5321 4.5.3.2.2)."""
    rcpt: float = 300.0
    """Seconds until the reply to RCPT (RFC 5321 4.5.3.2.3)."""
    data: float = 120.0
    """Seconds until the reply to DATA (RFC 5321 4.5.3.2.4)."""
    block: float = 180.0
    """Seconds to write a group of commands or a piece of a body (RFC 5321 4.5.3.2.5)."""
    end: float = 600.0
    """Seconds until the reply to the end of a body (RFC 5321 4.5.3.2.6). A shorter time may cause duplicates."""
    command: float = 300.0
    """Seconds until the reply to any other command."""
    quit: float = 5.0
    """Seconds until the reply to QUIT, or to RSET after a refusal, and to read the last replies of a server that has
    closed the connection."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"timeout {name} is {getattr(self, name)}: it must be more than 0 seconds")
