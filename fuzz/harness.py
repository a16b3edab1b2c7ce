"""Helpers for the targets: choices drawn from the input, segmentations, and a server that parses one line."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import process_time
from typing import TypeVar

from smtpcore import Config, Event, LocalProtocolError, Signal
from tests.playbook import READY, server

_T = TypeVar("_T")


class Draw:
    """Draws choices from the front of the input. After the end of the input it draws zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        """Return the next octet."""
        value, self._data = self._data[:1], self._data[1:]
        return value[0] if value else 0

    def octets(self, size: int) -> bytes:
        """Return the next `size` octets."""
        value, self._data = self._data[:size], self._data[size:]
        return value.ljust(size, b"\0")

    def choose(self, options: Sequence[_T]) -> _T:
        """Return one of `options`, of which there are at most 256."""
        return options[self.byte() % len(options)]

    def rest(self) -> bytes:
        """Return the rest of the input."""
        value, self._data = self._data, b""
        return value

    def text(self) -> str:
        """Return the rest of the input as text. Octets that are not UTF-8 become surrogates."""
        return self.rest().decode(errors="surrogateescape")


def cuts(data: bytes, place: int) -> list[list[bytes]]:
    """Return `data` in three segmentations: whole, byte by byte, and cut once. `place` (0 to 255) sets the cut."""
    middle = place * len(data) // 256
    parts = [data[:middle], data[middle:]]
    return [[data] if data else [], [data[at : at + 1] for at in range(len(data))], [part for part in parts if part]]


def check_time(work: Callable[[int], object], choice: int) -> None:
    """Check that `work`, which repeats a part of the input, takes time linear in the number of repetitions.

    Only one `choice` of 64 is checked. The bound is generous, so that a slow machine stays below it.
    """
    if choice % 64 == 63:
        before = process_time()
        work(3000)
        assert process_time() - before < 3.0, "the time is not linear in the octets"


def made(kind: Callable[[str], _T], text: str) -> _T | None:
    """Return the value made from `text`, or None if `kind` refuses the text."""
    try:
        return kind(text)
    except LocalProtocolError:
        return None


ALL = Config(
    hostname="mx.example.org",
    disabled=frozenset(),
    burl=("imap",),
    auth_mechanisms=("PLAIN",),
    plaintext_auth=True,
    max_hold_for=999_999_999,
    max_hold_until=datetime(9999, 12, 31, tzinfo=UTC),
    max_command_line=100_000,
)
"""A server that offers all extensions and accepts lines as long as any input."""


def heard(line: str, config: Config = ALL) -> Event | Signal:
    """Return the event for `line` on a server with every extension, in a state in which the verb is allowed."""
    before = READY + b"MAIL FROM:<> SMTPUTF8\r\n" if line[:4].upper() == "RCPT" else READY
    conn = server(before, config=config, cut=False).connection
    conn.receive_data(line.encode(errors="surrogateescape") + b"\r\n")
    return conn.next_event()
