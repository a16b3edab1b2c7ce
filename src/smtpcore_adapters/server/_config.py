"""The options of a server, and the configuration that follows from them."""

import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ssl import SSLContext
from typing import TypedDict

from smtpcore import Bodies, Config, Extension, LocalProtocolError

from ..tls._channel_binding import ServerContext
from ._app import App
from ._authentication import check_mechanisms
from ._limits import Limits, Timeouts
from ._listeners import Listener

logger = logging.getLogger("smtpcore")


class Options(TypedDict, total=False):
    """The options that every adapter's `serve`, `serving` and `run` take."""

    host: str | None
    """The address to listen on, `"127.0.0.1"` by default. A host name stands for all of its addresses; None, `""` and
    `"::"` stand for every address of the machine, IPv6 and IPv4."""
    grace: float
    """Seconds that sessions have to end when the server stops, 30 by default. After that they are cancelled."""
    config: Config
    """How the protocol is spoken; by default as `default_config` has it."""
    extensions: Sequence[Extension]
    """The extensions that there are: `(*smtpcore.EXTENSIONS, yours)` adds one."""
    tls: SSLContext | None
    """With one, STARTTLS is offered. Its minimum version should be TLS 1.2, as `ssl` has it."""
    implicit_tls: bool
    """Whether TLS comes before the greeting (RFC 8314 section 3.3)."""
    timeouts: Timeouts
    """How long a session waits for what."""
    limits: Limits
    """How much is asked of the server at most."""
    proxies: Iterable[str]
    """Addresses and networks of the proxies that begin each connection with a PROXY header. They are believed in what
    they say of the client, and `Limits` hold for the client that they speak for."""
    trusted: Iterable[str]
    """Addresses and networks of the peers that may speak for others: to them, and to no one else, XCLIENT and XFORWARD
    are offered. Who comes by way of `proxies` is not among them."""
    listeners: Iterable[Listener]
    """Where to listen, in place of a port and a host: one server may have several listeners."""


def default_config() -> Config:
    """A configuration with the name of this machine, and bodies in chunks."""
    try:
        return Config(hostname=platform.node(), bodies=Bodies.CHUNKS)
    except LocalProtocolError:
        return Config(hostname="localhost", bodies=Bodies.CHUNKS)


def effective_config(config: Config, app: App, tls: SSLContext | None) -> Config:
    """The configuration of a server of `app`."""
    # What is offered is what there is: TLS with a context, EXPN, ETRN, BURL and AUTH with a handler.
    handled = {verb for verb in ("EXPN", "ETRN") if app.handles(verb)}
    if app.handles("BURL") and config.burl:
        handled.add("BURL")
    missing = FOR_TRUSTED | ({"BURL"} - handled)
    mechanisms = (config.auth_mechanisms or _DEFAULT_MECHANISMS) if app.handles("auth") else ()
    check_mechanisms(mechanisms)
    fitting = replace(
        config,
        tls=tls is not None,
        disabled=(config.disabled - handled) | missing,
        auth_mechanisms=tuple(name for name in mechanisms if not name.endswith("-PLUS") or _can_be_bound_to(tls)),
    )
    return app.configure(fitting)


def _can_be_bound_to(tls: SSLContext | None) -> bool:
    if isinstance(tls, ServerContext) and tls.binding:
        return True

    logger.warning("no -PLUS mechanism is offered: it needs an SSLContext of smtpcore_adapters.tls")
    return False


FOR_TRUSTED = frozenset({"XCLIENT", "XFORWARD"})


_DEFAULT_MECHANISMS = ("PLAIN", "LOGIN")  # those that any store of passwords can serve
