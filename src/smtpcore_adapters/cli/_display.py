"""Show arriving messages and dialogues on a terminal or in a log."""

# The texts shown come from untrusted clients and must not control the terminal. So unprintable characters are escaped,
# and rich never interprets markup in them.

import json
import logging
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from smtpcore import BodyAborted, DataChunk, DataEnd, InvalidData, Reply

from .._printable import printable
from ..server._notifications import Observed
from ..server._session import Session
from ..workers import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_HEADER = 65_536
_MAX_SUBJECT = 1000  # octets
_SHOWN = 200  # characters of the subject
_END_OF_HEADER = re.compile(rb"^\r?\n", re.MULTILINE)
_find_subject = re.compile(rb"^subject:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE).search
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
    """The number of octets received."""
    header: bytearray = field(default_factory=bytearray)
    """The first 65,536 octets of the message, for its subject."""
    reply: Reply | None = None
    """The server's reply; None until the message has ended."""

    @property
    def subject(self) -> str:
        """The decoded subject, printable and cut to 200 characters; empty if it is missing."""
        # The email package is not used for the whole header: for some headers its time is not linear.
        header = _END_OF_HEADER.split(self.header, 1)[0]
        found = _find_subject(header)
        return printable(_decoded(b" ".join(found[1][:_MAX_SUBJECT].split())))[:_SHOWN] if found else ""


def _decoded(text: bytes) -> str:
    """Decode the encoded words of RFC 2047. Text that cannot be decoded stays as it is."""
    plain = text.decode("utf-8", "replace")
    try:
        pieces = [(piece, charset or "ascii") for piece, charset in decode_header(plain)]
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset, "replace") for piece, charset in pieces
        )
    except (HeaderParseError, LookupError, ValueError):
        return plain


class Arrivals:
    """An observer that calls `show` for each message when the server has replied to the message."""

    def __init__(self, show: "Callable[[Arrival], None]") -> None:
        self._show = show
        self._arrivals: WeakKeyDictionary[Session[Any], Arrival] = WeakKeyDictionary()

    def on_event(self, session: Session[Any], item: Observed) -> None:
        """Observe one event or reply."""
        if isinstance(item, DataChunk):
            arrival = self._arrival(session)
            arrival.size += len(item.data)
            arrival.header += item.data[: _MAX_HEADER - len(arrival.header)]
        elif isinstance(item, DataEnd | InvalidData):
            self._arrival(session).reply = Reply(250)
        elif isinstance(item, BodyAborted):
            self._arrivals.pop(session, None)
        elif isinstance(item, Reply) and session in self._arrivals:
            arrival = self._arrivals[session]
            if arrival.reply:
                del self._arrivals[session]
                arrival.reply = item
                self._show(arrival)

    def _arrival(self, session: Session[Any]) -> Arrival:
        arrival = self._arrivals.get(session)
        transaction = session.transaction
        if arrival is None and transaction:
            recipients = [printable(str(rcpt.forward_path)) for rcpt in transaction.recipients]
            arrival = Arrival(session.id, printable(str(transaction.mail.reverse_path)), recipients)
            self._arrivals[session] = arrival

        assert arrival, "a body has a transaction"
        return arrival


class Terminal:
    """Write readable lines to standard output, or with `stderr` to standard error."""

    def __init__(self, *, stderr: bool) -> None:
        self._console = Console(highlight=False, soft_wrap=True, stderr=stderr)

    def show_arrival(self, arrival: Arrival) -> None:
        """Show a message, with its sender, recipients, size and subject, in one line."""
        line = Text(f"{datetime.now():%H:%M:%S} ")
        line.append(f"{arrival.sender or '<>'} -> {', '.join(arrival.recipients)}", style="bold")
        line.append(f"  {decimal(arrival.size)}  {arrival.subject}")
        if arrival.reply and not arrival.reply.is_positive:
            line.append(f"  refused: {arrival.reply}", style="red")

        self._console.print(line)

    def show_dialogue(self, session: Session[Any], line: str) -> None:
        """Show a line of a session's transcript, after the session's id."""
        self._console.print(Text(f"{session.id} {line}", style=_STYLES.get(line[:2], "dim")))


_FIELDS = (
    *("session", "client", "identity", "tried", "limit", "reason", "seconds"),
    *("sender", "recipients", "size", "subject", "reply"),
)


class PrintableLog(logging.Formatter):
    """Format a log record as text without control characters, because a client may have chosen parts of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the traceback in further lines. A line break inside the message is escaped."""
        lines = [record.getMessage()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n".join(map(printable, lines))


class LineLog(PrintableLog):
    """Format a log record as one line for a log file: time, level and message. Only a traceback has further lines.

    Programs such as fail2ban read a log line by line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback in further lines."""
        time = datetime.fromtimestamp(record.created)
        return f"{time:%Y-%m-%d %H:%M:%S} {record.levelname} {super().format(record)}"


class JsonLog(logging.Formatter):
    """Format each log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time, level, message, process, fields of the session, and a traceback."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.processName and record.processName.startswith(WORKER):
            entry["worker"] = int(record.processName.removeprefix(WORKER))
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


def log_dialogue(session: Session[Any], line: str) -> None:
    """Log one record for a line of a transcript."""
    logging.getLogger("smtpcore").debug("%s", line, extra={"session": session.id})
