"""Standard output that is a full disk, or a pipe that nobody reads."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from smtpcore_adapters import cli
from smtpcore_adapters.cli._standard_output import OutputError, raising_output_errors
from tests.adapters.command import TIMEOUT, command

FULL = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
MESSAGE = "smtpcore: cannot write the output: No space left on device\n"

Open = Callable[[], io.TextIOWrapper]


@pytest.fixture(params=["buffered", "unbuffered"])
def open_full(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Return a function that opens a full disk as standard output."""
    opened: list[io.TextIOWrapper] = []

    def open_it() -> io.TextIOWrapper:
        file = FULL.open("wb", buffering=-1 if request.param == "buffered" else 0)
        opened.append(io.TextIOWrapper(file, write_through=request.param == "unbuffered"))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


def without_reader() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


def run_in(monkeypatch: pytest.MonkeyPatch, output: object, work: Callable[[], object]) -> int:
    """Run a command that does `work` with a standard output, and return its exit status."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        patch.setattr(cli.cli, "main", lambda *args, **options: work())
        status = cli.main([])
        assert sys.stdout is output
    return status


@needs_full_disk
@pytest.mark.parametrize("text", ["short", "a" * 1_000_000])
def test_full_disk_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], open_full: Open, text: str
) -> None:
    assert run_in(monkeypatch, open_full(), lambda: click.echo(text)) == 2
    assert capsys.readouterr().err == MESSAGE


@needs_full_disk
def test_full_disk_at_the_last_flush_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        sys.stdout.write("not flushed")

    with FULL.open("w") as full:
        assert run_in(monkeypatch, full, write) == 2
    assert capsys.readouterr().err == MESSAGE


def test_closed_pipe_ends_a_command_quietly_with_status_141(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with without_reader() as pipe:
        assert run_in(monkeypatch, pipe, lambda: click.echo("text")) == 141
    assert capsys.readouterr().err == ""


def test_failure_of_the_output_is_not_taken_for_a_failure_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def report_errors_of_a_server() -> None:
        try:
            click.echo("text")
        except OSError as exc:
            raise click.ClickException(str(exc)) from exc

    with without_reader() as pipe:
        assert run_in(monkeypatch, pipe, report_errors_of_a_server) == 141


@needs_full_disk
def test_command_may_ignore_a_failure_of_the_output(monkeypatch: pytest.MonkeyPatch, open_full: Open) -> None:
    def ignore() -> None:
        with pytest.raises(OutputError):
            click.echo("text")
        sys.stdout = None  # as `smtpcore send` does

    assert run_in(monkeypatch, open_full(), ignore) == 0


def test_output_that_is_not_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for output in (None, io.StringIO(), io.TextIOWrapper(io.BytesIO())):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            with raising_output_errors():
                assert sys.stdout is output


def test_output_keeps_its_order_and_its_encoding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "output").open("w", encoding="latin-1", errors="replace") as output:
        output.write("first\n")
        assert run_in(monkeypatch, output, lambda: click.echo("sécond €")) == 0
        output.write("third\n")
    assert (tmp_path / "output").read_bytes() == b"first\ns\xe9cond ?\nthird\n"


@needs_full_disk
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["config"], ["serve", "--help"], ["check", "--list"], ["explain", "FILE"]]
)
def test_process_has_no_traceback_on_a_full_disk(arguments: list[str], tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.write_text("S: 220 a.example ESMTP\nC: QUIT\nS: 221 a.example\n")
    arguments = [str(recording) if each == "FILE" else each for each in arguments]
    with FULL.open("w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
        )
        silent = subprocess.run(command(*arguments), stdout=full, stderr=full, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (2, MESSAGE)
    assert silent.returncode == 2


@pytest.mark.parametrize("arguments", [["config"], ["serve", "--help"], ["explain", "FILE"]])
def test_process_ends_quietly_if_nobody_reads_its_output(arguments: list[str], tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.write_text("S: 220 a.example ESMTP\nC: QUIT\nS: 221 a.example\n")
    arguments = [str(recording) if each == "FILE" else each for each in arguments]
    with without_reader() as pipe:
        done = subprocess.run(
            command(*arguments), stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")
