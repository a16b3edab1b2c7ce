"""What a server's mechanism says: a challenge, a question to the program, or how it ended."""

import hmac
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, TypeAlias

from .._errors import LocalProtocolError
from ._keys import ScramKeys, digest_size


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this to the client (in SMTP, as a 334 reply), and give what it answers to `respond`."""

    data: bytes
    """May be empty. Not yet in base64."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The client is who it says it is: 235."""

    identity: str
    """Whose credentials they were."""
    authorization: str
    """Whom the client acts as: the same, unless it asked for another and `CheckAuthorization` was answered with yes."""


class Reason(Enum):
    """Why an exchange failed. It is for the log: a client is told no more than `code` and `enhanced` say."""

    MALFORMED = ("malformed", 501, "5.5.2")
    """The message is not one of this mechanism, or is too long."""
    INITIAL_RESPONSE = ("initial response not allowed", 501, "5.7.0")
    """The server speaks first in this mechanism (RFC 4954 section 4)."""
    INVALID_CREDENTIALS = ("invalid credentials", 535, "5.7.8")
    """A wrong password, a user who does not exist, a name that cannot be one."""
    NOT_AUTHORIZED = ("not authorized", 535, "5.7.8")
    """The credentials were right, but do not allow to act as the identity that the client asked for."""
    CHANNEL_BINDING = ("channel binding", 535, "5.7.8")
    """The client sees another TLS channel, or other mechanisms: someone may be in between (RFC 5802 section 6)."""
    UNSUPPORTED_EXTENSION = ("unsupported extension", 535, "5.7.8")
    """The client insists on an extension of SCRAM (RFC 5802 5.1)."""

    def __init__(self, text: str, code: int, enhanced: str) -> None:
        self.text = text
        self.code = code
        """The reply code."""
        self.enhanced = enhanced
        """The enhanced status code."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The exchange failed. The client may begin another."""

    reason: Reason
    """Why."""


@dataclass(frozen=True, slots=True)
class TokenError:
    """Why a token is refused, as the server tells it to the client (RFC 7628 3.2.2)."""

    status: str = "invalid_token"
    """The error code of OAuth. XOAUTH2 has the status codes of HTTP in its place."""
    scope: str | None = None
    """A scope that would give access."""
    configuration: str | None = None
    """The URL of the OpenID configuration."""

    def encode(self) -> bytes:
        """The JSON object."""
        members = {"status": self.status, "scope": self.scope, "openid-configuration": self.configuration}
        return json.dumps({key: value for key, value in members.items() if value is not None}).encode()


# Questions. Each names the types that answer it; None always does, and means no.


class _Asked:
    """A question that the program answers with `answer`, whenever it knows."""

    __slots__ = ()
    answers: ClassVar[tuple[type, ...]]

    def check_answer(self, answer: object) -> None:
        """Raise `LocalProtocolError` unless `answer` is one."""
        if answer is not None and not isinstance(answer, self.answers):
            names = ", ".join(type_.__name__ for type_ in self.answers)
            raise LocalProtocolError(
                f"{type(self).__name__} is answered with {names} or None, not with {type(answer).__name__}"
            )


@dataclass(frozen=True, slots=True)
class CheckPassword(_Asked):
    """Is this the password of that user? Answered with a bool."""

    answers: ClassVar[tuple[type, ...]] = (bool,)

    username: str
    """Prepared by `Policy.prepare`."""
    password: str = field(repr=False)
    """Prepared likewise."""

    def matches(self, password: str | None) -> bool:
        """Whether it is `password`, in a time that tells nothing of it. None stands for a user who does not exist."""
        return hmac.compare_digest(self.password.encode(), (password or "").encode()) and password is not None


@dataclass(frozen=True, slots=True)
class GivePassword(_Asked):
    """What is the password of that user? Answered with a str, or None for a user who does not exist."""

    answers: ClassVar[tuple[type, ...]] = (str,)

    username: str
    """Prepared by `Policy.prepare`."""


@dataclass(frozen=True, slots=True)
class GiveScramKeys(_Asked):
    """What are the keys of that user? Answered with `ScramKeys`, or None for a user who does not exist."""

    answers: ClassVar[tuple[type, ...]] = (ScramKeys,)

    username: str
    """Prepared by `Policy.prepare`."""
    hash_name: str
    """The hash that the keys have to be made with: `"SHA-1"` or `"SHA-256"`."""

    def check_answer(self, answer: object) -> None:
        """Raise `LocalProtocolError` unless `answer` is one."""
        _Asked.check_answer(self, answer)
        if isinstance(answer, ScramKeys) and len(answer.stored_key) != digest_size(self.hash_name):
            raise LocalProtocolError(f"these are not keys for {self.hash_name}: each hash needs keys of its own")


@dataclass(frozen=True, slots=True)
class CheckToken(_Asked):
    """Whose token is this? Answered with the user's name, or with None or a `TokenError` where it gives no access."""

    answers: ClassVar[tuple[type, ...]] = (str, TokenError)

    username: str | None
    """The user that the client names; whether it may act as that one is asked afterwards, if it is not the answer."""
    token: str = field(repr=False)
    """The bearer token."""
    host: str | None = None
    """The server that the client wanted to reach. Refuse one that is not yours (RFC 7628 3.2)."""
    port: int | None = None
    """The port that it wanted to reach."""


@dataclass(frozen=True, slots=True)
class CheckIdentity(_Asked):
    """Which user has these external credentials? Answered with the user's name, or None."""

    answers: ClassVar[tuple[type, ...]] = (str,)

    external: str
    """The credentials: `Channel.external`."""
    authorization: str | None
    """The user that the client wants to be. Where the credentials stand for several, answer with this one."""


@dataclass(frozen=True, slots=True)
class CheckAnonymous(_Asked):
    """May anyone come in? Answered with a bool."""

    answers: ClassVar[tuple[type, ...]] = (bool,)

    trace: str
    """What the client left as its trace. It proves nothing, and may be empty."""


@dataclass(frozen=True, slots=True)
class CheckAuthorization(_Asked):
    """May one user, whose credentials were right, act as another? Answered with a bool.

    It is asked only if the client wants to act as another. So a program that answers every question which it does not
    know with None lets nobody do that.
    """

    answers: ClassVar[tuple[type, ...]] = (bool,)

    identity: str
    """Whose credentials they were."""
    authorization: str
    """Whom the client wants to act as."""


Question: TypeAlias = (
    CheckPassword | GivePassword | GiveScramKeys | CheckToken | CheckIdentity | CheckAnonymous | CheckAuthorization
)
Answer: TypeAlias = bool | str | ScramKeys | TokenError | None
Outcome: TypeAlias = Accepted | Rejected
Step: TypeAlias = Challenge | Question | Outcome
