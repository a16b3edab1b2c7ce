"""A store that delivers messages into a Maildir."""

# A message becomes visible in one step or not at all: it is written to `tmp`, synced to disk and moved to `new`, and
# the directory is synced to disk. Only then the client gets a 250. A failure before the move leaves nothing in `new`,
# and at most a file in `tmp`, which Maildir readers delete after 36 hours.

import errno
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smtpcore import Reply, show_texts
from smtpcore.trace import MAX_HOPS

from .server._message import Message
from .server._session import Session
from .stores import BLOCK_SIZE, Envelope, Runtime, StoreHandler, Writer

_logger = logging.getLogger("smtpcore")

_CRLF = b"\r\n"
_counter = itertools.count()


class Maildir:
    """A store that delivers every message into a Maildir: `app.include(Maildir("Maildir"))`.

    `path` is created if necessary, also if it was deleted while the server runs. Each message becomes one file: the
    received octets after a `Return-Path:`, an `X-Original-To:` for each recipient, and a `Received:` field
    (RFC 5321 4.4). An empty line follows these fields if the message begins with white space.

    Lines end in LF, as mail readers expect of files, unless `line_ends` is CR LF. All other octets are unchanged. A
    message with BODY=BINARYMIME is always stored unchanged, because not every CR LF in it is a line end.

    Raises `OSError` if `path` cannot be created or written to, and `ValueError` for other `line_ends`.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_hops: int = MAX_HOPS, line_ends: bytes = b"\n") -> None:
        if line_ends not in (b"\n", _CRLF):
            raise ValueError(f"line_ends is {line_ends!r}: it must be b'\\n' or b'\\r\\n'")

        self.path: Path = Path(path)
        """The directory that contains `tmp`, `new` and `cur`."""
        self.max_hops: int = max_hops
        """Maximum `Received:` fields. A message with more fields is in a mail loop and is refused (RFC 5321 6.3)."""
        self.line_ends: bytes = line_ends
        """The octets that end each line of a file: LF or CR LF. Default: LF."""

        if not _can_sync_directories():
            _logger.warning("this system cannot sync a directory: a power loss may remove messages that were accepted")
        _make_maildir(self.path)
        self.handler: StoreHandler = StoreHandler(self, fields=_delivery_fields, max_hops=max_hops)
        """The handler that writes messages into this store; also for messages without a session."""
        probe = Delivery(self.path)
        probe.write(b"")
        probe.discard()

    async def on_message(self, session: Session[Any], message: Message) -> Reply | list[Reply]:
        """Store `message` and return a 250 once it is on disk, a 452 if the disk is full, a 451 for other errors."""
        return await self.handler.on_message(session, message)

    async def open(self, envelope: Envelope, runtime: Runtime) -> Writer:
        """Begin a file for a message. The file is created with the first write."""
        line_ends = _CRLF if envelope.is_binary else self.line_ends
        return _MaildirWriter(envelope, runtime, Delivery(self.path, line_ends=line_ends))


class _MaildirWriter:
    """A message that is being written into a Maildir by a worker thread."""

    def __init__(self, envelope: Envelope, runtime: Runtime, delivery: "Delivery") -> None:
        self._id = envelope.id
        self._run_blocking = runtime.run_blocking
        self._delivery = delivery
        self._block = bytearray()
        """Octets that are not yet written. `commit` writes the last, so a small message needs one call in a thread."""

    async def write(self, block: bytes) -> None:
        """Write the message so far if it fills a block."""
        self._block += block
        if len(self._block) >= BLOCK_SIZE:
            full, self._block = self._block, bytearray()
            await self._run_blocking(self._delivery.write, full)

    async def commit(self) -> str:
        """Write the rest, and move the file to `new`."""
        await self._run_blocking(self._delivery.commit, self._block)
        return self._id

    async def abort(self) -> None:
        """Delete the file."""
        self._delivery.discard()


class Delivery:
    """A file that is being written into a Maildir. The methods block."""

    def __init__(self, maildir: Path, *, line_ends: bytes = b"\n") -> None:
        self._maildir = maildir
        self._line_ends = line_ends
        self._held = b""
        """The CR at the end of the last block, if there is one: the next block may begin with its LF."""
        self._name = _unique_name()
        self._file: int | None = None

    def write(self, block: bytes | bytearray) -> None:
        """Append a piece of the message, cut anywhere. The first call creates the file. Raises `OSError`."""
        if self._file is None:
            self._file = self._create()
        if self._line_ends != _CRLF:
            block = self._held + block
            self._held = b"\r" if block.endswith(b"\r") else b""
            block = block[: len(block) - len(self._held)].replace(_CRLF, self._line_ends)

        self._write(self._file, block)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # Windows would write CR LF for LF
        try:
            return os.open(self._temporary, flags, 0o600)
        except FileNotFoundError:
            _make_maildir(self._maildir)  # the directory was deleted while the server runs
            return os.open(self._temporary, flags, 0o600)

    def _write(self, file: int, block: bytes | bytearray) -> None:
        view = memoryview(block)
        while view:
            view = view[os.write(file, view) :]

    def commit(self, block: bytes | bytearray) -> None:
        """Append `block`, sync the file to disk, move it to `new`, and sync the directory. Raises `OSError`."""
        self.write(block)
        file, self._file = self._file, None
        assert file is not None, "write has opened the file"
        try:
            self._write(file, self._held)
            _sync(file)
        finally:
            os.close(file)

        final = self._maildir / "new" / self._name
        try:
            os.rename(self._temporary, final)
        except FileNotFoundError:
            _make_maildir(self._maildir)
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


def _delivery_fields(envelope: Envelope) -> bytes:
    return envelope.delivery_fields


def _unique_name() -> str:
    # https://cr.yp.to/proto/maildir.html: the host name in a file name may not contain a slash or colon.
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_counter)}.{host}"


def _make_maildir(path: Path) -> None:
    for name in ("tmp", "new", "cur"):
        _make_directory(path / name)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return

    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    if not _can_sync_directories():
        return

    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(directory)
    finally:
        os.close(directory)


def _can_sync_directories() -> bool:
    return hasattr(os, "O_DIRECTORY")  # Windows lacks it


def _sync(file: int) -> None:
    if _full_sync is None:
        os.fsync(file)
        return

    try:
        _full_sync(file)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
        os.fsync(file)


def _find_full_sync() -> Callable[[int], object] | None:
    # macOS: `fsync` does not flush the cache of the drive. Not every file system has F_FULLFSYNC.
    try:
        import fcntl
    except ImportError:  # Windows
        return None

    command: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    return None if command is None else lambda file: fcntl.fcntl(file, command)


_full_sync = _find_full_sync()
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOTTY})


show_texts(globals())
