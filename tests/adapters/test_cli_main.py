"""What the command line answers with, whichever command it is."""

import click
import pytest

from smtpcore_adapters import Address, cli
from smtpcore_adapters.cli._processes import _announce


@pytest.mark.parametrize("reason", [click.Abort, KeyboardInterrupt])
def test_who_interrupts_it_gets_the_status_of_a_shell(
    reason: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise reason

    monkeypatch.setattr(cli.cli, "main", interrupt)

    assert cli.main([]) == 130


@pytest.mark.parametrize("metrics", [None, Address("127.0.0.1", 9)])
def test_where_it_listens_is_announced(metrics: Address | None, capsys: pytest.CaptureFixture[str]) -> None:
    _announce(metrics, Address("127.0.0.1", 2525))

    announced = capsys.readouterr().err.splitlines()
    assert announced[0] == "listening on 127.0.0.1:2525"
    assert announced[1:] == (["metrics at http://127.0.0.1:9/metrics"] if metrics else [])
