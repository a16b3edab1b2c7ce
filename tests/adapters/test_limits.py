"""Limits of time and of number."""

from dataclasses import FrozenInstanceError, fields

import pytest

from smtpcore_adapters import Limits, Timeouts


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"timeout {name} is .*, but must be more than 0 seconds"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", [field.name for field in fields(Timeouts)])
def test_a_timeout_may_be_short_or_endless(name: str) -> None:
    assert getattr(Timeouts(**{name: 0.001}), name) == 0.001
    assert getattr(Timeouts(**{name: float("inf")}), name) == float("inf")


def test_the_timeouts_for_clients_are_those_of_the_rfc() -> None:
    # RFC 5321 4.5.3.2.7: five minutes for a server that waits for a command.
    assert (Timeouts().greeting, Timeouts().command) == (300, 300)
    assert Timeouts().body >= 180  # RFC 5321 4.5.3.2.5


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_lets_one_in_at_least(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"limit {name} is 0, but must be at least 1"):
        Limits(**{name: 0})


def test_limits_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().connections = 5  # type: ignore[misc]
