"""What the documentation shows is what happens."""

import doctest
from types import ModuleType

import pytest

import smtpcore
from smtpcore._extensions import _definition


@pytest.mark.parametrize("module", [smtpcore, _definition])
def test_the_examples_do_what_they_show(module: ModuleType) -> None:
    result = doctest.testmod(module)

    assert result.attempted > 0
    assert result.failed == 0
