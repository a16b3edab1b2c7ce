"""The frameworks and event loops that run `smtpcore serve`."""

import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import smtpcore_adapters.asyncio
import smtpcore_adapters.socket
from smtpcore_adapters import Limits
from smtpcore_adapters.cli._backends import event_loop_of, runner_of
from tests.adapters.cli.settings import settings


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["backend = 'threads'", "loop = 'asyncio'"])
def test_other_framework_and_own_choice_take_no_further_event_loop(text: str) -> None:
    assert event_loop_of(settings(text)) == ""


@pytest.mark.parametrize(
    ("text", "missing", "error"),
    [
        ("backend = 'trio'", "trio", r"line 1: backend trio needs another package: pip install 'smtpcore\[trio\]'"),
        ("loop = 'uvloop'", "uvloop", r"line 1: loop uvloop needs another package: pip install 'smtpcore\[speed\]'"),
    ],
)
def test_missing_package_is_an_error(text: str, missing: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: find_spec(name) for name in ("trio", "uvloop")} | {missing: None}
    monkeypatch.setattr(sys.modules[event_loop_of.__module__], "find_spec", found.__getitem__)
    with pytest.raises(click.UsageError, match=error):
        event_loop_of(settings(text))


def test_runner_belongs_to_the_framework() -> None:
    limits = Limits(connections=5)
    for backend, module in (("asyncio", smtpcore_adapters.asyncio), ("threads", smtpcore_adapters.socket)):
        runner = runner_of(backend, "", limits)
        assert (runner.func, runner.keywords) == (module.run, {"limits": limits})  # type: ignore[attr-defined]
