"""Logins within sessions, with the user and the password of the run."""

# A finding is printed and saved, so a step contains neither the user nor the password. The player adds them when it
# sends the step.

from base64 import b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ..steps import AuthStep, LineStep, Step

_WITH_PASSWORD = ("PLAIN", "LOGIN")
"""The mechanisms of a `LoginStep`."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user and the password for logins."""

    user: str
    """The name of the user."""
    password: str = field(repr=False)
    """The password."""


@dataclass(frozen=True, slots=True)
class LoginStep(Step):
    """AUTH with the user and the password of the run, which the step itself does not contain."""

    mechanism: str = "PLAIN"
    """PLAIN or LOGIN. Default: PLAIN."""
    has_initial: bool = True
    """Whether the first response follows the mechanism in the same line. Default: true."""
    is_wrong: bool = False
    """Whether the password is wrong. Default: false."""

    @property
    def verb(self) -> str:
        """`AUTH`."""
        return "AUTH"

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The lines, with words in place of the responses."""
        secret = b"(wrong password)" if self.is_wrong else b"(password)"
        return self._step([b"(user)", secret] if self.mechanism == "LOGIN" else [b"(user)" + secret]).pieces

    @property
    def continues(self) -> int:
        """334, or 0 without further responses."""
        return 334 if len(self.pieces) > 1 else 0

    def with_secrets(self, credentials: Credentials) -> AuthStep:
        """Return the step to send."""
        user, password = credentials.user.encode(), credentials.password.encode()
        password += b"x" if self.is_wrong else b""
        secrets = [user, password] if self.mechanism == "LOGIN" else [b"\0" + user + b"\0" + password]
        return self._step([b64encode(secret) for secret in secrets])

    def _step(self, responses: list[bytes]) -> AuthStep:
        first, rest = (responses[0], responses[1:]) if self.has_initial else (None, responses)
        return AuthStep(self.mechanism, first, tuple(rest))


def logins(mechanisms: Collection[str], *, is_wrong: bool = False) -> list[Step]:
    """Return the logins with the mechanisms that the server offers."""
    return [
        LoginStep(mechanism, has_initial, is_wrong)
        for mechanism in _WITH_PASSWORD
        if mechanism in mechanisms
        for has_initial in (True, False)
    ]


def failed_logins(mechanisms: Collection[str]) -> Iterator[Step]:
    """Yield logins that fail: they are cancelled, malformed, or have a user that hardly any server knows."""
    for mechanism in sorted(mechanisms):
        for response in _MALFORMED:
            yield AuthStep(mechanism, None, (response,))
        yield AuthStep(mechanism, b"=")
        yield AuthStep(mechanism, b"!")
        yield AuthStep(mechanism, b64encode(b"\0\xff\0\xff"))
        yield AuthStep(mechanism, None, (b64encode(b"x" * 9000),))
    if "LOGIN" in mechanisms:
        yield AuthStep("LOGIN", None, (b64encode(b"smtpcore-fuzz"), b"*"))
        yield AuthStep("LOGIN", None, (b64encode(b"smtpcore-fuzz"), b64encode(b"x")))
    if "PLAIN" in mechanisms:
        yield AuthStep("PLAIN", b64encode(b"\0smtpcore-fuzz\0x"))
    yield AuthStep("XYZZY")
    yield LineStep(b"AUTH")


_MALFORMED = (b"*", b"", b"!", b"=", b"QQ", b64encode(b"\0"), b64encode(b"\xff\xfe"), b64encode(b"a b"))
"""Responses to a challenge: cancelled, empty, not in base64, or with octets that no mechanism expects."""


def fails(step: Step) -> bool:
    """Return whether a step is a login that most servers refuse."""
    return isinstance(step, AuthStep) or (isinstance(step, LoginStep) and step.is_wrong)
