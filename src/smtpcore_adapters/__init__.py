"""Servers and clients for real sockets, built on `smtpcore`. A server calls your handlers.

Each framework has a module, and only that module imports the framework: `smtpcore_adapters.asyncio`,
`smtpcore_adapters.trio` and `smtpcore_adapters.anyio`. `smtpcore_adapters.socket` uses threads and no framework.
"""

from smtpcore import show_texts

from .client._blocking import BlockingClient
from .client._blocking_pool import BlockingPool
from .client._client import Client, Unsendable
from .client._connecting import connected, open_client
from .client._envelope import Recipient, Recipients, Sender, SendOptions
from .client._login import AuthenticationRefused, BearerToken, Login, LoginSource
from .client._options import ConnectOptions, TlsMode
from .client._pool import Pool
from .client._results import Disconnected, Outcome, RecipientsRefused, Refused, SendResult
from .client._sources import Body
from .server._acceptor import Server
from .server._app import App
from .server._background import RunningServer
from .server._config import Options, default_config
from .server._counts import Counts, RateLimit, RemoteCounts
from .server._header import Header
from .server._limits import Limits, Timeouts
from .server._listeners import Listener, inherited_sockets
from .server._mechanisms import AuthAborted, MechanismExchange
from .server._message import Message, MessageAborted
from .server._notifications import (
    DROP,
    AbortConnection,
    AtOnce,
    Author,
    Decider,
    Drop,
    HandlerDone,
    LimitReached,
    Notice,
    Observed,
    OctetsSent,
    Reason,
    Refusal,
    SessionClosed,
    SessionOpened,
    TlsEstablished,
    TlsFailed,
)
from .server._session import Session
from .server._session_loop import SessionLoop
from .streams._stream import Address, Interrupted, Stream
from .tls._info import Certificate, Tls

__all__ = [
    "DROP",
    "AbortConnection",
    "Address",
    "App",
    "AtOnce",
    "AuthAborted",
    "AuthenticationRefused",
    "Author",
    "BearerToken",
    "BlockingClient",
    "BlockingPool",
    "Body",
    "Certificate",
    "Client",
    "ConnectOptions",
    "Counts",
    "Decider",
    "Disconnected",
    "Drop",
    "HandlerDone",
    "Header",
    "Interrupted",
    "LimitReached",
    "Limits",
    "Listener",
    "Login",
    "LoginSource",
    "MechanismExchange",
    "Message",
    "MessageAborted",
    "Notice",
    "Observed",
    "OctetsSent",
    "Options",
    "Outcome",
    "Pool",
    "RateLimit",
    "Reason",
    "Recipient",
    "Recipients",
    "RecipientsRefused",
    "Refusal",
    "Refused",
    "RemoteCounts",
    "RunningServer",
    "SendOptions",
    "SendResult",
    "Sender",
    "Server",
    "Session",
    "SessionClosed",
    "SessionLoop",
    "SessionOpened",
    "Stream",
    "Timeouts",
    "Tls",
    "TlsEstablished",
    "TlsFailed",
    "TlsMode",
    "Unsendable",
    "connected",
    "default_config",
    "inherited_sockets",
    "open_client",
]

show_texts(globals())
