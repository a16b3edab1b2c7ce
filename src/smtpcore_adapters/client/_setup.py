"""Set up a session before its messages: PROXY header, greeting, EHLO, TLS and login."""

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from smtpcore import EXTENSIONS, Extension, RemoteProtocolError, Reply, StartTls
from smtpcore.sasl import Channel

from ._driver import ClientDriver, say_hello
from ._login import LoginSource, log_in
from ._naming import name
from ._options import ConnectOptions, TlsMode
from ._results import Refused

PLAINTEXT = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""The reasons of an `ssl.SSLError` if the server answers in plaintext."""


class Setup:
    """The steps before the first message. TLS and the login may also follow on demand."""

    def __init__(self, driver: ClientDriver, host: str, port: int, server: str, options: ConnectOptions) -> None:
        self._port = port
        self._options = options
        self.driver: ClientDriver = driver
        """The driver of the connection."""
        self.host: str = host
        """The host that was connected to."""
        self.server: str = server
        """The name of the server in errors, such as "mail.example.org:25"."""
        self.known: Sequence[Extension] = options.get("extensions", EXTENSIONS)
        """The extensions that the client can use."""
        self.is_verified: bool = False
        """Whether TLS is active and the server's certificate was verified for `host`."""

    async def begin(self) -> Reply:
        """Do all steps that the options ask for, and return the greeting. `connected` documents the errors."""
        with self._naming_errors():
            return await self._begin()

    async def _begin(self) -> Reply:
        driver, options = self.driver, self._options
        mode = options["tls"]
        proxy = options.get("proxy")
        if proxy:
            await driver.stream.send(proxy.encode(), driver.connection.budgets.send)

        if driver.stream.tls:
            self.is_verified = driver.stream.tls.peer_certificate is not None
        elif mode is TlsMode.IMPLICIT:
            await self._begin_in_tls()

        greeting = await self._read_greeting(may_need_tls=driver.stream.tls is None)
        _require_positive(greeting, "the server refuses the connection in its greeting")
        await self._say_hello()
        if mode is not TlsMode.NONE and not driver.connection.tls:
            await self._secure(is_required=mode is TlsMode.REQUIRED)
        if login := options.get("auth"):
            await self.log_in(login, options.get("auth_mechanisms"))

        return greeting

    async def _begin_in_tls(self) -> None:
        try:
            await self._shake_hands(self._options.get("context"))
        except ssl.SSLError as exc:
            if exc.reason in PLAINTEXT:
                exc.add_note("This port speaks plaintext first: try tls=TlsMode.REQUIRED, for STARTTLS.")
            raise

    async def _read_greeting(self, *, may_need_tls: bool) -> Reply:
        try:
            return await self.driver.read_greeting()
        except TimeoutError as exc:
            if may_need_tls:
                exc.add_note("If this port speaks TLS from the start, use tls=TlsMode.IMPLICIT.")
            raise

    async def _secure(self, *, is_required: bool) -> None:
        if is_required or "STARTTLS" in self.driver.connection.extensions:
            try:
                await self.start_tls(self._options.get("context"))
            except Refused:
                if is_required or not self.driver.is_open or self.driver.connection.tls:
                    raise

    async def start_tls(self, context: ssl.SSLContext | None = None) -> None:
        """Send STARTTLS, do the handshake, and send EHLO again.

        Raises:
            Refused: the server does not offer STARTTLS, or refuses it; or it refuses EHLO after the handshake.
        """
        with self._naming_errors():
            await self._start_tls(context)

    async def _start_tls(self, context: ssl.SSLContext | None) -> None:
        if not self.driver.connection.tls and "STARTTLS" not in self.driver.connection.extensions:
            raise Refused("the server does not offer STARTTLS")

        reply = await self.driver.ask(StartTls())
        if not reply.is_positive:
            raise Refused("the server refuses STARTTLS", reply)

        await self._shake_hands(context or self._options.get("context"))
        await self._say_hello(" after STARTTLS")  # RFC 3207 4.2

    async def _say_hello(self, when: str = "") -> None:
        reply = await say_hello(self.driver)
        _require_positive(reply, f"the server refuses {self.driver.last_verb}{when}")

    async def log_in(self, login: LoginSource, mechanisms: Sequence[str] | None) -> Reply:
        """Authenticate with one of `mechanisms`, or with any mechanism for None, and return the 235."""
        tls, host = self.driver.stream.tls, _without_dot(self.host)
        bindings = tls.bindings if tls else ()
        channel = Channel(tls=self.is_verified, bindings=bindings, host=host or None, port=self._port or None)
        plaintext_auth = self._options.get("plaintext_auth", False)
        with self._naming_errors():
            return await log_in(self.driver, login, channel, names=mechanisms, plaintext_auth=plaintext_auth)

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except (Refused, RemoteProtocolError) as exc:
            name(exc, self.server)
            raise

    async def _shake_hands(self, given: ssl.SSLContext | None) -> None:
        # A thread makes the default context: loading its certificates would block an event loop for many milliseconds.
        context: ssl.SSLContext = given if given else await self.driver.stream.run_blocking(_default_context)
        await self.driver.start_tls(context, _without_dot(self.host))
        self.is_verified = context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def _without_dot(host: str) -> str:
    """Return the name of the server for TLS and SASL.

    RFC 6066 section 3: this name has no final dot. The zone of an IPv6 address has a meaning only on this machine.
    """
    return host.partition("%")[0].removesuffix(".")


def _default_context() -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    return _make_context(tuple((path, os.stat(path).st_mtime_ns) for path in (paths.cafile, paths.capath) if path))


@lru_cache(maxsize=1)
def _make_context(certificates: tuple[tuple[str, int], ...]) -> ssl.SSLContext:
    """Return the default context. The cache returns the same context until the system's `certificates` change."""
    return ssl.create_default_context()


def _require_positive(reply: Reply, what: str) -> None:
    if not reply.is_positive:
        raise Refused(what, reply)
