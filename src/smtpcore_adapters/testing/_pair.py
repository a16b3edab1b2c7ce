"""A client and a server connected in memory, for tests without sockets, threads and event loops."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self, TypedDict

from smtpcore import (
    NEED_TLS,
    Answered,
    Auth,
    Bodies,
    Budgets,
    ClientConfig,
    ClientConnection,
    Config,
    ConnectionClosed,
    Data,
    DataChunk,
    DataEnd,
    Mail,
    Path,
    Rcpt,
    Reply,
    Request,
    Rset,
    check_values,
)

from ..recipients import AnyRecipient
from ..server._app import App
from ..server._config import default_mechanisms
from ..server._limits import Limits, Timeouts
from ..server._mechanisms import MechanismExchange
from ..server._session import Session
from ..streams._stream import Address
from ..tls._info import Tls
from ._memory import DEFAULT_TLS, LOCAL, PEER, Clock, MemoryServer, MemorySession, MemoryStream
from ._received import Inbox

_MECHANISM = "TESTING"
"""The SASL mechanism with which a client of a pair logs in as `identity`."""


class _Arguments(TypedDict):
    app: App[Any] | None
    config: Config | None
    client_config: ClientConfig | None
    peer: Address | str | None
    local: Address | str | None
    tls: Tls | bool
    identity: str | None
    clock: Clock | None


class SmtpPair:
    """A client, and a server that calls the handlers of `app`; by default the server accepts every message.

    The time passes only by `advance`, and by the seconds that handlers `sleep`. STARTTLS succeeds at once, and nothing
    is encrypted. A method raises `RemoteProtocolError` if the dialogue cannot continue, for example because the server
    dropped the connection.

    Handlers may await `session.sleep`, `session.run_blocking` and the message, but nothing that needs asyncio, trio or
    anyio: then the method that runs the handler raises `RuntimeError`. Test such handlers with a server with sockets,
    for example `SmtpServer`.

    Args:
        app: The handlers.
        config: The configuration of the server.
        client_config: The configuration of the client.
        peer: The client's address; a string is an IP address. None for a client of a Unix socket.
        local: The server's address.
        tls: Whether TLS begins before the greeting. A `Tls` has the parameters of the session, such as the subject of
            the client's certificate; it is used for STARTTLS too, if `config` has `starttls`.
        identity: The user as which the client has logged in already, without a call of an `auth` handler. The client
            has then sent EHLO.
        budgets: The time limits of a session.
        timeouts: The delays of a session.
        limits: The limits of an address. `another` makes further clients of the same server.
        clock: The clock of the server, which other parts of the test may read.
    """

    def __init__(
        self,
        app: App[Any] | None = None,
        *,
        config: Config | None = None,
        client_config: ClientConfig | None = None,
        peer: Address | str | None = PEER,
        local: Address | str | None = LOCAL,
        tls: Tls | bool = False,
        identity: str | None = None,
        budgets: Budgets | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        given = {"config": config, "client_config": client_config, "app": app, "identity": identity, "clock": clock}
        check_values({**given, "peer": peer, "local": local, "tls": tls}, _Arguments)
        self.messages: Inbox = Inbox()
        """The messages that the server has received; unused with an `app` of your own."""
        served = app or self._default_app()
        config = config or Config(hostname="s.example", bodies=Bodies.CHUNKS)
        client_config = client_config or ClientConfig(hostname="c.example")
        if identity is not None:
            served, config, client_config = _with_login(served, config, client_config, identity)
        self.clock: Clock = clock or Clock()
        """The clock of the server."""
        self._identity = identity
        self._client_config = client_config
        self._tls = tls
        self._timeouts = timeouts or Timeouts()
        has_tls_first = tls is True or (isinstance(tls, Tls) and not config.starttls)
        self._server = MemoryServer(
            served, config, self.clock, implicit_tls=has_tls_first, budgets=budgets, timeouts=timeouts, limits=limits
        )
        self._has_tls_first = has_tls_first
        self._connect(peer, local)

    def _default_app(self) -> App[Any]:
        app = App()
        app.include(AnyRecipient())
        app.include(self.messages)
        return app

    def _connect(self, peer: Address | str | None, local: Address | str | None) -> None:
        stream = MemoryStream(
            self.clock,
            peer=Address(peer, PEER.port) if isinstance(peer, str) else peer,
            local=Address(local, LOCAL.port) if isinstance(local, str) else local,
            tls=self._tls if isinstance(self._tls, Tls) else DEFAULT_TLS,
        )
        self._memory = MemorySession(self._server, stream)
        self.client: ClientConnection = ClientConnection(self._client_config, implicit_tls=self._has_tls_first)
        """The client's end."""
        answers = self.exchange() or self.advance(self._timeouts.greeting_delay)
        self.greeting: Reply = answers[0].reply
        """The server's first reply."""
        if self._identity is not None and self.greeting.is_positive:
            self.hello()
            self.ask(Auth(_MECHANISM))

    def another(self, *, peer: Address | str | None = PEER, local: Address | str | None = LOCAL) -> Self:
        """Connect another client to the same server, and return the new pair.

        The handlers, the limits, the clock and `messages` are shared, and the client has the same `tls` and `identity`.
        """
        check_values({"peer": peer, "local": local}, _Arguments)
        pair = copy(self)
        pair._connect(peer, local)
        return pair

    @property
    def session(self) -> Session[Any]:
        """The server's end."""
        return self._memory.session

    # Commands and messages

    def exchange(self) -> list[Answered]:
        """Transfer octets in both directions until neither end has more to send, and return the replies received."""
        answers: list[Answered] = []
        while True:
            self._shake_hands(answers)
            sent = self.client.data_to_send()
            received = self._memory.send(*([sent] if sent else []))
            if received:
                self.client.receive_data(received)
            elif self._memory.is_over:
                self.client.receive_data(b"")

            event = self._shake_hands(answers)
            if isinstance(event, ConnectionClosed) or not (sent or received):
                return answers

    def _shake_hands(self, answers: list[Answered]) -> object:
        """Take the events of the client, and do the TLS handshake if it is due. Return the last event."""
        while isinstance(event := self.client.next_event(), Answered):
            answers.append(event)
        if event is NEED_TLS:
            self.client.tls_established()

        return event

    def ask(self, request: Request) -> Reply:
        """Send a command or SASL response, and return the reply."""
        self.client.send(request)
        return self.exchange()[-1].reply

    def hello(self) -> Reply:
        """Send EHLO or LHLO, and return the reply."""
        return self.ask(self.client.hello)

    def deliver(self, sender: str, recipients: Sequence[str], content: bytes) -> list[Reply]:
        """Send a message, and return the replies to MAIL and all commands after it.

        EHLO is sent first if this session has sent none. The message goes to the accepted recipients; if no recipient
        is accepted, DATA is not sent. A transaction that ends without a message is cleared with RSET, whose reply is
        not returned, so that the next message can be sent.
        """
        if self.client.helo is None:
            self.hello()

        replies = [self.ask(Mail(Path(sender)))]
        replies += [self.ask(Rcpt(Path(recipient))) for recipient in recipients if self.client.transaction]
        if self.client.transaction and self.client.transaction.recipients:
            replies.append(self.ask(Data()))
            if replies[-1].is_positive:
                self.client.send(DataChunk(content))
                self.client.send(DataEnd())
                replies += [answer.reply for answer in self.exchange()]
        if self.client.transaction:
            self.ask(Rset())

        return replies

    def advance(self, seconds: float) -> list[Answered]:
        """Let `seconds` pass, and return the replies that come without a command: a 421 if a time limit is exceeded."""
        output = self._memory.advance(seconds)
        if output:
            self.client.receive_data(output)
        return self.exchange()

    def shut_down(self) -> list[Answered]:
        """Shut the server down gracefully, and return its replies: a 421."""
        self._memory.drain()
        return self.exchange()

    def close(self) -> None:
        """Close the client's end, so that the session ends."""
        self._memory.send(b"")


def _with_login(
    app: App[Any], config: Config, client_config: ClientConfig, identity: str
) -> tuple[App[Any], Config, ClientConfig]:
    """Return the arguments for a server with a mechanism that accepts `identity`, and for its client."""

    async def log_in(session: Session[Any], exchange: MechanismExchange) -> str:
        return identity

    served = copy(app)
    served.mechanisms = {**app.mechanisms, _MECHANISM: log_in}
    names = (*config.auth_mechanisms, _MECHANISM) if config.auth_mechanisms else default_mechanisms(served)
    plain = config.plaintext_auth
    allowed = True if plain is True else (*(plain or ()), _MECHANISM)
    return (
        served,
        replace(config, auth_mechanisms=names, plaintext_auth=allowed),
        replace(client_config, plaintext_auth=True),
    )
