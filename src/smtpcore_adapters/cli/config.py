"""`smtpcore config`: show or check the settings of `smtpcore serve`."""

import json
import os
import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

import click

from ._application import add_handlers, make_plan
from ._destinations import without_secrets
from ._options import GroupedCommand, with_settings
from ._settings import SETTINGS, Setting
from ._sources import TABLE, Settings, Source, Value, origin, read_settings

_COLUMN = 50  # characters before the origin


@click.command(cls=GroupedCommand)
@with_settings
@click.option(
    "--check", is_flag=True, help="Check the settings and all files that they name, and show nothing if all is right."
)
def config(check: bool, **options: Any) -> None:
    """Show the settings of a server with the same options, and the origin of each.

    The output is TOML, and can be used as the file of --config, except that secrets are replaced by ***.
    """
    server = read_settings(options, os.environ)
    if check:
        add_handlers(make_plan(server, is_check=True))
    else:
        for line in settings_lines(server):
            click.echo(line)


def settings_lines(server: Settings) -> Iterator[str]:
    """Yield the lines of a TOML file with the settings, and the origin of each as a comment."""
    has_tables = server.listeners[0].place != ""
    group = ""
    for name, setting in SETTINGS.items():
        if setting.group != group:
            group = setting.group
            yield f"\n# {group}" if name != next(iter(SETTINGS)) else f"# {group}"
        if not (has_tables and setting.is_of_one_listener):
            yield _line(setting, server.values[name])
    for each in server.listeners:
        if has_tables:
            yield f"\n[[{TABLE}]]"
        for name, value in each.values.items():
            if value is not server.values[name]:
                yield _line(SETTINGS[name], value)


def _line(setting: Setting, value: Value) -> str:
    if value.value is None:
        return f"# {setting.name} has no value"

    raw = [without_secrets(each) for each in value.value] if setting.name == "deliver" else value.value
    shown = '"***"' if setting.is_secret and value.source is not Source.DEFAULT else _toml(raw)
    return f"{f'{setting.name} = {shown}':<{_COLUMN}} # {origin(setting.name, value)}"


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, str):
        return _NOT_IN_TEXT.sub(_escape, json.dumps(value, ensure_ascii=False))

    return str(value) if isinstance(value, float) else json.dumps(value)


_NOT_IN_TEXT = re.compile("[^ -~]")
"""Characters that TOML excludes from a text, or that not every terminal shows."""


def _escape(match: re.Match[str]) -> str:
    # TOML knows no surrogates, with which JSON escapes some characters.
    code = ord(match[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
