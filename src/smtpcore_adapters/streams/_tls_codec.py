"""TLS without I/O: an `SSLObject` between two memory BIOs."""

# All streams use this codec in place of their framework's own TLS, for these reasons:
# - asyncio's `start_tls` can be called when the transport has already read further bytes of the client. These bytes are
#   then lost, or are returned as if they had been encrypted. Other event loops read even earlier.
# - `ssl.SSLSocket` reports a connection reset as an orderly end of stream.
# - Other implementations send no alert when a handshake fails, or do not show whether they hold a partial record.
# With this codec every byte goes through TLS in the order of its arrival, no matter when the stream has read it.

from collections.abc import Awaitable, Callable
from contextlib import suppress
from ssl import MemoryBIO, SSLContext, SSLEOFError, SSLError, SSLWantReadError, SSLZeroReturnError

from ..tls._info import Tls, describe_tls, forbid_unsafe_tickets

_RECORD = 16_384
"""Maximum octets of plaintext in a TLS record (RFC 8446 5.1), and so of one read of `SSLObject`."""
_AT_ONCE = 131_072
"""Octets after which `Encryption.read` does not decrypt another record."""


class Encryption:
    """The server's end of a TLS connection; with a `server_name`, which may be empty, the client's end.

    `received` is data of the peer that was read already.
    """

    _error: SSLError | None = None
    """The error of the next `read`."""

    def __init__(self, context: SSLContext, server_name: str | None, received: bytes = b"") -> None:
        if server_name is None:
            forbid_unsafe_tickets(context)
        self._incoming = MemoryBIO()
        self._incoming.write(received)
        self._outgoing = MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name or None,
        )

    def receive_data(self, data: bytes) -> None:
        """Feed data from the peer; `b""` is the end of its stream."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def data_to_send(self) -> bytes:
        """Take the pending output. `read` can cause output too, which may wait for the next call of `encrypt`."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Continue the handshake, and return whether it is complete. Raises `ssl.SSLError` if the handshake failed."""
        try:
            self._object.do_handshake()
            return True
        except SSLWantReadError:
            return False

    def describe(self) -> Tls:
        """Return the results of the handshake."""
        return describe_tls(self._object)

    @property
    def has_input(self) -> bool:
        """Whether there is received data that was not read: plaintext, or a part of a record."""
        return bool(self._incoming.pending or self._object.pending() or self._error)

    def read(self) -> bytes | None:
        """Return plaintext, `b""` at the end of the stream, or None if more input is needed. Raises `ssl.SSLError`.

        The plaintext of several records is returned as one, because each return costs more than the copy.
        """
        if self._error:
            error, self._error = self._error, None
            raise error
        data = self._read_record()
        if not data or not self._incoming.pending:
            return data

        records, size = [data], len(data)
        try:
            while size < _AT_ONCE and (data := self._read_record()):
                records.append(data)
                size += len(data)
        except SSLError as exc:
            self._error = exc.with_traceback(None)  # OpenSSL reports an error only once
        return b"".join(records)

    def _read_record(self) -> bytes | None:
        try:
            return self._object.read(_RECORD)
        except SSLWantReadError:
            return None
        except (SSLZeroReturnError, SSLEOFError):
            return b""  # SMTP itself marks the end of data, so a missing close_notify truncates nothing

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt `data`, and return all pending output. Raises `ssl.SSLError`."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]

        return self._outgoing.read()

    def close(self) -> bytes:
        """Return the pending output with a final close_notify. Raises nothing."""
        # `unwrap` queues our close_notify, and raises if the peer's is missing or if data comes before the peer's.
        with suppress(SSLError):
            self._object.unwrap()

        return self._outgoing.read()


Receive = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


async def shake_hands(encryption: Encryption, receive: Receive, send: Send) -> Tls:
    """Do a handshake over a byte stream. Raises `ssl.SSLError`, and the exceptions of `receive` and `send`."""
    try:
        while not encryption.handshake():
            await send(encryption.data_to_send())
            encryption.receive_data(await receive())
    except SSLError:
        with suppress(OSError):
            await send(encryption.data_to_send())  # the output is an alert with the reason
        raise

    await send(encryption.data_to_send())
    return encryption.describe()


async def read(encryption: Encryption, receive: Receive) -> bytes:
    """Return plaintext, `b""` at the end of the stream. Raises `ssl.SSLError`, and the exceptions of `receive`."""
    while (data := encryption.read()) is None:
        encryption.receive_data(await receive())

    return data


async def read_arrived(
    encryption: Encryption | None, receive_arrived: Callable[[], Awaitable[bytes | None]]
) -> bytes | None:
    """Return plaintext that has already arrived, `b""` at the end of the stream, or None. Raises as `read` does."""
    if encryption is None:
        return await receive_arrived()

    while (data := encryption.read()) is None:
        received = await receive_arrived()
        if received is None:
            return None
        encryption.receive_data(received)

    return data
