"""What the targets share: choices drawn from an input, ways to cut it, and a server that hears a line."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from smtpcore import Config, Connection, Event, LocalProtocolError, Signal
from tests.helpers import READY, drive

_T = TypeVar("_T")


class Draw:
    """Choices drawn from the front of an input. Where it ends, it goes on with zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        """The next octet."""
        value, self._data = self._data[:1], self._data[1:]
        return value[0] if value else 0

    def octets(self, size: int) -> bytes:
        """The next `size` octets."""
        value, self._data = self._data[:size], self._data[size:]
        return value.ljust(size, b"\0")

    def choose(self, options: Sequence[_T]) -> _T:
        """One of at most 256 options."""
        return options[self.byte() % len(options)]

    def rest(self) -> bytes:
        """All that is left."""
        value, self._data = self._data, b""
        return value

    def text(self) -> str:
        """All that is left, as text: what is not UTF-8 becomes halves of surrogate pairs."""
        return self.rest().decode(errors="surrogateescape")


def cuts(data: bytes, place: int) -> list[list[bytes]]:
    """`data` whole, byte by byte, and in two parts; `place` is 0 to 255."""
    middle = place * len(data) // 256
    parts = [data[:middle], data[middle:]]
    return [[data] if data else [], [data[at : at + 1] for at in range(len(data))], [part for part in parts if part]]


def made(kind: Callable[[str], _T], text: str) -> _T | None:
    """The value that `text` stands for, None if it stands for none."""
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
"""A server that offers whatever it can, and takes lines as long as the inputs."""


def heard(line: str) -> Event | Signal:
    """What such a server hears in a line, which stands where its verb may stand."""
    conn = Connection(ALL)
    verb = line[:4].upper()
    drive(conn, [READY, *([b"MAIL FROM:<> SMTPUTF8\r\n"] if verb == "RCPT" else [])])
    conn.receive_data(line.encode(errors="surrogateescape") + b"\r\n")
    return conn.next_event()
