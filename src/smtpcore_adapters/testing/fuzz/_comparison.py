"""Play the same sessions at two servers, and report where they differ."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from ._differences import Comparison, Difference, Rank, difference_of
from ._engine import Fuzzer, Settings
from ._hypothesis import drawn
from ._peers import CannotFuzz
from ._plans import Experiment, Kind
from ._player import End
from ._reduction import Reduction

_MAX_DIFFERENCES = 40


def compare_servers(one: Fuzzer, other: Fuzzer, settings: Settings) -> Comparison:
    """Play the same sessions at two servers until the time is over. Raise `CannotFuzz`."""
    until = time.monotonic() + settings.seconds
    found: dict[tuple[Rank, str, str], Difference] = {}
    unstable: set[tuple[Rank, str, str]] = set()
    offers = one.probe() & other.probe()
    experiments = _experiments(one, offers, settings)
    number = 0
    end = ""
    try:
        while number != settings.examples and time.monotonic() < until and len(found) < _MAX_DIFFERENCES:
            number += 1
            experiment = next(experiments)
            difference = _play(one, other, experiment)
            if difference is None or difference.signature in found or difference.signature in unstable:
                continue
            confirmed = _play(one, other, experiment, is_patient=True)
            if confirmed and confirmed.signature != difference.signature:
                # A server may have been too slow in the first session, so two patient sessions are compared.
                difference, confirmed = confirmed, _play(one, other, experiment, is_patient=True)
            if confirmed is None or confirmed.signature != difference.signature:
                unstable.add(difference.signature)
            else:
                found[confirmed.signature] = _reduce(one, other, confirmed)
    except OSError as exc:
        end = f"a server accepts no more connections: {exc.strerror or exc}"
        if not found:
            raise CannotFuzz(end) from exc
    except KeyboardInterrupt:
        if not found:
            raise
        end = "the run was interrupted"

    ordered = sorted(found.values(), key=lambda difference: difference.rank)
    sessions = one.report.sessions + other.report.sessions
    notes = [*one.report.notes, *other.report.notes, *filter(None, [end])]
    return Comparison(ordered, notes, sessions)


def _experiments(one: Fuzzer, offers: frozenset[str], settings: Settings) -> Iterator[Experiment]:
    generator = one.generator(offers)
    drawn_later = drawn(generator.experiments(), settings.seed)
    yield from (replace(each, kind=Kind.SINGLE) for each in chain(generator.openings(), drawn_later))


def _play(one: Fuzzer, other: Fuzzer, experiment: Experiment, *, is_patient: bool = False) -> Difference | None:
    left, right = one.gather(experiment), other.gather(experiment)
    if is_patient and {left.recordings[0].end, right.recordings[0].end} & {End.SILENT, End.LEFT_OPEN}:
        # A server may only be slow, for example after errors.
        left, right = one.gather_patiently(experiment), other.gather_patiently(experiment)
    difference = difference_of(left, right)
    return difference and replace(
        difference, experiment=experiment, recordings=(left.recordings[0], right.recordings[0])
    )


def _reduce(one: Fuzzer, other: Fuzzer, difference: Difference) -> Difference:
    best = difference
    assert difference.experiment

    def shows(candidate: Experiment) -> bool:
        nonlocal best
        found = _play(one, other, candidate)
        if found is None or found.signature != difference.signature:
            return False

        best = found
        return True

    with suppress(OSError):  # a server died
        Reduction(difference.experiment, shows).run()
    return best
