"""Each setting has one definition, from which its key, variable, option, type, default and text follow."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from smtpcore import BareNewlines, Budgets
from smtpcore_adapters import Limits
from smtpcore_adapters.cli._settings import ARGUMENT, SETTINGS, describe, library_value


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_each_setting_has_a_text_and_a_default_of_its_type(setting: Any) -> None:
    assert setting.text.endswith((".", ":"))
    assert describe(setting.kind)
    if setting.default is not None:
        msgspec.convert(setting.default, setting.kind)


def test_names_of_the_key_the_variable_and_the_option_follow_from_one_name() -> None:
    setting = SETTINGS["max_size"]
    assert (setting.option, setting.variable) == ("--max-size", "SMTPCORE_MAX_SIZE")
    assert SETTINGS[ARGUMENT].option == "MODULE:ATTRIBUTE"


def test_each_limit_and_time_of_the_library_is_a_setting() -> None:
    sources = {setting.source for setting in SETTINGS.values()}
    missing = [name for kind in (Budgets, Limits) for name in kind.__slots__ if (kind, name) not in sources]
    assert missing == []


def test_text_of_a_library_setting_has_the_names_of_settings_and_no_default() -> None:
    assert SETTINGS["timeout_crowded"].text.endswith("while less than a tenth of max_connections is free.")
    assert "by default" not in SETTINGS["timeout_block"].text


@pytest.mark.parametrize(
    ("name", "raw", "is_text", "value"),
    [
        ("port", "25", True, 25),
        ("accept", "a.example  b.example", True, ["a.example", "b.example"]),
        ("accept", "a.example", False, ["a.example"]),
        ("deliver", {"url": "print:"}, False, [{"url": "print:"}]),
        ("timeout", 5, False, 5.0),
        ("lmtp", "true", True, True),
        ("max_hold_until", "2030-01-01T00:00:00Z", True, datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_values_are_converted(name: str, raw: object, is_text: bool, value: object) -> None:
    assert SETTINGS[name].convert(raw, is_text=is_text) == value


@pytest.mark.parametrize(
    ("name", "raw", "is_text", "error"),
    [
        ("port", "many", True, "'many' is not a whole number from 0 to 65535"),
        ("port", "25", False, "'25' is not a whole number from 0 to 65535; write it without quotes"),
        ("port", "x", False, "'x' is not a whole number from 0 to 65535"),
        ("lmtp", "true", False, "'true' is not true or false; write it without quotes"),
        ("unix_mode", 660, False, "660 is not a mode: use octal digits such as 660; write it in quotes"),
        ("unix_mode", 9, False, "9 is not a mode: use octal digits such as 660"),
        ("hostname", True, False, "True is not a text"),
        ("tls_names", {"mx": {"org": ["c", "k"]}}, False, ".* and a key; write a name with dots in quotes"),
        ("tls_names", {"mx": 5}, False, ".* is not a table of lists of a certificate and a key"),
        ("fd", -1, False, "-1 is not a whole number of at least 0"),
        ("timeout", 0, False, "0 is not a number of seconds, more than 0"),
        ("max_errors", "x", True, "'x' is not a whole number of at least 0"),
        ("backend", "twisted", True, "'twisted' is not one of asyncio, trio, threads"),
        ("unix_mode", "9", True, "'9' is not a mode: use octal digits such as 660"),
        ("lmtp", "yes", True, "'yes' is not true or false"),
        ("auth", ["tim:secret", 5], False, "the value is not a list of texts"),
    ],
)
def test_wrong_value_is_an_error_that_says_what_to_use(name: str, raw: object, is_text: bool, error: str) -> None:
    with pytest.raises(ValueError, match=f"^{error}$"):
        SETTINGS[name].convert(raw, is_text=is_text)


@pytest.mark.parametrize(
    ("name", "value", "converted"),
    [
        ("max_line", 0, None),
        ("max_line", 2000, 2000),
        ("max_recipients", 0, 0),
        ("bare_newlines", "accept", BareNewlines.ACCEPT),
        ("burl", ["imap"], ("imap",)),
        ("priority_policy", None, None),
    ],
)
def test_values_of_library_settings_are_converted_for_their_fields(name: str, value: object, converted: object) -> None:
    assert library_value(SETTINGS[name], value) == converted
