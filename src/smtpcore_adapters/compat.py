"""Run handler objects that were written for aiosmtpd: `app.include(AiosmtpdHandler(handler))`."""

# aiosmtpd calls `handle_RCPT(server, session, envelope, address, options)` and the like of one object, and sends the
# text that these functions return. The first three arguments are made here, once for each session:
#
#     server    `AiosmtpdServer`: the name of the host, `push` and `challenge_auth`
#     session   `AiosmtpdSession`: the client's address, its HELO, and its login
#     envelope  `AiosmtpdEnvelope`: the sender, the recipients and the content of one message, new after each message
#
# A handler of aiosmtpd records sender and recipients in the envelope itself, if it has a function for MAIL or RCPT. If
# the envelope lacks them, later commands are out of sequence, as in aiosmtpd.

import logging
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import getmembers, isawaitable, signature
from typing import Any, NamedTuple

from smtpcore import (
    Connection,
    Data,
    Ehlo,
    Helo,
    Lhlo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reply,
    Rset,
    Signal,
    Vrfy,
    show_texts,
)

from .server._mechanisms import MechanismExchange
from .server._message import Message
from .server._notifications import Reason
from .server._session import Session
from .streams._stream import Address
from .tls._info import Tls

_logger = logging.getLogger("smtpcore")

_OK = Reply(250, "OK")
_INSECURE = Reply(554, "Command refused due to lack of security")
_NO_HELLO = Reply(503, "Error: send HELO first")
_NO_MAIL = Reply(503, "Error: need MAIL command")
_NO_RECIPIENTS = Reply(503, "Error: need RCPT command")


class LoginPassword(NamedTuple):
    """The credentials that an authenticator gets for PLAIN and LOGIN."""

    login: bytes
    """The user name."""
    password: bytes
    """The password."""

    def __repr__(self) -> str:
        return f"LoginPassword(login={self.login!r}, password=...)"


@dataclass(kw_only=True, slots=True)
class AuthResult:
    """The result of an authenticator, or of an `auth_` function. The class of aiosmtpd may be used as well."""

    success: bool
    """Whether the client is authenticated."""
    handled: bool = True
    """Whether the function has sent the refusal itself, with `server.push`."""
    message: str | None = None
    """The refusal, for example `"454 4.7.0 Later"`, if it was not sent; by default a 535."""
    auth_data: Any = field(default=None, repr=False)
    """Any object, for `session.auth_data`. The attribute `login` of this object is the name of the user."""


class AiosmtpdSession:
    """The session argument of a handler."""

    def __init__(self, peer: tuple[Any, ...] | str | None, tls: Tls | None) -> None:
        self.peer: Any = peer
        """The client's address as asyncio gives it: host and port, for IPv6 also flow and scope."""
        self.ssl: dict[str, Any] | None = {"cipher": (tls.cipher, tls.version, None), "tls": tls} if tls else None
        """The results of the TLS handshake; None without TLS."""
        self.host_name: str | None = None
        """The name in HELO or EHLO. A handler that has a function for HELO or EHLO sets this itself."""
        self.extended_smtp: bool = False
        """Whether the client has sent EHLO."""
        self.authenticated: bool | None = None
        """Whether the client is authenticated."""
        self.auth_data: Any = None
        """The `auth_data` in the result of the authenticator."""
        self.login_data: Any = None
        """The user name, as octets for PLAIN and LOGIN."""
        self.proxy_data: Any = None
        """Always None: the address in a PROXY header is in `peer`."""

    @property
    def loop(self) -> Any:
        """The running event loop of asyncio."""
        return _running_loop()


class AiosmtpdEnvelope:
    """The envelope argument of a handler: the message that is being received."""

    def __init__(self) -> None:
        self.mail_from: str | None = None
        """The sender, `"<>"` for the null path."""
        self.mail_options: list[str] = []
        """The parameters of MAIL, in upper case."""
        self.smtp_utf8: bool = False
        """Whether the client has sent the parameter SMTPUTF8."""
        self.content: bytes | str | None = None
        """The message; text if `decode_data` is set."""
        self.original_content: bytes | None = None
        """The octets of the message."""
        self.rcpt_tos: list[str] = []
        """The recipients."""
        self.rcpt_options: list[str] = []
        """The parameters of all RCPT commands, in upper case."""


