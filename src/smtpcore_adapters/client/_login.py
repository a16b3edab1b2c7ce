"""Log in to a server with AUTH."""

from collections.abc import Callable
from typing import TypeAlias

from smtpcore import Auth, AuthCancel, AuthResponse, ProtocolError, RemoteProtocolError, Reply, ReplyClass
from smtpcore.sasl import Channel, ClientMechanism, Credentials, choose, make_client

from ._driver import ClientDriver
from ._results import Refused

Login: TypeAlias = tuple[str, str] | Credentials | ClientMechanism
"""A name and a password; or `smtpcore.sasl.Credentials`, for example with a token; or a new mechanism object."""


class AuthenticationRefused(Refused):
    """The server refuses the credentials, or offers no mechanism that suits them and this connection."""


async def log_in(driver: ClientDriver, login: Login, channel: Channel, *, plaintext_auth: bool) -> Reply:
    """Authenticate with the strongest mechanism that the server offers and that suits the credentials.

    Raises:
        AuthenticationRefused: no mechanism suits the credentials, or the server refuses the credentials.
        RemoteProtocolError: the server's own proof, such as SCRAM's server signature, is missing or wrong; the server
            may be an impostor.
    """
    if not (driver.connection.tls or plaintext_auth):
        raise AuthenticationRefused("AUTH needs TLS: use TLS, or set plaintext_auth to send the credentials without it")

    mechanism = login if isinstance(login, ClientMechanism) else _choose(driver, login, channel, plaintext_auth)
    reply = await _begin(driver, mechanism)
    while reply.reply_class is ReplyClass.INTERMEDIATE:
        reply = await _respond(driver, mechanism.respond, reply)

    if not reply.is_positive:
        raise AuthenticationRefused(f"the server refuses AUTH {mechanism.name}", reply)

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
        secret = "" if channel.tls else "; a password is sent only over verified TLS, unless plaintext_auth is set"
        raise AuthenticationRefused(
            f"no mechanism of the server suits the credentials; offered: {', '.join(offered) or 'none'}{secret}"
        )

    return make_client(name, credentials, channel)


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
