import inspect
from copy import copy
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from smtpcore import OFF_BY_DEFAULT, BareNewlines, Bodies, Config, LocalProtocolError, Tolerance, given_fields

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def test_default_config_is_strict_and_has_all_limits() -> None:
    config = Config(hostname="s.example")

    assert config.bare_newlines is BareNewlines.REJECT
    assert config.tolerance is Tolerance.STRICT
    assert config.bodies is Bodies.LINES
    assert config.disabled == OFF_BY_DEFAULT
    assert not config.starttls
    assert not config.require_tls
    assert not config.lmtp
    assert config.auth_mechanisms == ()
    assert not config.plaintext_auth
    assert not config.require_auth
    limits = {field.name for field in fields(config) if field.name.startswith("max_")}
    unlimited = {"max_header", "max_hold_for", "max_hold_until", "max_messages", "max_recipient_domains"} | {
        "max_recipients_per_session"
    }
    assert len(limits - unlimited) == 8
    assert {name for name in limits if getattr(config, name) is None} == unlimited


def test_body_lines_may_have_any_length_in_chunks_only() -> None:
    assert Config(hostname="s.example", bodies=Bodies.CHUNKS, max_text_line=None).max_text_line is None
    with pytest.raises(LocalProtocolError, match=r"needs bodies=Bodies\.CHUNKS"):
        Config(hostname="s.example", max_text_line=None)


def test_config_is_an_immutable_value() -> None:
    config = Config(hostname="s.example")

    assert config == Config(hostname="s.example")
    assert hash(config) == hash(Config(hostname="s.example"))
    with pytest.raises(FrozenInstanceError):
        config.hostname = "t.example"  # type: ignore[misc]


@pytest.mark.parametrize("hostname", ["s.example", "[192.0.2.25]", "x", "x" * 255])
def test_hostname_may_be_a_domain_or_an_address_literal(hostname: str) -> None:
    assert Config(hostname=hostname).hostname == hostname


@pytest.mark.parametrize(
    "hostname",
    ["", "a b", "a\r\nb", "a\x00", "b\u00fccher.example", "x" * 256, "my_pc", "mx.example.org.", "a;b", "[192.0.2]"],
)
def test_hostname_unfit_for_a_reply_is_refused(hostname: str) -> None:
    """R6531-3.7.1-01"""
    with pytest.raises(LocalProtocolError, match="is neither a domain"):
        Config(hostname=hostname)


LEAST = [
    pytest.param("max_command_line", 512, id="R5321-4.5.3.1.4-01"),
    pytest.param("max_text_line", 1000, id="R5321-4.5.3.1.6-01"),
    pytest.param("max_message_size", 65536, id="R5321-4.5.3.1.7-01"),
    pytest.param("max_recipients", 100, id="R5321-4.5.3.1.8-01"),
    ("max_errors", 1),
    ("max_idle_commands", 1),
    ("max_auth_failures", 1),
    ("max_recipient_domains", 1),
    ("max_messages", 1),
    ("max_recipients_per_session", 1),
    ("max_refusals", 1),
    ("min_by_time", 1),
    ("max_hold_for", 1),
]


@pytest.mark.parametrize(("name", "least"), LEAST)
def test_limit_below_the_minimum_is_refused(name: str, least: int) -> None:
    other: dict[str, Any] = {"max_hold_until": NEW_YEAR} if name == "max_hold_for" else {}
    smallest: dict[str, Any] = {name: least}
    too_small: dict[str, Any] = {name: least - 1}

    assert getattr(Config(hostname="s.example", **other, **smallest), name) == least
    with pytest.raises(LocalProtocolError, match=f"^{name} is {least - 1}, but must be at least {least}"):
        Config(hostname="s.example", **other, **too_small)


def test_some_limits_can_be_disabled_with_none() -> None:
    names = ("max_message_size", "max_errors", "max_idle_commands", "max_auth_failures")
    without: dict[str, Any] = dict.fromkeys(names)

    config = Config(hostname="s.example", **without)
    assert [getattr(config, name) for name in names] == [None] * 4


def test_require_tls_needs_starttls() -> None:
    """R3207-6-01"""
    with pytest.raises(LocalProtocolError, match="set starttls=True too"):
        Config(hostname="s.example", require_tls=True)
    assert Config(hostname="s.example", starttls=True, require_tls=True).require_tls


