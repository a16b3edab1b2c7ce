"""How long a client waits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """Seconds that a client waits. Each of them ends the connection with a `TimeoutError`.

    A reply has to be there in that time, whole: a server that sends an octet now and then does not prolong it.
    """

    connect: float = 30.0
    """For the connection."""
    tls: float = 60.0
    """For the TLS handshake."""
    greeting: float = 300.0
    """For the greeting (RFC 5321 4.5.3.2.1)."""
    mail: float = 300.0
    """For the reply to MAIL (RFC 5321 4.5.3.2.2)."""
    rcpt: float = 300.0
    """For the reply to RCPT (RFC 5321 4.5.3.2.3)."""
    data: float = 120.0
    """For the reply to DATA (RFC 5321 4.5.3.2.4)."""
    block: float = 180.0
    """For the server to take what is written: commands, or a piece of a body (RFC 5321 4.5.3.2.5)."""
    end: float = 600.0
    """For the reply to the end of a body (RFC 5321 4.5.3.2.6): less would lead to messages that are sent twice."""
    command: float = 300.0
    """For the reply to any other command."""
    quit: float = 5.0
    """For the reply to QUIT, and for the last words of a server that has broken off: nothing depends on them."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"timeout {name} is {getattr(self, name)}, but must be more than 0 seconds")
