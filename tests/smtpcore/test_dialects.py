"""Rules derived from a configuration once and shared by its connections."""

from dataclasses import replace

import pytest

from smtpcore import EXTENSIONS, BareNewlines, Config, LocalProtocolError
from smtpcore._dialects import MAX_AUTH_LINE, compiled
from tests.helpers import CONFIG


def test_compiled_rules_are_shared_between_equal_configs() -> None:
    rules = compiled(EXTENSIONS, CONFIG)
    assert compiled(EXTENSIONS, replace(CONFIG)) is rules
    assert compiled(EXTENSIONS, replace(CONFIG, hostname="other.example")) is not rules
    assert compiled(EXTENSIONS[:-1], CONFIG) is not rules


@pytest.mark.parametrize("bare_newlines", BareNewlines)
def test_bare_lf_ends_a_command_unless_rejected(bare_newlines: BareNewlines) -> None:
    rules = compiled(EXTENSIONS, replace(CONFIG, bare_newlines=bare_newlines))
    assert rules.bare_lf is (bare_newlines is not BareNewlines.REJECT)


@pytest.mark.parametrize(
    ("wanted", "guards"),
    [
        ({}, False),
        ({"tls": True, "require_tls": True}, True),
        ({"auth_mechanisms": ("PLAIN",), "require_auth": True}, True),
    ],
)
def test_require_tls_or_require_auth_sets_guards(wanted: dict[str, object], guards: bool) -> None:
    config: Config = replace(CONFIG, **wanted)  # type: ignore[arg-type]
    assert compiled(EXTENSIONS, config).guards is guards


def test_auth_mechanisms_extend_the_line_limit() -> None:
    assert compiled((), CONFIG).longest_line == 512
    assert compiled((), replace(CONFIG, auth_mechanisms=("PLAIN",))).longest_line == MAX_AUTH_LINE


def test_keywords_and_dialects_depend_on_tls_and_on_ehlo() -> None:
    rules = compiled(EXTENSIONS, replace(CONFIG, tls=True))
    assert "STARTTLS" in rules.keywords[False]
    assert "STARTTLS" not in rules.keywords[True]
    assert "SIZE" in rules.dialects[False, True].parameters["MAIL"]
    assert not rules.dialects[False, False].parameters["MAIL"]
    assert set(rules.dialects) == {(False, False), (False, True), (True, False), (True, True)}


def test_contradictory_config_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="SMTPUTF8 needs 8BITMIME"):
        compiled(EXTENSIONS, replace(CONFIG, disabled=CONFIG.disabled | {"8BITMIME"}))
