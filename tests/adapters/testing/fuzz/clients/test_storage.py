"""Behaviours are saved and loaded unchanged; other files are errors."""

import json
from pathlib import Path

import pytest

from smtpcore_adapters.testing.fuzz.clients import Behaviour, Unreadable, load_behaviour, save_behaviour
from smtpcore_adapters.testing.fuzz.clients._generation import openings


def test_each_behaviour_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    for behaviour in openings("starttls"):
        save_behaviour(file, behaviour, {"law": "report"})

        assert load_behaviour(file) == behaviour
    assert json.loads(file.read_text())["law"] == "report"


ANSWER = {"key": "END", "reply": None, "number": 1, "delay": 0, "then": "continue"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"smtpcore-fuzz-listen": 2}, "another version"),
        ({"starttls": "maybe"}, "not a file of smtpcore fuzz --listen"),
        ({"answers": [{}]}, "not a file of smtpcore fuzz --listen"),
        ({"offers": None}, "not a file of smtpcore fuzz --listen"),
        ({"segment_size": -1}, "not a file of smtpcore fuzz --listen"),
        ({"segment_size": float("inf")}, "not a file of smtpcore fuzz --listen"),
        ({"answers": [{**ANSWER, "delay": float("nan")}]}, "not a file of smtpcore fuzz --listen"),
        ({"answers": [{**ANSWER, "delay": 1e300}]}, "not a file of smtpcore fuzz --listen"),
        ({"answers": [{**ANSWER, "number": float("inf")}]}, "not a file of smtpcore fuzz --listen"),
    ],
)
def test_other_content_is_an_error(change: dict[str, object], error: str, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    save_behaviour(file, Behaviour(), {})
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(Unreadable, match=error):
        load_behaviour(file)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        load_behaviour(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_other_file_is_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(text)

    with pytest.raises(Unreadable, match="not a file"):
        load_behaviour(file)
