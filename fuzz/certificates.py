"""Any octets as a certificate give the channel binding of RFC 5929, or none, and a cut certificate gives none."""

import hashlib

from cryptography import x509

from smtpcore.sasl import ChannelBinding
from smtpcore_adapters.tls._channel_binding import end_point_binding

from .harness import Draw, check_time

HASHES = {28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}
"""The hash by the size of its digest in octets."""
REPLACED = ("md5", "sha1")
"""The hashes that SHA-256 replaces (RFC 5929 4.1)."""


def check(certificate: bytes) -> str | None:
    """Check the binding of a certificate, and return the name of its hash."""
    binding = end_point_binding(certificate)
    if binding is None:
        return None

    name = HASHES[len(binding.data)]
    assert binding == ChannelBinding("tls-server-end-point", hashlib.new(name, certificate).digest())
    return name


def hash_of(certificate: bytes) -> str | None:
    """Return the name of the hash that another library reads from a certificate, None if the library refuses it."""
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except Exception:  # it raises several exceptions
        return None

    return algorithm.name if algorithm else None


def test_one_input(data: bytes) -> None:
    """Use the input as a certificate, whole and cut, and with a part that is repeated."""
    draw = Draw(data)
    place = draw.byte()
    certificate = draw.rest()
    name = check(certificate)
    known = hash_of(certificate)
    if known and name:
        assert name == ("sha256" if known in REPLACED else known)
    if known:  # the other library refuses octets after the certificate
        assert check(certificate + b"\0") == name
        assert check(certificate[: place * len(certificate) // 256]) is None

    at = place * len(certificate) // 256
    check_time(lambda times: check(certificate[:at] + certificate[at : at + 8] * times), place)
