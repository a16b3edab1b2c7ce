"""What a session needs of an I/O framework."""

import ssl

import pytest

from smtpcore_adapters import Address, Tls
from smtpcore_adapters._stream import address_of, describe_tls


@pytest.mark.parametrize(
    ("name", "address", "text"),
    [
        (("192.0.2.1", 25), Address("192.0.2.1", 25), "192.0.2.1:25"),
        (("2001:db8::1", 25, 0, 0), Address("2001:db8::1", 25), "[2001:db8::1]:25"),
        (("fe80::1%eth0", 25, 0, 2), Address("fe80::1", 25), "[fe80::1]:25"),
        (("::ffff:192.0.2.1", 25, 0, 0), Address("::ffff:192.0.2.1", 25), "[::ffff:192.0.2.1]:25"),
        ("/run/smtp", Address("/run/smtp"), "/run/smtp"),
        ("", None, "None"),
        (b"", None, "None"),
        (None, None, "None"),
        ((), None, "None"),
    ],
)
def test_addresses_are_those_of_sockets(name: object, address: Address | None, text: str) -> None:
    assert address_of(name) == address
    assert str(address) == text


def test_tls_is_described_before_and_behind_the_handshake() -> None:
    context = ssl.create_default_context()
    connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="s.example")
    assert describe_tls(connection) == Tls("TLS", "unknown")
    assert str(Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")) == "TLSv1.3 TLS_AES_256_GCM_SHA384"
