"""Socket addresses as `Address` objects."""

import pytest

from smtpcore_adapters import Address
from smtpcore_adapters.streams._stream import address_of


@pytest.mark.parametrize(
    ("name", "address", "text"),
    [
        (("192.0.2.1", 25), Address("192.0.2.1", 25), "192.0.2.1:25"),
        (("2001:db8::1", 25, 0, 0), Address("2001:db8::1", 25), "[2001:db8::1]:25"),
        (("fe80::1%eth0", 25, 0, 2), Address("fe80::1", 25), "[fe80::1]:25"),
        (("::ffff:192.0.2.1", 25, 0, 0), Address("192.0.2.1", 25), "192.0.2.1:25"),
        (("::ffff:c000:201", 25, 0, 0), Address("192.0.2.1", 25), "192.0.2.1:25"),
        (("::ffff:1:2:3", 25, 0, 0), Address("::ffff:1:2:3", 25), "[::ffff:1:2:3]:25"),
        ("::ffff:socket", Address("::ffff:socket"), "::ffff:socket"),
        ("/run/smtp", Address("/run/smtp"), "/run/smtp"),
        ("", None, "None"),
        (b"", None, "None"),
        (None, None, "None"),
        ((), None, "None"),
    ],
)
def test_address_is_made_from_a_socket_name(name: object, address: Address | None, text: str) -> None:
    assert address_of(name) == address
    assert str(address) == text
