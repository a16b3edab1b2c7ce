"""Deliver into a Maildir."""

# A message becomes visible in one step or not at all: it is written to `tmp`, forced to the disk, moved to `new`, and
# the directory is forced to the disk, before the client is told that it was taken. What fails before that leaves
# nothing in `new`, and what fails in between leaves at most a file in `tmp`, where readers clean up after 36 hours.
#
# Nothing is ever held in memory but the piece that has just arrived.

import errno
import itertools
import logging
import os
import socket
import time
from pathlib import Path

from smtpcore import Reply
from smtpcore.trace import MAX_HOPS, Hops, return_path

from .server._message import Message
from .server._received import received_by
from .server._session import Session

_logger = logging.getLogger("smtpcore")

_WRITE_SIZE = 262_144  # a thread is asked for each piece of this size
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_counter = itertools.count()


class Maildir:
    """A store: `app.include(Maildir("Maildir"))` delivers every message there, creating the directories.

    Each message is one file, byte for byte what was sent, under a `Return-Path:`, an `X-Original-To:` for each
    recipient, and a `Received:` field (RFC 5321 4.4).

    Raises `OSError` if `path` cannot be created or written to.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_hops: int = MAX_HOPS) -> None:
        self.path: Path = Path(path)
        """The directory with `tmp`, `new` and `cur` in it."""
        self.max_hops: int = max_hops
        """A message with more `Received:` fields is refused: it goes round in a loop (RFC 5321 6.3)."""

        for name in ("tmp", "new", "cur"):
            _make_directory(self.path / name)

        probe = Delivery(self.path)
        probe.write(b"")
        probe.discard()

    async def on_message(self, session: Session, message: Message) -> Reply:
        """Store `message`, and tell that it is safe; 452 if the disk is full, 451 if anything else is wrong."""
        delivery = Delivery(self.path)
        try:
            if not await self._store(session, message, delivery):
                return Reply(554, "Too many hops: this message goes round in a loop", enhanced="5.4.6")
        except OSError as exc:
            _logger.error("%s: message %s could not be stored: %s", session.id, message.id, exc)
            if exc.errno in _NO_SPACE:
                return Reply(452, "No space left for this message", enhanced="4.3.1")

            return Reply(451, f"Message {message.id} could not be stored", enhanced="4.3.0")
        finally:
            delivery.discard()

        return Reply(250, f"Stored as {message.id}", enhanced="2.0.0")

    async def _store(self, session: Session, message: Message, delivery: "Delivery") -> bool:
        pieces = [_trace(session, message)]
        size = 0
        hops = Hops()
        async for data in message:
            hops.feed(data)
            if hops.count > self.max_hops:
                return False

            pieces.append(data)
            size += len(data)
            if size >= _WRITE_SIZE:
                await session.run_blocking(delivery.write, *pieces)
                pieces.clear()
                size = 0

        await session.run_blocking(delivery.commit, *pieces)
        return True


class Delivery:
    """One file on its way into a Maildir. Its methods block."""

    def __init__(self, maildir: Path) -> None:
        self._maildir = maildir
        self._name = _unique_name()
        self._file: int | None = None

    def write(self, *pieces: bytes) -> None:
        """Add to the file, creating it at first. Raises `OSError`."""
        if self._file is None:
            self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._file, view) :]

    def commit(self, *pieces: bytes) -> None:
        """Add to the file, and make it a message that survives a loss of power. Raises `OSError`."""
        self.write(*pieces)
        file, self._file = self._file, None
        assert file is not None, "write has opened it"
        try:
            os.fsync(file)
        finally:
            os.close(file)

        final = self._maildir / "new" / self._name
        os.rename(self._temporary, final)
        try:
            _sync_directory(final.parent)
        except OSError:
            final.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Forget the file, if it was not committed. Raises nothing."""
        file, self._file = self._file, None
        try:
            if file is not None:
                os.close(file)
        except OSError as exc:
            _logger.warning("%s: %s", self._temporary, exc)

        try:
            self._temporary.unlink(missing_ok=True)
        except OSError as exc:
            _logger.warning("%s is left behind: %s", self._temporary, exc)

    @property
    def _temporary(self) -> Path:
        return self._maildir / "tmp" / self._name


def _trace(session: Session, message: Message) -> bytes:
    mail = message.transaction.mail
    paths = message.forward_paths
    fields = [return_path(mail.reverse_path)]
    fields += [f"X-Original-To: {path.address}\r\n".encode() for path in paths]
    fields.append(received_by(session, message))
    return b"".join(fields)


def _unique_name() -> str:
    # https://cr.yp.to/proto/maildir.html: a host name must have neither slash nor colon.
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_counter)}.{host}"


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return

    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
