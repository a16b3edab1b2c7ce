"""An experiment consists of one session, or of two sessions that have to be answered alike."""

from smtpcore_adapters.testing.fuzz import Experiment, Kind, Plan
from smtpcore_adapters.testing.steps import LineStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET

STEPS = (HELLO, MAIL, RCPT, RSET, MAIL, BODY)


def test_single_experiment_is_one_session() -> None:
    assert Experiment(Plan(STEPS)).plans() == (Plan(STEPS),)


def test_experiment_with_cuts_is_compared_with_the_same_session_without_cuts() -> None:
    assert Experiment(Plan(STEPS, cuts=(1,)), Kind.CUTS).plans() == (Plan(STEPS, cuts=(1,)), Plan(STEPS))


def test_pipelined_experiment_is_compared_with_single_commands() -> None:
    plan = Plan(STEPS, is_pipelined=True)

    assert Experiment(plan, Kind.PIPELINING).plans() == (plan, Plan(STEPS))


def test_steps_before_rset_are_removed_from_the_second_session_except_ehlo() -> None:
    assert Experiment(Plan(STEPS), Kind.RESET).plans() == (Plan(STEPS), Plan((HELLO, MAIL, BODY)))
    assert Experiment(Plan((LineStep(b"LHLO c"), RSET)), Kind.RESET).plans()[1] == Plan((LineStep(b"LHLO c"),))


def test_without_rset_the_second_session_has_only_ehlo() -> None:
    assert Experiment(Plan((HELLO, HELLO, NOOP)), Kind.RESET).plans()[1] == Plan((HELLO, HELLO))
    assert Experiment(Plan((HELLO, HELLO)), Kind.RESET).plans()[1] == Plan((HELLO, HELLO))
