"""Reduce a behaviour to the fewest and simplest answers that still show the same violation."""

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from ._behaviour import Answer, Behaviour, Then, code_of_reply

_MAX_RUNS = 80
_MAX_SECONDS = 30.0
_PLAIN = Behaviour()


class BehaviourReduction:
    """A reduction in progress: the simplest behaviour so far, and the number of runs of the client."""

    def __init__(self, behaviour: Behaviour, lines: int, length_of: Callable[[Behaviour], int | None]) -> None:
        self.behaviour = behaviour
        """The simplest behaviour found."""
        self.runs = 0
        """The number of runs of the client."""
        self._lines = lines
        self._length_of = length_of  # of the dialogue; None if it does not show the violation
        self._tried = {behaviour}
        self._until = time.monotonic() + _MAX_SECONDS

    def run(self) -> Behaviour:
        """Reduce, and return the simplest behaviour."""
        while any(self._try(candidate) for candidate in simpler(self.behaviour)):
            pass
        # A session that ends early is shorter to read.
        for candidate in _ended(self.behaviour):
            self._try(candidate, is_longer=True)
        return self.behaviour

    def _try(self, candidate: Behaviour, *, is_longer: bool = False) -> bool:
        if candidate in self._tried or self.runs == _MAX_RUNS or time.monotonic() > self._until:
            return False

        self._tried.add(candidate)
        self.runs += 1
        lines = self._length_of(candidate)
        if lines is None or (is_longer and lines >= self._lines):
            return False

        self.behaviour, self._lines = candidate, lines
        return True


def _ended(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Yield behaviours that close the connection, the earliest end first."""
    for key in ("GREETING", "EHLO", "STARTTLS", "AUTH", "NOOP", "RSET", "MAIL", "RCPT", "DATA", "END"):
        others = tuple(answer for answer in behaviour.answers if answer.key != key)
        given = [replace(answer, then=Then.CLOSE) for answer in behaviour.answers if answer.key == key]
        for answer in given or [Answer(key, b"", then=Then.CLOSE), Answer(key, then=Then.CLOSE)]:
            yield replace(behaviour, answers=(*others, answer))


def simpler(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Yield simpler behaviours, those with the largest differences first."""
    for field in fields(Behaviour):
        plain = getattr(_PLAIN, field.name)
        if getattr(behaviour, field.name) != plain:
            yield replace(behaviour, **{field.name: plain})
    for place, answer in enumerate(behaviour.answers):
        before, after = behaviour.answers[:place], behaviour.answers[place + 1 :]
        yield replace(behaviour, answers=(*before, *after))
        for other in _simpler_answers(answer):
            yield replace(behaviour, answers=(*before, other, *after))
    for place in range(len(behaviour.offers)):
        yield replace(behaviour, offers=(*behaviour.offers[:place], *behaviour.offers[place + 1 :]))
    for place in range(len(behaviour.mechanisms)):
        yield replace(behaviour, mechanisms=(*behaviour.mechanisms[:place], *behaviour.mechanisms[place + 1 :]))


def _simpler_answers(answer: Answer) -> Iterator[Answer]:
    if answer.delay:
        yield replace(answer, delay=0.0)
    if answer.number:
        yield replace(answer, number=0)
    if answer.then is Then.CLOSE:
        yield replace(answer, then=Then.CONTINUE, reply=answer.reply or None)
    code = code_of_reply(answer.reply or b"")
    if code and answer.reply != (plain := b"%d OK\r\n" % code):
        yield replace(answer, reply=plain)
