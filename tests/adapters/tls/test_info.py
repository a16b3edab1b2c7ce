"""The result of a TLS handshake, and TLS without I/O."""

import ssl
from typing import Any

import pytest
import trustme

from smtpcore_adapters import Certificate, Tls
from smtpcore_adapters.streams._tls_codec import Encryption
from smtpcore_adapters.tls._info import describe_tls, note_server_names


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
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "s.example") -> tuple[Encryption, Encryption]:
    ends = Encryption(server, None), Encryption(client, name)
    done = [False, False]
    while not all(done):
        for here, there in ((0, 1), (1, 0)):
            done[here] = ends[here].handshake()
            data = ends[here].data_to_send()
            if data:
                ends[there].receive_data(data)
    return ends


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


def test_certificate_subject_and_alternative_names() -> None:
    fields = {"subject": ((("countryName", "SE"),), (("commonName", "relay"), ("serialNumber", "1")))}
    certificate = Certificate(b"x", fields)
    assert certificate.subject == {"countryName": "SE", "commonName": "relay", "serialNumber": "1"}
    assert certificate.alternative_names == ()
    assert Certificate(b"x", {}).subject == {}


def test_noting_server_names_keeps_an_existing_sni_callback(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
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


def exchange(here: Encryption, there: Encryption) -> None:
    data = here.data_to_send()
    if data:
        there.receive_data(data)


def test_encrypted_data_is_decrypted_in_pieces(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    assert there.read() is None
    text = b"x" * 100_000
    here.write(text)
    exchange(here, there)
    received = b""
    while (piece := there.read()) is not None:
        received += piece
        assert there.has_input == (len(received) < len(text))
    assert received == text


def test_end_of_stream_with_or_without_close_notify(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    here.close()
    exchange(here, there)
    assert there.read() == b""

    here, there = handshake(server, client)
    there.receive_data(b"")
    assert there.read() == b""


def test_close_with_unread_data_of_the_peer_raises_nothing(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    there.write(b"NOOP\r\n")
    exchange(there, here)
    here.close()
    exchange(here, there)
    assert there.read() == b""


def test_plaintext_fails_the_handshake(server: ssl.SSLContext) -> None:
    end = Encryption(server, None)
    end.receive_data(b"NOOP\r\n" * 10)
    with pytest.raises(ssl.SSLError):
        end.handshake()


def test_failed_handshake_sends_an_alert_to_the_peer(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    here, there = Encryption(server, None), Encryption(client, "s.example")
    assert not there.handshake()
    exchange(there, here)
    with pytest.raises(ssl.SSLError):
        here.handshake()
    exchange(here, there)
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        there.handshake()
