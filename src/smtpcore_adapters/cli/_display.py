"""Show arriving messages and dialogues on a terminal or in a log."""

# The texts shown come from untrusted clients and must not control the terminal. So unprintable characters are replaced,
# and rich never interprets markup in them.

import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from smtpcore import DataChunk, DataEnd, DataLine, InvalidData, Reply

from ..server._notifications import Observed
from ..server._session import Session
from ..transcript import printable

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_HEADER = 65_536
_STYLES = {"S:": "cyan", "C:": "green"}


@dataclass(slots=True)
class Arrival:
    """A message and the server's reply to it."""

    session: str
    """The id of the session."""
    sender: str = ""
    """The reverse path, printable."""
    recipients: list[str] = field(default_factory=list)
    """The accepted forward paths, printable."""
    size: int = 0
    """The octets received."""
    header: bytearray = field(default_factory=bytearray)
    """The first 65,536 octets of the message, for its subject."""
    reply: Reply | None = None
    """The server's reply; None until the message has ended."""

    @property
    def subject(self) -> str:
        """The decoded subject, printable; empty if it is missing or the header is malformed."""
        try:
            subject = message_from_bytes(bytes(self.header), policy=policy.default)["subject"]
        except Exception:
            # The email package raises many kinds of exceptions for malformed headers.
            return ""

        return printable(str(subject or ""))


class Arrivals:
    """An observer that calls `show` for each message once the server has replied to it."""

    def __init__(self, show: "Callable[[Arrival], None]") -> None:
        self._show = show
        self._arrivals: WeakKeyDictionary[Session, Arrival] = WeakKeyDictionary()

    def on_event(self, session: Session, item: Observed) -> None:
        """Observe one event or reply."""
        if isinstance(item, DataChunk | DataLine):
            arrival = self._arrival(session)
            arrival.size += len(item.data)
            arrival.header += item.data[: _MAX_HEADER - len(arrival.header)]
        elif isinstance(item, DataEnd | InvalidData):
            self._arrival(session).reply = Reply(250)
        elif isinstance(item, Reply) and session in self._arrivals:
            arrival = self._arrivals[session]
            if arrival.reply:
                del self._arrivals[session]
                arrival.reply = item
                self._show(arrival)

    def _arrival(self, session: Session) -> Arrival:
        arrival = self._arrivals.get(session)
        transaction = session.transaction
        if arrival is None and transaction:
            recipients = [printable(str(rcpt.forward_path)) for rcpt in transaction.recipients]
            arrival = Arrival(session.id, printable(str(transaction.mail.reverse_path)), recipients)
            self._arrivals[session] = arrival

        assert arrival, "a body has a transaction"
        return arrival


class Terminal:
    """Write readable lines to standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def show_arrival(self, arrival: Arrival) -> None:
        """Show one line for a message."""
        line = Text(f"{datetime.now():%H:%M:%S} ")
        line.append(f"{arrival.sender or '<>'} -> {', '.join(arrival.recipients)}", style="bold")
        line.append(f"  {decimal(arrival.size)}  {arrival.subject}")
        if arrival.reply and not arrival.reply.is_positive:
            line.append(f"  refused: {arrival.reply}", style="red")

        self._console.print(line)

    def show_dialogue(self, session: Session, line: str) -> None:
        """Show a line of a transcript."""
        self._console.print(Text(f"{session.id} {line}", style=_STYLES.get(line[:2], "dim")))


_FIELDS = (
    *("session", "client", "identity", "limit", "reason", "seconds"),
    *("sender", "recipients", "size", "subject", "reply"),
)


class JsonLog(logging.Formatter):
    """Format each log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time, level, message, the session's fields, and an exception's traceback."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name in _FIELDS:
            if hasattr(record, name):
                entry[name] = getattr(record, name)
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)

        return json.dumps(entry)


def log_arrival(arrival: Arrival) -> None:
    """Log one record for a message, with its properties as fields."""
    logging.getLogger("smtpcore").info(
        "message %s",
        "accepted" if arrival.reply and arrival.reply.is_positive else "refused",
        extra={
            "session": arrival.session,
            "sender": arrival.sender,
            "recipients": arrival.recipients,
            "size": arrival.size,
            "subject": arrival.subject,
            "reply": str(arrival.reply),
        },
    )


def log_dialogue(session: Session, line: str) -> None:
    """Log one record for a line of a transcript."""
    logging.getLogger("smtpcore").debug("%s", line, extra={"session": session.id})
