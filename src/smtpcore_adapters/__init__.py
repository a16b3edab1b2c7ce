"""Sockets under `smtpcore`, and a program's functions on top of it.

Each framework has a module of its own, which is the only one to import it: `smtpcore_adapters.asyncio` and
`smtpcore_adapters.anyio`.
"""

from ._app import App
from ._limits import Limits, Timeouts
from ._lobby import Options, Server, default_config
from ._notices import (
    DROP,
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
from ._session import Message, MessageAborted, Session, SessionLoop
from ._stream import Address, Interrupted, Stream, Tls

__all__ = [
    "DROP",
    "Address",
    "App",
    "Drop",
    "HandlerDone",
    "Happening",
    "Interrupted",
    "LimitReached",
    "Limits",
    "Message",
    "MessageAborted",
    "Notice",
    "Options",
    "Reason",
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
    "default_config",
]
