"""Write down who said what."""

# A transcript is read on terminals and kept in files. So nothing in it can steer a terminal, nothing can look like a
# line that it is not, and secrets are masked: those that AUTH carries, and also what follows an AUTH that was refused,
# since a client that sends ahead sends its password all the same.

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO
from weakref import WeakSet

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    ChunkEnd,
    Command,
    DataEnd,
    InvalidCommand,
    InvalidData,
    Reply,
    ReplyCode,
    UnknownCommand,
)

from .server._notifications import LimitReached, Observed, SessionClosed, SessionOpened, TlsEstablished, TlsFailed
from .server._session import Session

Write = Callable[[Session, str], object]
"""Called with a session and a line of its transcript, without an end of line."""


class Transcript:
    """An observer that writes the dialogue of each session, bodies left out: `app.include(Transcript(write))`.

    A line begins with `C:` for the client, `S:` for the server, or `--` for what happens beside the dialogue.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._after_auth: WeakSet[Session] = WeakSet()
        """Sessions in which a line that is not understood may be a password."""

    def on_event(self, session: Session, item: Observed) -> None:
        """Write what has happened."""
        if isinstance(item, Auth):
            self._after_auth.add(session)
        elif isinstance(item, Command):
            self._after_auth.discard(session)

        if isinstance(item, InvalidCommand) and _is_auth(item.line):
            self._after_auth.add(session)
        elif isinstance(item, InvalidCommand | UnknownCommand) and session in self._after_auth:
            self._write(session, "C: ***")
            return

        for line in transcript_lines(item):
            self._write(session, line)


def to_stream(stream: TextIO) -> Write:
    """Write to an open text file, each line with the time and the id of the session in front."""

    def write(session: Session, line: str) -> None:
        stream.write(f"{_now()} {session.id} {line}\n")
        stream.flush()

    return write


def to_directory(directory: Path) -> Write:
    """Write a file for each session, by the name of its id and `.txt`, each line with the time in front.

    Only the owner may read the files. They are opened for each line: a session that is idle holds none open.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(session: Session, line: str) -> None:
        path = directory / f"{session.id}.txt"
        with open(path, "a", encoding="utf-8", opener=_open_private) as file:
            file.write(f"{_now()} {line}\n")

    return write


def transcript_lines(item: Observed) -> list[str]:
    """What a transcript says of `item`. It masks what AUTH carries, but cannot know what `item` came after."""
    if isinstance(item, Reply):
        masked = item.code == ReplyCode.AUTHENTICATION_CHALLENGE
        return ["S: 334 ***"] if masked else [f"S: {printable(line)}" for line in str(item).splitlines()]
    if isinstance(item, InvalidCommand):
        return [f"C: {printable(item.line.decode('utf-8', 'replace'))}"]
    if isinstance(item, UnknownCommand):
        return [printable(f"C: {item.verb} {item.argument}".rstrip())]
    if isinstance(item, Command):
        return [f"C: {printable(str(item))}"]

    describe = _OTHERS.get(type(item))
    return [printable(describe(item))] if describe else []


def printable(text: str) -> str:
    """`text` without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


_OTHERS: Final[Mapping[type[object], Callable[..., str]]] = {
    DataEnd: lambda item: "C: .",
    InvalidData: lambda item: "C: .",
    ChunkEnd: lambda item: "-- the end of a chunk",
    AuthResponse: lambda item: "C: ***",
    AuthCancel: lambda item: "C: *",
    SessionOpened: lambda item: "-- opened",
    SessionClosed: lambda item: f"-- closed after {item.seconds:.1f} s: {item.reason}",
    TlsEstablished: lambda item: f"-- {item.tls}",
    TlsFailed: lambda item: f"-- TLS failed: {item.error}",
    LimitReached: lambda item: f"-- limit reached: {item.limit}",
}


def _is_auth(line: bytes) -> bool:
    return line[: len(Auth.verb)].upper() == Auth.verb.encode()


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
