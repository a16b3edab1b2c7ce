"""The parts of the command line that all commands share: interrupts, start-up lines, and errors."""

import logging
import sys
from pathlib import Path

import click
import pytest

from smtpcore_adapters import Address, cli
from smtpcore_adapters.cli._processes import _announce


@pytest.mark.parametrize("reason", [click.Abort, KeyboardInterrupt])
def test_interrupted_command_gives_status_130(reason: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise reason

    monkeypatch.setattr(cli.cli, "main", interrupt)

    assert cli.main([]) == 130


@pytest.mark.parametrize("metrics", [None, Address("127.0.0.1", 9)])
def test_listening_addresses_are_announced_on_stderr(
    metrics: Address | None, capsys: pytest.CaptureFixture[str]
) -> None:
    _announce(metrics, Address("127.0.0.1", 2525))

    announced = capsys.readouterr().err.splitlines()
    assert announced[0] == "listening on 127.0.0.1:2525"
    assert announced[1:] == (["metrics at http://127.0.0.1:9/metrics"] if metrics else [])


def test_worker_that_fails_to_start_gives_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ChildProcessError("a worker failed before it was ready")

    monkeypatch.setattr(sys.modules["smtpcore_adapters.cli.serve"], "run_workers", fail)
    logger = logging.getLogger("smtpcore")
    handlers, level = logger.handlers[:], logger.level
    try:
        assert cli.main(["serve", "--maildir", str(tmp_path / "Maildir"), "--workers", "2"]) == 2
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)

    assert capsys.readouterr().err == "smtpcore: a worker failed before it was ready\n"
