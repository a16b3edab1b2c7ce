"""The steps of a server's mechanism: a challenge, a question to your program, or an outcome."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias

from .._errors import LocalProtocolError
from .._fields import Checked
from ._keys import ScramKeys, digest_size, is_password


@dataclass(frozen=True, slots=True)
class Challenge(Checked):
    """A challenge: send it to the client (in SMTP as a 334 reply), and pass the client's response to `respond`."""

    data: bytes
    """The challenge, not yet in base64. May be empty."""


@dataclass(frozen=True, slots=True)
class Accepted(Checked):
    """The client is authenticated: reply 235."""

    identity: str
    """The user whose credentials were used."""
    authorization: str
    """The user that the client acts as: `identity`, or another user that `CheckAuthorization` allowed."""


class Reason(Enum):
    """The reason of a failed exchange, for the log. The client only learns `code` and `enhanced`."""

    MALFORMED = ("malformed", 501, "5.5.2")
    """The message does not follow the grammar of the mechanism, or is too long."""
    INITIAL_RESPONSE = ("initial response not allowed", 501, "5.7.0")
    """An initial response was sent, but the server speaks first in this mechanism (RFC 4954 section 4)."""
    INVALID_CREDENTIALS = ("invalid credentials", 535, "5.7.8")
    """The credentials are wrong or missing, or the user name is unknown or invalid."""
    NOT_AUTHORIZED = ("not authorized", 535, "5.7.8")
    """The credentials are right, but the user may not act as the requested identity."""
    CHANNEL_BINDING = ("channel binding", 535, "5.7.8")
    """The client sees another TLS channel or other mechanisms: possibly an attack (RFC 5802 section 6)."""
    UNSUPPORTED_EXTENSION = ("unsupported extension", 535, "5.7.8")
    """The client requires an extension of SCRAM (RFC 5802 5.1)."""

    def __init__(self, text: str, code: int, enhanced: str) -> None:
        self.text = text
        self.code = code
        """The reply code."""
        self.enhanced = enhanced
        """The enhanced status code."""


@dataclass(frozen=True, slots=True)
class Rejected(Checked):
    """The exchange failed. The client may start another exchange."""

    reason: Reason
    """The reason, for the log."""


@dataclass(frozen=True, slots=True)
class TokenError(Checked):
    """The error for a refused token, as sent to the client (RFC 7628 3.2.2)."""

    status: str = "invalid_token"
    """The OAuth error code. XOAUTH2 uses HTTP status codes instead."""
    scope: str | None = None
    """A scope that would allow access."""
    configuration: str | None = None
    """The URL of the OpenID configuration."""
    others: Mapping[str, object] = field(default_factory=dict[str, object], compare=False)
    """The other members of the JSON object, such as `"schemes"`."""

    def encode(self) -> bytes:
        """Return the error as a JSON object."""
        members = {"status": self.status, "scope": self.scope, "openid-configuration": self.configuration}
        given = {key: value for key, value in members.items() if value is not None}
        return json.dumps({**self.others, **given}).encode()


# Questions. Each question lists the types of its answers. None is always allowed as an answer, and means no.


class _Asked(Checked):
    """A question to your program. Pass the answer to `answer`, which may take any time."""

    __slots__ = ()
    answers: ClassVar[tuple[type, ...]]

    def check_answer(self, answer: object) -> None:
        """Raise `LocalProtocolError` if `answer` does not have the right type."""
        if answer is not None and not isinstance(answer, self.answers):
            names = ", ".join(type_.__name__ for type_ in self.answers)
            raise LocalProtocolError(
                f"{type(self).__name__} is answered with {names} or None, not with {type(answer).__name__}"
            )


