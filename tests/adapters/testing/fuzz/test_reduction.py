"""An experiment is reduced to the steps, lines and octets that show the violation."""

import pytest

from smtpcore_adapters.testing.fuzz import Experiment, Kind, LoginStep, Plan
from smtpcore_adapters.testing.fuzz._reduction import MAX_RUNS, Reduction, simpler_steps
from smtpcore_adapters.testing.steps import BodyStep, ChunkStep, LineStep, Step, TlsStep

from .runs import BODY, HELLO, MAIL, NOOP, RCPT, RSET


def reduce(experiment: Experiment, wanted: Step, kind: Kind = Kind.SINGLE) -> Experiment:
    def shows(candidate: Experiment) -> bool:
        return wanted in candidate.plan.steps and kind in (Kind.SINGLE, candidate.kind)

    return Reduction(experiment, shows).run()


def test_steps_without_effect_are_removed() -> None:
    steps = (HELLO, MAIL, RCPT, BODY, RSET, NOOP) * 3

    assert reduce(Experiment(Plan(steps)), NOOP).plan.steps == (NOOP,)


def test_cuts_and_groups_that_are_not_needed_are_removed() -> None:
    experiment = Experiment(Plan((NOOP,), is_pipelined=True, cuts=(1, 2)))

    assert reduce(experiment, NOOP).plan == Plan((NOOP,))
    for kind, plan in ((Kind.CUTS, Plan((NOOP,), cuts=(1,))), (Kind.PIPELINING, Plan((NOOP,), is_pipelined=True))):
        assert reduce(Experiment(experiment.plan, kind), NOOP, kind) == Experiment(plan, kind)
        assert reduce(Experiment(experiment.plan, kind), NOOP) == Experiment(Plan((NOOP,)))


def test_last_cut_is_kept_if_it_is_the_cause() -> None:
    experiment = Experiment(Plan((NOOP,), cuts=(1, 2, 3)), Kind.CUTS)

    assert reduce(experiment, NOOP, Kind.CUTS).plan.cuts == (1,)
    assert Reduction(experiment, lambda candidate: 3 in candidate.plan.cuts).run().plan.cuts == (3,)
    assert Reduction(experiment, lambda candidate: len(candidate.plan.cuts) == 3).run().plan.cuts == (1, 2, 3)


def test_number_of_runs_is_limited() -> None:
    reduction = Reduction(Experiment(Plan((NOOP,) * 500)), lambda candidate: False)
    reduction.run()

    assert reduction.runs == MAX_RUNS


def test_lines_of_a_body_are_removed() -> None:
    steps = (BodyStep(b"a\r\nb\r\n" + b"z" * 1000 + b"\r\n"),)

    def shows(candidate: Experiment) -> bool:
        step = candidate.plan.steps[0] if candidate.plan.steps else None
        return isinstance(step, BodyStep) and b"zzz" in step.body

    (step,) = Reduction(Experiment(Plan(steps)), shows).run().plan.steps
    assert isinstance(step, BodyStep)
    assert len(step.body) < 80


@pytest.mark.parametrize(
    ("step", "simpler"),
    [
        (LineStep(b"MAIL FROM:<a@b> SIZE=1"), [LineStep(b"MAIL FROM:<>"), LineStep(b"MAIL FROM:<a@b>")]),
        (LineStep(b"RCPT TO:<Postmaster>"), []),
        (LineStep(b"X" * 80), [LineStep(b"X" * 40)]),
        (LoginStep("LOGIN", is_wrong=True), [LoginStep(is_wrong=True)]),
        (LoginStep(), []),
        (
            ChunkStep(b"a\nb", is_last=False),
            [ChunkStep(b"", is_last=False), *[ChunkStep(c, is_last=False) for c in (b"b", b"a\n")]],
        ),
        (TlsStep(), []),
    ],
    ids=str,
)
def test_simpler_steps(step: Step, simpler: list[Step]) -> None:
    assert list(simpler_steps(step)) == simpler
