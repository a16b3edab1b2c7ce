"""What a server keeps of a password for SCRAM (RFC 5802 section 3)."""

#     SaltedPassword  = PBKDF2(password, salt, iterations)
#     ClientKey       = HMAC(SaltedPassword, "Client Key")        StoredKey = H(ClientKey)
#     ServerKey       = HMAC(SaltedPassword, "Server Key")
#     ClientProof     = ClientKey XOR HMAC(StoredKey, AuthMessage)
#     ServerSignature = HMAC(ServerKey, AuthMessage)
#
# The server keeps StoredKey and ServerKey. They are enough to check a client and to prove itself, but not to be a
# client: that takes ClientKey, of which StoredKey is the hash.
#
# A user who does not exist has keys too, decoys. Their salt is derived from the name and a secret, so that it is the
# same whenever somebody asks, and the exchange fails only at the proof, as it does with a wrong password.

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from functools import cache

from .._errors import LocalProtocolError
from ._stringprep import saslprep

MIN_ITERATIONS = 4096  # RFC 5802 5.1 and RFC 7677 section 4
SALT_SIZE = 16

_HASHES = {"SHA-1": "sha1", "SHA-256": "sha256"}


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a user database keeps for SCRAM. Made by `scram_keys`."""

    salt: bytes = field(repr=False)
    """Random octets, others for every user."""
    iterations: int
    """How often the password was hashed."""
    stored_key: bytes = field(repr=False)
    """Checks the client's proof."""
    server_key: bytes = field(repr=False)
    """Proves the server."""

    def __post_init__(self) -> None:
        if not self.salt or self.iterations < 1:
            raise LocalProtocolError("SCRAM keys have a salt, and at least one iteration")
        if not self.stored_key or len(self.stored_key) != len(self.server_key):
            raise LocalProtocolError("StoredKey and ServerKey are results of one hash: they have the same length")


def scram_keys(
    password: str, *, hash_name: str = "SHA-256", salt: bytes | None = None, iterations: int = MIN_ITERATIONS
) -> ScramKeys:
    """Make the keys that a user database keeps instead of `password`.

    Args:
        password: prepared here with SASLprep, as a stored string.
        hash_name: `"SHA-1"` or `"SHA-256"`. Each needs keys of its own.
        salt: random octets; new ones by default.
        iterations: more make it slower to find the password from stolen keys, and the client slower at every login.
            Tell it to `Policy.scram_iterations` also, so that users who do not exist seem to have the same.

    Raises:
        LocalProtocolError: SASLprep does not allow the password, or the hash is unknown.
    """
    digest = digest_name(hash_name)
    salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
    if not salt or iterations < 1:
        raise LocalProtocolError("SCRAM keys have a salt, and at least one iteration")

    salted = salt_password(prepare_password(password), digest, salt, iterations)
    return ScramKeys(salt, iterations, stored_key(client_key(salted, digest), digest), server_key(salted, digest))


def digest_name(hash_name: str) -> str:
    """What `hashlib` calls a hash. Raises `LocalProtocolError` for one that SCRAM has no mechanism for."""
    try:
        return _HASHES[hash_name]
    except KeyError:
        raise LocalProtocolError(f"SCRAM is defined for {' and '.join(_HASHES)}, not for {hash_name!r}") from None


def digest_size(hash_name: str) -> int:
    """How many octets the keys have."""
    return hashlib.new(digest_name(hash_name)).digest_size


def prepare_password(password: str) -> bytes:
    """The password as it enters the hash (RFC 5802 2.2, Normalize). Raises `LocalProtocolError`."""
    try:
        prepared = saslprep(password, stored=True)
    except ValueError as exc:
        raise LocalProtocolError(f"the password cannot be used with SCRAM: {exc}") from None

    if not prepared:
        raise LocalProtocolError("the password cannot be used with SCRAM: nothing of it is left by SASLprep")

    return prepared.encode()


def salt_password(password: bytes, digest: str, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword. All the time that SCRAM takes is spent here."""
    return hashlib.pbkdf2_hmac(digest, password, salt, iterations)


def client_key(salted: bytes, digest: str) -> bytes:
    """ClientKey."""
    return hmac.digest(salted, b"Client Key", digest)


def server_key(salted: bytes, digest: str) -> bytes:
    """ServerKey."""
    return hmac.digest(salted, b"Server Key", digest)


def stored_key(key: bytes, digest: str) -> bytes:
    """StoredKey, from ClientKey."""
    return hashlib.new(digest, key).digest()


def client_proof(key: bytes, auth_message: bytes, digest: str) -> bytes:
    """ClientProof, from ClientKey."""
    return _xor(key, hmac.digest(stored_key(key, digest), auth_message, digest))


def is_proof(proof: bytes, keys: ScramKeys, auth_message: bytes, digest: str) -> bool:
    """Whether `proof` was made by one who knows the password."""
    if len(proof) != len(keys.stored_key):
        return False

    key = _xor(proof, hmac.digest(keys.stored_key, auth_message, digest))
    return hmac.compare_digest(stored_key(key, digest), keys.stored_key)


def decoy_keys(username: str, hash_name: str, *, iterations: int, salt_size: int, secret: bytes | None) -> ScramKeys:
    """The keys of a user who does not exist: the same ones each time, and no password has them."""
    seed = f"{hash_name}\0{username}".encode()
    secret = secret or _process_secret()
    salt = hashlib.pbkdf2_hmac("sha256", secret, b"salt\0" + seed, 1, salt_size)
    key = hashlib.pbkdf2_hmac("sha256", secret, b"key\0" + seed, 1, digest_size(hash_name))
    return ScramKeys(salt, iterations, key, key)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


@cache
def _process_secret() -> bytes:
    return secrets.token_bytes(32)
