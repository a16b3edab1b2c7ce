"""Channel binding of SCRAM to the certificate of the server (RFC 5929 section 4)."""

import hashlib
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from smtpcore_adapters.tls import self_signed_context, server_context
from smtpcore_adapters.tls._channel_binding import ServerContext, bindings_of, end_point_binding
from smtpcore_adapters.tls._info import describe_tls

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ECDSA = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def certificate(
    key: Key, algorithm: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None, *, pss: bool = False
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s.example")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2040, 1, 1, tzinfo=UTC),
    )
    salt = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if pss else None
    return builder.sign(key, algorithm, rsa_padding=salt).public_bytes(Encoding.DER)


@pytest.mark.parametrize("key", [RSA, ECDSA], ids=["RSA", "ECDSA"])
@pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_binding_uses_the_hash_of_the_signature_algorithm(key: Key, algorithm: hashes.SHA256) -> None:
    der = certificate(key, algorithm)
    binding = end_point_binding(der)
    assert binding is not None
    assert binding.type == "tls-server-end-point"
    assert binding.data == hashlib.new(algorithm.name, der).digest()


@pytest.mark.parametrize(
    "oid", [b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"], ids=["MD5", "SHA-1"]
)
def test_md5_and_sha1_are_replaced_by_sha256(oid: bytes) -> None:
    der = certificate(RSA, hashes.SHA256()).replace(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", oid)
    binding = end_point_binding(der)
    assert binding is not None
    assert binding.data == hashlib.sha256(der).digest()


@pytest.mark.parametrize(
    "der", [certificate(ED25519, None), certificate(RSA, hashes.SHA256(), pss=True)], ids=["Ed25519", "RSA-PSS"]
)
def test_signature_without_a_single_hash_has_no_binding(der: bytes) -> None:
    assert end_point_binding(der) is None


# A certificate in its parts: the signed fields, the signature algorithm, the signature.
WHOLE = certificate(ECDSA, hashes.SHA256())
ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
FIELDS, SIGNATURE = WHOLE[4 : WHOLE.rindex(ALGORITHM)], WHOLE[WHOLE.rindex(ALGORITHM) + len(ALGORITHM) :]


def value(tag: int, contents: bytes) -> bytes:
    """Return a DER value with a length of two octets."""
    return bytes([tag, 0x82]) + len(contents).to_bytes(2, "big") + contents


def with_algorithm(oid: bytes) -> bytes:
    """Return the certificate with another signature algorithm, which differs from that of the signed fields."""
    return value(0x30, FIELDS + value(0x30, value(0x06, oid)) + SIGNATURE)


MALFORMED = {
    "empty": b"",
    "cut in a length": b"\x30\x82\x01",
    "cut": WHOLE[:-1],
    "no sequence": b"\x31" + WHOLE[1:],
    "algorithm is no sequence": value(0x30, FIELDS + b"\x02\x01\x01"),
    "algorithm is empty": value(0x30, FIELDS + b"\x30\x00"),
    "algorithm is no identifier": value(0x30, FIELDS + b"\x30\x02\x05\x00"),
    "indefinite length": value(0x30, b"\x30\x80" + FIELDS[3:] + b"\0\0" + ALGORITHM + SIGNATURE),
    "empty identifier": with_algorithm(b""),
    "long identifier": with_algorithm(b"\x2a" + b"\xff" * 3000 + b"\1"),
    "unknown identifier": with_algorithm(b"\x2a\x03"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_certificate_has_no_binding(case: str) -> None:
    assert end_point_binding(value(0x30, FIELDS + ALGORITHM + SIGNATURE)) is not None
    assert end_point_binding(MALFORMED[case]) is None


@pytest.mark.parametrize("case", ["indefinite length", "long identifier"])
def test_client_that_does_not_verify_survives_a_malformed_certificate(case: str, tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(ssl.DER_cert_to_PEM_cert(MALFORMED[case]))
    key.write_bytes(ECDSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    _, client = shaken(context, ssl.SSLObject, ssl.TLSVersion.TLSv1_3)
    assert client.getpeercert(binary_form=True) == MALFORMED[case]
    assert describe_tls(client).bindings == ()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    leaf = trustme.CA().issue_cert("s.example")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"# a comment\n" + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(key)
    return chain, key


def connected(context: ssl.SSLContext) -> ssl.SSLObject:
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)


def test_context_binds_to_the_first_certificate_of_its_file(files: tuple[Path, Path]) -> None:
    """R7677-4-01"""
    context = server_context(*files)
    text = files[0].read_text()
    leaf = text[text.index("-----BEGIN") : text.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")]
    expected = end_point_binding(ssl.PEM_cert_to_DER_cert(leaf))

    # `bindings_of` never returns tls-unique, which is unsafe in a resumed session.
    assert bindings_of(connected(context)) == (expected,)
    assert bindings_of(connected(self_signed_context(["s.example"])))


def test_context_with_several_certificates_has_no_binding(files: tuple[Path, Path]) -> None:
    context = server_context(*files)
    context.load_cert_chain(*files)
    assert bindings_of(connected(context)) == ()


def test_plain_ssl_context_has_no_binding(files: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    assert bindings_of(connected(context)) == ()
    assert bindings_of(connected(ServerContext(ssl.PROTOCOL_TLS_SERVER))) == ()


def test_ed25519_certificate_is_served_without_binding(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(ssl.DER_cert_to_PEM_cert(certificate(ED25519, None)))
    key.write_bytes(ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert bindings_of(connected(server_context(chain, key))) == ()


class Exporting(ssl.SSLObject):
    """A connection that exports a secret for channel binding."""

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        return b"secret" if cb_type == "tls-exporter" else super().get_channel_binding(cb_type)


def shaken(context: ssl.SSLContext, kind: type[ssl.SSLObject], version: ssl.TLSVersion) -> list[ssl.SSLObject]:
    """Return the server's and the client's end after a handshake."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    context.sslobject_class = kind
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.check_hostname, own.verify_mode, own.maximum_version = False, ssl.CERT_NONE, version
    own.sslobject_class = kind
    ends = [context.wrap_bio(to_server, to_client, server_side=True), own.wrap_bio(to_client, to_server)]
    for end in [ends[1], *ends, *ends]:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends


@pytest.mark.parametrize(
    ("kind", "version", "types"),
    [
        (Exporting, ssl.TLSVersion.TLSv1_3, ["tls-exporter", "tls-server-end-point"]),
        (Exporting, ssl.TLSVersion.TLSv1_2, ["tls-server-end-point"]),
        (ssl.SSLObject, ssl.TLSVersion.TLSv1_3, ["tls-server-end-point"]),
    ],
)
def test_binding_of_the_session_comes_first_under_tls_1_3(
    files: tuple[Path, Path], kind: type[ssl.SSLObject], version: ssl.TLSVersion, types: list[str]
) -> None:
    server, client = (bindings_of(end) for end in shaken(server_context(*files), kind, version))
    assert [binding.type for binding in server] == types
    assert server == client


def test_connection_without_an_exported_secret_has_only_the_binding_of_the_certificate(
    files: tuple[Path, Path],
) -> None:
    class Empty(ssl.SSLObject):
        def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
            return None

    server, _ = shaken(server_context(*files), Empty, ssl.TLSVersion.TLSv1_3)
    assert [binding.type for binding in bindings_of(server)] == ["tls-server-end-point"]


def test_documentation_is_right_that_python_has_no_tls_exporter() -> None:
    # If this test fails on a new Python: change docs/sending.md and docs/extensions.md, and the comment of the module.
    assert ssl.CHANNEL_BINDING_TYPES == ["tls-unique"]
