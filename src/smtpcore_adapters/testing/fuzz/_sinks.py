"""Look at the messages that a server has delivered."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ._peers import CannotFuzz

_POLL = 0.01
"""Seconds between two looks."""
_MAX_MESSAGE = 1_048_576


class Sink(Protocol):
    """A view of the delivered messages."""

    def begin(self) -> None:
        """Remember the messages that exist already."""

    def take(self, count: int, timeout: float) -> list[bytes]:
        """Return the messages since `begin`, after waiting until there are `count` of them, or for `timeout`."""
        ...


class MaildirSink:
    """A view of a Maildir."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()

    def begin(self) -> None:
        """Remember the messages that exist already."""
        self._known = {file.name for file in self._files()}

    def take(self, count: int, timeout: float) -> list[bytes]:
        """Return the messages since `begin`, after waiting until there are `count` of them, or for `timeout`."""
        until = time.monotonic() + timeout
        while True:
            found = [file for file in self._files() if file.name not in self._known]
            if len(found) >= count or time.monotonic() >= until:
                return [message for file in found if (message := _content(file)) is not None]

            time.sleep(_POLL)

    def _files(self) -> list[Path]:
        return sorted(file for name in ("new", "cur") for file in (self._path / name).glob("*") if file.is_file())


def _content(file: Path) -> bytes | None:
    """Return the content of a file, or None if the file was moved away."""
    try:
        return file.read_bytes()[:_MAX_MESSAGE]
    except OSError:
        return None


class CommandSink:
    """A view through a command that prints all delivered messages as an mbox, or one message."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._known: list[bytes] = []

    def begin(self) -> None:
        """Remember the messages that exist already."""
        self._known = self._messages()

    def take(self, count: int, timeout: float) -> list[bytes]:
        """Return the messages since `begin`, after waiting until there are `count` of them, or for `timeout`."""
        until = time.monotonic() + timeout
        while True:
            found = self._messages()
            found = [message for message in found if message not in self._known]
            if len(found) >= count or time.monotonic() >= until:
                return found

            time.sleep(_POLL)

    def _messages(self) -> list[bytes]:
        try:
            done = subprocess.run(self._command, shell=True, capture_output=True, timeout=60, check=True)  # noqa: S602
        except subprocess.SubprocessError as exc:
            raise CannotFuzz(f"cannot see what is delivered: {exc}") from exc
        parts = (b"\n" + done.stdout.replace(b"\r\n", b"\n")).split(b"\nFrom ")
        if len(parts) == 1:
            return [parts[0][1:]] if parts[0].strip() else []

        # In an mbox an empty line follows each message.
        return [part.partition(b"\n")[2].removesuffix(b"\n").removesuffix(b"\n") + b"\n" for part in parts[1:]]


def differences(accepted: Sequence[tuple[bytes, bool]], delivered: Sequence[bytes]) -> str:
    """Return the difference between accepted and delivered messages, or an empty text.

    Repeated deliveries of a message are permitted, because a server may deliver one copy for each recipient.

    Args:
        accepted: The messages, each with whether it has to be delivered unchanged.
        delivered: The delivered messages.
    """
    for content, is_plain in accepted:
        if is_plain and not any(_is_delivery_of(content, each) for each in delivered):
            return "an accepted message was delivered changed" if delivered else "an accepted message was not delivered"
    if all(is_plain for _, is_plain in accepted):
        for each in delivered:
            if not any(_is_delivery_of(content, each) for content, _ in accepted):
                return "a message was delivered that was not accepted"

    return ""


def _is_delivery_of(content: bytes, delivered: bytes) -> bool:
    """Return whether `delivered` is `content` with more header fields, for example trace fields."""
    header, body = _parts(content)
    found_header, found_body = _parts(delivered)
    fields = found_header.split(b"\n")
    return body == found_body and all(line in fields for line in header.split(b"\n"))


def _parts(message: bytes) -> tuple[bytes, bytes]:
    header, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    return header, body
