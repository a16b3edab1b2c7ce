"""A message while it arrives, as handlers see it."""

from collections.abc import Callable, Coroutine
from email.message import EmailMessage
from functools import partial
from io import BytesIO
from typing import Any, Protocol

from smtpcore import Path, Transaction

from ..streams._stream import Stream
from ._parsing import parse_message


class MessageAborted(Exception):
    """The message is invalid or incomplete: it cannot be accepted, or the connection is lost."""


class Source(Protocol):
    """The source of a message's body."""

    @property
    def is_aborted(self) -> bool:
        """Whether the message turned out to be invalid or incomplete."""
        ...

    async def pull_body(self) -> bytes:
        """Return the next octets of the body, empty at its end. Raises `MessageAborted`."""
        ...


class Pieces:
    """An iterator over the pieces of a body, for `async for` in a coroutine and `for` in a thread."""

    # Not a generator, because a handler that leaves its loop early would have to close the generator.

    def __init__(self, pull: Callable[[], Coroutine[Any, Any, bytes]], stream: Stream) -> None:
        self._pull = pull
        self._stream = stream

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pull()
        if not piece:
            raise StopAsyncIteration

        return piece

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> bytes:
        piece = self._stream.run_async(self._pull)
        if not piece:
            raise StopIteration

        return piece


class Message:
    """A message while it arrives. `async for` yields its body in pieces; `await read()` returns the whole body.

    Each piece is a run of octets that may begin and end anywhere in a line. `Config.bodies` has no effect on this.

    `await parse()` returns an `email.message.EmailMessage`.

    A handler that runs in a thread iterates with `for`, and calls `read_blocking()` or `parse_blocking()`.

    The client waits while the handler works. Iteration raises `MessageAborted` if the message turns out to be invalid
    or incomplete. A handler should then delete the part that it has stored, for example in a `finally` block. The
    handler need not catch the exception.
    """

    def __init__(self, source: Source, stream: Stream, transaction: Transaction, id: str) -> None:
        self._source = source
        self._stream = stream
        self._whole: bytes | None = None
        self._started = False

        self.id = id
        """The name of this message in the log."""
        self.transaction = transaction
        """The accepted MAIL and RCPT commands."""

    @property
    def reverse_path(self) -> Path:
        """The sender; falsy for a notification, to which no mail may be sent in reply (RFC 5321 4.5.5)."""
        return self.transaction.mail.reverse_path

    @property
    def forward_paths(self) -> tuple[Path, ...]:
        """The accepted recipients, in order."""
        return tuple(rcpt.forward_path for rcpt in self.transaction.recipients)

    @property
    def sender(self) -> str:
        """The address of the sender as the client wrote it, empty for a notification."""
        return self.reverse_path.address

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses of the accepted recipients as the client wrote them, in order."""
        return tuple(path.address for path in self.forward_paths)

    def __aiter__(self) -> Pieces:
        if self._whole is not None:
            return Pieces(partial(_pop, [self._whole]), self._stream)
        if self._started and not self._source.is_aborted:
            raise RuntimeError("the body of this message was taken already: if several handlers need it, use read()")

        self._started = True
        return Pieces(self._source.pull_body, self._stream)

    __iter__ = __aiter__

    def put_back(self, body: bytes) -> None:
        """Provide the whole body again after reading it, so that later handlers can read it."""
        self._whole = body

    async def read(self) -> bytes:
        """Return the whole body. A second call returns the same octets, so that several handlers can read them."""
        if self._whole is None:
            # One buffer: a list of small pieces would take many times the memory of their octets.
            buffer = BytesIO()
            async for data in self:
                buffer.write(data)
            self._whole = buffer.getvalue()

        return self._whole

    def read_blocking(self) -> bytes:
        """Return the whole body, to a plain function that runs in a thread.

        Handlers run in threads in the adapter `socket`, and with `blocking=True` in the others. Raises `RuntimeError`
        elsewhere.
        """
        return self._stream.run_async(self.read)

    async def parse(self) -> EmailMessage:
        """Return the whole message as Python's `email` package parses it. The parser runs in a thread.

        Raises `ValueError` for a message that the parser cannot parse in reasonable time and memory.
        """
        return await self._stream.run_blocking(parse_message, await self.read())

    def parse_blocking(self) -> EmailMessage:
        """Do the same as `parse`, for a plain function that runs in a thread: see `read_blocking`."""
        return parse_message(self.read_blocking())


async def _pop(pieces: list[bytes]) -> bytes:
    return pieces.pop() if pieces else b""
