"""SCRAM: both ends prove that they know a password, without sending it (RFC 5802)."""

# Both ends sign the same text, the "auth message": the three messages in which they agreed on all parameters. So an
# attacker in the middle cannot change any of the messages. The messages include the client's flag for channel binding:
#
#     p=type   The exchange is bound to the TLS channel. Always used in the -PLUS mechanisms, and only there.
#     y        The client supports channel binding, but the server did not offer it. If the server did offer it, an
#              attacker removed the -PLUS mechanisms from the server's list.
#     n        The client does not support channel binding.
#
# The server's proof comes last. SMTP's 235 reply cannot carry it, so it is sent as one more challenge, and the client's
# response is empty (RFC 4422 section 5, 2b).

import hmac
import secrets
from collections.abc import Callable
from typing import ClassVar, TypeVar

from .._errors import LocalProtocolError
from ._context import DEFAULT_POLICY, PLAINTEXT, Channel, Credentials, Policy
from ._keys import (
    MIN_ITERATIONS,
    ScramKeys,
    client_key,
    client_proof,
    decoy_keys,
    digest_name,
    is_proof,
    prepare_password,
    salt_password,
    server_key,
)
from ._mechanism import MAX_NAME, ClientMechanism, Exchange, Refusal, Responses, ServerMechanism, decode, first_response
from ._saslname import escape
from ._scram_messages import (
    ClientFinal,
    ClientFirst,
    ServerFirst,
    encode_base64,
    has_mandatory_extension,
    is_nonce,
    parse_client_final,
    parse_client_first,
    parse_server_final,
    parse_server_first,
)
from ._steps import Accepted, Challenge, GiveScramKeys, Reason
from ._stringprep import saslprep

_PLUS = "-PLUS"
_T = TypeVar("_T")


class ScramServer(ServerMechanism):
    """The server's end of SCRAM. Your program answers `GiveScramKeys`."""

    def __init__(
        self,
        name: str,
        channel: Channel = PLAINTEXT,
        policy: Policy = DEFAULT_POLICY,
        *,
        nonce: str | None = None,
    ) -> None:
        super().__init__(name, channel, policy)
        self._hash_name, self._is_plus = _parse_name(name, channel)
        self._digest = digest_name(self._hash_name)
        self._nonce = _new_nonce() if nonce is None else _check_nonce(nonce)

    def exchange(self, initial_response: bytes | None) -> Exchange:
        """Run the exchange of RFC 5802 section 5."""
        first = _understood((yield from first_response(initial_response)), parse_client_first)
        binding = self._expect_binding(first)
        username, requested = self._take_names(first)

        decoy = self._make_decoy(username)
        known: ScramKeys | None = yield GiveScramKeys(username, self._hash_name)
        keys = known or decoy

        nonce = first.nonce + self._nonce
        server_first = f"r={nonce},s={encode_base64(keys.salt)},i={keys.iterations}"
        final = _understood((yield Challenge(server_first.encode())), parse_client_final)
        auth_message = f"{first.bare},{server_first},{final.without_proof}".encode()
        self._check(final, binding, nonce)
        # Decoy keys are verified like real keys, so that the exchange takes the same time for an unknown user.
        if not is_proof(final.proof, keys, auth_message, self._digest) or known is None:
            raise Refusal(Reason.INVALID_CREDENTIALS)

        outcome = yield from self.authorize(username, requested)
        if isinstance(outcome, Accepted):
            signature = hmac.digest(keys.server_key, auth_message, self._digest)
            acknowledgment = yield Challenge(f"v={encode_base64(signature)}".encode())
            if acknowledgment:
                raise Refusal(Reason.MALFORMED)

        return outcome

    def _expect_binding(self, first: ClientFirst) -> str:
        """Return the header and channel binding that the client must repeat in its signed message."""
        # RFC 5802 section 6
        allowed = "p" if self._is_plus else "n" if self.channel.bindings else "ny"
        data = b""
        if first.flag.startswith("p="):
            data = self.channel.binding_data(first.flag[2:]) or b""
        if first.flag[0] not in allowed or bool(data) != self._is_plus:
            raise Refusal(Reason.CHANNEL_BINDING)

        return encode_base64(first.header.encode() + data)

    def _take_names(self, first: ClientFirst) -> tuple[str, str | None]:
        for name in (first.username, first.authorization or ""):
            if len(name.encode()) > MAX_NAME:
                raise Refusal(Reason.MALFORMED)

        username = self.prepare_username(first.username)
        return username, self.prepare(first.authorization) if first.authorization else None

    def _make_decoy(self, username: str) -> ScramKeys:
        return decoy_keys(
            username,
            self._hash_name,
            iterations=self.policy.scram_iterations,
            salt_size=self.policy.scram_salt_size,
            secret=self.policy.scram_secret,
        )

    def _check(self, final: ClientFinal, binding: str, nonce: str) -> None:
        if not hmac.compare_digest(final.binding, binding):
            raise Refusal(Reason.CHANNEL_BINDING)
        if not hmac.compare_digest(final.nonce, nonce):
            raise Refusal(Reason.INVALID_CREDENTIALS)


