"""Plans of sessions, and the experiments that compare two of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..steps import LineStep, Step

RSET = LineStep(b"RSET")


@dataclass(frozen=True, slots=True)
class Plan:
    """One session to play. QUIT follows the last step."""

    steps: tuple[Step, ...]
    """The steps in order."""
    is_pipelined: bool = False
    """Whether steps are sent in groups as far as RFC 2920 permits and the server offers PIPELINING. Default: false."""
    cuts: tuple[int, ...] = ()
    """The places at which the octets of each piece are cut into segments, counted from its end. Default: no cuts."""
    is_logged_in: bool = True
    """Whether the session begins after the AUTH of `Settings.login`. Default: true."""
    header: bytes | None = None
    """Octets in place of a valid PROXY header. The lines of the session follow at once. Default: a valid header."""


class Kind(Enum):
    """The kind of an experiment."""

    SINGLE = "single"
    """One session."""
    CUTS = "cuts"
    """The same session with and without cuts."""
    PIPELINING = "pipelining"
    """The same session with and without pipelined groups."""
    RESET = "reset"
    """A session with steps before the first RSET, and the same session without these steps."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One or two sessions that are judged together."""

    plan: Plan
    """The session."""
    kind: Kind = Kind.SINGLE
    """The kind, which gives the second session. Default: one session."""

    def plans(self) -> tuple[Plan, ...]:
        """Return the sessions to play: the plan, and the second session of the kind."""
        plan = self.plan
        match self.kind:
            case Kind.SINGLE:
                return (plan,)
            case Kind.CUTS:
                return plan, replace(plan, cuts=())
            case Kind.PIPELINING:
                return plan, replace(plan, is_pipelined=False)
            case _:
                return plan, replace(plan, steps=self.steps_after_reset(with_hello=True))

    def steps_after_reset(self, *, with_hello: bool = False) -> tuple[Step, ...]:
        """Return the steps after the first RSET; `with_hello` adds each EHLO at the start of the session."""
        steps = self.plan.steps
        place = steps.index(RSET) if RSET in steps else len(steps)
        count = next((n for n, step in enumerate(steps) if step.verb not in ("EHLO", "LHLO")), len(steps))
        return (*(steps[: min(count, place)] if with_hello else ()), *steps[place + 1 :])

    def with_steps(self, steps: Sequence[Step]) -> "Experiment":
        """Return the experiment with other steps."""
        return replace(self, plan=replace(self.plan, steps=tuple(steps)))
