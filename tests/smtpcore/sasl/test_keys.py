"""SCRAM key derivation, and the keys that a server stores per user."""

import base64
import subprocess
import sys
from typing import Any

import pytest

from smtpcore import LocalProtocolError
from smtpcore.sasl import Policy, ScramKeys, scram_keys
from smtpcore.sasl._keys import decoy_keys, is_password

SALT = base64.b64decode("QSXCR+Q6sek8bf92")


def test_scram_keys_are_those_of_the_example_of_rfc_5802() -> None:
    """RFC 5802 section 5: the keys of user and pencil."""
    keys = scram_keys("pencil", hash_name="SHA-1", salt=SALT, iterations=4096)

    assert keys.stored_key.hex() == "e9d94660c39d65c38fbad91c358f14da0eef2bd6"
    assert keys.server_key.hex() == "0fe09258b3ac852ba502cc62ba903eaacdbf7d31"
    assert (keys.salt, keys.iterations) == (SALT, 4096)


def test_salt_is_random_and_iterations_are_the_minimum_of_the_rfc() -> None:
    """R5802-5.1-09, R7677-3-02"""
    one, other = scram_keys("pencil"), scram_keys("pencil")

    assert one.salt != other.salt
    assert len(one.salt) == Policy().scram_salt_size
    assert one.iterations == Policy().scram_iterations == 4096
    assert len(one.stored_key) == 32


def test_passwords_equal_after_preparation_have_equal_keys() -> None:
    """R5802-2.2-01"""
    assert scram_keys("I\u00adX", salt=SALT) == scram_keys("\u2168", salt=SALT) == scram_keys("IX", salt=SALT)


@pytest.mark.parametrize(
    ("password", "options"),
    [
        pytest.param("Secret\u0007", {}, id="prohibited"),
        pytest.param("Secret\u0221", {}, id="unassigned: the hash is stored"),
        pytest.param("\u00ad", {}, id="empty after preparation"),
        pytest.param("", {}, id="empty"),
        pytest.param("Secret", {"hash_name": "MD5"}, id="hash"),
        pytest.param("Secret", {"salt": b""}, id="no salt"),
        pytest.param("Secret", {"iterations": 0}, id="no iterations"),
    ],
)
def test_scram_keys_refuses_invalid_input_without_showing_the_password(password: str, options: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        scram_keys(password, **options)

    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [(b"", 4096, b"k", b"k"), (b"s", 0, b"k", b"k"), (b"s", 1, b"", b""), (b"s", 1, b"kk", b"k")]
)
def test_scram_keys_with_invalid_fields_are_refused(values: tuple[bytes, int, bytes, bytes]) -> None:
    with pytest.raises(LocalProtocolError):
        ScramKeys(*values)


def test_scram_keys_may_have_a_single_iteration() -> None:
    assert scram_keys("pencil", iterations=1).iterations == 1
    assert ScramKeys(b"s", 1, b"k", b"k").iterations == 1


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256"])
@pytest.mark.parametrize("iterations", [1, 4096, 5000])
def test_password_is_recognized_by_keys_of_any_hash_and_iteration_count(hash_name: str, iterations: int) -> None:
    keys = scram_keys("pencil", hash_name=hash_name, iterations=iterations)

    assert is_password("pencil", keys)
    assert not is_password("pencils", keys)
    assert not is_password("\u0007", keys)


def test_repr_of_scram_keys_hides_the_keys() -> None:
    assert repr(ScramKeys(b"salt", 4096, b"Stored", b"Server")) == "ScramKeys(iterations=4096)"


def test_decoy_keys_are_stable_and_differ_by_user_hash_and_secret() -> None:
    def decoy(username: str = "tim", hash_name: str = "SHA-256", secret: bytes | None = None) -> ScramKeys:
        return decoy_keys(username, hash_name, iterations=4096, salt_size=16, secret=secret)

    assert decoy() == decoy()
    assert decoy(secret=b"x") == decoy(secret=b"x")
    salts = {decoy().salt, decoy("kurt").salt, decoy(hash_name="SHA-1").salt, decoy(secret=b"x").salt}
    assert len(salts) == 4
    assert len(decoy().salt) == 16
    assert [len(decoy(hash_name=name).stored_key) for name in ("SHA-1", "SHA-256")] == [20, 32]


@pytest.mark.parametrize(
    ("hash_name", "salt", "key"),
    [
        ("SHA-1", "d823f5c698c06872964bee1f2020b543", "ae4767fd4f599666d12b9468db158e9f2a5c067c"),
        (
            "SHA-256",
            "39a7d5ec483eeb8a272f47bb4b2380ba",
            "253a2a55e92a6d1a980a18298fd8cc15a44ff25a0a9f495bde88ed273a64aec7",
        ),
    ],
)
def test_decoy_keys_of_a_given_secret_are_the_same_in_every_process_and_release(
    hash_name: str, salt: str, key: str
) -> None:
    decoy = decoy_keys("tim", hash_name, iterations=4096, salt_size=16, secret=b"x")

    assert (decoy.salt.hex(), decoy.stored_key.hex()) == (salt, key)


def test_decoy_keys_are_the_same_in_forked_processes() -> None:
    # Otherwise the salt of an unknown user would differ between workers, which shows that the user does not exist.
    code = """if True:
        import os
        from smtpcore.sasl._keys import decoy_keys
        salt = lambda: decoy_keys("tim", "SHA-256", iterations=4096, salt_size=16, secret=None).salt
        reading, writing = os.pipe()
        if not os.fork():
            os.write(writing, salt())
            os._exit(0)
        print(os.read(reading, 16) == salt())
    """
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"True"
