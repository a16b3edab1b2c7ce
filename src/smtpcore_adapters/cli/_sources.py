"""Read the settings from a file, from variables and from options, and remember the origin of each."""

# A later source takes precedence over an earlier one: the file, the variables, the options. An error names the place
# of the wrong value: `smtpcore.toml, line 3: port`, `SMTPCORE_PORT` or `--port`.

import logging
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum, auto
from pathlib import Path
from string import Formatter
from typing import Any

import click

from ._files import check_regular
from ._settings import OTHER_NAMES, SETTINGS, Setting

DEFAULT_FILE = Path("smtpcore.toml")
"""The file that is read if it exists and no other file is given."""
TABLE = "listener"
"""The name of the tables of listeners in the file."""
_CONFIG = "SMTPCORE_CONFIG"
_PREFIX = "SMTPCORE_"
_SIMILAR = 0.74  # a ratio of `difflib`: a variable with such a name is probably a misspelled setting

_logger = logging.getLogger("smtpcore")


class Source(Enum):
    """The kind of place that the value of a setting comes from."""

    DEFAULT = auto()
    """Nothing has set the value."""
    FILE = auto()
    """A key of the file."""
    VARIABLE = auto()
    """An environment variable."""
    OPTION = auto()
    """An option or an argument of the command line."""


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a setting, and its origin."""

    value: Any
    """The value, as in TOML; None for no value."""
    source: Source = Source.DEFAULT
    """The kind of its origin."""
    place: str = ""
    """The file and the line; empty for other sources."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of all settings of the server, or of one listener."""

    values: Mapping[str, Value]
    """The values by the name of the setting."""
    place: str = ""
    """The file and the line of the table of the listener; empty for the settings of the server."""
    listeners: "Sequence[Settings]" = field(default=())
    """The settings of each listener. Without a table for listeners, the server itself is the only listener."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def is_set(self, name: str) -> bool:
        """Return whether a file, a variable or an option has set the value."""
        return self.values[name].source is not Source.DEFAULT

    def error(self, text: str, **details: object) -> click.UsageError:
        """Return an error for the user. `{name}` in `text` stands for a setting, or for one of `details`.

        The first setting in the text is the one that has to be changed. The error begins with its place, and writes
        all settings as this place does: as keys, variables or options.
        """
        names = [name for _, name, _, _ in Formatter().parse(text) if name]
        first = self.values[next(name for name in names if name in self.values)]
        settings = [SETTINGS[name] for name in names if name not in details]
        place = first.place if first.source is not Source.DEFAULT else self.place
        source = Source.FILE if place else first.source
        shown = {setting.name: written(setting, source) for setting in settings}
        return click.UsageError(f"{place}: " * bool(place) + text.format(**shown, **details))


def written(setting: Setting, source: Source) -> str:
    """Return the name of a setting as it is written in a file, in the environment or in an option."""
    if source is Source.FILE:
        return setting.name

    return setting.variable if source is Source.VARIABLE else setting.option


def origin(name: str, value: Value) -> str:
    """Return the origin of a value for display."""
    if value.source is Source.DEFAULT:
        return "default"

    return value.place or written(SETTINGS[name], value.source)


def read_settings(options: Mapping[str, Any], variables: Mapping[str, str]) -> Settings:
    """Return the settings. `options` has the file as `config`, and None for each option that is not given.

    Raises:
        click.UsageError: The file cannot be read, a name is unknown, or a value is of a wrong type.
    """
    file = options.get("config") or variables.get(_CONFIG)
    if options.get("config") == "":
        raise click.UsageError("--config: the value is empty: leave it out, or give a file")
    values = {name: Value(setting.default) for name, setting in SETTINGS.items()}
    tables: Sequence[_Table] = ()
    if file or DEFAULT_FILE.exists():
        top, tables = _read(Path(file or DEFAULT_FILE))
        values |= top.values
    for name in variables.keys() & _VARIABLES.keys():
        values[_VARIABLES[name]] = _converted(SETTINGS[_VARIABLES[name]], variables[name], Source.VARIABLE)
    _check_variables(variables)
    for name in SETTINGS.keys() & options.keys():
        if options[name] is not None and options[name] != ():
            values[name] = _converted(SETTINGS[name], options[name], Source.OPTION)

    server = Settings(values)
    return Settings(values, listeners=[_listener(server, table) for table in tables] or [server])


_VARIABLES = {setting.variable: name for name, setting in SETTINGS.items() if not setting.is_only_in_file}


_ONLY_IN_FILE = {setting.variable: name for name, setting in SETTINGS.items() if setting.is_only_in_file}
_ONLY_IN_FILE[f"{_PREFIX}{TABLE.upper()}"] = f"[[{TABLE}]]"


def _check_variables(variables: Mapping[str, str]) -> None:
    for name in sorted(variables):
        if name in _ONLY_IN_FILE:
            raise click.UsageError(f"{name}: a variable cannot hold a table: set {_ONLY_IN_FILE[name]} in the file")
        if name.startswith(_PREFIX) and name not in {*_VARIABLES, _CONFIG}:
            nearest = get_close_matches(name.removeprefix(_PREFIX).lower(), _VARIABLES.values(), n=1, cutoff=_SIMILAR)
            if nearest:
                known = SETTINGS[nearest[0]].variable
                raise click.UsageError(f"{name} is not a variable of smtpcore serve: the nearest is {known}")


def _converted(setting: Setting, raw: object, source: Source, place: str = "") -> Value:
    try:
        is_text = source is not Source.FILE and not isinstance(raw, tuple)
        value = setting.convert([*raw] if isinstance(raw, tuple) else raw, is_text=is_text)
    except ValueError as exc:
        raise click.UsageError(f"{place}: " * bool(place) + f"{written(setting, source)}: {exc}") from None

    return Value(value, source, place)


def _listener(server: Settings, table: "_Table") -> Settings:
    """Return the settings of a listener: the values of its table, unless a variable or an option has set the value."""
    for name, setting in SETTINGS.items():
        if setting.is_of_one_listener and server.is_set(name):
            raise server.error(f"{{{name}}} has no effect with [[{TABLE}]]: each listener has its own {name}")

    chosen = (Source.VARIABLE, Source.OPTION)
    own = {name: value for name, value in table.values.items() if server.values[name].source not in chosen}
    return Settings({**server.values, **own}, table.place)


# The file


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the file."""

    values: dict[str, Value]
    place: str


