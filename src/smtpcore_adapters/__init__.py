"""Sockets under `smtpcore`, and a program's functions on top of it.

Each framework has a module of its own, which is the only one to import it: `smtpcore_adapters.asyncio` and
`smtpcore_adapters.anyio`.
"""

from ._app import App
from ._limits import Limits, Timeouts
from ._lobby import Options, Server, default_config
from ._session import Message, MessageAborted, Session, SessionLoop
from ._stream import Address, Interrupted, Stream, Tls

__all__ = [
    "Address",
    "App",
    "Interrupted",
    "Limits",
    "Message",
    "MessageAborted",
    "Options",
    "Server",
    "Session",
    "SessionLoop",
    "Stream",
    "Timeouts",
    "Tls",
    "default_config",
]