@dataclass(frozen=True, slots=True)
class CheckPassword(_Asked):
    """Is `password` the password of `username`? Answer with a bool."""

    answers: ClassVar[tuple[type, ...]] = (bool,)

    username: str
    """The user name, prepared by `Policy.prepare`."""
    password: str = field(repr=False)
    """The client's password, prepared by `Policy.prepare`."""

    def matches(self, password: str | ScramKeys | None) -> bool:
        """Return whether the client's password is `password`, in constant time. Pass None for an unknown user.

        `password` may also be the keys of a hashed password. The comparison then takes some milliseconds of CPU time.
        """
        if password is not None and not isinstance(password, str | ScramKeys):
            raise TypeError(f"password is a value of type {type(password).__name__}: use str or ScramKeys or None")
        if isinstance(password, ScramKeys):
            return is_password(self.password, password)

        return hmac.compare_digest(self.password.encode(), (password or "").encode()) and password is not None


@dataclass(frozen=True, slots=True)
class GivePassword(_Asked):
    """What is the password of `username`? Answer with a str, or with None for an unknown user."""

    answers: ClassVar[tuple[type, ...]] = (str,)

    username: str
    """The user name, prepared by `Policy.prepare`."""


@dataclass(frozen=True, slots=True)
class GiveScramKeys(_Asked):
    """What are the keys of `username`? Answer with `ScramKeys`, or with None for an unknown user."""

    answers: ClassVar[tuple[type, ...]] = (ScramKeys,)

    username: str
    """The user name, prepared by `Policy.prepare`."""
    hash_name: str
    """The hash of the keys: `"SHA-1"` or `"SHA-256"`."""

    def check_answer(self, answer: object) -> None:
        """Raise `LocalProtocolError` if `answer` has the wrong type, or keys that were made with another hash."""
        _Asked.check_answer(self, answer)
        if isinstance(answer, ScramKeys) and len(answer.stored_key) != digest_size(self.hash_name):
            raise LocalProtocolError(f"these are not keys for {self.hash_name}: each hash needs keys of its own")


@dataclass(frozen=True, slots=True)
class CheckToken(_Asked):
    """Whose token is `token`? Answer with the user name. None or a `TokenError` refuses the token."""

    answers: ClassVar[tuple[type, ...]] = (str, TokenError)

    username: str | None
    """The user that the client names. If your answer is another user, `CheckAuthorization` is asked next."""
    token: str = field(repr=False)
    """The bearer token."""
    host: str | None = None
    """The server that the client wanted to reach. Refuse a name that is not your server's (RFC 7628 3.2)."""
    port: int | None = None
    """The port that the client wanted to reach."""


@dataclass(frozen=True, slots=True)
class CheckIdentity(_Asked):
    """Which user has the external credentials? Answer with the user name, or with None."""

    answers: ClassVar[tuple[type, ...]] = (str,)

    external: str
    """The external credentials: `Channel.external`."""
    authorization: str | None
    """The user that the client requests. If the credentials belong to several users, answer with this user."""


@dataclass(frozen=True, slots=True)
class CheckAnonymous(_Asked):
    """May an anonymous client log in? Answer with a bool."""

    answers: ClassVar[tuple[type, ...]] = (bool,)

    trace: str
    """The trace information that the client sent. The trace proves nothing, and may be empty."""


@dataclass(frozen=True, slots=True)
class CheckAuthorization(_Asked):
    """May `identity`, whose credentials were right, act as `authorization`? Answer with a bool.

    This question is asked only if a client requests another identity. To refuse such clients, answer None.
    """

    answers: ClassVar[tuple[type, ...]] = (bool,)

    identity: str
    """The user whose credentials were used."""
    authorization: str
    """The user that the client wants to act as."""


Question: TypeAlias = (
    CheckPassword | GivePassword | GiveScramKeys | CheckToken | CheckIdentity | CheckAnonymous | CheckAuthorization
)
Answer: TypeAlias = bool | str | ScramKeys | TokenError | None
Outcome: TypeAlias = Accepted | Rejected
Step: TypeAlias = Challenge | Question | Outcome
