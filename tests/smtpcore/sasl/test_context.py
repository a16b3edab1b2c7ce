"""The inputs of an exchange: channel, credentials and policy."""

from typing import Any

import pytest

from smtpcore import LocalProtocolError
from smtpcore.sasl import Channel, ChannelBinding, Credentials, Policy


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChannelBinding("", b"x"),
        lambda: ChannelBinding("tls,unique", b"x"),
        lambda: ChannelBinding("tls-unique", b""),
        lambda: Channel(host=""),
        lambda: Channel(host="a\r\nb"),
        lambda: Channel(host="\ud800"),
        lambda: Channel(port=0),
        lambda: Channel(port=65536),
        lambda: Credentials(username=""),
        lambda: Credentials(username="a\0b"),
        lambda: Credentials(username="\ud800"),
        lambda: Credentials(authorization=""),
        lambda: Credentials(authorization="a\x01b"),
        lambda: Credentials(password=""),
        lambda: Credentials(password="Secret\0"),
        lambda: Credentials(password="Secret\ud800"),
        lambda: Credentials(token=""),
        lambda: Credentials(token="Secret token"),
        lambda: Policy(scram_iterations=0),
        lambda: Policy(scram_salt_size=0),
    ],
)
def test_invalid_context_values_are_refused_without_showing_secrets(make: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        make()

    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["username", "authorization", "password", "token"])
def test_credentials_error_names_the_field(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=rf"\b{name}\b"):
        Credentials(**{name: ""})


def test_smallest_valid_values_are_accepted() -> None:
    assert Channel(port=1).port == 1
    assert Channel(port=65535).port == 65535
    assert Policy(scram_iterations=1, scram_salt_size=1).scram_salt_size == 1


def test_repr_of_context_values_hides_secrets() -> None:
    values = (
        Credentials(username="tim", password="Secret", token="Secret"),
        Channel(bindings=(ChannelBinding("tls-unique", b"Secret"),)),
        Policy(scram_secret=b"Secret"),
    )

    assert "Secret" not in repr(values) + str(values)
    assert "tim" in repr(values)


def test_channel_binding_data_is_found_by_type() -> None:
    channel = Channel(bindings=(ChannelBinding("tls-exporter", b"e"), ChannelBinding("tls-unique", b"u")))

    assert channel.binding_data("tls-unique") == b"u"
    assert channel.binding_data("tls-server-end-point") is None