class AiosmtpdTransport:
    """The transport of an `AiosmtpdServer`, with the methods that handlers call."""

    def __init__(self, session: Session[Any]) -> None:
        self._session = session
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the addresses of the connection, as `"peername"` and `"sockname"`."""
        ends = {"peername": self._session.peer, "sockname": self._session.local}
        return _as_tuple(ends[name]) if name in ends else default

    def is_closing(self) -> bool:
        """Return whether the handler has closed the connection."""
        return self._is_closing

    def close(self) -> None:
        """Close the connection, after the reply of the handler that runs now."""
        self._is_closing = True
        self._session.drop()

    abort = close


class AiosmtpdServer:
    """The server argument of a handler."""

    def __init__(self, session: Session[Any], handler: object) -> None:
        config = session.config
        self.event_handler: object = handler
        """The handler object."""
        self.hostname: str = config.hostname
        """The name of the server."""
        self.data_size_limit: int | None = config.max_message_size
        """The maximum octets of a message."""
        self.enable_SMTPUTF8: bool = "SMTPUTF8" not in config.disabled
        """Whether the server offers SMTPUTF8."""
        self.transport: AiosmtpdTransport = AiosmtpdTransport(session)
        """The connection."""
        self.session: AiosmtpdSession = AiosmtpdSession(_as_tuple(session.peer), session.tls)
        """The session argument of the handler."""
        self.envelope: AiosmtpdEnvelope = AiosmtpdEnvelope()
        """The envelope argument of the handler."""

        self._tls = session.tls
        self.is_secure: object = True
        """Whether the handler accepts the TLS connection: the result of `handle_STARTTLS`."""
        self._pushed: list[str] = []
        self._exchange: MechanismExchange | None = None

    @property
    def loop(self) -> Any:
        """The running event loop of asyncio."""
        return _running_loop()

    async def push(self, status: str | bytes) -> None:
        """Send a reply, or its first lines; the text that the function returns is then the last line."""
        self._pushed.append(status.decode() if isinstance(status, bytes) else status)

    async def challenge_auth(
        self, challenge: str | bytes, encode_to_b64: bool = True, log_client_response: bool = False
    ) -> bytes:
        """Send a challenge from an `auth_` function, and return the client's response, decoded.

        Raises `AuthAborted` if the client cancels. The client then has its reply already.
        """
        if self._exchange is None:
            raise RuntimeError("challenge_auth may be called by an auth_ function only, while this function runs")

        data = challenge.encode() if isinstance(challenge, str) else challenge
        return await self._exchange.challenge(data if encode_to_b64 else b64decode(data))

    # Calls of `AiosmtpdHandler`

    def follow(self, session: Session[Any]) -> bool:
        """Return whether TLS has begun since the last call. If so, drop all information about the client."""
        if session.tls is self._tls:
            return False

        self._tls = session.tls
        self.session = AiosmtpdSession(_as_tuple(session.peer), session.tls)
        self.envelope = AiosmtpdEnvelope()
        return True

    def greet(self, session: Session[Any], *, is_extended: bool) -> None:
        """Start a new envelope after HELO or EHLO."""
        self.session.peer = _as_tuple(session.peer)
        self.session.extended_smtp = is_extended
        self.envelope = AiosmtpdEnvelope()

    def take_pushed(self) -> list[str]:
        """Return the lines of `push` since the last call."""
        pushed, self._pushed = self._pushed, []
        return pushed

    def take_reply(self, status: object) -> Reply | None:
        """Return the reply that a function has pushed and returned, or None for the default reply."""
        lines = self.take_pushed()
        if isinstance(status, str | bytes):
            lines.append(status.decode() if isinstance(status, bytes) else status)
        elif not (_is_missing(status) or (status is None and lines)):
            raise TypeError(f"a handler returned {status!r}: return a text such as '250 OK'")

        return Reply.parse("\r\n".join(lines)) if lines else None

    @contextmanager
    def exchanging(self, exchange: MechanismExchange) -> Iterator[None]:
        """Let `challenge_auth` use `exchange`."""
        self._exchange = exchange
        try:
            yield
        finally:
            self._exchange = None

    def claim(self, login: bytes) -> None:
        """Store the user name for the log of a failed login."""
        assert self._exchange, "only the built-in mechanisms call this"
        self._exchange.claimed = login.decode("utf-8", "replace")

    def take_result(self, result: Any) -> str | Reply | None:
        """Return the user, a refusal, or None for the default refusal, from the result of an `auth_` function."""
        pushed = self.take_reply(None) if self._pushed else None
        if hasattr(result, "success"):
            if not result.success:
                return pushed or (Reply.parse(result.message) if result.message else None)

            self.session.auth_data = result.auth_data
            self.session.login_data = getattr(result.auth_data, "login", None)
        elif not result or _is_missing(result):
            return self.take_login(pushed)
        else:
            self.session.login_data = result  # the older form: the function has returned the user

        self.session.authenticated = True
        return self.user

    def take_login(self, reply: Reply | None) -> str | Reply | None:
        """Return the user if the handler has accepted the login itself, in `session` and with `reply`."""
        return self.user if reply and reply.is_positive and self.session.authenticated else reply

    @property
    def user(self) -> str:
        """The name of the authenticated user, for the log and `Session.identity`."""
        login = self.session.login_data
        return login.decode("utf-8", "replace") if isinstance(login, bytes) else str(login or "unknown")


class AiosmtpdHandler:
    """The handlers of an object that was written for aiosmtpd: `app.include(AiosmtpdHandler(handler))`.

    The functions `handle_HELO`, `handle_EHLO`, `handle_MAIL`, `handle_RCPT`, `handle_DATA`, `handle_RSET`,
    `handle_NOOP`, `handle_QUIT`, `handle_VRFY`, `handle_AUTH`, `handle_STARTTLS`, `handle_exception` and `auth_NAME` of
    `handler` are called as aiosmtpd calls them. As in aiosmtpd, a handler without `handle_RCPT` accepts every
    recipient.

    `authenticator` or `auth_callback` check the logins of PLAIN and LOGIN. With `decode_data`, `envelope.content` is
    text. `discard` is for a handler without `handle_DATA`, such as `aiosmtpd.handlers.Sink`: messages are accepted, and
    lost. Raises `ValueError` for such a handler without `discard`, and for a handler with `handle_PROXY`.
    """

    def __init__(
        self,
        handler: object,
        *,
        authenticator: Callable[..., Any] | None = None,
        auth_callback: Callable[[str, bytes, bytes], Any] | None = None,
        decode_data: bool = False,
        discard: bool = False,
    ) -> None:
        self._handler = handler
        self._authenticator = authenticator
        self._auth_callback = auth_callback
        self._decode_data = decode_data
        self._servers: dict[str, AiosmtpdServer] = {}
        """The server argument for each session, by the id of the session."""
        self._functions: dict[str, Callable[..., Any]] = {
            name.removeprefix("handle_"): getattr(handler, name) for name in dir(handler) if name.startswith("handle_")
        }
        if "DATA" not in self._functions and not discard:
            raise ValueError(f"{handler!r} has no handle_DATA: with discard=True, its messages are accepted and lost")
        if "PROXY" in self._functions:
            raise ValueError("handle_PROXY is not called: use the option proxies of the server, and a connect handler")

        ehlo = self._functions.get("EHLO")
        self._gets_lines = ehlo is not None and len(signature(ehlo).parameters) == 5
        """Whether `handle_EHLO` gets the lines of the reply, and returns all lines."""
        if "exception" in self._functions:
            setattr(self, "on_error", self._on_error)  # noqa: B010 - `include` finds the name
        for name, mechanism in self._mechanisms().items():
            setattr(self, f"on_mechanism_{name.replace('-', '__')}", partial(self._authenticate, name, mechanism))

    def _mechanisms(self) -> dict[str, Callable[..., Any]]:
        found: dict[str, Callable[..., Any]] = {}
        if self._authenticator or self._auth_callback:
            found = {"LOGIN": self._login, "PLAIN": self._plain}
        for name, function in getmembers(self._handler):
            if name.startswith("auth_"):
                default = name.removeprefix("auth_").replace("__", "-")
                found[getattr(function, "__auth_mechanism_name__", default).upper()] = function

        return found

    # Calls of the functions

    async def _begin(self, session: Session[Any]) -> AiosmtpdServer:
        """Return the server argument of a session. After a TLS handshake, call `handle_STARTTLS` first."""
        server = self._servers.get(session.id)
        if server is None:
            server = self._servers[session.id] = AiosmtpdServer(session, self._handler)
        if server.follow(session) and "STARTTLS" in self._functions:
            server.is_secure = await self._run("STARTTLS", server)

        return server

    async def _run(self, name: str, server: AiosmtpdServer, *args: object) -> Any:
        status = self._functions[name](server, server.session, server.envelope, *args)
        return await status if isawaitable(status) else status

    async def _call(self, name: str, server: AiosmtpdServer, *args: object) -> Reply | None:
        """Return the reply of a function; None if the handler lacks the function, or the function returns `MISSING`."""
        if name not in self._functions:
            return None

        server.take_pushed()
        return server.take_reply(await self._run(name, server, *args))

    # Handlers

    async def on_connect(self, session: Session[Any], opened: object) -> None:
        """Begin a session."""
        await self._begin(session)

    async def on_helo(self, session: Session[Any], helo: Helo) -> Reply | None:
        """Call `handle_HELO`."""
        server = await self._begin(session)
        if not server.is_secure:
            return _INSECURE  # without an accepted HELO, no mail is possible

        server.greet(session, is_extended=False)
        if "HELO" not in self._functions:
            server.session.host_name = helo.domain
        return await self._call("HELO", server, helo.domain)

    async def on_ehlo(self, session: Session[Any], ehlo: Ehlo | Lhlo) -> Reply | None:
        """Call `handle_EHLO`."""
        server = await self._begin(session)
        if not server.is_secure:
            return _INSECURE

        server.greet(session, is_extended=True)
        if "EHLO" not in self._functions:
            server.session.host_name = ehlo.domain
            return None

        server.take_pushed()
        if self._gets_lines:
            offered = _offered(session, ehlo)
            lines = list(await self._run("EHLO", server, ehlo.domain, list(offered)))
            reply = Reply.parse("\r\n".join(lines))
            if {line[4:] for line in lines[1:]} != {line[4:] for line in offered[1:]}:
                _logger.warning("the keywords of EHLO follow from the configuration, handle_EHLO cannot change them")
            return Reply(reply.code, reply.lines[0]) if reply.is_positive else reply

        found = server.take_reply(await self._run("EHLO", server, ehlo.domain))
        return None if found is None or found.is_positive else found

    on_lhlo = on_ehlo

    async def on_mail(self, session: Session[Any], mail: Mail) -> Reply:
        """Call `handle_MAIL`."""
        server = await self._begin(session)
        if not server.session.host_name:
            return _NO_HELLO

        if server.envelope.mail_from:  # the last message was refused before its `message` handlers were called
            server.envelope = AiosmtpdEnvelope()
        envelope = server.envelope
        address, options = mail.reverse_path.address or "<>", str(mail.params).upper().split()
        envelope.smtp_utf8 = bool(mail.params.smtputf8)
        if "MAIL" not in self._functions:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return await self._call("MAIL", server, address, options) or _OK

    async def on_rcpt(self, session: Session[Any], rcpt: Rcpt) -> Reply:
        """Call `handle_RCPT`."""
        server = await self._begin(session)
        envelope = server.envelope
        if not envelope.mail_from:
            return _NO_MAIL

        address, options = rcpt.forward_path.address, str(rcpt.params).upper().split()
        if "RCPT" not in self._functions:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return await self._call("RCPT", server, address, options) or _OK

    async def on_data(self, session: Session[Any], data: Data) -> Reply | None:
        """Refuse DATA if the envelope has no recipients."""
        server = await self._begin(session)
        return None if server.envelope.rcpt_tos else _NO_RECIPIENTS

    async def on_message(self, session: Session[Any], message: Message) -> Reply:
        """Read the message, and call `handle_DATA`."""
        server = await self._begin(session)
        envelope = server.envelope
        if not envelope.rcpt_tos:  # BDAT needs no DATA command, where `on_data` checks this
            return _NO_RECIPIENTS

        try:
            body = await message.read()
            envelope.original_content = body
            envelope.content = body.decode("utf-8", "surrogateescape") if self._decode_data else body
            reply = await self._call("DATA", server) or _OK
        finally:
            server.envelope = AiosmtpdEnvelope()

        return Reply(250, *reply.lines, enhanced=reply.enhanced) if reply.code // 100 == 2 else reply

    async def on_rset(self, session: Session[Any], rset: Rset) -> Reply | None:
        """Call `handle_RSET`."""
        return await self._on_simple(session, "RSET")

    async def on_noop(self, session: Session[Any], noop: Noop) -> Reply | None:
        """Call `handle_NOOP`."""
        return await self._on_simple(session, "NOOP", noop.argument or None)

    async def on_vrfy(self, session: Session[Any], vrfy: Vrfy) -> Reply | None:
        """Call `handle_VRFY`."""
        return await self._on_simple(session, "VRFY", vrfy.argument.strip("<>"))

    async def _on_simple(self, session: Session[Any], name: str, *args: object) -> Reply | None:
        server = await self._begin(session)
        if not server.is_secure:
            return _INSECURE
        if name == "RSET":
            server.envelope = AiosmtpdEnvelope()

        return await self._call(name, server, *args)

    async def on_quit(self, session: Session[Any], quit: Quit) -> Reply | None:
        """Call `handle_QUIT`."""
        return await self._call("QUIT", await self._begin(session))

    async def on_disconnect(self, session: Session[Any], reason: Reason) -> None:
        """End a session."""
        self._servers.pop(session.id, None)

    async def _on_error(self, session: Session[Any], exception: BaseException) -> Reply | None:
        server = await self._begin(session)
        server.take_pushed()
        status = self._functions["exception"](exception)
        return server.take_reply(await status if isawaitable(status) else status)

    # Authentication

    async def _authenticate(
        self, name: str, mechanism: Callable[..., Any], session: Session[Any], exchange: MechanismExchange
    ) -> str | Reply | None:
        server = await self._begin(session)
        if not server.session.host_name:
            return _NO_HELLO

        args = [name]
        if exchange.initial_response is not None:
            args.append(b64encode(exchange.initial_response).decode())
        with server.exchanging(exchange):
            reply = await self._call("AUTH", server, args)
            if reply is not None:
                return server.take_login(reply)

            result = mechanism(server, args)
            return server.take_result(await result if isawaitable(result) else result)

    async def _plain(self, server: AiosmtpdServer, args: list[str]) -> object:
        data = b64decode(args[1]) if len(args) > 1 else await server.challenge_auth("")
        parts = data.split(b"\0")
        if len(parts) != 3:
            return AuthResult(success=False, message="501 5.5.2 Can't split auth value")

        return await self._check(server, "PLAIN", _credentials(parts[1], parts[2]))

    async def _login(self, server: AiosmtpdServer, args: list[str]) -> object:
        login = b64decode(args[1]) if len(args) > 1 else await server.challenge_auth("User Name\0")
        return await self._check(server, "LOGIN", _credentials(login, await server.challenge_auth("Password\0")))

    async def _check(self, server: AiosmtpdServer, mechanism: str, data: LoginPassword) -> object:
        server.claim(data.login)
        if self._authenticator is None:
            assert self._auth_callback, "there are no built-in mechanisms otherwise"
            is_valid = self._auth_callback(mechanism, data.login, data.password)
            is_valid = await is_valid if isawaitable(is_valid) else is_valid
            return AuthResult(success=bool(is_valid), handled=False, auth_data=data)

        result = self._authenticator(server, server.session, server.envelope, mechanism, data)
        return await result if isawaitable(result) else result


def _running_loop() -> Any:
    # Only the adapter for asyncio imports asyncio. If an event loop of asyncio is running, asyncio is already imported.
    return sys.modules["asyncio"].get_running_loop()


def _credentials(login: bytes, password: bytes) -> LoginPassword:
    """Return the credentials for an authenticator.

    Authenticators check the class of the credentials. If the program has imported aiosmtpd, the object is an instance
    of the class of aiosmtpd too.
    """
    module = sys.modules.get("aiosmtpd.smtp")
    kind: Any = type("LoginPassword", (LoginPassword, module.LoginPassword), {}) if module else LoginPassword
    credentials: LoginPassword = kind(login, password)
    return credentials


def _as_tuple(address: Address | None) -> tuple[Any, ...] | str | None:
    if address is None:
        return None
    if not address.port:
        return address.host

    return (address.host, address.port, 0, 0) if ":" in address.host else (address.host, address.port)


def _is_missing(value: object) -> bool:
    # The type of aiosmtpd's `MISSING`, which is not imported, because aiosmtpd may not be installed.
    return type(value).__name__ == "_Missing"


def _offered(session: Session[Any], hello: Ehlo | Lhlo) -> list[str]:
    """Return the lines of the reply to EHLO, as a server with this configuration sends them."""
    connection = Connection(session.config, implicit_tls=session.tls is not None)
    if session.tls:
        connection.tls_established()
    connection.receive_data(hello.encode())
    text = ""
    for _ in range(2):  # the greeting, and the reply to EHLO
        event = connection.next_event()
        assert not isinstance(event, Signal), "the command is complete"
        (reply,) = connection.answer(event)
        text = str(reply)

    return text.split("\n")


show_texts(globals())
