"""CRAM-MD5: prove knowledge of a password by a keyed hash of a challenge (RFC 2195)."""

# This mechanism is for clients that support no better mechanism. The server has to store the password itself, and does
# not authenticate itself to the client. Passwords are hashed unchanged: RFC 2195 is older than any text preparation.

import hmac
import re
import secrets
from typing import ClassVar

from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Policy
from ._mechanism import MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode
from ._steps import Challenge, GivePassword, Reason, Rejected

# The digest follows the last space, because names may contain spaces.
_match_response = re.compile(rb"(.+) ([0-9a-f]{32})", re.DOTALL).fullmatch


class CramServer(ServerMechanism):
    """The server's end of CRAM-MD5. Your program answers `GivePassword`."""

    def __init__(
        self,
        name: str,
        channel: Channel = PLAINTEXT,
        policy: Policy = DEFAULT_POLICY,
        *,
        challenge: bytes | None = None,
    ) -> None:
        super().__init__(name, channel, policy)
        self._challenge = challenge or _new_challenge(channel.host or "localhost")

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 2195 section 2."""
        if initial_response is not None:
            raise Refusal(Reason.INITIAL_RESPONSE)

        match = _match_response((yield Challenge(self._challenge)))
        if match is None:
            raise Refusal(Reason.MALFORMED)

        username = self.prepare_username(decode(match[1], MAX_NAME))
        password: str | None = yield GivePassword(username)
        is_right = hmac.compare_digest(_digest(password or "", self._challenge), match[2])
        if not is_right or not password:
            return Rejected(Reason.INVALID_CREDENTIALS)

        return (yield from self.authorize(username, None))


class CramClient(ClientMechanism):
    """The client's end of CRAM-MD5."""

    needs: ClassVar[tuple[str, ...]] = ("username", "password")

    def exchange(self) -> Responses:
        """Run the exchange of RFC 2195 section 2."""
        assert self.credentials.username
        assert self.credentials.password
        challenge = yield None
        return self.credentials.username.encode() + b" " + _digest(self.credentials.password, challenge)


def _new_challenge(host: str) -> bytes:
    # RFC 2195 section 2 requires digits that were never sent before. Without a clock, random digits take the place of a
    # timestamp.
    return f"<{secrets.randbits(64)}.{secrets.randbits(64)}@{host}>".encode()


def _digest(password: str, challenge: bytes) -> bytes:
    return hmac.digest(password.encode(), challenge, "md5").hex().encode()
