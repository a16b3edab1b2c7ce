"""Accept connections for one server, in any framework, and run a session on each."""

# A framework accepts connections and runs tasks. The rest is the same for all frameworks: the options of a session, the
# limit of sessions, and the end of all sessions when the server stops.

import errno
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from ssl import SSLContext
from typing import Any, TypeAlias, TypedDict, Unpack

from smtpcore import EXTENSIONS, Budgets, Config, Connection, Reply, check_values

from .._names import check_options
from ..streams._stream import Address, Stream
from ..tls._info import forbid_unsafe_tickets, note_server_names
from ._app import App
from ._config import FOR_TRUSTED, HINTS, OPTIONS, Options, default_config, default_mechanisms, effective_config
from ._config_fields import check_given_once, config_fields, with_fields
from ._limits import Limits, Timeouts, fit_to_descriptors
from ._listeners import LOOPBACK, Listener
from ._peers import PeerTable
from ._session_loop import SessionLoop

logger = logging.getLogger("smtpcore")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is listening."""

    addresses: tuple[Address, ...]
    """The addresses of the listening sockets."""

    @property
    def address(self) -> Address:
        """The first address of `addresses`."""
        return self.addresses[0]


OnReady: TypeAlias = Callable[[Address], None] | None
"""A function to call with the first address of a server once the server listens; None for no call."""


OnStop: TypeAlias = Callable[[], float] | None
"""A function to call at a signal to stop, which returns the seconds for which the server still accepts connections."""


def seconds_to_drain(on_stop: OnStop) -> float:
    """Call `on_stop`, if given, and return the seconds for which the server still accepts connections."""
    return on_stop() if on_stop else 0.0


def announce(server: Server, on_ready: OnReady) -> None:
    """Call `on_ready`, if given, with the first address of the server."""
    if on_ready:
        on_ready(server.address)


@dataclass(frozen=True, slots=True)
class _ListenerSettings:
    """The options of the sessions of one listener."""

    config: Config
    tls: SSLContext | None
    implicit_tls: bool
    budgets: Budgets
    timeouts: Timeouts
    proxies: "_Peers"
    trusted: "_Peers"

    @property
    def config_of_trusted(self) -> Config:
        """The configuration for trusted peers: it offers XCLIENT and XFORWARD."""
        return replace(self.config, disabled=self.config.disabled - FOR_TRUSTED)


class _Arguments(TypedDict):
    app: App[Any]


def check_server_options(app: App[Any], options: Options) -> None:
    """Raise `TypeError` for an unknown option, or for a value of a wrong type."""
    check_options("an option of the server", options, {"port", *OPTIONS}, HINTS)
    check_values(options, Options)
    check_values({"app": app}, _Arguments)


class Acceptor:
    """Admits connections, and runs a session on each.

    `descriptors` is the number of file descriptors that each connection needs.
    """

    def __init__(self, app: App[Any], port: int = 0, *, descriptors: int = 1, **options: Unpack[Options]) -> None:
        check_server_options(app, options)
        self.listeners: tuple[Listener, ...] = _listeners(port, options)
        """The addresses to listen on."""
        self.grace: float = options.get("grace", 30.0)
        """Seconds from `drain` until the adapter cancels the remaining sessions."""
        if not self.grace >= 0:
            raise ValueError(f"grace is {self.grace}: it must be at least 0 seconds")

        self.clock: Callable[[], float] = time.monotonic
        """The clock of the sessions, in seconds."""
        self._app = app
        self._config = options.get("config")
        self._config_fields = config_fields(options)
        self._tls = options.get("tls")
        self._implicit_tls = options.get("implicit_tls", False)
        self._budgets = options.get("budgets") or Budgets()
        self._timeouts = options.get("timeouts") or Timeouts()
        self._extensions = tuple(options.get("extensions", EXTENSIONS))
        self._proxies = tuple(options.get("proxies", ()))
        self._trusted = tuple(options.get("trusted", ()))
        self._settings_of = {listener: self._settings(listener) for listener in self.listeners}
        limits = options.get("limits") or Limits()
        self._limits = fit_to_descriptors(limits, descriptors)
        self._peers = PeerTable(limits, options.get("counts"), self._limits.connections)
        self._loops: set[SessionLoop] = set()
        # All sessions share these methods: each access to a method makes an object.
        self._on_end = self._loops.discard
        self._on_exit = self._exit
        self.draining = False
        """Whether the server is stopping: `drain` was called."""
        self.exit: BaseException | None = None
        """The `SystemExit` or `KeyboardInterrupt` with which a handler has ended the server."""
        self.on_exit: Callable[[], object] = lambda: None
        """Called once when `exit` is set, to stop the server. With threads, it is called in the session's thread."""

    def _settings(self, listener: Listener) -> _ListenerSettings:
        tls = listener.tls or self._tls
        implicit_tls = self._implicit_tls if listener.implicit_tls is None else listener.implicit_tls
        if implicit_tls and tls is None:
            raise ValueError("implicit_tls needs an SSLContext: pass tls=...")
        if tls:
            forbid_unsafe_tickets(tls)
            note_server_names(tls)

        given = self._config_of(listener)
        config = effective_config(given, self._app, tls, self._extensions)
        Connection(config, extensions=self._extensions)  # a mistake is reported here, before any client connects
        proxies = _Peers.parse(self._proxies if listener.proxies is None else listener.proxies)
        if listener.path and listener.proxies and not proxies.unix:
            raise ValueError(f"clients of a Unix socket have no address: use proxies=[{_UNIX!r}] for {listener.path}")

        trusted = _Peers.parse(self._trusted if listener.trusted is None else listener.trusted)
        if (wanted := FOR_TRUSTED - given.disabled) and not (trusted.networks or trusted.unix):
            logger.warning(
                "no client is offered %s: name the peers with the option trusted", " or ".join(sorted(wanted))
            )
        budgets, timeouts = listener.budgets or self._budgets, listener.timeouts or self._timeouts
        return _ListenerSettings(config, tls, implicit_tls, budgets, timeouts, proxies, trusted)

    def _config_of(self, listener: Listener) -> Config:
        config = listener.config or self._config
        if config:
            check_given_once(config, self._config_fields)

        return with_fields(config or default_config(), self._config_fields, default_mechanisms(self._app))

    def session_for(self, stream: Stream, listener: Listener | None = None) -> Coroutine[Any, Any, None]:
        """Return a coroutine that runs the session of one connection to its end. The caller must run it.

        The only exceptions of the coroutine are those that cancel the session. `listener` is the listener that accepted
        the connection; by default the first one.
        """
        loop = self.loop_for(stream, listener or self.listeners[0])
        if len(self._loops) >= 2 * self._limits.connections:
            loop.reach("connections")  # sending refusals would use too many sockets
            return stream.aclose(0)

        self._loops.add(loop)
        if self.draining:  # checked after `add`: with threads, `drain` could otherwise miss the session
            loop.refuse(Reply(421, "closing: the server is shutting down", enhanced="4.3.2"))

        return loop.run()

    def loop_for(self, stream: Stream, listener: Listener) -> SessionLoop:
        """Return the session of one connection. The caller must run it. The limit of sessions is not checked."""
        settings = self._settings_of[listener]
        is_proxy = stream.peer in settings.proxies
        is_trusted = not is_proxy and stream.peer in settings.trusted
        return SessionLoop(
            self._app,
            stream,
            self._app.configure_session(settings.config_of_trusted if is_trusted else settings.config),
            extensions=self._extensions,
            budgets=settings.budgets,
            timeouts=settings.timeouts,
            limits=self._limits,
            peers=self._peers,
            tls=settings.tls,
            implicit_tls=settings.implicit_tls,
            proxied=is_proxy,
            trusted=is_trusted,
            listener=listener,
            on_end=self._on_end,
            on_exit=self._on_exit,
            clock=self.clock,
        )

    def _exit(self, exc: BaseException) -> None:
        if not self.exit:
            self.exit = exc
            self.on_exit()

    def drain(self) -> None:
        """Ask every session to end: at once if it waits for a command, otherwise before the next command."""
        self.draining = True
        for loop in tuple(self._loops):  # a copy: threads may add and remove sessions meanwhile
            loop.drain()


