"""The sessions of one server, whatever the framework under them."""

# A framework accepts connections and runs tasks; who may come in, what a session is made of, and how all of them are
# asked to leave, is decided here once.

import errno
import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from ssl import SSLContext
from typing import TypedDict

from smtpcore import EXTENSIONS, Bodies, Config, Connection, Extension, LocalProtocolError, Reply

from ._app import App
from ._authentication import check_mechanisms
from ._binding import ServerContext
from ._clients import Clients
from ._limits import Limits, Timeouts
from ._session import SessionLoop
from ._stream import Address, Stream

logger = logging.getLogger("smtpcore")


class Options(TypedDict, total=False):
    """The options that every adapter's `serve` and `serving` take."""

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


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is listening."""

    addresses: tuple[Address, ...]
    """Where it listens."""

    @property
    def address(self) -> Address:
        """The first of the addresses where it listens."""
        return self.addresses[0]


def default_config() -> Config:
    """A configuration with the name of this machine, and bodies in chunks."""
    try:
        return Config(hostname=platform.node(), bodies=Bodies.CHUNKS)
    except LocalProtocolError:
        return Config(hostname="localhost", bodies=Bodies.CHUNKS)


class Lobby:
    """Admits connections, and runs a session on each."""

    def __init__(
        self,
        app: App,
        *,
        config: Config | None = None,
        extensions: Sequence[Extension] = EXTENSIONS,
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        proxies: Iterable[str] = (),
        trusted: Iterable[str] = (),
    ) -> None:
        if implicit_tls and tls is None:
            raise ValueError("implicit_tls needs an SSLContext: pass tls=...")

        self._app = app
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._config = _fit(config or default_config(), app, tls)
        self._extensions = tuple(extensions)
        Connection(self._config, extensions=self._extensions)  # raises now what would else be raised for each client
        self._timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._proxies = tuple(ip_network(proxy) for proxy in proxies)
        self._trusted = tuple(ip_network(peer) for peer in trusted)
        self._config_of_trusted = replace(self._config, disabled=self._config.disabled - _FOR_TRUSTED)
        self._clients = Clients(self._limits)
        self._loops: set[SessionLoop] = set()
        self.draining = False
        """Whether the sessions were asked to end."""

    async def attend(self, stream: Stream) -> None:
        """Run the session of one connection to its end. Raises nothing but what cancels it."""
        is_proxy = _is_in(self._proxies, stream.peer)
        is_trusted = not is_proxy and _is_in(self._trusted, stream.peer)
        loop = SessionLoop(
            self._app,
            stream,
            self._config_of_trusted if is_trusted else self._config,
            extensions=self._extensions,
            timeouts=self._timeouts,
            limits=self._limits,
            clients=self._clients,
            tls=self._tls,
            implicit_tls=self._implicit_tls,
            proxied=is_proxy,
            trusted=is_trusted,
        )
        if len(self._loops) >= 2 * self._limits.connections:
            loop.reach("connections")  # too many are being refused already
            await stream.aclose(0)
            return
        if self.draining:
            loop.refuse(Reply(421, "closing: the server is shutting down", enhanced="4.3.2"))

        self._loops.add(loop)
        try:
            await loop.run()
        finally:
            self._loops.discard(loop)

    def drain(self) -> None:
        """Ask every session to end: those that wait for a command at once, the others before their next one."""
        self.draining = True
        for loop in self._loops:
            loop.drain()


def _is_in(networks: Iterable[IPv4Network | IPv6Network], peer: Address | None) -> bool:
    if not networks or not peer:
        return False

    try:
        address = ip_address(peer.host)
    except ValueError:
        return False  # a Unix socket

    return any(address in network for network in networks)


def _fit(config: Config, app: App, tls: SSLContext | None) -> Config:
    # What is offered is what there is: TLS with a context, EXPN, ETRN, BURL and AUTH with a handler.
    handled = {verb for verb in ("EXPN", "ETRN") if app.handles(verb)}
    if app.handles("BURL") and config.burl:
        handled.add("BURL")
    missing = _FOR_TRUSTED | ({"BURL"} - handled)
    mechanisms = (config.auth_mechanisms or _DEFAULT_MECHANISMS) if app.handles("auth") else ()
    check_mechanisms(mechanisms)
    return replace(
        config,
        tls=tls is not None,
        disabled=(config.disabled - handled) | missing,
        auth_mechanisms=tuple(name for name in mechanisms if not name.endswith("-PLUS") or _can_be_bound_to(tls)),
    )


def _can_be_bound_to(tls: SSLContext | None) -> bool:
    if isinstance(tls, ServerContext) and tls.binding:
        return True

    logger.warning("no -PLUS mechanism is offered: it needs an SSLContext of smtpcore_adapters.tls")
    return False


_FOR_TRUSTED = frozenset({"XCLIENT", "XFORWARD"})
_DEFAULT_MECHANISMS = ("PLAIN", "LOGIN")  # those that any store of passwords can serve


def pause_after_accept_error(error: OSError) -> float:
    """Log that a connection could not be accepted, and tell for how many seconds no other should be tried."""
    # Where the machine has run out of something it takes time to get it back. Anything else is the client's doing,
    # which must neither slow down the others, nor fill the log.
    is_exhausted = error.errno in _EXHAUSTED
    logger.log(logging.ERROR if is_exhausted else logging.DEBUG, "a connection could not be accepted: %s", error)
    return 1.0 if is_exhausted else 0.0


_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
