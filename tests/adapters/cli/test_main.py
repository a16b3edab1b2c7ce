"""The parts of the command line that all commands share: interrupts, start-up lines, and errors."""

import click
import pytest

from smtpcore_adapters import cli


@pytest.mark.parametrize("reason", [click.Abort, KeyboardInterrupt])
def test_interrupted_command_gives_status_130(reason: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise reason

    monkeypatch.setattr(cli.cli, "main", interrupt)

    assert cli.main([]) == 130
