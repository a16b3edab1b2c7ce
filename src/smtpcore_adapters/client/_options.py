"""The options of a connection to a server."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from ipaddress import ip_address
from socket import socket
from typing import Final, Protocol, TypedDict

from smtpcore import ClientBudgets, Extension, check_values
from smtpcore.proxy import ProxyHeader
from smtpcore.sasl import MECHANISMS, ClientMechanism

from .._names import check_options, unknown_name
from ..streams._stream import Stream
from ._login import LoginSource


class TlsMode(Enum):
    """The use of TLS. Each mode with TLS verifies the certificate, unless `context` disables the verification."""

    NONE = "none"
    """No TLS."""
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if the server offers and accepts it; otherwise the session continues in plaintext, without AUTH. An
    attacker between client and server can force plaintext by hiding STARTTLS. A failed handshake raises an error,
    because a session cannot return to plaintext after the 220."""
    REQUIRED = "starttls"
    """STARTTLS; connecting fails with `Refused` if the server does not offer or accept it."""
    IMPLICIT = "implicit"
    """TLS before the greeting, as on port 465 (RFC 8314 section 3.3)."""


class Opener(Protocol):
    """A function that connects to a server and returns the stream, such as an adapter's `open_stream`."""

    async def __call__(
        self, host: str, port: int, timeout: float, *, local_address: str | None = None, path: str | None = None
    ) -> Stream: ...


class ConnectOptions(TypedDict, total=False):
    """The options that every adapter's `connect` takes.

    `connect` makes the `smtpcore.ClientConfig` of the connection from the options that have the names of its fields.
    You make a `ClientConfig` yourself only if you use `smtpcore.ClientConnection` directly.
    """

    tls: TlsMode
    """The use of TLS; by default `TlsMode.OPPORTUNISTIC`, `TlsMode.IMPLICIT` at port 465, and `TlsMode.NONE` for a Unix
    socket."""
    context: ssl.SSLContext | None
    """The TLS context. The default context requires a certificate that is valid for `host`."""
    auth: LoginSource | None
    """The credentials: a name and a password, `smtpcore.sasl.Credentials`, or a SASL mechanism; or a function or a
    coroutine function that returns one of these for each connection, such as a fresh token. By default no AUTH."""
    auth_mechanisms: Sequence[str] | None
    """The SASL mechanisms that may be used, the preferred mechanism first. By default all that suit the credentials,
    the strongest first."""
    plaintext_auth: bool
    """Whether to send credentials also without TLS or to an unverified server, where others may read them. By default
    false."""
    lmtp: bool
    """Whether to use LMTP; by default false."""
    hostname: str | None
    """The name for EHLO. By default the machine's fully qualified domain or, without one, its IP address. An IP address
    is sent as an address literal."""
    budgets: ClientBudgets
    """The time limits; by default `ClientBudgets()`. When one has passed, `TimeoutError` is raised and the connection
    is closed."""
    connect_timeout: float
    """Seconds to connect; by default 30."""
    local_address: str | None
    """The IP address to connect from; by default chosen by the system."""
    path: str | None
    """The path of a Unix socket to connect to instead of host and port."""
    sock: socket | None
    """A connected socket to use instead of connecting to host and port, for example from a SOCKS library. `host` is
    still the name for TLS. The client closes the socket."""
    stream: Stream | None
    """A stream of your own to use instead of connecting. If it has TLS already, the session begins under TLS, and a
    `Tls.peer_certificate` counts as verified for `host`. The client closes the stream."""
    proxy: ProxyHeader | None
    """The PROXY header to send first, for a server that expects a header; by default none."""
    chunking: bool
    """Whether to use BDAT if the server offers CHUNKING; by default true."""
    pipelining: bool
    """Whether to send commands in groups if the server offers PIPELINING; by default true."""
    extensions: Sequence[Extension]
    """The extensions that the client can use, by default `EXTENSIONS`. Add your own with `(*EXTENSIONS, yours)`."""
    observer: Callable[[object], object] | None
    """A function that gets each command, piece of a body and reply of the dialogue, and the `Tls` after a handshake.
    `smtpcore_adapters.transcript.transcript_lines` makes lines of them, with secrets masked. By default none."""


