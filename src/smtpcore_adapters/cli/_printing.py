"""Write messages to standard output, for `smtpcore serve --print`."""

# Standard output has nothing but messages: the other lines of `serve` go to standard error. A message is collected in a
# temporary file, so that the messages of several sessions do not mix, and a large message does not fill the memory.
#
# On a terminal, unprintable characters are escaped, because the texts come from untrusted clients. A file or a pipe
# gets the octets unchanged, with LF at the end of each line as in a Maildir.

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, Any

from smtpcore import BodyAborted, BodyType, DataChunk, DataEnd, InvalidData, Reply, Transaction

from .._printable import printable
from ..server._message import Message
from ..server._notifications import Observed, SessionClosed
from ..server._session import Session
from ._standard_output import OutputError

_logger = logging.getLogger("smtpcore")

_IN_MEMORY = 1_000_000
"""The octets of a message that are kept in memory; a larger message is written to a temporary file."""
_PIECE = 65_536

# The lines around a message are the lines of `smtpd.DebuggingServer` and `aiosmtpd -c aiosmtpd.handlers.Debugging`.
_FOLLOWS = b"---------- MESSAGE FOLLOWS ----------\n"
_END = b"------------ END MESSAGE ------------\n"


class Printer:
    """Write messages to standard output, one after the other."""

    def __init__(self, *, workers: int) -> None:
        """Prepare for `workers` processes, which are forked later."""
        self._lock = threading.Lock()
        self._locked_file = TemporaryFile() if workers > 1 else None  # noqa: SIM115 - open until the process ends

    def write(self, transaction: Transaction, content: IO[bytes]) -> None:
        """Write a message with its envelope. Raises `OutputError`, or an `OSError` of another file."""
        is_binary = transaction.mail.params.body is BodyType.BINARYMIME
        convert = _for_terminal if sys.stdout.isatty() else _unchanged if is_binary else _with_lf
        envelope = "".join(f"{printable(str(each))}\n" for each in (transaction.mail, *transaction.recipients))
        output = sys.stdout.buffer
        content.seek(0)
        with self._lock, self._exclusive():
            line = b""
            output.write(_FOLLOWS + envelope.encode() + b"\n")
            for line in iter(partial(content.readline, _PIECE), b""):
                output.write(convert(line))
            output.write((b"" if line.endswith(b"\n") else b"\n") + _END)
            output.flush()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Make other worker processes wait for the end of the block. If this process is killed, the wait ends."""
        if self._locked_file is None:
            yield
            return

        import fcntl

        fcntl.lockf(self._locked_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._locked_file, fcntl.LOCK_UN)


def _unchanged(line: bytes) -> bytes:
    return line


def _with_lf(line: bytes) -> bytes:
    return line[:-2] + b"\n" if line.endswith(b"\r\n") else line


def _for_terminal(line: bytes) -> bytes:
    text = _with_lf(line).decode("utf-8", "replace")
    shown = "".join(letter if letter in "\t\n" else printable(letter) for letter in text)
    return shown.encode(sys.stdout.encoding, "replace")


class PrintedMessages:
    """A handler that accepts each message when the message is written."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer

    async def on_message(self, session: Session[Any], message: Message) -> Reply:
        """Write `message`, and return a 250, or a 451 if writing has failed."""
        with _content() as content:
            async for piece in message:
                content.write(piece)
            try:
                await session.run_blocking(self._printer.write, message.transaction, content)
            except (OSError, OutputError) as exc:
                _logger.error("%s: message %s could not be printed: %s", session.id, message.id, exc)
                return Reply(451, f"Message {message.id} could not be printed", enhanced="4.3.0")

        return Reply(250, f"Printed as {message.id}", enhanced="2.0.0")


@dataclass(slots=True)
class _Copy:
    """A message while it arrives."""

    transaction: Transaction
    """The envelope."""
    content: IO[bytes]
    """The octets."""
    replies: int = 0
    """The replies that are pending: one after the end of the message, in LMTP one for each recipient."""


class PrintedCopies:
    """An observer that writes each message that other handlers have accepted, in LMTP for at least one recipient."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._copies: dict[Session[Any], _Copy] = {}

    def on_event(self, session: Session[Any], item: Observed) -> None:
        """Collect the body of a message, and write the message after a positive reply to its end."""
        if isinstance(item, DataChunk):
            self._copy(session).content.write(item.data)
        elif isinstance(item, DataEnd):
            copy = self._copy(session)
            copy.replies = len(copy.transaction.recipients) if session.config.lmtp else 1
        elif isinstance(item, InvalidData | BodyAborted | SessionClosed):
            self._drop(session)
        elif isinstance(item, Reply) and session in self._copies and self._copies[session].replies:
            copy = self._copies[session]
            copy.replies -= 1
            try:
                if item.is_positive:
                    self._printer.write(copy.transaction, copy.content)
            finally:
                if item.is_positive or not copy.replies:
                    self._drop(session)

    def _drop(self, session: Session[Any]) -> None:
        if session in self._copies:
            self._copies.pop(session).content.close()

    def _copy(self, session: Session[Any]) -> _Copy:
        if session not in self._copies:
            assert session.transaction, "a body has a transaction"
            transaction = replace(session.transaction, recipients=[*session.transaction.recipients])
            self._copies[session] = _Copy(transaction, _content())

        return self._copies[session]


def _content() -> IO[bytes]:
    return SpooledTemporaryFile(_IN_MEMORY)
