"""The dialogue of a visit as turns and transactions: the model that the laws of clients read."""

# A turn is a command or a body with the replies to it. A server that sends a malformed, early or surplus reply may lose
# a correct client: from then on the client may take each reply for the reply to another command. So the turns after
# such a reply are marked as lost, and laws about the order of commands do not judge them.

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ....check.clients import Body, Line, Sent, Visit
from ....check.clients._visit import code_of
from ._behaviour import code_of_reply

_find_path = re.compile(r"<([^<>]*)>").search


@dataclass(slots=True)
class Turn:
    """A command, a body or the greeting, with the replies to it."""

    sent: Line | Body | None
    """The command or body; None for the greeting."""
    offers: Mapping[str, str]
    """The extensions that were offered in the last reply to EHLO, with their arguments."""
    is_lost: bool
    """Whether the server had sent a malformed or surplus reply before."""
    number: int
    """The number of the turn in its visit, from 0."""
    replies: list[Sent] = field(default_factory=list[Sent])
    """The replies, without challenges of AUTH."""
    challenges: list[Sent] = field(default_factory=list[Sent])
    """The challenges of AUTH."""

    @property
    def verb(self) -> str:
        """The verb of the command; `END` for a body, and `GREETING` for the greeting."""
        return self.sent.verb if isinstance(self.sent, Line) else "END" if self.sent else "GREETING"

    @property
    def code(self) -> int:
        """The code of the first reply; 0 without a reply or for a reply without a code."""
        return code_of(self.replies[0].octets) if self.replies else 0

    @property
    def is_accepted(self) -> bool:
        """Whether the first reply is positive."""
        return self.code // 100 == 2

    @property
    def is_refused(self) -> bool:
        """Whether the reply is a well-formed refusal, and no reply before it was malformed."""
        return bool(self.replies) and not self.is_lost and code_of_reply(self.replies[0].octets) >= _FIRST_REFUSAL

    @property
    def has_early_input(self) -> bool:
        """Whether octets of the client arrived before a reply that the client had to wait for."""
        for reply in (*self.challenges, *self.replies):
            if reply.has_early_input:
                return True
            if code_of_reply(reply.octets) in (0, _CLOSING):
                return False  # the client may leave, or may take the next octets for another reply

        return False

    @property
    def text(self) -> str:
        """The text of the command; empty for a body."""
        return self.sent.text if isinstance(self.sent, Line) else ""

    @property
    def path(self) -> str:
        """The address of MAIL or RCPT."""
        match = _find_path(self.text)
        return match[1] if match else ""


_FIRST_REFUSAL = 400
_CLOSING = 421


@dataclass(slots=True)
class Transaction:
    """A MAIL, and the commands and the body after it."""

    mail: Turn
    """The MAIL."""
    rcpts: list[Turn] = field(default_factory=list[Turn])
    """The RCPT commands."""
    end: Turn | None = None
    """The body; None if the client sent none."""

    def delivered(self, *, lmtp: bool) -> list[str]:
        """Return the recipients for whom the server accepted the message."""
        if self.end is None or not self.mail.is_accepted:
            return []

        accepted = [rcpt.path for rcpt in self.rcpts if rcpt.is_accepted]
        codes = [code_of(reply.octets) for reply in self.end.replies]
        if not lmtp:
            codes = codes[:1] * len(accepted)
        return [path for path, code in zip(accepted, codes, strict=False) if code // 100 == 2]


def turns_of(visit: Visit) -> list[Turn]:
    """Return the turns of a visit, the greeting first."""
    turns = [Turn(None, {}, is_lost=False, number=0)]
    offers: dict[str, str] = {}
    is_lost = False
    for entry in visit.log:
        turn = turns[-1]
        match entry:
            case Sent(key="CHALLENGE"):
                turn.challenges.append(entry)
                is_lost |= not code_of_reply(entry.octets)
            case Sent():
                turn.replies.append(entry)
                offers = _offers_after(turn, offers)
                is_lost |= not code_of_reply(entry.octets) and turn.verb != "STARTTLS"
            case Line() | Body():
                turns.append(Turn(entry, offers, is_lost, len(turns)))
            case _:
                pass  # a response of AUTH

    return turns


def _offers_after(turn: Turn, offers: dict[str, str]) -> dict[str, str]:
    if turn.verb in ("EHLO", "HELO", "STARTTLS") and turn.is_accepted:
        # RFC 3207 4.2: the client forgets the extensions at the start of TLS.
        return _offers_of(turn.replies[-1].octets) if turn.verb == "EHLO" else {}

    return offers


def _offers_of(reply: bytes) -> dict[str, str]:
    offers: dict[str, str] = {}
    for line in reply.decode("ascii", "replace").split("\r\n")[1:-1]:
        keyword, arguments = _split_offer(line[4:])
        offers[keyword] = f"{offers.get(keyword, '')} {arguments}".strip()

    return offers


def _split_offer(line: str) -> tuple[str, str]:
    if line.upper().startswith("AUTH="):  # the form of old servers
        return "AUTH", line[5:]

    keyword, _, arguments = line.partition(" ")
    return keyword.upper(), arguments


def transactions_of(turns: Sequence[Turn]) -> list[Transaction]:
    """Return the transactions of a visit."""
    transactions: list[Transaction] = []
    current: Transaction | None = None
    for turn in turns:
        match turn.verb:
            case "MAIL":
                current = Transaction(turn)
                transactions.append(current)
            case "RCPT" if current:
                current.rcpts.append(turn)
            case "END" if current:
                current.end, current = turn, None
            case "RSET" | "EHLO" | "HELO" | "STARTTLS":
                current = None
            case _:
                pass

    return transactions
