"""Results and errors of sending a message."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from smtpcore import LocalProtocolError, Mailbox, Path, ProtocolError, Rcpt, Reply

from ._address_lists import parse_paths


class Refused(ProtocolError):
    """The server refuses to serve this client, or refuses TLS or the authentication."""

    def __init__(self, what: str, reply: Reply | None = None) -> None:
        super().__init__(f"{what}: {reply}" if reply else what)
        self.reply: Reply | None = reply
        """The server's reply, or None if the server does not offer the extension that is needed."""


class Disconnected(ConnectionError):
    """The connection is closed; open a new connection."""

    def __init__(self, why: str, reply: Reply | None = None) -> None:
        super().__init__(f"{why}: {reply}" if reply else why)
        self.reply: Reply | None = reply
        """The 421 with which the server closed the connection, or None if the server sent no 421."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a message for one given recipient."""

    recipient: Rcpt
    """The recipient, with its parameters. Equal recipients are sent once and have the same reply."""
    reply: Reply
    """The decisive reply."""
    step: str = ""
    """The step that the reply answers: `"MAIL"`, `"RCPT"`, `"DATA"`, or `"message"` for the body. Empty if unknown."""


@dataclass(frozen=True, slots=True)
class SendResult(Mapping[Path, Reply]):
    """The outcome of a message: a mapping from each recipient, as a `Path`, to the decisive reply.

    If the server refused the recipient, the decisive reply is the reply to RCPT. Otherwise the decisive reply is the
    reply to the body (in LMTP the recipient's own), or an earlier refusal that ended the transaction, such as a refusal
    of MAIL. The server has accepted the message for a recipient if and only if that recipient's reply is positive.
    Refusals never raise, even if all recipients are refused.
    """

    replies: Mapping[Path, Reply]
    """The reply for each recipient."""
    final: Reply
    """The last reply of the transaction: the reply to the body, or the refusal that prevented sending the body."""
    outcomes: Sequence[Outcome] = field(default=(), compare=False, repr=False)
    """The outcome for each given recipient, in order. If an address is given several times with different parameters,
    there are several RCPTs, each with an outcome; `replies` then has the first refusal, or else the first reply."""
    server: str = field(default="", compare=False, repr=False)
    """The name of the server in errors, such as "mail.example.org:25"."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], final: Reply, server: str = "") -> Self:
        """Return the result with these outcomes."""
        replies: dict[Path, Reply] = {}
        for outcome in outcomes:
            path, reply = outcome.recipient.forward_path, outcome.reply
            if replies.setdefault(path, reply).is_positive and not reply.is_positive:
                replies[path] = reply
        return cls(replies, final, tuple(outcomes), server)

    def __post_init__(self) -> None:
        if not self.outcomes:
            outcomes = tuple(Outcome(Rcpt(path), reply) for path, reply in self.replies.items())
            object.__setattr__(self, "outcomes", outcomes)  # a frozen dataclass has no other way to set a field

    def __getitem__(self, recipient: Path | Mailbox | str) -> Reply:
        if isinstance(recipient, Path):
            return self.replies[recipient]

        try:
            paths = parse_paths(str(recipient))
        except LocalProtocolError:
            paths = []
        if len(paths) != 1:
            raise KeyError(recipient)

        return self.replies[paths[0]]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.replies)

    def __len__(self) -> int:
        return len(self.replies)

    @property
    def accepted(self) -> tuple[Path, ...]:
        """The recipients for whom the server has accepted the message, in order."""
        return tuple(path for path, reply in self.replies.items() if reply.is_positive)

    @property
    def refused(self) -> Mapping[Path, Reply]:
        """The refused recipients, each with its negative reply."""
        return {path: reply for path, reply in self.replies.items() if not reply.is_positive}

    @property
    def deferred(self) -> Mapping[Path, Reply]:
        """The recipients with a temporary refusal (4yz): the message may be sent to them again later."""
        return {path: reply for path, reply in self.refused.items() if reply.code < 500}

    def raise_for_refused(self) -> Self:
        """Raise `RecipientsRefused` if the message was refused for a recipient. Otherwise return this result."""
        if self.refused:
            raise RecipientsRefused(self)

        return self


class RecipientsRefused(Refused):
    """The server has refused the message for one or more recipients."""

    def __init__(self, result: SendResult) -> None:
        refused = result.refused
        first, *_ = map(str, refused)
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        steps = [each.step for each in result.outcomes if not each.reply.is_positive]
        step = f", in reply to {steps[0].replace('message', 'the message')}" if steps and steps[0] else ""
        server = f"{result.server}: " if result.server else ""
        super().__init__(
            f"{server}the message was refused for {first}{others}, {len(refused)} of {len(result)} recipients{step}",
            next(iter(refused.values())),
        )
        self.result: SendResult = result
        """The replies for all recipients, also for those who get the message."""

    def __reduce__(self) -> tuple[type[Self], tuple[SendResult]]:
        return type(self), (self.result,)
