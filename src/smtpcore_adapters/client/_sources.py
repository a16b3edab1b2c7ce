"""Sources of message bodies: bytes, messages of the `email` package, files and iterables."""

# Each source yields pieces of bounded size, so that a body of any size is sent in constant memory. A source also
# determines what MAIL announces before the first piece: the size, and whether there are octets beyond ASCII.

import io
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from copy import copy
from email.message import Message
from email.policy import EmailPolicy
from email.utils import getaddresses
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

PIECE = 262_144
"""Octets of a piece. Larger pieces are not sent faster."""

Body: TypeAlias = bytes | Message | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]
"""A message as bytes, a message of the `email` package, a binary file, or an iterable of pieces, cut anywhere."""

_sub_line_end = re.compile(rb"\r\n|\r|\n").sub

RunBlocking: TypeAlias = Callable[..., Awaitable[bytes]]


@runtime_checkable
class Readable(Protocol):
    """A file opened in binary mode, or a similar object."""

    def read(self, size: int = -1, /) -> bytes: ...


class Source(ABC):
    """A body that is ready to be sent."""

    size: int | None = None
    """The size in octets as sent, or None if unknown before sending."""
    is_ascii: bool | None = None
    """Whether all octets are ASCII, or None if unknown before sending."""
    needs_smtputf8: bool = False
    """Whether the header has addresses that only SMTPUTF8 can carry (RFC 6532)."""
    is_repeatable: bool = False
    """Whether `pieces` can be called more than once."""

    @abstractmethod
    def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces. `run_blocking` runs a blocking function, such as `file.read`, in a thread."""


def source_of(body: Body, *, eight_bit: bool, smtputf8: bool) -> Source:
    """Return the source for `body`.

    Args:
        body: The body.
        eight_bit: Whether the server accepts octets beyond ASCII (8BITMIME).
        smtputf8: Whether the server offers SMTPUTF8.

    Raises:
        TypeError: `body` has a type that cannot be sent.
    """
    _check(body)
    if isinstance(body, bytes):
        return _Octets(body)
    if isinstance(body, Message):
        return _flattened(body, eight_bit=eight_bit, smtputf8=smtputf8)
    if isinstance(body, Readable) and not isinstance(body, AsyncIterable):
        return _File(body)

    return _Pieces(body)


def _check(body: object) -> None:
    if isinstance(body, str):
        raise TypeError("a body must be bytes, not str: encode the text, or build an EmailMessage")
    if isinstance(body, io.TextIOBase):
        raise TypeError("a body must be bytes: open the file in binary mode")
    if not isinstance(body, Message | Readable | Iterable | AsyncIterable):
        raise TypeError(
            f"a body cannot be {type(body).__name__}: give bytes, an EmailMessage, a binary file or an iterable"
        )


class _Octets(Source):
    is_repeatable = True

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data) + _count_bare(data)
        self.is_ascii = data.isascii()

    async def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(self._data), PIECE):
            yield self._data[start : start + PIECE]


class _File(Source):
    def __init__(self, file: Readable) -> None:
        self._file = file
        self._start: int | None = None
        if isinstance(file, io.IOBase) and file.seekable():
            self._start = file.tell()
            self.size = file.seek(0, io.SEEK_END) - self._start
            file.seek(self._start)
            self.is_repeatable = True

    async def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        if self._start is not None:
            assert isinstance(self._file, io.IOBase)
            self._file.seek(self._start)
        while piece := await run_blocking(self._file.read, PIECE):
            yield piece


class _Pieces(Source):
    def __init__(self, pieces: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._given = pieces

    async def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        if isinstance(self._given, AsyncGenerator):
            async with aclosing(self._given):  # close the generator here: the caller may have no reference to it
                async for piece in self._given:
                    yield piece
        elif isinstance(self._given, AsyncIterable):
            async for piece in self._given:
                yield piece
        else:
            for piece in self._given:
                yield piece


# Messages of the email package

_ADDRESS_FIELDS = ("From", "Sender", "Reply-To", "To", "Cc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc")


def _flattened(message: Message, *, eight_bit: bool, smtputf8: bool) -> Source:
    is_international = any(not address.isascii() for address in _addresses(message))
    policy = message.policy.clone(linesep="\r\n", cte_type="8bit" if eight_bit else "7bit")
    if is_international and smtputf8 and isinstance(policy, EmailPolicy):
        policy = policy.clone(utf8=True)

    source = _Octets(_without_bcc(message).as_bytes(policy=policy))
    source.needs_smtputf8 = is_international
    return source


def _without_bcc(message: Message) -> Message:
    # RFC 5322 3.6.3: the other recipients must not see the addresses in Bcc.
    stripped = copy(message)
    del stripped["Bcc"]
    del stripped["Resent-Bcc"]
    return stripped


def _addresses(message: Message) -> list[str]:
    fields = [str(value) for name in _ADDRESS_FIELDS for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(fields)]


# Pieces


async def with_line_ends(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the same text with CR LF at the end of each line, including the last one.

    RFC 5321 2.3.8 forbids a CR or LF alone; RFC 5321 4.1.1.4 requires that the last line ends like the others.
    """
    held = tail = b""
    async with aclosing(pieces):
        async for piece in pieces:
            data = held + piece
            held = b"\r" if data.endswith(b"\r") else b""
            data = _end_lines(data[: len(data) - len(held)])
            tail = data[-2:] or tail
            yield data

    if held or tail not in (b"", b"\r\n"):
        yield b"\r\n"


async def regrouped(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the same octets in pieces of exactly `PIECE` octets; the last piece may be shorter."""
    held: list[bytes] = []
    size = 0
    async with aclosing(pieces):
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= PIECE:
                data = b"".join(held)
                size = len(data) % PIECE
                for start in range(0, len(data) - size, PIECE):
                    yield data[start : start + PIECE]
                held = [data[len(data) - size :]]

    if size:
        yield b"".join(held)


def _end_lines(data: bytes) -> bytes:
    return _sub_line_end(b"\r\n", data) if _count_bare(data) else data


def _count_bare(data: bytes) -> int:
    return data.count(b"\r") + data.count(b"\n") - 2 * data.count(b"\r\n")
