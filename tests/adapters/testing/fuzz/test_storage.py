"""An experiment is saved and loaded without loss, and a file of another kind is an error in one line."""

from pathlib import Path

import pytest

from smtpcore_adapters.testing.fuzz import Experiment, Kind, LoginStep, Plan, Unreadable, load, save
from smtpcore_adapters.testing.steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, TlsStep

EXPERIMENT = Experiment(
    Plan(
        (
            LineStep(b"EHLO \xff\0"),
            BodyStep(b"x\n.\n\r\n"),
            ChunkStep(b"\x80", is_last=False),
            TlsStep(b"NOOP\r\n"),
            AuthStep("PLAIN", b"="),
            AuthStep("LOGIN", None, (b"dQ==", b"*")),
            RawStep(b"NOOP\n"),
            LoginStep("LOGIN", has_initial=False, is_wrong=True),
        ),
        is_pipelined=True,
        cuts=(1, 3),
        is_logged_in=False,
        header=b"PROXY \xff\r\n",
    ),
    Kind.PIPELINING,
)


def test_saved_experiment_is_loaded_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    save(file, EXPERIMENT, lmtp=False, about={"law": "count"})

    assert load(file) == EXPERIMENT
    assert '"law": "count"' in file.read_text()


def test_file_without_the_newest_fields_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    plan = '"kind": "single", "pipelined": false, "cuts": [], "steps": [{"line": "NOOP"}]'
    file.write_text(f'{{"smtpcore-fuzz": 1, {plan}}}')

    assert load(file) == Experiment(Plan((LineStep(b"NOOP"),)))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{}", "this is not a file of smtpcore fuzz"),
        (b"[]", "this is not a file of smtpcore fuzz"),
        (b"x", "this is not a file of smtpcore fuzz"),
        (b"\xff", "this is not a file of smtpcore fuzz|can't decode"),
        (b'{"smtpcore-fuzz": 2}', "the file was written by another version"),
        (b'{"smtpcore-fuzz": 1, "steps": [{"x": 1}]}', "this is not a file of smtpcore fuzz"),
        (b"[" * 100_000, "this is not a file of smtpcore fuzz"),
        (b'{"smtpcore-fuzz": 1, "steps": [], "cuts": [1e999]}', "this is not a file of smtpcore fuzz"),
        (
            b'{"smtpcore-fuzz": 1, "steps": [{"auth": "\\ud800", "initial": null, "responses": []}]}',
            "this is not a file of smtpcore fuzz",
        ),
    ],
)
def test_other_file_is_an_error(content: bytes, error: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)

    with pytest.raises(Unreadable, match=error):
        load(file)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        load(tmp_path / "x.json")