def default_tls(port: int, path: str | None) -> TlsMode:
    """Return the use of TLS with a server at `port`, or at the Unix socket `path`, if nothing else is asked for."""
    if path:
        return TlsMode.NONE

    # RFC 8314 section 3.3: port 465 is for implicit TLS. Its servers wait for a handshake, and send no greeting before.
    return TlsMode.IMPLICIT if port == IMPLICIT_PORT else TlsMode.OPPORTUNISTIC


IMPLICIT_PORT: Final = 465
"""The port for implicit TLS."""
CONNECT_TIMEOUT = 30.0
"""The default of the option `connect_timeout`, in seconds."""

_MECHANISMS = [mechanism.name for mechanism in MECHANISMS]
_OPTIONS = frozenset(ConnectOptions.__annotations__)
_AUTH = 'pass auth=("name", "password")'
_TLS = "pass tls=TlsMode.OPPORTUNISTIC, REQUIRED, IMPLICIT or NONE"
_CONTEXT = "pass context=, an ssl.SSLContext"
_OF_OTHER_CLIENTS = {
    # The names in smtplib, aiosmtplib and nodemailer.
    **dict.fromkeys(("username", "user", "password"), _AUTH),
    **dict.fromkeys(("use_tls", "start_tls", "starttls", "secure", "ssl"), _TLS),
    **dict.fromkeys(("tls_context", "ssl_context", "validate_certs", "client_cert", "keyfile", "certfile"), _CONTEXT),
    "timeout": "pass connect_timeout=, and budgets=ClientBudgets(...) for the replies",
    "local_hostname": "pass hostname=",
    "source_address": "pass local_address=",
    "socket_path": "pass path=",
    "oauth_token_generator": "pass auth=BearerToken(...)",
    "debuglevel": "pass observer=",
}
HINTS = {
    **_OF_OTHER_CLIENTS,
    "config": "give the fields of a ClientConfig as options, such as hostname=... or lmtp=...",
    **{
        field.name: f"it is a field of ClientBudgets, so pass budgets=ClientBudgets({field.name}=...)"
        for field in fields(ClientBudgets)
        if field.name not in _OPTIONS
    },
}


class _Server(TypedDict):
    host: str
    port: int


def check_connect_options(host: str, port: int, options: ConnectOptions, *, many: bool = False) -> None:
    """Raise `TypeError` for an unknown option or a wrong type, and `ValueError` for an impossible value.

    Options that exclude each other are an impossible value. `many` says that the options are for more than one
    connection.
    """
    check_values({"host": host, "port": port}, _Server)
    if "/" in host or (":" in host and not _is_address(host.partition("%")[0])):
        raise ValueError(f"host is {host!r}: it must be a name or an IP address; the port is an argument of its own")
    if not 0 <= port < 65_536:
        raise ValueError(f"port is {port}: it must be at most 65535")
    check_options("an option of connect", options, _OPTIONS, HINTS)
    check_values(options, ConnectOptions, secret=("auth",))
    check_login(options.get("auth"), options.get("auth_mechanisms"))
    if not options.get("connect_timeout", CONNECT_TIMEOUT) > 0:
        raise ValueError(f"connect_timeout is {options['connect_timeout']}: it must be more than 0 seconds")
    if options.get("local_address") and options.get("path"):
        raise ValueError("local_address has no effect with path: a Unix socket has no IP address")
    if isinstance(options.get("sock"), ssl.SSLSocket):
        raise TypeError("sock has TLS already: give the socket below, and tls=TlsMode.IMPLICIT")
    given = [name for name in ("sock", "stream") if many and options.get(name) is not None]
    if given:
        raise ValueError(f"{given[0]} is a single connection, and more than one is needed here")
    ways = [name for name in ("sock", "stream", "path") if options.get(name) is not None]
    if len(ways) > 1 or (options.get("local_address") and ways):
        raise ValueError(f"{' and '.join([*ways, 'local_address'][:2])} exclude each other: give one way to connect")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False

    return True


def check_login(auth: LoginSource | None, mechanisms: Sequence[str] | None) -> None:
    """Raise `TypeError` or `ValueError` for a login that is not possible with any server."""
    check_values({"auth": auth, "auth_mechanisms": mechanisms}, ConnectOptions, secret=("auth",))
    for name in mechanisms or ():
        if name not in _MECHANISMS:
            raise ValueError(unknown_name(name, "a SASL mechanism", _MECHANISMS))
    if mechanisms and isinstance(auth, ClientMechanism | None):
        raise ValueError("auth_mechanisms has no effect without a name and a secret in auth")
