"""Behaviours are reduced to what shows the violation."""

import pytest

from smtpcore_adapters.testing.fuzz.clients import Answer, Behaviour, Then
from smtpcore_adapters.testing.fuzz.clients import _reduction as reduction
from smtpcore_adapters.testing.fuzz.clients._generation import STANDARD
from smtpcore_adapters.testing.fuzz.clients._reduction import BehaviourReduction, simpler

REFUSAL = Answer("END", b"550-5.7.1 No\r\n550 5.7.1 No\r\n", 1, 0.05, Then.CLOSE)
LARGE = Behaviour(
    offers=STANDARD.offers,
    mechanisms=("PLAIN", "LOGIN"),
    segment_size=3,
    certificate="wrong name",
    answers=(Answer("QUIT", b"500 No\r\n"), REFUSAL, Answer("MAIL", delay=0.05)),
)


def _refuses_end(behaviour: Behaviour) -> int | None:
    is_shown = any(answer.key == "END" and answer.code == 550 for answer in behaviour.answers)
    has_end = any(answer.then is Then.CLOSE for answer in behaviour.answers)
    return (5 if has_end else 9) if is_shown else None


def test_differences_that_have_no_effect_are_removed() -> None:
    found = BehaviourReduction(LARGE, 20, lambda each: _refuses_end(each) and 9).run()

    assert found == Behaviour(answers=(Answer("END", b"550 OK\r\n"),))


def test_session_ends_as_soon_as_the_dialogue_is_shorter() -> None:
    found = BehaviourReduction(LARGE, 20, _refuses_end).run()

    assert found.answers == (Answer("END", b"550 OK\r\n"), Answer("GREETING", b"", then=Then.CLOSE))


def test_offers_and_mechanisms_are_removed_one_by_one() -> None:
    found = BehaviourReduction(
        LARGE, 20, lambda each: 9 if "8BITMIME" in each.offers and "LOGIN" in each.mechanisms else None
    ).run()

    assert (found.offers, found.mechanisms) == (("8BITMIME",), ("LOGIN",))


def test_existing_answer_is_given_an_end() -> None:
    start = Behaviour(answers=(Answer("END", b"550 OK\r\n"),))
    found = BehaviourReduction(
        start, 9, lambda each: _refuses_end(each) if {answer.key for answer in each.answers} == {"END"} else None
    ).run()

    assert found.answers == (Answer("END", b"550 OK\r\n", then=Then.CLOSE),)


@pytest.mark.parametrize(("limit", "value"), [("_MAX_RUNS", 0), ("_MAX_SECONDS", -1.0)])
def test_reduction_is_bounded(limit: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, limit, value)
    bounded = BehaviourReduction(LARGE, 20, _refuses_end)

    assert (bounded.run(), bounded.runs) == (LARGE, 0)


def test_plain_behaviour_has_nothing_simpler() -> None:
    assert list(simpler(Behaviour())) == []


def test_close_without_reply_becomes_an_ordinary_reply() -> None:
    found = list(simpler(Behaviour(answers=(Answer("END", b"", then=Then.CLOSE),))))

    assert Behaviour(answers=(Answer("END"),)) in found
