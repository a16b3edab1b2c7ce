"""Socket addresses as `Address` objects."""

import select
import socket

import pytest

from smtpcore_adapters import Address
from smtpcore_adapters.streams._stream import address_of, is_readable, shared_address_of


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


def test_address_is_a_tuple_of_host_and_port() -> None:
    address = Address("::ffff:192.0.2.1", 25)
    host, port = address
    assert (host, port) == ("192.0.2.1", 25) == address
    assert address in {("192.0.2.1", 25)}
    assert address != ("192.0.2.1", 26)
    assert repr(address) == "Address(host='192.0.2.1', port=25)"


def test_comparison_of_an_address_with_a_string_is_a_type_error() -> None:
    address = Address("192.0.2.1", 25)
    with pytest.raises(TypeError, match=r"cannot be compared with '192\.0\.2\.1': compare its host, or str\(address\)"):
        _ = address == "192.0.2.1"
    with pytest.raises(TypeError, match=r"compare its host"):
        _ = address != "192.0.2.1"
    with pytest.raises(TypeError, match=r"compare its host"):
        _ = "192.0.2.1:25" == address  # noqa: SIM300


@pytest.mark.parametrize("has_poll", [True, False])
def test_socket_is_readable_after_input(has_poll: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_poll:  # Windows
        monkeypatch.delattr(select, "poll")
    here, there = socket.socketpair()
    with here, there:
        assert not is_readable(here.fileno())
        there.send(b"x")
        assert is_readable(here.fileno())


def test_connections_of_a_listener_share_their_local_address() -> None:
    first, second = shared_address_of(("127.0.0.1", 25)), shared_address_of(("127.0.0.1", 25))
    assert first == Address("127.0.0.1", 25)
    assert first is second
