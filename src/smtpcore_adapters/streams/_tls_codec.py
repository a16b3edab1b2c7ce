"""TLS between octets and octets, without I/O."""

# The streams of all frameworks use this in place of what the frameworks have. asyncio's `start_tls` moves a transport
# that may have been read already: what a client sends right behind its last plaintext is lost then, or read as if it
# had been encrypted, and other event loops read earlier still. An `SSLSocket` takes a reset of the connection for its
# end. Others tell a peer whose handshake fails nothing, and no one whether they hold a part of a record. Here whatever
# arrives is given to TLS in the order in which it arrived, whoever has read it, and when.

from collections.abc import Awaitable, Callable
from contextlib import suppress
from ssl import MemoryBIO, SSLContext, SSLEOFError, SSLError, SSLWantReadError, SSLZeroReturnError

from ..tls._info import Tls, describe_tls

_MOST = 65_536


class Encryption:
    """The server's end of TLS, or with `server_name`, which may be empty, the client's."""

    def __init__(self, context: SSLContext, server_name: str | None) -> None:
        self._incoming = MemoryBIO()
        self._outgoing = MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name or None,
        )

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived; `b""` is the end of the peer's stream."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def data_to_send(self) -> bytes:
        """Take what has to be sent. What a mere `read` has left there may wait for the next `write`."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Go on with the handshake. Returns whether it is done, or needs more; raises `ssl.SSLError` if it failed."""
        try:
            self._object.do_handshake()
            return True
        except SSLWantReadError:
            return False

    def describe(self) -> Tls:
        """What was agreed upon in the handshake."""
        return describe_tls(self._object)

    @property
    def has_input(self) -> bool:
        """Whether something has arrived that was not read."""
        return bool(self._incoming.pending or self._object.pending())

    def read(self) -> bytes | None:
        """What the peer says, `b""` at its end, None where more has to arrive. Raises `ssl.SSLError`."""
        try:
            return self._object.read(_MOST)
        except SSLWantReadError:
            return None
        except (SSLZeroReturnError, SSLEOFError):
            return b""  # whether TLS was closed before or not: the end of data is marked by SMTP itself

    def write(self, data: bytes) -> None:
        """Say something. Raises `ssl.SSLError`."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]

    def close(self) -> None:
        """Say that nothing more will be said. Raises nothing."""
        with suppress(SSLError):  # it waits for the peer to say the same, or complains that it goes on talking
            self._object.unwrap()


Receive = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


async def shake_hands(encryption: Encryption, receive: Receive, send: Send) -> None:
    """Do a handshake over a stream of octets. Raises `ssl.SSLError`, and what `receive` and `send` raise."""
    try:
        while not encryption.handshake():
            await send(encryption.data_to_send())
            encryption.receive_data(await receive())
    except SSLError:
        with suppress(OSError):
            await send(encryption.data_to_send())  # which tells the peer why
        raise

    await send(encryption.data_to_send())


async def read(encryption: Encryption, receive: Receive) -> bytes:
    """What the peer says, `b""` at its end. Raises `ssl.SSLError`, and what `receive` raises."""
    while (data := encryption.read()) is None:
        encryption.receive_data(await receive())

    return data