def _listeners(port: int, options: Options) -> tuple[Listener, ...]:
    if "listeners" not in options:
        return (Listener(port, options.get("host", LOOPBACK)),)
    if port or "host" in options:
        raise ValueError("listeners have ports and hosts of their own: leave port and host out")

    listeners = tuple(options["listeners"])
    if not listeners:
        raise ValueError("listeners is empty: the server would listen nowhere")

    return listeners


@dataclass(frozen=True, slots=True)
class _Peers:
    """A set of peers that an option such as `trusted` names."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    unix: bool
    """Whether the set contains every client of a Unix socket: such clients have no addresses."""

    @classmethod
    def parse(cls, peers: Iterable[str]) -> "_Peers":
        """Return the set of the given addresses and networks, and of the clients of Unix sockets for `"unix"`."""
        texts = frozenset(peers)
        return cls(tuple(ip_network(text) for text in texts - {_UNIX}), _UNIX in texts)

    def __contains__(self, peer: Address | None) -> bool:
        if not peer or not peer.port:
            return self.unix
        if not self.networks:
            return False

        address = ip_address(peer.host)
        return any(address in network for network in self.networks)


_UNIX = "unix"


def pause_after_accept_error(error: OSError) -> float:
    """Log that a connection could not be accepted, and return the seconds to wait before the next attempt."""
    # If file descriptors or memory have run out, a pause gives other sessions time to end. All other errors are caused
    # by the client: they must neither slow down other clients, nor fill the log.
    is_exhausted = error.errno in _EXHAUSTED
    logger.log(logging.ERROR if is_exhausted else logging.DEBUG, "a connection could not be accepted: %s", error)
    return _PAUSE if is_exhausted else 0.0


_PAUSE = 1.0  # seconds
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
