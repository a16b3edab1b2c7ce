"""The log of `smtpcore serve`, and the lines for messages and dialogues."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

from ..server._app import App
from ..transcript import Transcript
from ._display import Arrivals, JsonLog, LineLog, PrintableLog, Terminal, log_arrival, log_dialogue
from ._sources import Settings


def log_handler() -> logging.Handler:
    """Return a handler that writes readable lines to standard error, in colours on a terminal."""
    console = Console(stderr=True)
    handler = (
        RichHandler(console=console, show_path=False, markup=False) if console.is_terminal else logging.StreamHandler()
    )
    handler.setFormatter(PrintableLog() if console.is_terminal else LineLog())
    return handler


def start_log(server: Settings) -> None:
    """Write the log of the package to standard error."""
    logger = logging.getLogger("smtpcore")
    is_json, is_verbose = server["log_json"], server["verbose"]
    handler = log_handler()
    default = "info" if is_verbose else "warning"
    if is_json:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLog())
        default = "debug" if is_verbose else "info"
    logger.addHandler(handler)
    logger.setLevel((server["log_level"] or default).upper())


def show_line(line: str) -> None:
    """Write a line about the server itself to standard error, which may be a file on a full disk."""
    with suppress(OSError):
        click.echo(line, err=True)


def shower_of(server: Settings) -> Callable[[str], None]:
    """Return the function that shows the addresses of the server: as a line, as a record of the log, or not at all."""
    if server["quiet"]:
        return lambda line: None

    return logging.getLogger("smtpcore").info if server["log_json"] else show_line


def show_mail(app: App[Any], server: Settings, *, is_printing: bool) -> None:
    """Show each message, and with `verbose` each command and reply, on the terminal or in the log.

    While messages are printed, the lines are written to standard error.
    """
    terminal = Terminal(stderr=is_printing)
    is_json = server["log_json"]
    if server["verbose"]:
        app.include(Transcript(log_dialogue if is_json else terminal.show_dialogue))
    if is_json or not server["quiet"]:
        app.include(Arrivals(log_arrival if is_json else terminal.show_arrival))
