"""Log in to a server with AUTH."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import TypeAlias, TypedDict

from smtpcore import (
    Auth,
    AuthCancel,
    AuthResponse,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    Reply,
    ReplyClass,
    check_values,
)
from smtpcore.sasl import Channel, ClientMechanism, Credentials, TokenError, choose, make_client

from .._printable import printable
from ._driver import ClientDriver
from ._results import Refused

TokenSource: TypeAlias = Callable[[], str | Awaitable[str]]
"""A function or coroutine function that returns an OAuth 2.0 bearer token."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A login with an OAuth 2.0 token (XOAUTH2 or OAUTHBEARER) that a function returns for each connection.

    If the server refuses the token, the client asks once for a new token, and tries again on the same connection.
    """

    username: str
    """The user that the token belongs to."""
    get: TokenSource = field(repr=False)
    """The function that returns the token, for example from a cache. A plain function must not block for long: it runs
    in the event loop."""
    renew: TokenSource | None = field(default=None, repr=False)
    """The function that returns a new token after a refusal; by default `get` is called again."""


Login: TypeAlias = tuple[str, str] | Credentials | BearerToken | ClientMechanism
"""A name and a password; or `smtpcore.sasl.Credentials`, a `BearerToken`, or a new mechanism object."""

LoginSource: TypeAlias = Login | Callable[[], Login | Awaitable[Login]]
"""A `Login`, or a function or coroutine function that returns a `Login` for each connection."""


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

    With `names`, only these mechanisms are used, in this order. `_Attempts` describes when the next mechanism is tried.
    If the server refuses a token that a function has returned, the login is tried once more with a new token.

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

    credentials = await _credentials(login)
    try:
        return await _Attempts(driver, credentials, channel, names, plaintext_auth).run()
    except AuthenticationRefused as exc:
        is_of_token = exc.token_error or (credentials.token and exc.reply and exc.reply.code == _WRONG)
        if not (is_of_token and driver.is_open):
            raise

        renewed = await _renew(source, login)
        if renewed is None or renewed == credentials:
            raise

    return await _Attempts(driver, renewed, channel, names, plaintext_auth).run()


async def _take(source: LoginSource) -> Login:
    if isinstance(source, tuple | Credentials | BearerToken | ClientMechanism):
        return source

    result = source()
    login = await result if isawaitable(result) else result
    # A text would be read as a pair: its first letter as the name, and its second letter as the password.
    check_values({"the result of the function in auth": login}, _Returned, secret=_Returned.__annotations__)
    return login


_Returned = TypedDict("_Returned", {"the result of the function in auth": Login, "the result of get or renew": str})


async def _credentials(login: tuple[str, str] | Credentials | BearerToken, *, renew: bool = False) -> Credentials:
    if isinstance(login, Credentials):
        return login
    if isinstance(login, BearerToken):
        result = login.renew() if renew and login.renew else login.get()
        token = await result if isawaitable(result) else result
        check_values({"the result of get or renew": token}, _Returned, secret=_Returned.__annotations__)
        return Credentials(username=login.username, token=token)

    return Credentials(username=login[0], password=login[1])


async def _renew(source: LoginSource, login: tuple[str, str] | Credentials | BearerToken) -> Credentials | None:
    """Return the credentials for the second attempt. `login` is the result of `source` for the first attempt."""
    if isinstance(login, BearerToken):
        return await _credentials(login, renew=True)

    again = login if source is login else await _take(source)
    return None if isinstance(again, ClientMechanism) else await _credentials(again)


class _Attempts:
    """The attempts to log in with one set of credentials.

    If the server refuses the mechanism and not the credentials, the next mechanism is tried (RFC 4954 section 6). An
    ordinary 535 mostly means a wrong password, but also comes from servers that announce mechanisms for which they have
    no data: a server that stores hashes of passwords cannot verify CRAM-MD5. A server can verify the password itself
    with any data. So after the first 535 there is one more attempt, with PLAIN or LOGIN, and only over verified TLS.
    More attempts with a wrong password could lock the account. A 535 to a -PLUS mechanism may mean that TLS ends at an
    attacker, so no mechanism without channel binding follows.
    """

    def __init__(
        self,
        driver: ClientDriver,
        credentials: Credentials,
        channel: Channel,
        names: Sequence[str] | None,
        plaintext_auth: bool,
    ) -> None:
        offered = driver.connection.extensions.get("AUTH", ())
        assert isinstance(offered, tuple)
        self._driver = driver
        self._credentials = credentials
        if names is not None and not any(name.endswith("-PLUS") for name in names):
            # RFC 5802 section 6: a client that does not use the bindings must not say that the server offers no -PLUS.
            channel = replace(channel, bindings=())
        self._channel = channel
        self._names = names
        self._plaintext_auth = plaintext_auth
        self._offered: tuple[str, ...] = offered
        self._left = [name for name in offered if names is None or name in names]
        self._wrong: AuthenticationRefused | None = None
        """The ordinary 535."""

    async def run(self) -> Reply:
        """Try one mechanism after the other, and return the 235."""
        refusal: AuthenticationRefused | LocalProtocolError | None = None
        while name := _choose(self._left, self._names, self._credentials, self._channel, self._plaintext_auth):
            self._left.remove(name)
            try:
                return await _exchange(self._driver, make_client(name, self._credentials, self._channel))
            except AuthenticationRefused as exc:
                self._prepare_next(name, exc)
                refusal = exc
            except LocalProtocolError as exc:  # this mechanism cannot use the credentials
                refusal = exc
            except (OSError, RemoteProtocolError) as exc:
                if self._wrong:
                    raise self._wrong from exc
                raise

        if self._wrong:
            raise self._wrong
        if refusal:
            raise refusal

        secret = "" if self._channel.tls or self._plaintext_auth else _NOT_PRIVATE
        offered = ", ".join(self._offered) or "none"
        raise AuthenticationRefused(f"no mechanism of the server suits the credentials; offered: {offered}{secret}")

    def _prepare_next(self, name: str, exc: AuthenticationRefused) -> None:
        """Decide about the next mechanism after the refusal of `name`. Raise the refusal if no other may follow."""
        reply, channel = exc.reply, self._channel
        if not (self._driver.is_open and reply):
            raise self._wrong or exc
        if _is_about_mechanism(reply):
            if name.endswith("-PLUS"):
                # RFC 5802 section 6: a client with bindings that uses a mechanism without -PLUS says that the server
                # offers no -PLUS ("y"). This server offers -PLUS, and would suspect an attack. So the bindings are
                # removed.
                self._channel = replace(channel, bindings=())
        elif reply.code != _WRONG or self._wrong or not channel.tls:
            raise exc
        elif name.endswith("-PLUS"):
            if len(channel.bindings) == 1:
                raise exc
            # The server may lack the first type of binding (RFC 5802 section 6).
            self._channel = replace(channel, bindings=channel.bindings[1:])
            self._left.append(name)
        else:
            self._wrong = exc
            self._left = [each for each in self._left if each in _SENDING_THE_PASSWORD]


_NOT_PRIVATE = "; a password is sent only over verified TLS, unless plaintext_auth is set"
_SENDING_THE_PASSWORD = ("PLAIN", "LOGIN")
_WRONG = 535


def _choose(
    left: list[str], names: Sequence[str] | None, credentials: Credentials, channel: Channel, plaintext_auth: bool
) -> str | None:
    for group in [left] if names is None else [[name] for name in names if name in left]:
        if name := choose(group, credentials, channel, cleartext=plaintext_auth):
            return name

    return None


def _is_about_mechanism(reply: Reply) -> bool:
    # RFC 4954 section 6. Some servers send a 535 to refuse a mechanism. An enhanced status code (RFC 5248) or the text
    # then shows this meaning: Postfix sends "535 5.7.8 Error: authentication failed: Invalid authentication mechanism".
    return (
        reply.code in _OF_MECHANISM
        or reply.enhanced in _ENHANCED_OF_MECHANISM
        or (reply.code == _WRONG and "mechanism" in str(reply).lower())
    )


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
        raise AuthenticationRefused(
            f"the server refuses AUTH {mechanism.name} ({printable(why[:_MOST_TEXT])})", reply, error
        )

    mechanism.finish()
    return reply


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
            raise RemoteProtocolError("the server's challenge to AUTH is not base64")

        response = respond(challenge)
    except ProtocolError:
        await driver.ask(AuthCancel())
        raise

    return await driver.ask(AuthResponse(response))
