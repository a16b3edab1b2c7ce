"""The attributes of XCLIENT."""

import pytest

from smtpcore import Ehlo, Helo
from smtpcore_adapters import Address
from smtpcore_adapters.server._xclient import NO_XCLIENT, XclientAttributes

ACTUAL = Address("192.0.2.80", 40_000)


def test_no_attributes_leave_everything_unchanged() -> None:
    assert not NO_XCLIENT
    assert NO_XCLIENT.peer(ACTUAL) == ACTUAL
    assert NO_XCLIENT.local(None) is None
    assert NO_XCLIENT.login is None
    assert NO_XCLIENT.helo is None


def test_later_xclient_attributes_replace_earlier_ones() -> None:
    first = XclientAttributes({"LOGIN": "tim", "ADDR": "198.51.100.7"})
    second = first.updated({"LOGIN": None, "PORT": "25"})
    assert first.login == "tim"
    assert second.login is None
    assert second.peer(ACTUAL) == Address("198.51.100.7", 25)


@pytest.mark.parametrize(
    ("text", "host"), [("198.51.100.7", "198.51.100.7"), ("IPV6:2001:DB8::1", "2001:db8::1"), ("ipv6:::1", "::1")]
)
def test_address_is_parsed_and_normalized(text: str, host: str) -> None:
    assert XclientAttributes({"ADDR": text, "PORT": "5"}).peer(ACTUAL) == Address(host, 5)
    assert XclientAttributes({"DESTADDR": text}).local(ACTUAL) == Address(host)


def test_peer_is_none_if_xclient_sends_no_address() -> None:
    assert XclientAttributes({"ADDR": None}).peer(ACTUAL) is None


def test_hello_has_the_protocol_of_the_client() -> None:
    assert XclientAttributes({"HELO": "c.example"}).helo == Ehlo("c.example")
    assert XclientAttributes({"HELO": "c.example", "PROTO": "smtp"}).helo == Helo("c.example")
    assert XclientAttributes({"HELO": "My PC"}).helo == Ehlo("My PC")
    assert XclientAttributes({"HELO": "tab\t"}).helo is None


def test_second_xclient_address_drops_the_attributes_of_the_first_client() -> None:
    first = XclientAttributes({"ADDR": "198.51.100.7", "NAME": "c.example", "LOGIN": "tim", "DESTPORT": "25"})
    assert first.updated({"ADDR": "198.51.100.7", "PORT": "5"}).login == "tim"
    second = first.updated({"ADDR": "198.51.100.8", "HELO": "d.example"})
    assert dict(second.attributes) == {"ADDR": "198.51.100.8", "HELO": "d.example", "DESTPORT": "25"}
