"""The options of `smtpcore serve` are made from the settings, and its help lists them in groups."""

import re

import click
import pytest

from smtpcore_adapters.cli._settings import ARGUMENT, SETTINGS
from smtpcore_adapters.cli.serve import serve


@pytest.fixture(scope="module")
def text() -> str:
    with click.Context(serve, terminal_width=200, max_content_width=200) as context:
        return serve.get_help(context)


def test_each_setting_has_an_option_with_a_text(text: str) -> None:
    missing = [
        setting.option
        for setting in SETTINGS.values()
        if not setting.is_only_in_file and setting.name != ARGUMENT and f"  {setting.option} " not in text
    ]
    assert [option for option in missing if not re.search(rf" {option} /|, {option}\b|{option}\n", text)] == []


def test_help_has_the_options_in_groups_with_their_defaults(text: str) -> None:
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles[0] == "Listener"
    assert titles[-2:] == ["Process and log", "Other options"]
    assert re.search(r"--timeout-body SECONDS +The time .*\[default: 300\]", text)
    assert re.search(r"--max-connections-per-prefix N .* by default twice --max-connections-per-address", text)
    assert "--lenient / --strict" in text
    assert "-v, --verbose" in text
    assert "--tls-names" not in text


def test_flag_can_be_switched_off_again() -> None:
    with serve.make_context("serve", ["--lmtp", "--no-lmtp", "--strict"]) as context:
        assert (context.params["lmtp"], context.params["lenient"], context.params["verbose"]) == (False, False, None)


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [(["--prot", "25"], "--port"), (["--max-sise", "5"], "--max-size"), (["--deliever", "x"], "--deliver")],
)
def test_misspelled_option_suggests_the_nearest(arguments: list[str], suggestion: str) -> None:
    with pytest.raises(click.NoSuchOption) as caught:
        serve.make_context("serve", arguments)
    assert suggestion in caught.value.format_message()
