"""The options of `smtpcore serve` and `smtpcore config`, made from the settings."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from ._settings import ARGUMENT, OTHER_NAMES, SETTINGS, Setting

_SHORT = {"verbose": "-v", "quiet": "-q"}
_OFF = {"lenient": "--strict"}
"""The options that switch a setting off; by default the name of the setting after `--no-`."""
_METAVARS = {
    "accept": "ADDRESS-or-DOMAIN",
    "auth": "USER",
    "body_rate": "OCTETS",
    "deliver": "URL",
    "extension": "NAME",
    "fault": "LINE",
    "host": "ADDRESS",
    "maildir": "PATH",
    "max_size": "OCTETS",
    "proxy": "NETWORK",
    "shared_limits": "URL",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "trusted": "NETWORK",
    "unix": "PATH",
    "unix_mode": "MODE",
    "users": "FILE",
    "without": "NAME",
}
_PATHS = {"FILE", "PATH"}
"""The metavars of options whose values a shell completes as paths: of directories, or of any files."""
_DIRECTORIES = {"maildir"}
_METAVARS_OF_TYPES = {bool: "", int: "N", float: "SECONDS", str: "TEXT"}


_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class GroupedCommand(click.Command):
    """A command whose help lists the options of each group of settings under the title of the group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. The error for an option of the library suggests the option of the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            other = OTHER_NAMES.get(exc.option_name.lstrip("-").replace("-", "_"))
            if other is None:
                raise

            raise click.UsageError(f"No such option {exc.option_name!r}: use {SETTINGS[other].option}", ctx) from exc

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        for title, records in groups_of(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)


def groups_of(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    """Return the options of a command, as rows of its help, by the title of their group."""
    groups: dict[str, list[tuple[str, str]]] = {}
    others: list[tuple[str, str]] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option):
            setting = SETTINGS.get(parameter.name or "") if isinstance(command, GroupedCommand) else None
            (groups.setdefault(setting.group, []) if setting else others).append(record)

    return {**groups, "Other options": others}


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each setting, and `--config` and the argument APP, to a command."""
    parameters: list[click.Parameter] = [
        click.Argument([ARGUMENT], metavar="[MODULE:ATTRIBUTE]", required=False),
        click.Option(
            ["--config"],
            metavar="FILE",
            shell_complete=_complete_path("file"),
            help="File with the settings, TOML.  [default: smtpcore.toml in the working directory, if there is one]",
        ),
    ]
    parameters += [
        _option(setting) for setting in SETTINGS.values() if setting.name != ARGUMENT and not setting.is_only_in_file
    ]
    own = getattr(function, "__click_params__", [])  # click keeps them in reverse order
    function.__click_params__ = [*own, *reversed(parameters)]  # type: ignore[attr-defined]
    return function


def _option(setting: Setting) -> click.Option:
    names = [setting.name, *([_SHORT[setting.name]] if setting.name in _SHORT else [])]
    if setting.kind is bool:
        off = _OFF.get(setting.name, setting.option.replace("--", "--no-", 1))
        return click.Option([*names, f"{setting.option}/{off}"], default=None, help=_help(setting))

    kind = setting.kind
    metavar = _METAVARS.get(setting.name)
    complete = _complete_path("dir" if setting.name in _DIRECTORIES else "file") if metavar in _PATHS else None
    if metavar is None and get_origin(kind) is Literal:
        metavar = f"[{'|'.join(get_args(kind))}]"
        complete = _complete_choice(get_args(kind))
    if metavar is None:
        metavar = _METAVARS_OF_TYPES.get(get_args(kind)[0] if get_args(kind) else kind, "TEXT")
    return click.Option(
        [*names, setting.option],
        metavar=metavar,
        multiple=setting.is_list,
        default=None,
        help=_help(setting),
        shell_complete=complete,
    )


def _complete_path(kind: str) -> _Complete:
    return lambda context, option, start: [CompletionItem(start, type=kind)]


def _complete_choice(choices: Sequence[str]) -> _Complete:
    return lambda context, option, start: [CompletionItem(each) for each in choices if each.startswith(start)]


def _help(setting: Setting) -> str:
    text = re.sub(r"[a-z]+(?:_[a-z]+)+", lambda match: _option_of(match[0]), setting.text)
    text += " Repeatable." if setting.is_list else ""
    if setting.default in (None, False, [], "") or setting.kind is bool:
        return text

    value = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
    return f"{text}  [default: {value}]"


def _option_of(name: str) -> str:
    return SETTINGS[name].option if name in SETTINGS else name
