"""The SSL contexts of servers."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from smtpcore_adapters.tls import self_signed_context, server_context


@pytest.fixture
def leaf() -> trustme.LeafCert:
    return trustme.CA().issue_cert("s.example")


@pytest.fixture
def certificate(leaf: trustme.LeafCert, tmp_path: Path) -> Path:
    path = tmp_path / "chain.pem"
    path.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return path


@pytest.fixture
def key(leaf: trustme.LeafCert, tmp_path: Path) -> Path:
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def served_certificate(server: ssl.SSLContext) -> bytes | None:
    """Do a handshake in memory. Returns the certificate that the client saw."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(here, there), server.wrap_bio(there, here, server_side=True)]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

            ends.remove(end)
            if not end.server_side:
                seen = end.getpeercert(binary_form=True)
    return seen


def test_a_context_has_the_certificate_of_the_files(leaf: trustme.LeafCert, certificate: Path, key: Path) -> None:
    expected = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    assert served_certificate(server_context(str(certificate), key)) == expected


def test_a_context_made_up_on_the_spot_can_be_used() -> None:
    assert served_certificate(self_signed_context(["localhost", "127.0.0.1"]))


def test_no_context_goes_below_tls_1_2(certificate: Path, key: Path) -> None:
    for context in (server_context(certificate, key), self_signed_context(["localhost"])):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_NONE  # clients need no certificate


def test_a_file_that_is_missing_is_an_oserror(certificate: Path, key: Path, tmp_path: Path) -> None:
    for files in ((tmp_path / "none", key), (certificate, tmp_path / "none")):
        with pytest.raises(FileNotFoundError):
            server_context(*files)


def test_a_file_that_is_none_is_an_sslerror(certificate: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text")
    for files in ((tmp_path / "text", key), (certificate, tmp_path / "text"), (certificate, certificate)):
        with pytest.raises(ssl.SSLError):
            server_context(*files)


def test_a_password_is_never_asked_for(certificate: Path, key: Path) -> None:
    private = load_pem_private_key(key.read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(ssl.SSLError):
        server_context(certificate, key)
