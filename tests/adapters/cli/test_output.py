"""The log and the lines of `smtpcore serve` follow the settings."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpcore_adapters import App
from smtpcore_adapters.cli._display import JsonLog, LineLog
from smtpcore_adapters.cli._output import show_mail, shower_of, start_log
from tests.adapters.cli.settings import settings


@pytest.fixture(autouse=True)
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("smtpcore")
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("text", "level", "formatter"),
    [
        ("", logging.WARNING, LineLog),
        ("verbose = true", logging.INFO, LineLog),
        ("log_json = true", logging.INFO, JsonLog),
        ("log_json = true\nverbose = true", logging.DEBUG, JsonLog),
        ("log_level = 'error'\nverbose = true", logging.ERROR, LineLog),
    ],
)
def test_log_has_the_level_and_form_of_the_settings(
    logger: logging.Logger, text: str, level: int, formatter: type
) -> None:
    start_log(settings(text))
    assert logger.level == level
    assert type(logger.handlers[-1].formatter) is formatter


@pytest.mark.parametrize(
    ("text", "error", "messages"),
    [
        ("", "listening\n", []),
        ("quiet = true\nlog_json = true", "", []),
        ("log_json = true", "", ["listening"]),
    ],
)
def test_settings_select_the_form_of_the_lines_about_the_server(
    text: str, error: str, messages: list[str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "smtpcore"):
        shower_of(settings(text))("listening")
    assert (capsys.readouterr().err, caplog.messages) == (error, messages)


@pytest.mark.parametrize(
    ("text", "observers"),
    [
        ("", ["Arrivals"]),
        ("verbose = true", ["Transcript", "Arrivals"]),
        ("quiet = true", []),
        ("quiet = true\nlog_json = true", ["Arrivals"]),
    ],
)
def test_settings_select_the_lines_for_messages_and_dialogues(text: str, observers: list[str]) -> None:
    app = App()
    show_mail(app, settings(text), is_printing=False)
    assert [observer.__qualname__.partition(".")[0] for observer in app.observers] == observers
