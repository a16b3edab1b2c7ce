"""What is known of the message that is being sent."""

from dataclasses import dataclass, field

from ._addresses import Mailbox
from ._commands import Mail, Rcpt


@dataclass(slots=True)
class Transaction:
    """A mail transaction (RFC 5321 3.3)."""

    mail: Mail
    """The accepted MAIL command."""
    recipients: list[Rcpt] = field(default_factory=list)
    """The accepted RCPT commands, in order. Only the connection adds to them."""
    submitter: Mailbox | None = None
    """Who submitted the message, where an authenticated client says so in AUTH=; None where that is not known."""
    priority: int = 0
    """From -9 to 9, as asked for by MT-PRIORITY; at most 0 unless the client is authenticated (RFC 6710 4.1)."""
