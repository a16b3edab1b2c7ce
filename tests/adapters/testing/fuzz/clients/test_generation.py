"""Behaviours are generated for each use of TLS."""

from itertools import islice

import pytest

from smtpcore_adapters.check.clients import Tls
from smtpcore_adapters.testing.fuzz._hypothesis import drawn
from smtpcore_adapters.testing.fuzz.clients import Behaviour, Then
from smtpcore_adapters.testing.fuzz.clients._generation import behaviours, openings


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_openings_are_different_and_begin_with_correct_servers(tls: Tls) -> None:
    found = list(openings(tls))

    assert len(set(found)) == len(found) > 100
    assert [behaviour.answers for behaviour in found[:5]] == [()] * 5
    assert any(behaviour.certificate != "valid" for behaviour in found) == (tls != "none")
    has_starttls = any(answer.key == "STARTTLS" for behaviour in found for answer in behaviour.answers)
    assert has_starttls == (tls != "implicit")


def _drawn(tls: Tls, seed: int = 1) -> list[Behaviour]:
    return list(islice(drawn(behaviours(tls), seed), 50))


def test_drawn_behaviours_depend_on_the_seed_only() -> None:
    assert _drawn("none") == _drawn("none")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_drawn_behaviours_have_answers_of_many_kinds(tls: Tls) -> None:
    answers = [answer for behaviour in _drawn(tls) for answer in behaviour.answers]

    assert {answer.then for answer in answers} == {Then.CONTINUE, Then.CLOSE}
    assert {answer.is_harmless for answer in answers} == {True, False}
    assert tls == "starttls" or all(answer.key != "STARTTLS" for answer in answers)
