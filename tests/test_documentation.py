"""What the documentation shows is what happens."""

import doctest

import smtpcore


def test_the_smallest_dialogue_is_as_shown() -> None:
    result = doctest.testmod(smtpcore)

    assert result.attempted > 0
    assert result.failed == 0
