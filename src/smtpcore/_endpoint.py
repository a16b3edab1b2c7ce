"""What both ends of a dialogue know of it, and do alike."""

from abc import ABC, abstractmethod

from ._buffer import ReceiveBuffer
from ._commands import Ehlo, Helo, Lhlo
from ._errors import LocalProtocolError, RemoteProtocolError
from ._state import ON_HANDSHAKE, State
from ._transaction import Transaction


class Endpoint(ABC):
    """One end of a dialogue, without I/O. What it hears and says is for the end that it is."""

    def __init__(self) -> None:
        self._state = State.CONNECTED
        self._tls = False
        self._helo: Helo | Ehlo | Lhlo | None = None
        self._authenticated = False
        self._transaction: Transaction | None = None
        self._buffer = ReceiveBuffer()
        self._received = 0
        """How many octets the buffer was given in all."""
        self._end_of_stream = False
        self._output: list[bytes] = []

    # What is known

    @property
    def state(self) -> State:
        """Where the dialogue stands: where the replies so far have brought it."""
        return self._state

    @property
    def transaction(self) -> Transaction | None:
        """The accepted MAIL with the accepted recipients, until the reply to the end of the body."""
        return self._transaction

    @property
    def helo(self) -> Helo | Ehlo | Lhlo | None:
        """The accepted HELO, EHLO or LHLO."""
        return self._helo

    @property
    def tls(self) -> bool:
        """Whether TLS is active."""
        return self._tls

    @property
    def authenticated(self) -> bool:
        """Whether the client has proved who it is (RFC 4954), or a proxy that the server trusts has vouched for it."""
        return self._authenticated

    @property
    def trailing_data(self) -> bytes:
        """What was received and not used."""
        return bytes(self._buffer)

    # Hearing

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what has arrived; `b""` is the end of the peer's stream.

        Call it when `next_event` returns `NEED_DATA`, and what is buffered stays bounded.

        Raises:
            RemoteProtocolError: octets came behind STARTTLS and before TLS, so that someone may have injected them.
        """
        if not data:
            self._end_of_stream = True
            return
        if self._state is State.CLOSED or self._end_of_stream:
            return
        if self._expects_handshake():
            raise self._injected()

        self._buffer.append(data)
        self._received += len(data)

    def _expects_handshake(self) -> bool:
        return self._state is State.TLS

    # Writing

    def data_to_send(self) -> bytes:
        """Take the octets that are to be written."""
        return self._take_output()

    def _take_output(self) -> bytes:
        data = b"".join(self._output)
        self._output.clear()
        return data

    def send_failed(self) -> None:
        """Tell that a write broke: as nobody knows what the peer has got of it, nothing more is heard or said."""
        self._close()
        self._output.clear()

    # TLS

    def tls_established(self) -> None:
        """Tell that the TLS handshake is done, behind a 220 to STARTTLS or before the greeting.

        Nothing that the peer said before is believed any more (RFC 3207 4.2); what belongs to the connection itself,
        as the count of its errors does, is kept.

        Raises:
            LocalProtocolError: TLS cannot start here.
            RemoteProtocolError: octets were received before TLS that someone may have injected.
        """
        if self._tls or self._state not in ON_HANDSHAKE:
            raise LocalProtocolError(f"TLS cannot start in {self._state}: it does behind a 220 to STARTTLS")
        if self._has_input():
            raise self._injected()

        self._state = ON_HANDSHAKE[self._state]
        self._tls = True
        self._transaction = None
        self._forget_peer()

    def _has_input(self) -> bool:
        return bool(len(self._buffer))

    @abstractmethod
    def _forget_peer(self) -> None:
        self._helo = None
        self._authenticated = False

    # The end

    def _injected(self) -> RemoteProtocolError:
        # RFC 3207 4.2, and the reason for it: whoever sits in between can put plaintext before the handshake.
        return self._broken("plaintext came before TLS")

    def _broken(self, why: str) -> RemoteProtocolError:
        self._close()
        return RemoteProtocolError(why)

    @abstractmethod
    def _close(self) -> None:
        self._state = State.CLOSED
        self._transaction = None
