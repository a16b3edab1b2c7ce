"""What was answered 250 is there, whole, though the server is killed; and what was not is not."""

import sys
from pathlib import Path

import pytest

from benchmarks.kill import Outcome, find_smtp_source, torment, torment_with_smtp_source


def assert_word_was_kept(outcome: Outcome, messages: int) -> None:
    assert outcome.faults() == []
    assert len(outcome.answered) >= messages
    assert len(outcome.stored) >= messages


def test_a_server_that_is_killed_keeps_its_word(tmp_path: Path) -> None:
    assert_word_was_kept(torment(tmp_path, 60, seed=1, pause=0.6), 60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells the children of a process")
def test_a_worker_that_is_killed_keeps_its_word(tmp_path: Path) -> None:
    assert_word_was_kept(torment(tmp_path, 100, 2, "--workers", "2", pause=1.5), 100)


@pytest.mark.skipif(find_smtp_source() is None, reason="smtp-source is not installed")
def test_a_server_that_is_killed_keeps_its_word_to_smtp_source(tmp_path: Path) -> None:
    assert_word_was_kept(torment_with_smtp_source(tmp_path, 30, seed=3, pause=0.6), 30)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(answered={"a"}), "a was answered 250, but is not stored"),
        (Outcome(stored=["a"]), "a is stored, but was not answered 250"),
        (Outcome(answered={"a"}, stored=["a"], broken=["a"]), "a is incomplete or altered"),
        (Outcome(answered={"a"}, stored=["a", "a"]), "a is stored more than once"),
    ],
)
def test_a_word_that_is_broken_is_seen(outcome: Outcome, fault: str) -> None:
    assert fault in outcome.faults()
    assert Outcome(answered={"a"}, cut_off={"b", "c"}, stored=["a", "b"]).faults() == []
