from dataclasses import fields
from math import inf, nan

import pytest

from smtpcore import Budgets, ClientBudgets, LocalProtocolError

KINDS = (Budgets, ClientBudgets)


@pytest.mark.parametrize("kind", KINDS)
def test_each_budget_is_more_than_0_seconds_and_may_be_infinite(kind: type[Budgets] | type[ClientBudgets]) -> None:
    for field in fields(kind):
        assert getattr(kind(**{field.name: 0.001}), field.name) == 0.001
        assert getattr(kind(**{field.name: inf}), field.name) == inf
        for wrong in (-1, nan, *([0] if field.name != "body_rate" else [])):
            with pytest.raises(LocalProtocolError, match=field.name):
                kind(**{field.name: wrong})


def test_rate_of_0_switches_the_minimum_rate_of_a_body_off() -> None:
    assert Budgets(body_rate=0).body_rate == 0


def test_defaults_of_a_client_are_the_minimums_of_rfc_5321_4_5_3_2() -> None:
    budgets = ClientBudgets()
    assert (budgets.greeting, budgets.mail, budgets.rcpt) == (300, 300, 300)
    assert (budgets.data, budgets.send, budgets.end) == (120, 180, 600)
    assert (Budgets().greeting, Budgets().command) == (300, 300)  # 4.5.3.2.7
    assert Budgets().body >= 180


def test_shortened_budgets_are_at_most_the_given_time_except_the_session_budget() -> None:
    shortened = ClientBudgets(rcpt=7).at_most(10)

    assert shortened.session == inf
    assert {getattr(shortened, each.name) for each in fields(shortened) if each.name != "session"} == {10, 7, 5}
