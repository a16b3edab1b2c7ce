"""What became of a message that was sent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smtpcore import Mailbox, Path, ProtocolError, Reply


class Refused(ProtocolError):
    """The server refuses what the connection needs: its service, TLS, or the authentication."""

    def __init__(self, what: str, reply: Reply | None = None) -> None:
        super().__init__(f"{what}: {reply}" if reply else what)
        self.reply: Reply | None = reply
        """What the server said; None where it does not offer what is needed."""


class Disconnected(ConnectionError):
    """The connection is closed, and nothing can be sent on it."""

    def __init__(self, why: str, reply: Reply | None = None) -> None:
        super().__init__(f"{why}: {reply}" if reply else why)
        self.reply: Reply | None = reply
        """The 421 with which the server has closed it, None if it has said nothing."""


@dataclass(frozen=True, slots=True)
class SendResult(Mapping[Path, Reply]):
    """What became of a message: a mapping from each recipient, as a `Path`, to the reply that decided its fate.

    That is the reply to its RCPT where it was refused there, else the one to the body (in LMTP the recipient's own), or
    else the one by which the transaction ended before. So a recipient has the message if and only if its reply is
    positive. Where all are refused the result says so, as it does where some are: no reply of the server is an
    exception here.
    """

    replies: Mapping[Path, Reply]
    """The same mapping."""
    final: Reply
    """The last reply to the transaction: to the body, or what made sending it pointless."""

    def __getitem__(self, recipient: Path | Mailbox | str) -> Reply:
        return self.replies[recipient if isinstance(recipient, Path) else Path(str(recipient))]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.replies)

    def __len__(self) -> int:
        return len(self.replies)

    @property
    def accepted(self) -> tuple[Path, ...]:
        """The recipients for whom the server has taken the message, in order."""
        return tuple(path for path, reply in self.replies.items() if reply.is_positive)

    @property
    def refused(self) -> Mapping[Path, Reply]:
        """The other recipients, each with its reply."""
        return {path: reply for path, reply in self.replies.items() if not reply.is_positive}
