"""A server in memory that obeys all laws, to find laws that are wrong."""

# Each experiment with a violation is played against this server too. If the law fails here as well, the law is wrong
# and not the server. The server accepts the addresses and messages that the tested server has accepted.

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from smtpcore import (
    NEED_TLS,
    OFF_BY_DEFAULT,
    Auth,
    AuthCancel,
    AuthResponse,
    BareNewlines,
    Bdat,
    Bodies,
    BodyAborted,
    Config,
    Connection,
    ConnectionClosed,
    DataChunk,
    DataEnd,
    Event,
    HeaderEnd,
    Mail,
    Rcpt,
    RemoteProtocolError,
    Reply,
    Signal,
    Xclient,
)
from smtpcore.sasl import CheckPassword, Policy, Question, ServerExchange

from ._logins import Credentials
from ._player import Recording

_NEED_NO_REPLY = (DataChunk, HeaderEnd, Bdat, BodyAborted)
_search_path = re.compile(rb"<(.*)>").search


class MemoryPeer:
    """A connection to a server in memory, as a `Peer`. The server accepts everything; a subclass may refuse.

    Args:
        config: The configuration of the server.
        credentials: The only password that is accepted; by default any password.
    """

    def __init__(self, config: Config, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self.connection = Connection(config)
        """The server's end."""
        self._exchange = ServerExchange(policy=Policy(prepare=str))
        self._output = bytearray()
        self._is_over = False
        self._work()

    def send(self, segments: Sequence[bytes], timeout: float) -> None:
        """Pass each segment to the server."""
        for segment in segments:
            if not self._is_over:
                self.connection.receive_data(segment)
                self._work()

    def receive(self, timeout: float) -> bytes:
        """Return the octets that the server has sent; `b""` at the end. Raise `TimeoutError` without octets."""
        data = bytes(self._output)
        self._output.clear()
        if data or self._is_over:
            return data

        raise TimeoutError

    def start_tls(self, timeout: float) -> None:
        """Do nothing, because the server does not wait for the handshake."""

    def close(self) -> None:
        """Close the connection."""
        self._is_over = True

    def answer(self, event: Event) -> Reply:
        """Return the reply to an event."""
        match event:
            case Rcpt() | DataEnd():
                return Reply(250, "OK")
            case Xclient():
                return Reply(220, "Ready")
            case Auth() | AuthResponse() | AuthCancel():
                step = self._exchange.receive(event)
                while not isinstance(step, Reply):
                    step = self._exchange.answer(self._is_right(step))
                return step
            case _:
                return self.connection.default_reply(event)

    def _is_right(self, question: Question) -> bool:
        known = self._credentials
        return known is None or not isinstance(question, CheckPassword) or question.password == known.password

    def _work(self) -> None:
        connection = self.connection
        with suppress(RemoteProtocolError):
            while not isinstance(event := connection.next_event(), Signal | ConnectionClosed):
                if isinstance(event, _NEED_NO_REPLY):
                    continue
                for _ in range(connection.replies_owed):
                    connection.send(self.answer(event))
            if event is NEED_TLS:
                self._output += connection.data_to_send()
                connection.tls_established()
                self._work()
            self._is_over |= isinstance(event, ConnectionClosed)

        self._output += connection.data_to_send()


class Reference(MemoryPeer):
    """A server that offers and accepts what another server has offered and accepted."""

    def __init__(
        self,
        offers: frozenset[str],
        recordings: Iterable[Recording],
        *,
        lmtp: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        self._refused = _refused_paths(recordings)
        # Without these keywords the configuration would be invalid, or the keywords need code of one's own.
        fixed = {"STARTTLS", "AUTH", "ENHANCEDSTATUSCODES", "PIPELINING"}
        disabled = {"8BITMIME", "CHUNKING", "SIZE", "SMTPUTF8", "BINARYMIME"} - offers
        if "CHUNKING" in disabled:
            disabled.add("BINARYMIME")
        super().__init__(
            Config(
                hostname="reference.example",
                bodies=Bodies.CHUNKS,
                bare_newlines=BareNewlines.REJECT,
                lmtp=lmtp,
                starttls="STARTTLS" in offers,
                auth_mechanisms=("PLAIN", "LOGIN"),
                plaintext_auth=True,
                disabled=(OFF_BY_DEFAULT - ({"XCLIENT"} & offers)) | (disabled - fixed),
            ),
            credentials,
        )

    def answer(self, event: Event) -> Reply:
        """Refuse the senders and recipients that the other server refused; accept everything else."""
        path = (
            event.reverse_path if isinstance(event, Mail) else event.forward_path if isinstance(event, Rcpt) else None
        )
        return Reply(550, "Refused") if path and str(path).encode() in self._refused else super().answer(event)


def _refused_paths(recordings: Iterable[Recording]) -> set[bytes]:
    refused: set[bytes] = set()
    accepted: set[bytes] = set()
    for recording in recordings:
        for exchange in recording.exchanges:
            match = _search_path(exchange.step.pieces[0]) if exchange.step.verb in ("MAIL", "RCPT") else None
            if match and exchange.codes:
                (accepted if exchange.codes[0] // 100 == 2 else refused).add(match[1])

    return refused - accepted