@pytest.mark.parametrize(
    "changes",
    [
        {"min_by_time": 10**9},
        {"max_hold_for": 1},
        {"max_hold_until": NEW_YEAR},
        {"max_hold_for": 10**9, "max_hold_until": NEW_YEAR},
        {"max_hold_for": 1, "max_hold_until": NEW_YEAR.replace(tzinfo=None)},
        {"max_hold_for": 1, "max_hold_until": NEW_YEAR.astimezone(timezone(timedelta(hours=1)))},
        {"priority_policy": ""},
        pytest.param({"priority_policy": "x" * 21}, id="R6710-7-01"),
        {"priority_policy": "A B"},
        {"solicitation_classes": ("1x",)},
        {"solicitation_classes": ("a,b",)},
        {"solicitation_classes": ("x" * 481,)},
        {"burl": ("imap x",)},
        {"burl": ("",)},
    ],
)
def test_config_that_ehlo_cannot_announce_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Config(hostname="s.example", **changes)


def test_config_with_maximum_ehlo_values_is_accepted() -> None:
    config = Config(
        hostname="s.example",
        min_by_time=999_999_999,
        max_hold_for=999_999_999,
        max_hold_until=NEW_YEAR,
        priority_policy="STANAG4406",
        solicitation_classes=("net.example:ADV", "x" * 464),
        burl=("imap", "imap://imap.example.org"),
    )

    assert hash(config)


def test_signature_of_config_names_the_default_of_disabled() -> None:
    assert "= OFF_BY_DEFAULT" in str(inspect.signature(Config))


def test_require_auth_needs_a_mechanism() -> None:
    with pytest.raises(LocalProtocolError, match="auth_mechanisms"):
        Config(hostname="s.example", require_auth=True)
    assert Config(hostname="s.example", require_auth=True, auth_mechanisms=("PLAIN",)).require_auth


@pytest.mark.parametrize("name", ["", "plain", "PLAIN LOGIN", "PLAIN\r\n250 X", "X" * 21])
def test_invalid_mechanism_name_in_config_is_refused(name: str) -> None:
    assert Config(hostname="s.example", auth_mechanisms=("X" * 20,)).auth_mechanisms == ("X" * 20,)
    with pytest.raises(LocalProtocolError, match="use capitals"):
        Config(hostname="s.example", auth_mechanisms=(name,))


def test_enabled_extensions_are_removed_from_disabled() -> None:
    config = Config(hostname="s.example", enabled={"DSN", "ETRN"})

    assert config == Config(hostname="s.example", disabled=OFF_BY_DEFAULT - {"DSN", "ETRN"})
    assert replace(config, lmtp=True).disabled == config.disabled
    assert replace(config, enabled=frozenset({"DSN", "RRVS"})).disabled == config.disabled - {"RRVS"}
    assert replace(config, disabled=config.disabled | {"DSN"}).disabled == OFF_BY_DEFAULT - {"ETRN"}
    assert Config(hostname="s.example", disabled=frozenset({"VRFY"}), enabled={"VRFY"}).disabled == frozenset()


@pytest.mark.parametrize("enabled", [{"DNS"}, {"dsn"}, {"SIZE"}, {5}, "DSN"])
def test_enabled_takes_a_set_of_extensions_that_are_off_by_default(enabled: Any) -> None:
    with pytest.raises(LocalProtocolError, match="is not off by default; use a set of BURL, DELIVERBY, DSN"):
        Config(hostname="s.example", enabled=enabled)


def test_error_names_the_extensions_that_can_be_enabled() -> None:
    use = ", ".join(sorted({*OFF_BY_DEFAULT, "VRFY"}))
    with pytest.raises(LocalProtocolError, match=f"^enabled: 'SIZE' is not off by default; use a set of {use}$"):
        Config(hostname="s.example", disabled=frozenset({"VRFY"}), enabled={"SIZE"})


def test_mechanisms_offered_without_tls_can_be_named() -> None:
    names = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
    config = Config(hostname="s.example", auth_mechanisms=names, plaintext_auth=("SCRAM-SHA-256",))

    assert config.plaintext_mechanisms == ("SCRAM-SHA-256",)
    assert replace(config, plaintext_auth=True).plaintext_mechanisms == ("PLAIN", "SCRAM-SHA-256")
    assert replace(config, plaintext_auth=()).plaintext_mechanisms == ()
    for wrong in ("CRAM-MD5", "SCRAM-SHA-256-PLUS", "scram-sha-256"):
        message = f"^plaintext_auth has '{wrong}': name auth_mechanisms that do not need TLS$"
        with pytest.raises(LocalProtocolError, match=message):
            replace(config, plaintext_auth=(wrong,))


def test_fields_that_were_given_are_known_until_replace_or_a_copy() -> None:
    config = Config(hostname="s.example", lmtp=False, enabled={"DSN"})
    assert given_fields(config) == {"hostname", "lmtp", "enabled"}
    assert given_fields(replace(config, lmtp=True)) > {field.name for field in fields(config)} - {"enabled"}
    assert given_fields(copy(config)) == frozenset()
    assert copy(config) == config
    assert repr(config) == repr(copy(config))
