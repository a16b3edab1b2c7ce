"""The options of a connection to a server."""

import ssl
from enum import Enum
from typing import Protocol, TypedDict

from smtpcore.proxy import ProxyHeader

from ..streams._stream import Stream
from ._login import Login
from ._timeouts import ClientTimeouts


class TlsMode(Enum):
    """When a client starts TLS. The certificate is verified in each of them, unless the context says otherwise."""

    NONE = "none"
    """Never."""
    OPPORTUNISTIC = "opportunistic"
    """With STARTTLS, if the server offers and accepts it. Else all goes on in plaintext, which whoever sits in between
    can bring about; but AUTH is not done then. A handshake that fails is an error here too: behind the server's 220
    there is no plaintext to go back to."""
    REQUIRED = "required"
    """With STARTTLS. Without it, there is no connection."""
    IMPLICIT = "implicit"
    """Before the greeting, as on port 465 (RFC 8314 section 3.3)."""


class Opener(Protocol):
    """Connects to a server: an adapter's `open_stream`."""

    async def __call__(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream: ...


class ConnectOptions(TypedDict, total=False):
    """The options that every adapter's `connect` takes."""

    tls: TlsMode
    """When TLS starts; `TlsMode.OPPORTUNISTIC` by default."""
    context: ssl.SSLContext | None
    """How TLS is done. By default the certificate has to be valid for `host`."""
    auth: Login | None
    """Who to log in as: a name and a password, `smtpcore.sasl.Credentials`, or a ready mechanism."""
    plaintext_auth: bool
    """Whether to log in without TLS too, or with a server that was not verified. Then others may read the password."""
    lmtp: bool
    """Whether LMTP is spoken."""
    hostname: str | None
    """The fully qualified domain of this client. By default that of the machine or, if it has none, the address."""
    timeouts: ClientTimeouts
    """How long is waited for what."""
    local_address: str | None
    """The IP address to connect from."""
    path: str | None
    """The Unix socket to connect to instead of a port."""
    proxy: ProxyHeader | None
    """What a server that expects a PROXY header is told."""
    chunking: bool
    """Whether BDAT is used where it is offered. By default it is."""
    pipelining: bool
    """Whether commands are sent in groups where that is offered. By default they are."""
