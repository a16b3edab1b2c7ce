"""A server that is killed at any moment has stored each message that it answered with 250, complete, and no others."""

import sys
from pathlib import Path

import pytest

from benchmarks.kill import Outcome, find_smtp_source, torment, torment_with_smtp_source


def assert_no_faults(outcome: Outcome, messages: int) -> None:
    assert outcome.faults() == []
    assert len(outcome.answered) >= messages
    assert len(outcome.stored) >= messages


def test_killed_server_has_stored_exactly_the_messages_answered_250(tmp_path: Path) -> None:
    assert_no_faults(torment(tmp_path, 60, seed=1, pause=0.6), 60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the children of a process are read from /proc")
def test_killed_worker_has_stored_exactly_the_messages_answered_250(tmp_path: Path) -> None:
    assert_no_faults(torment(tmp_path, 100, 2, "--workers", "2", pause=1.5), 100)


@pytest.mark.skipif(find_smtp_source() is None, reason="smtp-source is not installed")
def test_killed_server_has_stored_exactly_the_messages_of_smtp_source(tmp_path: Path) -> None:
    assert_no_faults(torment_with_smtp_source(tmp_path, 30, seed=3, pause=0.6), 30)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(answered={"a"}), "a was answered 250, but is not stored"),
        (Outcome(stored=["a"]), "a is stored, but was not answered 250"),
        (Outcome(answered={"a"}, stored=["a"], broken=["a"]), "a is incomplete or altered"),
        (Outcome(answered={"a"}, stored=["a", "a"]), "a is stored more than once"),
    ],
)
def test_each_kind_of_storage_fault_is_detected(outcome: Outcome, fault: str) -> None:
    assert fault in outcome.faults()
    assert Outcome(answered={"a"}, cut_off={"b", "c"}, stored=["a", "b"]).faults() == []