class ScramClient(ClientMechanism):
    """The client's end of SCRAM. Make a subclass to change the limits."""

    needs: ClassVar[tuple[str, ...]] = ("username", "password")
    can_act_for_others = True

    min_iterations: ClassVar[int] = MIN_ITERATIONS
    """The minimum iteration count. With fewer iterations, an attacker could find the password too easily."""
    max_iterations: ClassVar[int] = 1_000_000
    """The maximum iteration count, about one second of work. A hostile server could otherwise keep the client busy
    (RFC 5802 section 9)."""

    def __init__(
        self, name: str, credentials: Credentials, channel: Channel = PLAINTEXT, *, nonce: str | None = None
    ) -> None:
        super().__init__(name, credentials, channel)
        hash_name, is_plus = _parse_name(name, channel)
        self._digest = digest_name(hash_name)
        self._password = prepare_password(credentials.password or "")
        username, authzid = _prepare_name(credentials.username), _prepare_name(credentials.authorization)
        flag = f"p={channel.bindings[0].type}" if is_plus else "y" if channel.bindings else "n"
        self._header = f"{flag},{f'a={escape(authzid)}' if authzid else ''},"
        self._nonce = _new_nonce() if nonce is None else _check_nonce(nonce)
        self._bare = f"n={escape(username)},r={self._nonce}"
        self._binding_data = channel.bindings[0].data if is_plus else b""

    def exchange(self) -> Responses:
        """Run the exchange of RFC 5802 section 5."""
        server_first = yield f"{self._header}{self._bare}".encode()
        first = self._check_first(server_first)

        binding = encode_base64(self._header.encode() + self._binding_data)
        without_proof = f"c={binding},r={first.nonce}"
        auth_message = b",".join([self._bare.encode(), server_first, without_proof.encode()])
        salted = salt_password(self._password, self._digest, first.salt, first.iterations)
        proof = client_proof(client_key(salted, self._digest), auth_message, self._digest)

        server_final = yield f"{without_proof},p={encode_base64(proof)}".encode()
        self._check_final(server_final, hmac.digest(server_key(salted, self._digest), auth_message, self._digest))
        return b""

    def _check_first(self, message: bytes) -> ServerFirst:
        first = parse_server_first(self._decode(message))
        if first is None:
            self.distrust("sent a malformed first message")
        # RFC 5802 5.1: the nonce begins with the client's nonce. If the server adds nothing, this could be a replay.
        if not first.nonce.startswith(self._nonce) or first.nonce == self._nonce:
            self.distrust("did not extend the nonce")
        if not self.min_iterations <= first.iterations <= self.max_iterations:
            self.distrust(f"asks for {first.iterations} iterations, not {self.min_iterations} to {self.max_iterations}")

        return first

    def _check_final(self, message: bytes, signature: bytes) -> None:
        final = parse_server_final(self._decode(message))
        if final is None:
            self.distrust("sent a malformed final message")

        self.error: str | None = final.error
        if final.signature and not hmac.compare_digest(final.signature, signature):
            self.distrust("cannot prove that it knows this user: it may be an impostor")

    def _decode(self, message: bytes) -> str:
        try:
            return message.decode()
        except UnicodeDecodeError:
            self.distrust("sent a message that is not in UTF-8")


def _understood(message: bytes, parse: Callable[[str], _T | None]) -> _T:
    """Parse a client's message. Raises `Refusal`."""
    text = decode(message)
    # RFC 5802 5.1: an unknown mandatory extension makes the exchange fail.
    if has_mandatory_extension(text):
        raise Refusal(Reason.UNSUPPORTED_EXTENSION)

    parsed = parse(text)
    if parsed is None:
        raise Refusal(Reason.MALFORMED)

    return parsed


def _parse_name(name: str, channel: Channel) -> tuple[str, bool]:
    is_plus = name.endswith(_PLUS)
    if is_plus and not channel.bindings:
        raise LocalProtocolError(f"{name} needs a channel binding: add one to Channel.bindings")

    return name.removeprefix("SCRAM-").removesuffix(_PLUS), is_plus


def _prepare_name(name: str | None) -> str:
    """Prepare a name.

    RFC 5802 5.1: a client should not continue with a name that is prohibited, or empty after preparation.
    """
    if name is None:
        return ""

    try:
        prepared = saslprep(name)
    except ValueError as exc:
        raise LocalProtocolError(f"the name cannot be used with SCRAM: {exc}") from None

    if not prepared:
        raise LocalProtocolError("the name cannot be used with SCRAM: SASLprep removes all its characters")

    return prepared


def _check_nonce(nonce: str) -> str:
    if not is_nonce(nonce):
        raise LocalProtocolError(f"{nonce!r} is not a nonce: it has to be printable ASCII without commas")

    return nonce


def _new_nonce() -> str:
    return secrets.token_urlsafe(18)
