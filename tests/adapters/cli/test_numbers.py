"""Numbers on the command line."""

import click
import pytest

from smtpcore_adapters.cli import cli
from smtpcore_adapters.cli._numbers import NumberRange


@pytest.mark.parametrize("text", ["nan", "-nan", "0", "-1", "x"])
def test_value_that_is_not_in_the_range_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError):
        NumberRange(0, min_open=True).convert(text, None, None)


def test_value_in_the_range_is_a_number() -> None:
    assert NumberRange(0, min_open=True).convert("0.5", None, None) == 0.5
    assert NumberRange(0).convert("inf", None, None) == float("inf")


def test_no_option_of_a_command_takes_nan() -> None:
    options = [option for command in cli.commands.values() for option in command.params]
    ranges = [option.type for option in options if isinstance(option.type, click.FloatRange)]
    assert ranges
    assert all(isinstance(each, NumberRange) for each in ranges)
