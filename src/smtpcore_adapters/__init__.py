"""Sockets under `smtpcore`, and a program's functions on top of it.

Each framework has a module of its own, which is the only one to import it: `smtpcore_adapters.asyncio`,
`smtpcore_adapters.trio` and `smtpcore_adapters.anyio`. `smtpcore_adapters.socket` does without any, in threads.
"""

from ._app import App
from ._blocking import BlockingClient
from ._bodies import Body
from ._client_timeouts import ClientTimeouts
from ._envelopes import Recipient, Sender, SendOptions
from ._limits import Limits, Timeouts
from ._listeners import Listener, inherited_sockets
from ._lobby import Options, Server, default_config
from ._login import AuthenticationRefused, Login
from ._loop import SessionLoop
from ._mailer import Client, ConnectOptions, TlsMode, Unsendable
from ._message import Message, MessageAborted
from ._notices import (
    DROP,
    Abandon,
    Drop,
    HandlerDone,
    Happening,
    LimitReached,
    Notice,
    Reason,
    SessionClosed,
    SessionOpened,
    TlsEstablished,
    TlsFailed,
)
from ._results import Disconnected, Refused, SendResult
from ._session import Session
from .streams._stream import Address, Interrupted, Stream
from .tls._info import Certificate, Tls

__all__ = [
    "DROP",
    "Abandon",
    "Address",
    "App",
    "AuthenticationRefused",
    "BlockingClient",
    "Body",
    "Certificate",
    "Client",
    "ClientTimeouts",
    "ConnectOptions",
    "Disconnected",
    "Drop",
    "HandlerDone",
    "Happening",
    "Interrupted",
    "LimitReached",
    "Limits",
    "Listener",
    "Login",
    "Message",
    "MessageAborted",
    "Notice",
    "Options",
    "Reason",
    "Recipient",
    "Refused",
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
    "default_config",
    "inherited_sockets",
]