def _read(file: Path) -> tuple[_Table, list[_Table]]:
    """Return the values of the file itself, and of each of its listeners."""
    try:
        check_regular(file, may_be_open=True)
        text = file.read_bytes().decode("utf-8-sig")
        content = tomllib.loads(text)
    except OSError as exc:
        raise click.UsageError(f"cannot read {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise click.UsageError(f"{file}, line {line}: this line is not UTF-8") from exc
    except ValueError as exc:  # also a number with more digits than Python converts
        raise click.UsageError(f"{file}: {exc}") from exc
    except RecursionError as exc:
        raise click.UsageError(f"{file}: the values are nested too deeply") from exc

    lines = _Lines(file, text)
    tables = content.pop(TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise click.UsageError(f"{lines.place(TABLE)}: write [[{TABLE}]] above the settings of each listener")

    top = _table(lines, content, ())
    return top, [_table(lines, each, (TABLE, number)) for number, each in enumerate(tables)]


def _table(lines: "_Lines", content: Mapping[str, object], path: tuple[str | int, ...]) -> _Table:
    known = [name for name, setting in SETTINGS.items() if setting.in_listener or not path] + [TABLE] * (not path)
    values: dict[str, Value] = {}
    for key, raw in content.items():
        place = lines.place(*path, key)
        if key not in known:
            kind = f"a setting of [[{TABLE}]]" if path else "a setting"
            hint = "set it above the first table" if key in SETTINGS else f"the nearest is {_nearest(key, known)!r}"
            raise click.UsageError(f"{place}: {key!r} is not {kind}; {hint}")
        values[key] = _converted(SETTINGS[key], raw, Source.FILE, place)

    return _Table(values, lines.place(*path) if path else "")


def _nearest(key: str, known: Sequence[str]) -> str:
    name = key.lower().replace("-", "_")
    other = OTHER_NAMES.get(name)
    return other if other and other in known else get_close_matches(name, known, n=1, cutoff=0)[0]


_match_header = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]").match
_match_key = re.compile(r"""\s*["']?([\w-]+)["']?\s*[.=]""").match


class _Lines:
    """The lines of a file, by the path of the key or table that they define."""

    # `tomllib` has no line numbers. A line inside a text of several lines can look like a key, which only makes the
    # number in an error wrong.

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._numbers: dict[tuple[str | int, ...], int] = {}
        for number, path in enumerate(_paths(text.splitlines()), 1):
            self._numbers.setdefault(path, number)

    def place(self, *path: str | int) -> str:
        """Return the file and the line of a key or a table."""
        return f"{self._file}, line {self._numbers.get(path, 1)}"


def _paths(lines: Sequence[str]) -> Iterator[tuple[str | int, ...]]:
    """Yield for each line the path of the key or table that the line defines, or else of its table."""
    table: tuple[str | int, ...] = ()
    count = 0
    for line in lines:
        header, key = _match_header(line), _match_key(line)
        if header:
            names = header[2].split(".")
            count += header[1] == "[[" and names == [TABLE]
            table = (TABLE, count - 1, *names[1:2]) if names[0] == TABLE else (names[0],)
            yield table
        else:
            yield (*table, key[1]) if key else table
