"""The state of a mail transaction."""

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
    """The submitter, which an authenticated client names with AUTH=; None if it is unknown (RFC 4954 section 5)."""
    priority: int = 0
    """The priority from MT-PRIORITY, -9 to 9, default 0; at most 0 unless authenticated (RFC 6710 4.1)."""
