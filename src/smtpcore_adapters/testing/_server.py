"""A server in threads, for tests."""

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from smtpcore import EXTENSIONS, OFF_BY_DEFAULT, Bodies, Budgets, Config, check_fields

from .._names import check_options, unknown_name
from ..recipients import AnyRecipient, Recipients
from ..server._app import App
from ..server._limits import Limits, Timeouts
from ..server._listeners import Listener, listening
from ..socket import serving
from ..streams._stream import Address
from ..users import Users
from ._received import Inbox, Received
from .faults import Faults, parse_fault

if TYPE_CHECKING:
    import trustme

P = ParamSpec("P")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The options of a test server: arguments of `SmtpServer` and of the marker `smtp_server`."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 0
    """The port; 0 (the default) selects a free port."""
    hostname: str = "localhost"
    """The server's name in its replies."""
    tls: bool = False
    """Whether to offer STARTTLS, with a self-made certificate for localhost, 127.0.0.1 and ::1; by default false."""
    implicit_tls: bool = False
    """Whether TLS starts before the greeting; by default false."""
    require_tls: bool = False
    """Whether to refuse mail before STARTTLS; implies `tls`; by default false."""
    certificate: ssl.SSLContext | None = None
    """A TLS context that replaces the self-made certificate; implies `tls`."""
    auth: Mapping[str, str] | None = field(default=None, repr=False)
    """Passwords by user name; None (the default) for no AUTH. AUTH needs TLS if the server has TLS."""
    auth_mechanisms: tuple[str, ...] | None = None
    """The SASL mechanisms to offer; None (the default) for PLAIN, LOGIN, CRAM-MD5 and SCRAM-SHA-256, if there is
    `auth`."""
    require_auth: bool = False
    """Whether to refuse mail from clients that have not logged in; by default false."""
    accept: Iterable[str] | None = None
    """The addresses and domains of accepted recipients; None (the default) accepts all."""
    lmtp: bool = False
    """Whether to speak LMTP; by default SMTP."""
    max_size: int | None = None
    """The maximum octets of a message, at least 65,536; None for the default of `Config`."""
    extensions: Iterable[str] = ("DSN",)
    """Keywords of extensions to offer, in addition to the extensions that are on by default."""
    without: Iterable[str] = ()
    """Keywords of extensions to leave out."""
    faults: Iterable[str] = ()
    """The lines of a fault script; see `smtpcore_adapters.testing.faults`."""
    fault_seed: int | None = None
    """The seed of random faults, such as `RCPT 10% -> 451`; None (the default) for a random seed, which is logged."""
    handlers: Iterable[object] = ()
    """Objects with handlers of your own, which are called before the server's handlers."""
    timeout: float = 30.0
    """Seconds of silence after which the server disconnects a client; 30 by default."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)


def _with_fields_of(
    options: Callable[P, ServerOptions],
) -> Callable[[Callable[[S, Mapping[str, object]], None]], Callable[Concatenate[S, P], None]]:
    """Let a method take the fields of a dataclass as keyword arguments, so that type checkers know them."""

    def decorate(method: Callable[[S, Mapping[str, object]], None]) -> Callable[Concatenate[S, P], None]:
        def call(self: S, /, *args: P.args, **given: P.kwargs) -> None:
            if args:
                raise TypeError(f"the options of the test server are keyword arguments: {args[0]!r} has no name")
            method(self, given)

        call.__doc__ = method.__doc__
        return call

    return decorate


class SmtpServer:
    """A server in threads, with the fields of `ServerOptions` as arguments: `with SmtpServer(tls=True) as server:`.

    Entering the block raises `OSError` if listening fails, and `ImportError` if TLS is used without the package
    trustme.
    """

    @_with_fields_of(ServerOptions)
    def __init__(self, options: Mapping[str, object]) -> None:
        self.options: ServerOptions = _with(ServerOptions(), options)
        """The current options."""
        self.messages: Inbox = Inbox()
        """The received messages, oldest first."""
        self._stack = ExitStack()
        self._opened = ExitStack()
        self._sockets: list[socket.socket] = []
        """The listening sockets, which stay open while the server restarts, so that no other program takes the port."""
        self._address = Address("")

    def __enter__(self) -> Self:
        options = self.options
        with ExitStack() as opened:
            listeners = opened.enter_context(listening([Listener(options.port, options.host)]))
            opened.callback(self._stack.close)
            self._sockets = [each for each, _ in listeners]
            self._start()
            self._opened = opened.pop_all()
        return self

    def _start(self) -> None:
        options = self.options
        faults = None
        if options.faults:
            implicit_tls, seed = options.implicit_tls, options.fault_seed
            faults = Faults(*options.faults, trusted=False, implicit_tls=implicit_tls, seed=seed)
        app, config, context = self._app(faults), self._config(), self._context(faults)
        self._address = self._stack.enter_context(
            serving(
                app,
                listeners=[Listener(bound=self._stack.enter_context(each.dup())) for each in self._sockets],
                grace=1.0,
                config=config,
                tls=context,
                implicit_tls=options.implicit_tls,
                limits=_NO_LIMITS,
                budgets=Budgets(greeting=options.timeout, command=options.timeout, body=options.timeout),
                timeouts=Timeouts(close=0.5, auth_delay=0),
            )
        ).address

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    # Address and certificate

    @property
    def address(self) -> Address:
        """The address and port on which the server listens."""
        return self._address

    @property
    def host(self) -> str:
        """The address, without the port."""
        return self._address.host

    @property
    def port(self) -> int:
        """The port."""
        return self._address.port

    @property
    def client_context(self) -> ssl.SSLContext:
        """A TLS context for clients that trusts the server's self-made certificate."""
        # Not with the certificates of the system, which take longer to read than a session.
        return ssl.create_default_context(cadata=self.ca_pem.decode())

    @property
    def ca_pem(self) -> bytes:
        """The CA certificate of the self-made certificate in PEM, for clients that need a file."""
        return _authority().cert_pem.bytes()

    # Messages and options

    def wait_for(self, count: int = 1, timeout: float = 5.0) -> list[Received]:
        """Wait until there are `count` messages, and return all. Raise `TimeoutError` after `timeout` seconds."""
        return self.messages.wait_for(count, timeout)

    def reset(self) -> None:
        """Remove all messages."""
        self.messages.clear()

    @_with_fields_of(ServerOptions)
    def configure(self, options: Mapping[str, object]) -> None:
        """Restart the server on the same port with changed options. Messages are kept; open sessions end."""
        changed = _with(self.options, {"port": self.port, **options})
        is_moved = (changed.host, changed.port) != (self.options.host, self.port)
        self.options = changed
        with ExitStack() as stack:
            stack.enter_context(self._opened)  # closes the sockets if the server does not start again
            self._stack.close()
            if not is_moved:
                self._start()
                stack.pop_all()
        if is_moved:
            self.__enter__()

    def _app(self, faults: Faults | None) -> App[Any]:
        options = self.options
        app = App()
        if faults:
            app.include(faults)
        for handler in options.handlers:
            app.include(handler)
        if options.auth is not None:
            app.include(Users(options.auth))

        app.include(AnyRecipient() if options.accept is None else Recipients(options.accept))
        app.include(self.messages)
        return app

    def _config(self) -> Config:
        options = self.options
        config = Config(
            hostname=options.hostname,
            bodies=Bodies.CHUNKS,
            starttls=self._has_tls,
            require_tls=options.require_tls,
            lmtp=options.lmtp,
            auth_mechanisms=options.auth_mechanisms or (_MECHANISMS if options.auth is not None else ()),
            plaintext_auth=not self._has_tls,
            require_auth=options.require_auth,
            disabled=(OFF_BY_DEFAULT - frozenset(options.extensions)) | frozenset(options.without),
        )
        return config if options.max_size is None else replace(config, max_message_size=options.max_size)

    @property
    def _has_tls(self) -> bool:
        options = self.options
        return options.tls or options.implicit_tls or options.require_tls or options.certificate is not None

    def _context(self, faults: Faults | None) -> ssl.SSLContext | None:
        if not self._has_tls:
            return None
        if self.options.certificate is not None:
            context = self.options.certificate
        else:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            _certificate().configure_cert(context)

        if faults:
            self._stack.callback(setattr, context, "sni_callback", context.sni_callback)
            faults.apply_to(context, authority=_authority())
        return context


_MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")

_NO_LIMITS = Limits(
    connections_per_address=1000,
    auth_failures_per_hour=None,
    account_failures_per_hour=None,
    log_records_per_minute=None,
)
"""Limits that never slow down or refuse a test, although many connections or logins look like an attack."""


_LISTS = ("accept", "auth_mechanisms", "extensions", "faults", "handlers", "without")
"""Options that are lists. A text in place of a list would be taken as a list of letters."""


def _with(options: ServerOptions, changes: Mapping[str, object]) -> ServerOptions:
    check_options("an option of the test server", changes, [each.name for each in fields(ServerOptions)])
    for name in _LISTS:
        if isinstance(changes.get(name), str | bytes):
            raise TypeError(f"{name} needs a list: write {name}=[{changes[name]!r}]")

    keywords = {extension.keyword for extension in EXTENSIONS}
    changed = replace(options, **changes)  # type: ignore[arg-type]
    changed = replace(
        changed,
        extensions=tuple(changed.extensions),
        without=tuple(changed.without),
        faults=tuple(changed.faults),
    )
    for line in changed.faults:
        parse_fault(line)
    for keyword in (*changed.extensions, *changed.without):
        if keyword not in keywords:
            raise ValueError(unknown_name(keyword, "an extension", keywords))

    return changed


# Certificates are cached, because making one takes longer than most tests.


@cache
def _authority() -> "trustme.CA":
    import trustme

    return trustme.CA()


@cache
def _certificate() -> "trustme.LeafCert":
    return _authority().issue_cert("localhost", "127.0.0.1", "::1")
