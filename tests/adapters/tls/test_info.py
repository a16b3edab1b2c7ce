"""The result of a TLS handshake."""

import ssl
from typing import Any

import pytest
import trustme

from smtpcore_adapters import Certificate, Tls
from smtpcore_adapters.tls._info import describe_tls, note_server_names
from tests.adapters.streams.test_tls_codec import handshake
from tests.certificates import context_trusting


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("s.example").configure_cert(context)
    return context


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    return context_trusting(authority)


def test_tls_version_is_unknown_before_the_handshake() -> None:
    context = ssl.create_default_context()
    connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="s.example")
    assert describe_tls(connection) == Tls("TLS", "unknown", "s.example", None)
    assert str(Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")) == "TLSv1.3 TLS_AES_256_GCM_SHA384"


def test_server_name_is_known_to_both_ends_and_the_certificate_to_the_client(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    note_server_names(server)
    here, there = (end.describe() for end in handshake(server, client))
    assert (here.server_name, there.server_name) == ("s.example", "s.example")
    assert here.peer_certificate is None
    assert there.peer_certificate
    assert there.peer_certificate.alternative_names == (("DNS", "s.example"),)
    assert hash(there)
    assert "s.example" not in repr(there.peer_certificate)


def test_peer_certificate_has_its_subject_and_alternative_names() -> None:
    fields = {"subject": ((("countryName", "SE"),), (("commonName", "relay"), ("serialNumber", "1")))}
    certificate = Certificate(b"x", fields)
    assert certificate.subject == {"countryName": "SE", "commonName": "relay", "serialNumber": "1"}
    assert certificate.alternative_names == ()
    assert Certificate(b"x", {}).subject == {}


def test_recording_of_server_names_keeps_an_existing_sni_callback(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    calls: list[Any] = []
    server.sni_callback = lambda connection, name, context: calls.append((name, context))
    note_server_names(server)
    note_server_names(server)
    assert handshake(server, client)[0].describe().server_name == "s.example"
    assert calls == [("s.example", server)]

    server.sni_callback = None
    note_server_names(server)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    assert handshake(server, client, "")[0].describe().server_name is None


def test_sni_callback_may_refuse_the_name(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    server.sni_callback = lambda connection, name, context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    note_server_names(server)
    with pytest.raises(ssl.SSLError):
        handshake(server, client)
