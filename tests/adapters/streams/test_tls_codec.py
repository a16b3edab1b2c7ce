"""TLS without I/O."""

import ssl

import pytest
import trustme

from smtpcore_adapters.streams._tls_codec import Encryption
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


def test_encrypted_data_is_decrypted_in_pieces(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    assert there.read() is None
    text = b"x" * 100_000
    there.receive_data(here.encrypt(text))
    received = b""
    while (piece := there.read()) is not None:
        received += piece
        assert there.has_input == (len(received) < len(text))
    assert received == text


def test_several_records_are_returned_as_one(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    records = here.encrypt(b"x" * 100_000)
    there.receive_data(records[:-1])
    assert there.read() == b"x" * (6 * 16_384)
    there.receive_data(records[-1:])
    assert there.read() == b"x" * (100_000 - 6 * 16_384)
    there.receive_data(here.encrypt(b"y" * 200_000))
    assert there.read() == b"y" * 131_072
    assert there.read() == b"y" * (200_000 - 131_072)
    there.receive_data(b"".join(here.encrypt(line) for line in (b"MAIL", b"RCPT", b"DATA"))[:-1])
    assert there.read() == b"MAILRCPT"
    assert there.read() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_error_of_a_record_is_raised_after_the_records_before(
    server: ssl.SSLContext, client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client.maximum_version = version
    here, there = handshake(server, client)
    sound, broken = here.encrypt(b"x" * 16_384), bytearray(here.encrypt(b"y"))
    broken[-1] ^= 1
    there.receive_data(sound + broken)
    assert there.read() == b"x" * 16_384
    assert there.has_input
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        there.read()
    assert there.read() == b""


def test_end_of_stream_after_a_full_record_is_returned_by_the_next_read(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    here, there = handshake(server, client)
    there.receive_data(here.encrypt(b"x" * 16_384) + here.close())
    assert there.read() == b"x" * 16_384
    assert there.read() == b""


def test_end_of_stream_is_recognized_with_and_without_close_notify(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> None:
    here, there = handshake(server, client)
    there.receive_data(here.close())
    assert there.read() == b""

    here, there = handshake(server, client)
    there.receive_data(b"")
    assert there.read() == b""


def test_plaintext_after_the_end_of_tls_is_never_returned(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    there.receive_data(here.encrypt(b"BDAT 9\r\nabc"))
    there.receive_data(here.close() + b"RSET\r\n")
    assert there.read() == b"BDAT 9\r\nabc"
    assert there.read() == b""

    there.receive_data(b"RSET\r\n")
    assert there.read() == b""


def test_close_with_unread_data_of_the_peer_raises_nothing(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    here, there = handshake(server, client)
    here.receive_data(there.encrypt(b"NOOP\r\n"))
    there.receive_data(here.close())
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
    here.receive_data(there.data_to_send())
    with pytest.raises(ssl.SSLError):
        here.handshake()
    there.receive_data(here.data_to_send())
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        there.handshake()
