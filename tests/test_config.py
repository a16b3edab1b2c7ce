from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from smtpcore import BareNewlines, Bodies, Config, LocalProtocolError


def test_the_default_is_strict_and_has_a_limit_on_everything() -> None:
    config = Config(hostname="s.example")

    assert config.bare_newlines is BareNewlines.REJECT
    assert config.bodies is Bodies.LINES
    assert config.disabled == {"EXPN"}
    assert not config.tls
    assert not config.require_tls
    limits = [field.name for field in fields(config) if field.name.startswith("max_")]
    assert len(limits) == 6
    assert all(getattr(config, name) for name in limits)


def test_a_configuration_is_an_immutable_value() -> None:
    config = Config(hostname="s.example")

    assert config == Config(hostname="s.example")
    assert hash(config) == hash(Config(hostname="s.example"))
    with pytest.raises(FrozenInstanceError):
        config.hostname = "t.example"  # type: ignore[misc]


@pytest.mark.parametrize("hostname", ["s.example", "[192.0.2.25]", "x" * 255])
def test_a_host_name_may_be_a_domain_or_an_address_literal(hostname: str) -> None:
    assert Config(hostname=hostname).hostname == hostname


@pytest.mark.parametrize("hostname", ["", "a b", "a\r\nb", "a\x00", "b\u00fccher.example", "x" * 256])
def test_a_host_name_that_cannot_stand_in_a_reply_is_refused(hostname: str) -> None:
    """R6531-3.7.1-01"""
    with pytest.raises(LocalProtocolError, match="is not a domain"):
        Config(hostname=hostname)


LEAST = [
    pytest.param("max_command_line", 512, id="R5321-4.5.3.1.4-01"),
    pytest.param("max_text_line", 1000, id="R5321-4.5.3.1.6-01"),
    pytest.param("max_message_size", 65536, id="R5321-4.5.3.1.7-01"),
    pytest.param("max_recipients", 100, id="R5321-4.5.3.1.8-01"),
    ("max_errors", 1),
    ("max_idle_commands", 1),
]


@pytest.mark.parametrize(("name", "least"), LEAST)
def test_a_limit_is_at_least_what_the_RFC_demands(name: str, least: int) -> None:
    smallest: dict[str, Any] = {name: least}
    too_small: dict[str, Any] = {name: least - 1}

    assert getattr(Config(hostname="s.example", **smallest), name) == least
    with pytest.raises(LocalProtocolError, match=f"{name} is {least - 1}, but must be at least {least}"):
        Config(hostname="s.example", **too_small)


def test_some_limits_can_be_switched_off() -> None:
    config = Config(hostname="s.example", max_message_size=None, max_errors=None, max_idle_commands=None)

    assert config.max_message_size is config.max_errors is config.max_idle_commands is None


def test_TLS_cannot_be_required_where_it_is_not_offered() -> None:
    """R3207-6-01"""
    with pytest.raises(LocalProtocolError, match="set tls=True too"):
        Config(hostname="s.example", require_tls=True)
    assert Config(hostname="s.example", tls=True, require_tls=True).require_tls
