"""The options of a tested server become a target, or a usage error in one line."""

import click
import pytest

from smtpcore_adapters.cli._target import address_of, target_of

OPTIONS: dict[str, object] = {
    "server": "mx.example.org:2525",
    "recipient": "b@s.example",
    "sender": None,
    "helo": "",
    "auth": None,
    "tls": "none",
    "insecure": False,
    "lmtp": False,
    "timeout": 5.0,
}


def test_sender_is_the_recipient_by_default() -> None:
    target = target_of(OPTIONS)

    assert (target.host, target.port, target.sender) == ("mx.example.org", 2525, "b@s.example")


@pytest.mark.parametrize(
    ("server", "address"),
    [("mx", ("mx", 25)), ("[::1]:26", ("::1", 26)), ("::1", ("::1", 25)), ("mx:1", ("mx", 1))],
)
def test_address_has_a_default_port(server: str, address: tuple[str, int]) -> None:
    assert address_of(server) == address


@pytest.mark.parametrize("server", ["mx:0", "mx:70000", "mx:x", ":25", "smtp://mx:25", "mx/x", "mx:25:26"])
def test_malformed_address_is_a_usage_error(server: str) -> None:
    with pytest.raises(click.UsageError, match="is not a server"):
        address_of(server)


def test_missing_server_is_asked_for() -> None:
    with pytest.raises(click.UsageError, match="give a server: HOST or HOST:PORT"):
        address_of("")
