"""A password comes from the environment or from the terminal, and never from an option."""

import click
import pytest

from smtpcore_adapters.cli._password import read_password


class Standard:
    """Standard input that is a terminal, or is not."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.isatty = lambda: is_terminal


def test_password_of_the_variable_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPCORE_PASSWORD", "s3cret")
    assert read_password("tim") == "s3cret"


def test_password_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTPCORE_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", Standard(is_terminal=True))
    monkeypatch.setattr(click, "prompt", lambda text, **options: f"{text} {sorted(options)}")
    assert read_password("tim") == "Password of tim ['confirmation_prompt', 'err', 'hide_input']"


def test_missing_password_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTPCORE_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", Standard(is_terminal=False))
    with pytest.raises(click.UsageError, match="set SMTPCORE_PASSWORD, or use a terminal"):
        read_password("tim")


def test_password_in_the_option_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(click.UsageError, match="--auth takes the USER only") as caught:
        read_password("tim:s3cret")
    assert "s3cret" not in caught.value.message
