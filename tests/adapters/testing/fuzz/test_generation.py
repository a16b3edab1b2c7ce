"""Generated experiments use only what the server offers."""

from itertools import islice

from smtpcore_adapters.testing.fuzz import Experiment, Kind
from smtpcore_adapters.testing.fuzz._generation import Generator
from smtpcore_adapters.testing.fuzz._hypothesis import drawn
from smtpcore_adapters.testing.steps import ChunkStep, LineStep, TlsStep

ALL = {"PIPELINING", "8BITMIME", "CHUNKING", "SIZE", "SMTPUTF8", "STARTTLS"}


def generator(offers: set[str]) -> Generator:
    recipients = ["u@s.example", "v@s.example"]
    return Generator(offers=offers, hello=LineStep(b"EHLO c.example"), sender="a@c.example", recipients=recipients)


def some(offers: set[str]) -> list[Experiment]:
    made = generator(offers)
    return [*made.openings(), *islice(drawn(made.experiments(), 1), 100)]


def test_extensions_that_are_not_offered_are_not_used() -> None:
    experiments = some(set())

    assert Kind.PIPELINING not in {experiment.kind for experiment in experiments[-100:]}
    assert not any(isinstance(step, ChunkStep | TlsStep) for each in experiments for step in each.plan.steps)


def test_offered_extensions_are_used() -> None:
    experiments = some(ALL)

    assert {experiment.kind for experiment in experiments[-100:]} == set(Kind)
    for kind in (ChunkStep, TlsStep):
        assert any(isinstance(step, kind) for each in experiments[-100:] for step in each.plan.steps)
