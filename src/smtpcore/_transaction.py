"""What is known of the message that is being sent."""

from dataclasses import dataclass, field

from ._commands import Mail, Rcpt


@dataclass(slots=True)
class Transaction:
    """A mail transaction (RFC 5321 3.3)."""

    mail: Mail
    """The accepted MAIL command."""
    recipients: list[Rcpt] = field(default_factory=list)
    """The accepted RCPT commands, in order. Only the connection adds to them."""
