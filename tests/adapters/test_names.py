"""Errors for unknown names."""

import pytest

from smtpcore_adapters._names import check_options, unknown_name


@pytest.mark.parametrize(
    ("name", "nearest"), [("tls_mode", "tls"), ("holdfor", "hold_for"), ("timeout", "timeouts"), ("zzz", "")]
)
def test_error_for_an_unknown_name_suggests_the_nearest_name_and_lists_all_names(name: str, nearest: str) -> None:
    text = unknown_name(name, "an option of connect", ["tls", "timeouts", "hold_for"])
    assert text.startswith(f"{name!r} is not an option of connect. The nearest is '{nearest}")
    assert text.endswith("; use one of hold_for, timeouts, tls")


def test_unknown_option_is_a_type_error() -> None:
    check_options("an option", ["tls"], ["tls", "auth"])
    with pytest.raises(TypeError, match=r"'tsl' is not an option. The nearest is 'tls'; use one of auth, tls"):
        check_options("an option", ["auth", "tsl"], ["tls", "auth"])


def test_hint_of_an_unknown_option_replaces_the_suggestion() -> None:
    with pytest.raises(TypeError, match=r"^'name' is not an option: say who$"):
        check_options("an option", ["name"], ["tls"], {"name": "say who"})
