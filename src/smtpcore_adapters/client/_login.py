"""Log in to a server with AUTH."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import TypeAlias

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    Reply,
    ReplyClass,
)
from smtpcore.sasl import Channel, ClientMechanism, Credentials, TokenError, choose, make_client

from ._driver import ClientDriver
from ._results import Refused

Login: TypeAlias = tuple[str, str] | Credentials | ClientMechanism
"""A name and a password; or `smtpcore.sasl.Credentials`, for example with a token; or a new mechanism object."""

LoginSource: TypeAlias = Login | Callable[[], Login | Awaitable[Login]]
"""A `Login`, or a function or coroutine function that returns a `Login` for each connection, such as a fresh token."""


class AuthenticationRefused(Refused):
    """The server refuses the credentials, or offers no mechanism that suits them and this connection."""

    def __init__(self, what: str, reply: Reply | None = None, token_error: TokenError | None = None) -> None:
        super().__init__(what, reply)
        self.token_error: TokenError | None = token_error
        """The reason why the server refuses a token (RFC 7628 3.2.2), if the server named a reason."""


async def log_in(
    driver: ClientDriver,
    source: LoginSource,
    channel: Channel,
    *,
    names: Sequence[str] | None = None,
    plaintext_auth: bool = False,
) -> Reply:
    """Authenticate with the strongest mechanism that the server offers and that suits the credentials.

    With `names`, only these mechanisms are used, in this order. If the server refuses the mechanism and not the
    credentials, the next mechanism is tried.

    Raises:
        AuthenticationRefused: no mechanism suits the credentials, or the server refuses the credentials.
        RemoteProtocolError: the server's own proof, such as SCRAM's server signature, is missing or wrong; the server
            may be an impostor.
    """
    if not (driver.connection.tls or plaintext_auth):
        raise AuthenticationRefused("AUTH needs TLS: use TLS, or set plaintext_auth to send the credentials without it")

    login = await _take(source)
    if isinstance(login, ClientMechanism):
        return await _exchange(driver, login)

    credentials = login if isinstance(login, Credentials) else Credentials(username=login[0], password=login[1])
    return await _try_mechanisms(driver, credentials, channel, names, plaintext_auth)


async def _take(source: LoginSource) -> Login:
    if isinstance(source, tuple | Credentials | ClientMechanism):
        return source

    login = source()
    return await login if isawaitable(login) else login


async def _try_mechanisms(
    driver: ClientDriver, credentials: Credentials, channel: Channel, names: Sequence[str] | None, plaintext_auth: bool
) -> Reply:
    offered = driver.connection.extensions.get("AUTH", ())
    assert isinstance(offered, tuple)
    left = [name for name in offered if names is None or name in names]
    refusal: AuthenticationRefused | LocalProtocolError | None = None
    while name := _choose(left, names, credentials, channel, plaintext_auth):
        left.remove(name)
        try:
            return await _exchange(driver, make_client(name, credentials, channel))
        except AuthenticationRefused as exc:
            if not (driver.is_open and exc.reply and _is_about_mechanism(exc.reply)):
                raise
            refusal = exc
        except LocalProtocolError as exc:  # this mechanism cannot use the credentials
            refusal = exc

        if name.endswith("-PLUS"):
            # RFC 5802 section 6: with bindings, the client's next message would say "y": the server offers no -PLUS.
            # The server does offer -PLUS, so it would suspect an attack.
            channel = replace(channel, bindings=())

    if refusal:
        raise refusal

    secret = "" if channel.tls or plaintext_auth else _NOT_PRIVATE
    raise AuthenticationRefused(
        f"no mechanism of the server suits the credentials; offered: {', '.join(offered) or 'none'}{secret}"
    )


_NOT_PRIVATE = "; a password is sent only over verified TLS, unless plaintext_auth is set"


def _choose(
    left: list[str], names: Sequence[str] | None, credentials: Credentials, channel: Channel, plaintext_auth: bool
) -> str | None:
    for group in [left] if names is None else [[name] for name in names if name in left]:
        if name := choose(group, credentials, channel, cleartext=plaintext_auth):
            return name

    return None


def _is_about_mechanism(reply: Reply) -> bool:
    # RFC 4954 section 6. A 535 usually refuses the credentials, and another attempt with them may lock the account. But
    # some servers send a 535 to refuse a mechanism; an enhanced status code then shows this meaning (RFC 5248).
    return reply.code in _OF_MECHANISM or reply.enhanced in _ENHANCED_OF_MECHANISM


_OF_MECHANISM = frozenset({432, 500, 501, 502, 504, 534, 538})
_ENHANCED_OF_MECHANISM = frozenset({"4.7.12", "5.5.4", "5.7.4", "5.7.9", "5.7.11"})


async def _exchange(driver: ClientDriver, mechanism: ClientMechanism) -> Reply:
    reply = await _begin(driver, mechanism)
    while reply.reply_class is ReplyClass.INTERMEDIATE:
        reply = await _respond(driver, mechanism.respond, reply)

    if not reply.is_positive:
        error = getattr(mechanism, "token_error", None)
        if not isinstance(error, TokenError):
            raise AuthenticationRefused(f"the server refuses AUTH {mechanism.name}", reply)

        why = f"status {error.status}" + (f", scope {error.scope}" if error.scope else "")
        raise AuthenticationRefused(f"the server refuses AUTH {mechanism.name} ({_printable(why)})", reply, error)

    mechanism.finish()
    return reply


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:_MOST_TEXT])


_MOST_TEXT = 200


async def _begin(driver: ClientDriver, mechanism: ClientMechanism) -> Reply:
    initial = mechanism.initial()
    auth = Auth(mechanism.name, initial)
    if initial is None or len(auth.encode()) <= _MAX_LINE:
        return await driver.ask(auth)

    # RFC 4954 section 4: an initial response that does not fit into the command line is sent after an empty challenge.
    reply = await driver.ask(Auth(mechanism.name))
    return await _respond(driver, lambda challenge: initial, reply) if reply.challenge == b"" else reply


_MAX_LINE = 512  # RFC 5321 4.5.3.1.4, CRLF included


async def _respond(driver: ClientDriver, respond: Callable[[bytes], bytes], reply: Reply) -> Reply:
    challenge = reply.challenge
    try:
        if challenge is None:
            raise RemoteProtocolError("the server's challenge is not base64")

        response = respond(challenge)
    except ProtocolError:
        await driver.ask(AuthCancel())
        raise

    return await driver.ask(AuthResponse(response))
