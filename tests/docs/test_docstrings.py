"""The examples in docstrings produce the output that they show."""

import doctest
from types import ModuleType

import pytest

import smtpcore
from smtpcore._extensions import _definition


@pytest.mark.parametrize("module", [smtpcore, _definition])
def test_docstring_examples_give_the_shown_output(module: ModuleType) -> None:
    result = doctest.testmod(module)

    assert result.attempted > 0
    assert result.failed == 0
