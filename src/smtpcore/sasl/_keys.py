"""The keys that a server stores for SCRAM instead of a password (RFC 5802 section 3)."""

#     SaltedPassword  = PBKDF2(password, salt, iterations)
#     ClientKey       = HMAC(SaltedPassword, "Client Key")        StoredKey = H(ClientKey)
#     ServerKey       = HMAC(SaltedPassword, "Server Key")
#     ClientProof     = ClientKey XOR HMAC(StoredKey, AuthMessage)
#     ServerSignature = HMAC(ServerKey, AuthMessage)
#
# The server stores StoredKey and ServerKey. These two suffice to verify a client and to authenticate the server, but
# not to log in as the client: that takes ClientKey, and StoredKey is only its hash.
#
# An unknown user gets decoy keys. The salt of these keys is derived from the user name and a secret, so that the salt
# of a name is always the same. The exchange fails only at the proof, as with a wrong password.

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from .._errors import LocalProtocolError
from .._fields import check_fields
from ._stringprep import saslprep

MIN_ITERATIONS = 4096  # RFC 5802 5.1 and RFC 7677 section 4
SALT_SIZE = 16

_HASHES = {"SHA-1": "sha1", "SHA-256": "sha256"}


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """The keys of a user in the database, for SCRAM. `scram_keys` makes them."""

    salt: bytes = field(repr=False)
    """Random octets, different for each user."""
    iterations: int
    """The number of times that the password was hashed."""
    stored_key: bytes = field(repr=False)
    """The key that verifies the client's proof."""
    server_key: bytes = field(repr=False)
    """The key that authenticates the server."""

    def __post_init__(self) -> None:
        check_fields(self, TypeError)
        if not self.salt or self.iterations < 1:
            raise LocalProtocolError("SCRAM keys need a salt and at least one iteration")
        if not self.stored_key or len(self.stored_key) != len(self.server_key):
            raise LocalProtocolError("StoredKey and ServerKey must come from the same hash and have the same length")


def scram_keys(
    password: str, *, hash_name: str = "SHA-256", salt: bytes | None = None, iterations: int = MIN_ITERATIONS
) -> ScramKeys:
    """Make the keys to store in a user database instead of `password`.

    Args:
        password: the password, which this function prepares with SASLprep.
        hash_name: `"SHA-1"` or `"SHA-256"`. Each needs keys of its own.
        salt: random octets. By default a new salt is made.
        iterations: a higher count slows down the search for the password from stolen keys, but also each login. Set
            `Policy.scram_iterations` to the same number, so that unknown users appear to have the same count.

    Raises:
        LocalProtocolError: SASLprep prohibits the password, or the hash is unknown.
    """
    digest = digest_name(hash_name)
    salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
    if not salt or iterations < 1:
        raise LocalProtocolError("SCRAM keys need a salt and at least one iteration")

    salted = salt_password(prepare_password(password), digest, salt, iterations)
    return ScramKeys(salt, iterations, stored_key(client_key(salted, digest), digest), server_key(salted, digest))


def digest_name(hash_name: str) -> str:
    """Return the name of a hash in `hashlib`. Raises `LocalProtocolError` for a hash without a SCRAM mechanism."""
    try:
        return _HASHES[hash_name]
    except KeyError:
        raise LocalProtocolError(f"SCRAM is defined for {' and '.join(_HASHES)}, not for {hash_name!r}") from None


def digest_size(hash_name: str) -> int:
    """Return the length of the keys in octets."""
    return hashlib.new(digest_name(hash_name)).digest_size


def prepare_password(password: str) -> bytes:
    """Return the password as it is hashed (Normalize in RFC 5802 2.2). Raises `LocalProtocolError`."""
    try:
        prepared = saslprep(password, stored=True)
    except ValueError as exc:
        raise LocalProtocolError(f"the password cannot be used with SCRAM: {exc}") from None

    if not prepared:
        raise LocalProtocolError("the password cannot be used with SCRAM: SASLprep removes all its characters")

    return prepared.encode()


def salt_password(password: bytes, digest: str, salt: bytes, iterations: int) -> bytes:
    """Return SaltedPassword. This is the only slow step of SCRAM."""
    return hashlib.pbkdf2_hmac(digest, password, salt, iterations)


def client_key(salted: bytes, digest: str) -> bytes:
    """Return the ClientKey of RFC 5802 section 3."""
    return hmac.digest(salted, b"Client Key", digest)


def server_key(salted: bytes, digest: str) -> bytes:
    """Return the ServerKey of RFC 5802 section 3."""
    return hmac.digest(salted, b"Server Key", digest)


def stored_key(key: bytes, digest: str) -> bytes:
    """Return the StoredKey of RFC 5802 section 3, given the ClientKey."""
    return hashlib.new(digest, key).digest()


def client_proof(key: bytes, auth_message: bytes, digest: str) -> bytes:
    """Return ClientProof, from ClientKey."""
    return _xor(key, hmac.digest(stored_key(key, digest), auth_message, digest))


def is_proof(proof: bytes, keys: ScramKeys, auth_message: bytes, digest: str) -> bool:
    """Return whether the maker of `proof` knows the password."""
    if len(proof) != len(keys.stored_key):
        return False

    key = _xor(proof, hmac.digest(keys.stored_key, auth_message, digest))
    return hmac.compare_digest(stored_key(key, digest), keys.stored_key)


def is_password(password: str, keys: ScramKeys) -> bool:
    """Return whether `keys` are the keys of `password`, with one of the hashes of SCRAM."""
    hash_name = next((name for name in _HASHES if digest_size(name) == len(keys.stored_key)), None)
    if hash_name is None:
        return False
    try:
        derived = scram_keys(password, hash_name=hash_name, salt=keys.salt, iterations=keys.iterations)
    except LocalProtocolError:  # SASLprep prohibits the password, so no keys were made from it
        return False

    return hmac.compare_digest(derived.stored_key, keys.stored_key)


def decoy_keys(username: str, hash_name: str, *, iterations: int, salt_size: int, secret: bytes | None) -> ScramKeys:
    """Return keys for an unknown user. The keys for a name are always the same, and no password matches them."""
    seed = f"{hash_name}\0{username}".encode()
    secret = secret or _SECRET
    salt = hashlib.pbkdf2_hmac("sha256", secret, b"salt\0" + seed, 1, salt_size)
    key = hashlib.pbkdf2_hmac("sha256", secret, b"key\0" + seed, 1, digest_size(hash_name))
    return ScramKeys(salt, iterations, key, key)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


_SECRET = secrets.token_bytes(32)
"""The default secret for decoys, made on import, so that processes that are forked later have the same decoys."""
