"""`smtpcore config`: show or check the settings of `smtpcore serve`."""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from ._application import make_plan
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
        make_plan(server, is_check=True)
    else:
        for line in _lines(server):
            click.echo(line)


def _lines(server: Settings) -> Iterator[str]:
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
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, datetime):
        return value.isoformat()

    return str(value) if isinstance(value, float) else json.dumps(value)
