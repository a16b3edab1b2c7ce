"""Log in to a server: the client's part of AUTH."""

from collections.abc import Callable
from typing import TypeAlias

from smtpcore import Auth, AuthCancel, AuthResponse, ProtocolError, RemoteProtocolError, Reply, ReplyClass
from smtpcore.sasl import Channel, ClientMechanism, Credentials, choose, make_client

from ._driver import ClientDriver
from ._results import Refused

Login: TypeAlias = tuple[str, str] | Credentials | ClientMechanism
"""A name and a password; or `smtpcore.sasl.Credentials`, which may have a token; or a mechanism, made for this once."""


class AuthenticationRefused(Refused):
    """The server does not believe who the client is, or offers no way to show it that is safe."""


async def log_in(driver: ClientDriver, login: Login, channel: Channel, *, plaintext_auth: bool) -> Reply:
    """Authenticate with the strongest mechanism that the server offers and the credentials suit.

    Raises:
        AuthenticationRefused: there is none, or the server said no.
        RemoteProtocolError: the server did not prove what it had to: it may be an impostor.
    """
    if not (driver.connection.tls or plaintext_auth):
        raise AuthenticationRefused("there is no TLS, and plaintext_auth is off: nothing secret is shown")

    mechanism = login if isinstance(login, ClientMechanism) else _choose(driver, login, channel, plaintext_auth)
    reply = await _begin(driver, mechanism)
    while reply.reply_class is ReplyClass.INTERMEDIATE:
        reply = await _respond(driver, mechanism.respond, reply)

    if not reply.is_positive:
        raise AuthenticationRefused(f"authentication by {mechanism.name} failed", reply)

    mechanism.finish()
    return reply


def _choose(
    driver: ClientDriver, login: tuple[str, str] | Credentials, channel: Channel, plaintext_auth: bool
) -> ClientMechanism:
    credentials = login if isinstance(login, Credentials) else Credentials(username=login[0], password=login[1])
    offered = driver.connection.extensions.get("AUTH", ())
    assert isinstance(offered, tuple)
    name = choose(offered, credentials, channel, cleartext=plaintext_auth)
    if name is None:
        secret = "" if channel.tls else ", and a password is not shown without verified TLS"
        raise AuthenticationRefused(
            f"no mechanism suits the credentials: offered are {', '.join(offered) or 'none'}{secret}"
        )

    return make_client(name, credentials, channel)


async def _begin(driver: ClientDriver, mechanism: ClientMechanism) -> Reply:
    initial = mechanism.initial()
    auth = Auth(mechanism.name, initial)
    if initial is None or len(auth.encode()) <= _MAX_LINE:
        return await driver.ask(auth)

    # RFC 4954 section 4: what does not fit into a command line is sent when the server asks for it.
    reply = await driver.ask(Auth(mechanism.name))
    return await _respond(driver, lambda challenge: initial, reply) if reply.challenge == b"" else reply


_MAX_LINE = 512  # RFC 5321 4.5.3.1.4, CRLF included


async def _respond(driver: ClientDriver, respond: Callable[[bytes], bytes], reply: Reply) -> Reply:
    challenge = reply.challenge
    try:
        if challenge is None:
            raise RemoteProtocolError("the challenge of the server is not base64")

        response = respond(challenge)
    except ProtocolError:
        await driver.ask(AuthCancel())
        raise

    return await driver.ask(AuthResponse(response))
