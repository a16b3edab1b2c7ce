"""Reduce an experiment to the fewest steps that still show the same violation."""

# This is delta debugging over steps. Hypothesis' own shrinker would need a hundred times as many sessions, because it
# works on the random choices behind an experiment and not on its steps.

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from ..steps import BodyStep, ChunkStep, LineStep, Step
from ._logins import LoginStep
from ._plans import Experiment, Kind

T = TypeVar("T")

MAX_RUNS = 120
_MAX_SECONDS = 20.0
_SHORT = 60
"""Octets of a line below which it is not shortened."""


class Reduction:
    """A reduction in progress: the smallest experiment so far, and the number of runs."""

    def __init__(self, experiment: Experiment, shows: Callable[[Experiment], bool]) -> None:
        self.experiment = experiment
        """The smallest experiment found."""
        self.runs = 0
        """The number of experiments that were played."""
        self._shows = shows
        self._until = time.monotonic() + _MAX_SECONDS

    def run(self) -> Experiment:
        """Reduce, and return the smallest experiment."""
        self._try(replace(self.experiment, kind=Kind.SINGLE))
        plan = self.experiment.plan
        if self.experiment.kind is not Kind.CUTS and plan.cuts:
            self._try(replace(self.experiment, plan=replace(plan, cuts=())))
        if self.experiment.kind is not Kind.PIPELINING and plan.is_pipelined:
            self._try(replace(self.experiment, plan=replace(self.experiment.plan, is_pipelined=False)))
        for cut in self.experiment.plan.cuts:
            if self._try(replace(self.experiment, plan=replace(self.experiment.plan, cuts=(cut,)))):
                break

        before: Experiment | None = None
        while before != self.experiment and self._may_run():
            before = self.experiment
            self._remove_steps()
            self._simplify_steps()

        return self.experiment

    def _may_run(self) -> bool:
        return self.runs < MAX_RUNS and time.monotonic() < self._until

    def _try(self, candidate: Experiment) -> bool:
        if candidate == self.experiment or not self._may_run():
            return False

        self.runs += 1
        is_smaller = self._shows(candidate)
        if is_smaller:
            self.experiment = candidate
        return is_smaller

    def _remove_steps(self) -> None:
        size = len(self.experiment.plan.steps)
        while size:
            start = 0
            while start < len(self.experiment.plan.steps):
                steps = self.experiment.plan.steps
                if not self._try(self.experiment.with_steps(steps[:start] + steps[start + size :])):
                    start += size
            size //= 2

    def _simplify_steps(self) -> None:
        for place in range(len(self.experiment.plan.steps)):
            tried = True
            while tried:
                steps = list(self.experiment.plan.steps)
                tried = any(
                    self._try(self.experiment.with_steps([*steps[:place], simpler, *steps[place + 1 :]]))
                    for simpler in simpler_steps(steps[place])
                )


def simpler_steps(step: Step) -> Iterator[Step]:
    """Yield simpler steps of the same kind, the simplest first."""
    match step:
        case BodyStep(body=body):
            lines = body.split(b"\r\n")[:-1]
            yield from (BodyStep(b"".join(line + b"\r\n" for line in fewer)) for fewer in _fewer(lines))
            yield from (BodyStep(body.replace(line, line[: len(line) // 2], 1)) for line in lines if len(line) > _SHORT)
        case ChunkStep(chunk=chunk, is_last=is_last):
            lines = chunk.splitlines(keepends=True)
            yield from (ChunkStep(b"".join(fewer), is_last=is_last) for fewer in _fewer(lines))
        case LoginStep(is_wrong=is_wrong) if step != LoginStep(is_wrong=is_wrong):
            yield LoginStep(is_wrong=is_wrong)
        case LineStep(line=line):
            yield from (LineStep(plain) for plain in _plainer(line))
        case _:
            pass


def _fewer(items: Sequence[T]) -> Iterator[Sequence[T]]:
    size = len(items)
    while size:
        for start in range(0, len(items), size):
            yield [*items[:start], *items[start + size :]]
        size //= 2


_PLAIN = {b"MAIL": b"MAIL FROM:<>", b"RCPT": b"RCPT TO:<Postmaster>", b"EHLO": b"EHLO c.example"}


def _plainer(line: bytes) -> Iterator[bytes]:
    plain = _PLAIN.get(line[:4].upper())
    if plain and plain != line:
        yield plain
    if plain != line and line.startswith((b"MAIL FROM:<", b"RCPT TO:<")) and b"> " in line:
        yield line[: line.index(b"> ") + 1]
    if len(line) > _SHORT:
        yield line[: len(line) // 2]
