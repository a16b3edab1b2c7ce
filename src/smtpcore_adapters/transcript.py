"""Transcripts of sessions: commands, replies, and other events."""

# Transcripts are read on terminals and stored in files. Control characters are escaped, so that no text of a peer can
# control the terminal or imitate another line. Secrets in AUTH are masked. Unknown commands after a refused AUTH are
# masked too: a client that did not wait for the reply may have sent its password as the next line.

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO
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

from ._printable import printable
from .server._notifications import (
    LimitReached,
    Observed,
    OctetsSent,
    Refusal,
    SessionClosed,
    SessionOpened,
    TlsEstablished,
    TlsFailed,
)
from .server._session import Session
from .tls._info import Tls

Write = Callable[[Session[Any], str], object]
"""A function that takes a session and a line of its transcript, without line end."""


class Transcript:
    """An observer that writes a transcript of each session, without message bodies: `app.include(Transcript(write))`.

    Each line begins with `C:` for the client, `S:` for the server, or `--` for other events.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._after_auth: WeakSet[Session[Any]] = WeakSet()
        """Sessions in which an unknown command may be a password."""

    def on_event(self, session: Session[Any], item: Observed) -> None:
        """Write the lines for one event of a session."""
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
    """Return a `Write` for an open text file. Each line begins with the time and the id of the session."""

    def write(session: Session[Any], line: str) -> None:
        stream.write(f"{_now()} {session.id} {line}\n")
        stream.flush()

    return write


def to_directory(directory: Path) -> Write:
    """Return a `Write` that writes a file `<session id>.txt` for each session.

    Each line begins with the time. Only the owner may read the files. A file is opened for each line and closed again,
    so that idle sessions keep no files open.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(session: Session[Any], line: str) -> None:
        path = directory / f"{session.id}.txt"
        with open(path, "a", encoding="utf-8", opener=_open_private) as file:
            file.write(f"{_now()} {line}\n")

    return write


def transcript_lines(item: object) -> list[str]:
    """Return the lines of a transcript for `item`. Secrets in AUTH are masked; secrets in later commands are not."""
    if isinstance(item, Reply):
        masked = item.code == ReplyCode.AUTHENTICATION_CHALLENGE
        return ["S: 334 ***"] if masked else [f"S: {printable(line)}" for line in str(item).splitlines()]
    if isinstance(item, InvalidCommand):
        return [f"C: {printable(item.line.decode('utf-8', 'replace'))}"]
    if isinstance(item, UnknownCommand):
        return [f"C: {printable(mask_auth(f'{item.verb} {item.argument}'.rstrip()))}"]
    if isinstance(item, Command):
        return [f"C: {printable(str(item))}"]

    describe = _OTHERS.get(type(item))
    return [printable(describe(item))] if describe else []


def mask_auth(text: str) -> str:
    """Return a command with `***` in place of everything after AUTH and its mechanism, even if it is malformed.

    If AUTH and a known mechanism are not at the start of the line, everything after them is masked too, because a log
    may write a prefix before the command.
    """
    match = _search_auth(text)
    return f"{text[: match.end()]} ***" if match and text[match.end() :].strip() else text


_MECHANISM = (
    r"(?:PLAIN|LOGIN|CRAM-MD5|DIGEST-MD5|SCRAM-[A-Z0-9-]{1,20}|XOAUTH2|OAUTHBEARER|EXTERNAL|ANONYMOUS|NTLM|GSSAPI)"
)
_search_auth = re.compile(
    rf"(?:^\s*AUTH|(?<![A-Z0-9-])AUTH(?=\s*{_MECHANISM}))(?:\s+{_MECHANISM}(?![\w-]))?", re.IGNORECASE
).search

_OTHERS: Final[Mapping[type[object], Callable[..., str]]] = {
    DataEnd: lambda item: "C: .",
    Tls: lambda item: f"-- {item}",
    InvalidData: lambda item: "C: .",
    ChunkEnd: lambda item: "-- the end of a chunk",
    AuthResponse: lambda item: "C: ***",
    AuthCancel: lambda item: "C: *",
    SessionOpened: lambda item: "-- opened",
    SessionClosed: lambda item: (
        f"-- closed after {item.seconds:.1f} s: {item.reason}" + (f" ({item.budget})" if item.budget else "")
    ),
    TlsEstablished: lambda item: f"-- {item.tls}",
    TlsFailed: lambda item: f"-- TLS failed: {item.error}",
    LimitReached: lambda item: f"-- limit reached: {item.limit}",
    OctetsSent: lambda item: f"-- sent {'instead' if item.instead else 'unchanged'}: {str(item.data)[1:]}",
    Refusal: lambda item: f"-- refused ({item.decided_by}: {item.rule})",
}


def _is_auth(line: bytes) -> bool:
    return line[: len(Auth.verb)].upper() == Auth.verb.encode()


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
