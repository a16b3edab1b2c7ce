"""A server in threads, for tests."""

import ssl
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from smtpcore import OFF_BY_DEFAULT, Bodies, Config

from ..recipients import AnyRecipient, Recipients
from ..server._app import App
from ..server._limits import Limits, Timeouts
from ..socket import serving
from ..streams._stream import Address
from ..users import Users
from ._received import Inbox, Received
from .faults import Faults

if TYPE_CHECKING:
    import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server for tests does. All of these are arguments of `SmtpServer`, and of the marker `smtp_server`."""

    host: str = "127.0.0.1"
    """The address to listen at."""
    port: int = 0
    """The port; 0 picks a free one."""
    hostname: str = "localhost"
    """How the server names itself."""
    tls: bool = False
    """Whether STARTTLS is offered, with a certificate for localhost, 127.0.0.1 and ::1."""
    implicit_tls: bool = False
    """Whether the connection begins with TLS."""
    require_tls: bool = False
    """Whether no mail is taken before STARTTLS; implies `tls`."""
    certificate: ssl.SSLContext | None = None
    """A context of your own, in place of the made up certificate; implies `tls`."""
    auth: Mapping[str, str] | None = None
    """Users with their passwords. AUTH is offered without TLS, too, unless TLS is."""
    auth_mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256")
    """How they may prove who they are."""
    require_auth: bool = False
    """Whether mail is taken from them only."""
    accept: Iterable[str] | None = None
    """Addresses and domains for which mail is taken; for all if None."""
    lmtp: bool = False
    """Whether LMTP is spoken."""
    max_size: int | None = None
    """Octets of a message, announced by SIZE, at least 65,536."""
    extensions: Iterable[str] = ("DSN",)
    """Extensions that are offered though they are off by default."""
    without: Iterable[str] = ()
    """Extensions that are not offered."""
    faults: Iterable[str] = ()
    """A fault script: see `smtpcore_adapters.testing.faults`."""
    handlers: Iterable[object] = ()
    """Objects with handlers of your own, which are asked before those of the server."""
    timeout: float = 30.0
    """Seconds that the server waits for a silent client."""


class SmtpServer:
    """A server in threads: `with SmtpServer(tls=True) as server:`, with the arguments of `ServerOptions`.

    Raises `OSError` if the address cannot be listened at, and `ImportError` if TLS is asked for without trustme.
    """

    def __init__(self, **options: object) -> None:
        self.options: ServerOptions = _with(ServerOptions(), options)
        """What it does."""
        self.messages: Inbox = Inbox()
        """What it has received, oldest first."""
        self._stack = ExitStack()
        self._address = Address("")

    def __enter__(self) -> Self:
        options = self.options
        self._address = self._stack.enter_context(
            serving(
                self._app(),
                options.port,
                host=options.host,
                grace=1.0,
                config=self._config(),
                tls=self._context(),
                implicit_tls=options.implicit_tls,
                limits=_NO_LIMITS,
                timeouts=Timeouts(greeting=options.timeout, command=options.timeout, body=options.timeout, close=0.5),
            )
        ).address
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    # Where it is

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._address

    @property
    def host(self) -> str:
        """The address as text."""
        return self._address.host

    @property
    def port(self) -> int:
        """The port."""
        return self._address.port

    @property
    def client_context(self) -> ssl.SSLContext:
        """What a client needs to trust the made up certificate."""
        context = ssl.create_default_context()
        _authority().configure_trust(context)
        return context

    @property
    def ca_pem(self) -> bytes:
        """The certificate of the made up authority, for clients that want a file."""
        return _authority().cert_pem.bytes()

    # What it has, and does

    def wait_for(self, count: int = 1, timeout: float = 5.0) -> list[Received]:
        """Wait until `count` messages have come, and return all. Raises `TimeoutError` after `timeout` seconds."""
        return self.messages.wait_for(count, timeout)

    def reset(self) -> None:
        """Forget all messages."""
        self.messages.clear()

    def configure(self, **options: object) -> None:
        """Change some options of a running server, at the same address. Sessions are ended; messages are kept."""
        self.options = _with(self.options, {"port": self.port, **options})
        self._stack.close()
        self.__enter__()

    def _app(self) -> App:
        options = self.options
        app = App()
        if faults := tuple(options.faults):
            app.include(Faults(*faults))
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
            tls=self._has_tls,
            require_tls=options.require_tls,
            lmtp=options.lmtp,
            auth_mechanisms=options.auth_mechanisms if options.auth is not None else (),
            plaintext_auth=not self._has_tls,
            require_auth=options.require_auth,
            disabled=(OFF_BY_DEFAULT - frozenset(options.extensions)) | frozenset(options.without),
        )
        return config if options.max_size is None else replace(config, max_message_size=options.max_size)

    @property
    def _has_tls(self) -> bool:
        options = self.options
        return options.tls or options.implicit_tls or options.require_tls or options.certificate is not None

    def _context(self) -> ssl.SSLContext | None:
        if not self._has_tls:
            return None
        if self.options.certificate is not None:
            return self.options.certificate

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _certificate().configure_cert(context)
        return context


_NO_LIMITS = Limits(
    connections_per_address=1000, auth_delay=0, auth_failures_per_hour=None, log_records_per_minute=None
)
"""Tests are not attacks, though they look like ones."""


def _with(options: ServerOptions, changes: Mapping[str, object]) -> ServerOptions:
    known = [each.name for each in fields(ServerOptions)]
    for name in changes:
        if name not in known:
            raise TypeError(f"{name!r} is no option of the server: use one of {', '.join(known)}")

    return replace(options, **changes)  # type: ignore[arg-type]


# To make a certificate takes longer than most tests.


@cache
def _authority() -> "trustme.CA":
    import trustme

    return trustme.CA()


@cache
def _certificate() -> "trustme.LeafCert":
    return _authority().issue_cert("localhost", "127.0.0.1", "::1")
