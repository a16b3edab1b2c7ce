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

from smtpcore_adapters.tls import ServerTls, self_signed_context, server_context


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


def served_certificate(server: ssl.SSLContext, name: str | None = None) -> bytes | None:
    """Do a handshake in memory. Returns the certificate that the client saw."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(here, there, server_hostname=name), server.wrap_bio(there, here, server_side=True)]
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


def test_context_serves_the_certificate_of_the_files(leaf: trustme.LeafCert, certificate: Path, key: Path) -> None:
    expected = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    assert served_certificate(server_context(str(certificate), key)) == expected


def test_self_signed_context_serves_a_certificate() -> None:
    assert served_certificate(self_signed_context(["localhost", "127.0.0.1"]))


def test_contexts_require_tls_1_2(certificate: Path, key: Path) -> None:
    for context in (server_context(certificate, key), self_signed_context(["localhost"])):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_NONE  # clients need no certificate


def test_missing_file_is_a_file_not_found_error(certificate: Path, key: Path, tmp_path: Path) -> None:
    for files in ((tmp_path / "none", key), (certificate, tmp_path / "none")):
        with pytest.raises(FileNotFoundError):
            server_context(*files)


def test_file_without_certificate_or_key_is_an_ssl_error(certificate: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text")
    for files in ((tmp_path / "text", key), (certificate, tmp_path / "text"), (certificate, certificate)):
        with pytest.raises(ssl.SSLError):
            server_context(*files)


def test_encrypted_key_is_an_error_without_a_password_prompt(certificate: Path, key: Path) -> None:
    private = load_pem_private_key(key.read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(ssl.SSLError):
        server_context(certificate, key)


def files_of(directory: Path, certificate: trustme.LeafCert) -> tuple[Path, Path]:
    files = directory / "chain.pem", directory / "key.pem"
    directory.mkdir(exist_ok=True)
    files[0].write_bytes(certificate.cert_chain_pems[0].bytes())
    files[1].write_bytes(certificate.private_key_pem.bytes())
    return files


def der(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def test_certificate_is_chosen_by_server_name(tmp_path: Path) -> None:
    names = ("s.example", "a.example", "*.b.example", "c.example")
    certificates = {name: trustme.CA().issue_cert(name) for name in names}
    files = {name: files_of(tmp_path / name, each) for name, each in certificates.items()}
    seen: list[str] = []

    def choose(name: str) -> ssl.SSLContext | None:
        seen.append(name)
        return server_context(*files["c.example"]) if name == "c.example" else None

    named = {name.upper(): files[name] for name in ("a.example", "*.b.example")}
    context = ServerTls(*files["s.example"], names=named, choose=choose).context
    expected = {
        None: "s.example",
        "s.example": "s.example",
        "A.EXAMPLE": "a.example",
        "mx.b.example": "*.b.example",
        "b.example": "s.example",
        "x.mx.b.example": "s.example",
        "c.example": "c.example",
    }
    for name, shown in expected.items():
        assert served_certificate(context, name) == der(certificates[shown])
    assert seen == [name.lower() for name in expected if name]


@pytest.mark.parametrize("key_type", trustme.KeyType)
def test_reload_renews_all_certificates_or_none(tmp_path: Path, key_type: trustme.KeyType) -> None:
    old, new = trustme.CA().issue_cert("s.example"), trustme.CA().issue_cert("s.example", key_type=key_type)
    files = files_of(tmp_path / "s", old)
    other = files_of(tmp_path / "other", old)
    tls = ServerTls(*files, names={"other.example": other})
    context = tls.context

    files[0].write_bytes(new.cert_chain_pems[0].bytes())
    with pytest.raises(ssl.SSLError):  # the key does not match the certificate
        tls.reload()
    assert served_certificate(context) == der(old)

    files[1].write_bytes(new.private_key_pem.bytes())
    other[1].unlink()
    with pytest.raises(FileNotFoundError):
        tls.reload()
    assert served_certificate(context) == der(old)

    files_of(tmp_path / "other", new)
    tls.reload()
    assert served_certificate(context) == der(new)
    assert served_certificate(context, "other.example") == der(new)


@pytest.mark.parametrize(
    "name", ["", "two words", "mx.example.", "b\xfccher.example", "*", "a.*.example", "[192.0.2.1]"]
)
def test_name_that_no_client_asks_for_is_a_value_error(name: str, certificate: Path, key: Path) -> None:
    with pytest.raises(ValueError, match=r"write a host name in ASCII, or \*\.example\.org"):
        ServerTls(certificate, key, names={name: (certificate, key)})


def test_names_that_differ_only_in_case_are_a_value_error(certificate: Path, key: Path) -> None:
    files = (certificate, key)
    ServerTls(*files, names={"MX_1.example": files, "*.a-b.example": files})
    with pytest.raises(ValueError, match="two names differ only in upper and lower case"):
        ServerTls(*files, names={"MX.example": files, "mx.example": files})


def test_required_client_certificate_needs_a_client_ca(tmp_path: Path) -> None:
    files = files_of(tmp_path, trustme.CA().issue_cert("s.example"))
    with pytest.raises(ValueError, match="require_client_certificate needs client_ca"):
        ServerTls(*files, require_client_certificate=True)
    with pytest.raises(FileNotFoundError):
        ServerTls(*files, client_ca=tmp_path / "none")
