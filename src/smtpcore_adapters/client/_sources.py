"""Sources of message bodies: bytes, text, messages of the `email` package, files and iterables."""

# Each source yields pieces of bounded size, so that a body of any size is sent in constant memory. Before the first
# piece, a source also determines what MAIL announces: the size, and whether there are octets beyond ASCII. An iterator
# can be read only once, so its first `PIECE` octets are read before MAIL. A message that ends within these octets is as
# well known as `bytes`.

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Collection, Iterable
from contextlib import aclosing
from email.message import Message
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeGuard

from ._messages import encode_text, flatten

PIECE = 262_144
"""Octets of a piece. Larger pieces are not sent faster."""

Body: TypeAlias = str | bytes | bytearray | memoryview | Message | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]
"""A message as bytes or text, a message of the `email` package, a binary file, or an iterable of pieces of bytes, cut
anywhere."""

_OCTETS = (bytes, bytearray, memoryview)
_sub_line_end = re.compile(rb"\r\n|\r|\n").sub

RunBlocking: TypeAlias = Callable[..., Awaitable[Any]]


class Readable(Protocol):
    """A file opened in binary mode, or a similar object."""

    def read(self, size: int = -1, /) -> bytes: ...


class Seekable(Readable, Protocol):
    """A file with the methods for seeking. The methods may raise if the file cannot seek."""

    def seekable(self) -> bool: ...

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class Examined:
    """The size of a body and the kinds of octets in it, counted while its pieces are added."""

    def __init__(self) -> None:
        self.size = 0
        """The number of octets."""
        self.is_ascii = True
        """Whether all octets are ASCII."""
        self.has_nul = False
        """Whether there is a NUL."""
        self._bare = 0
        self._tail = b""

    def add(self, data: bytes) -> None:
        is_cut = self._tail == b"\r" and data.startswith(b"\n")
        self._bare += _count_bare(data) - 2 * is_cut
        self._tail = data[-1:] or self._tail
        self.size += len(data)
        self.is_ascii &= data.isascii()
        self.has_nul |= b"\0" in data

    @property
    def size_as_text(self) -> int:
        """The number of octets with CR LF at the end of each line, including the last line."""
        is_ended = self._tail in (b"", b"\r", b"\n")
        return self.size + self._bare + (0 if is_ended else len(b"\r\n"))


class Source(ABC):
    """A body that is ready to be sent."""

    examined: "Examined | None" = None
    """The size of the body and the kinds of octets in it, or None if they are unknown before sending."""
    needs_smtputf8: bool = False
    """Whether the header has addresses that only SMTPUTF8 can carry (RFC 6532)."""
    is_repeatable: bool = False
    """Whether `pieces` can be called more than once."""

    async def examine(self, run_blocking: RunBlocking) -> None:
        """Set `examined` if the body can be read before it is sent."""
        return

    async def aclose(self) -> None:
        """Close the iterator of the body, if an iterator was begun."""
        return

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
        Inconvertible: `body` is a message that this server cannot get unchanged.
    """
    _check(body)
    if isinstance(body, _OCTETS):
        return Octets(bytes(body))
    if isinstance(body, str):
        return Octets(*encode_text(body))
    if isinstance(body, Message):
        return Octets(*flatten(body, eight_bit=eight_bit, smtputf8=smtputf8))
    if _is_file(body) and not isinstance(body, AsyncIterable):
        return _File(body)

    return _Pieces(body)


def _is_file(body: object) -> TypeGuard[Readable]:
    # Not `isinstance` with a protocol, which since Python 3.12 misses wrappers such as `tempfile.NamedTemporaryFile`.
    return callable(getattr(body, "read", None))


def _is_seekable(file: Readable) -> TypeGuard[Seekable]:
    return all(callable(getattr(file, name, None)) for name in ("seek", "tell", "seekable"))


def _check(body: object) -> None:
    if _is_file(body) and hasattr(body, "encoding"):
        raise TypeError("a body must be bytes: open the file in binary mode")
    if not _is_file(body) and not isinstance(body, Message | Iterable | AsyncIterable):
        raise TypeError(
            f"a body cannot be {type(body).__name__}: give bytes, text, an EmailMessage, a binary file or an iterable"
        )
    if isinstance(body, Collection) and not isinstance(body, (str, *_OCTETS, Message)):
        for piece in body:
            _checked_piece(piece)


class Octets(Source):
    """A body in memory."""

    is_repeatable = True

    def __init__(self, data: bytes, needs_smtputf8: bool = False) -> None:
        self._data = data
        self.needs_smtputf8 = needs_smtputf8
        self.examined = Examined()
        self.examined.add(data)

    async def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(self._data), PIECE):
            yield self._data[start : start + PIECE]


class _Unexamined(Source):
    """A body that is known only after it was read."""

    def __init__(self) -> None:
        self._first: list[bytes] = []
        """The pieces that were read before MAIL."""
        self._rest: AsyncGenerator[bytes, None] | None = None

    @abstractmethod
    def _iterate(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces, from its beginning."""

    async def examine(self, run_blocking: RunBlocking) -> None:
        examined = Examined()
        if self.is_repeatable:
            async for piece in self._iterate(run_blocking):
                examined.add(piece)
            self.examined = examined
            return

        self._rest = self._iterate(run_blocking)
        async for piece in self._rest:
            self._first.append(piece)
            examined.add(piece)
            if examined.size >= PIECE:
                return

        self.examined = examined
        self.is_repeatable = True

    async def pieces(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        if self._rest:
            for piece in self._first:
                yield piece
            async for piece in self._rest:
                yield piece
        else:
            async with aclosing(self._iterate(run_blocking)) as pieces:
                async for piece in pieces:
                    yield piece

    async def aclose(self) -> None:
        if self._rest:
            await self._rest.aclose()


class _File(_Unexamined):
    def __init__(self, file: Readable) -> None:
        super().__init__()
        self._file = file
        self._seekable = file if _is_seekable(file) and file.seekable() else None
        self._start = self._seekable.tell() if self._seekable else 0
        self.is_repeatable = self._seekable is not None

    async def examine(self, run_blocking: RunBlocking) -> None:
        await super().examine(run_blocking)
        if self._seekable:
            self._seekable.seek(self._start)

    async def _iterate(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        if self._seekable:
            self._seekable.seek(self._start)
        # Only an empty piece is the end: a file that does not block returns None if it has no octets yet.
        while (piece := _checked_piece(await run_blocking(self._file.read, PIECE))) != b"":
            yield piece


class _Pieces(_Unexamined):
    def __init__(self, pieces: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        super().__init__()
        self._given = pieces
        self.is_repeatable = isinstance(pieces, Collection)

    async def _iterate(self, run_blocking: RunBlocking) -> AsyncGenerator[bytes, None]:
        if isinstance(self._given, AsyncGenerator):
            async with aclosing(self._given):  # close the generator here: the caller may have no reference to it
                async for piece in self._given:
                    yield _checked_piece(piece)
        elif isinstance(self._given, AsyncIterable):
            async for piece in self._given:
                yield _checked_piece(piece)
        else:
            for piece in self._given:
                yield _checked_piece(piece)


def _checked_piece(piece: object) -> bytes:
    if not isinstance(piece, _OCTETS):
        raise TypeError(f"each piece of a body must be bytes, not {type(piece).__name__}")

    return bytes(piece)


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
