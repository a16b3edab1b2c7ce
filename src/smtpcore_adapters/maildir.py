"""A store that delivers messages into a Maildir."""

# A message becomes visible in one step or not at all: it is written to `tmp`, synced to disk and moved to `new`, and
# the directory is synced to disk. Only then the client gets a 250. A failure before the move leaves nothing in `new`,
# and at most a file in `tmp`, which Maildir readers delete after 36 hours.
#
# Only the blocks of the message that are not yet written are in memory.

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

_WRITE_SIZE = 262_144  # each block of this size is written by one call in a worker thread
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_counter = itertools.count()


class Maildir:
    """A store that delivers every message into a Maildir: `app.include(Maildir("Maildir"))`.

    `path` is created if necessary. Each message becomes one file: the received octets, unchanged, after a
    `Return-Path:`, an `X-Original-To:` for each recipient, and a `Received:` field (RFC 5321 4.4).

    Raises `OSError` if `path` cannot be created or written to.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_hops: int = MAX_HOPS) -> None:
        self.path: Path = Path(path)
        """The directory that contains `tmp`, `new` and `cur`."""
        self.max_hops: int = max_hops
        """Maximum `Received:` fields. A message with more is refused, because it is in a mail loop (RFC 5321 6.3)."""

        for name in ("tmp", "new", "cur"):
            _make_directory(self.path / name)

        probe = Delivery(self.path)
        probe.write(b"")
        probe.discard()

    async def on_message(self, session: Session, message: Message) -> Reply:
        """Store `message` and return a 250 once it is on disk, a 452 if the disk is full, a 451 for other errors."""
        delivery = Delivery(self.path)
        try:
            if not await self._store(session, message, delivery):
                return Reply(554, "Too many hops: the message is in a mail loop", enhanced="5.4.6")
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
    """A file that is being written into a Maildir. The methods block."""

    def __init__(self, maildir: Path) -> None:
        self._maildir = maildir
        self._name = _unique_name()
        self._file: int | None = None

    def write(self, *pieces: bytes) -> None:
        """Append to the file. The first call creates it. Raises `OSError`."""
        if self._file is None:
            self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._file, view) :]

    def commit(self, *pieces: bytes) -> None:
        """Append to the file, sync it to disk, move it to `new`, and sync the directory. Raises `OSError`."""
        self.write(*pieces)
        file, self._file = self._file, None
        assert file is not None, "write has opened the file"
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
        """Delete the file if it was not committed. Raises no errors."""
        file, self._file = self._file, None
        try:
            if file is not None:
                os.close(file)
        except OSError as exc:
            _logger.warning("%s: %s", self._temporary, exc)

        try:
            self._temporary.unlink(missing_ok=True)
        except OSError as exc:
            _logger.warning("%s could not be deleted: %s", self._temporary, exc)

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
    # https://cr.yp.to/proto/maildir.html: the host name in a file name may not contain a slash or colon.
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
