"""Write `man/smtpcore.1`: the manual page of all commands, made from the same definitions as `--help`.

python -m tools.man_page
"""

import re
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path
from typing import Final

import click

from smtpcore import __version__
from smtpcore_adapters._installation import SUMMARY
from smtpcore_adapters.cli import cli
from smtpcore_adapters.cli._options import groups_of
from smtpcore_adapters.cli.config import config
from smtpcore_adapters.cli.serve import serve

PAGE: Final = Path(__file__).parent.parent / "man" / "smtpcore.1"
"""The file that the wheel installs as share/man/man1/smtpcore.1."""

_ENVIRONMENT: Final = (
    ("SMTPCORE_PASSWORD", "The password for --auth of the commands send and check."),
    ("SMTPCORE_AUTH", "Users with their passwords for the command serve, as USER:PASSWORD, separated by line breaks."),
    ("SMTPCORE_USERS", "The default of --users."),
    ("SMTPCORE_NAME", "The setting NAME of the commands serve and config, such as SMTPCORE_MAX_SIZE for --max-size."),
)
_STATUS: Final = (
    ("0", "The command succeeded."),
    ("1", "The result of the command is negative; each command says what this is."),
    ("2", "An option, a setting or a file cannot be used. One line on standard error says what to do."),
    ("130", "The command was interrupted."),
    ("141", "Standard output is a pipe that nobody reads any more."),
)
_WIDTH: Final = 79
_AN_OPTION: Final = re.compile(r"(?<![\w-])(?:\\-){1,2}[a-zA-Z](?:\w|\\-)*")


def page(date: str) -> str:
    """Return the text of the page with a date, as YYYY-MM-DD."""
    return "\n".join(_lines(date)) + "\n"


def date_of(text: str) -> str:
    """Return the date of a page."""
    found = re.search(r'^\.TH \S+ 1 "(.*?)"', text, re.MULTILINE)
    return found[1] if found else ""


def _lines(date: str) -> Iterator[str]:
    context = click.Context(cli, info_name="smtpcore", **cli.context_settings)
    yield '.\\" Written by `python -m tools.man_page` from the options of the commands. Do not edit this page.'
    yield f'.TH SMTPCORE 1 "{date}" "smtpcore {__version__}" "User Commands"'
    yield from (".SH NAME", f"smtpcore \\- {_escape(SUMMARY[0].lower() + SUMMARY[1:].rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B smtpcore", r"[\fIOPTIONS\fR]", r"\fICOMMAND\fR", r"[\fIARGUMENTS\fR]")
    yield from (".SH OPTIONS", *_options(cli, context))
    yield ".SH COMMANDS"
    for name in sorted(cli.commands):
        yield from _command(cli.commands[name], click.Context(cli.commands[name], info_name=name, parent=context))
    for title, rows in (("ENVIRONMENT", _ENVIRONMENT), ("EXIT STATUS", _STATUS)):
        yield f".SH {title}"
        for term, text in rows:
            yield from _entry(term, text)
    yield ".SH FILES"
    yield from _entry("smtpcore.toml", "The settings of the commands serve and config, in the working directory.")
    yield from (".SH SEE ALSO", ".BR sendmail (8)", ".PP", "RFC 5321, Simple Mail Transfer Protocol")


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f'.SS "{_escape(" ".join((context.command_path, *command.collect_usage_pieces(context))))}"'
    for number, paragraph in enumerate(cleandoc(command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        yield from _text(paragraph)
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _command(child, click.Context(child, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    groups = groups_of(command, context)
    if command is config:  # the options of `serve` are listed once
        yield from (".PP", *_text("All options of smtpcore serve are valid, and:"))
        groups = {title: groups[title] for title in [*groups][-1:]}
    for title, records in groups.items():
        if command is serve:
            yield from (".PP", f"\\fI{_escape(title)}\\fR")
        for names, text in records:
            yield from _entry(names, text)


def _entry(term: str, text: str) -> Iterator[str]:
    escaped = _escape(term)
    is_option = term.startswith("-")
    yield from (".TP", _AN_OPTION.sub(_bold, escaped) if is_option else _bold(escaped), *_text(text))


def _bold(text: str | re.Match[str]) -> str:
    return rf"\fB{text if isinstance(text, str) else text[0]}\fR"


def _text(paragraph: str) -> Iterator[str]:
    for line in textwrap.wrap(_escape(paragraph), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield rf"\&{line}" if line.startswith((".", "'")) else line


def _escape(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")


def write() -> None:
    """Write the page. The date changes with the text only."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if not old or page(date_of(old)) != old:
        PAGE.write_text(page(datetime.now(UTC).date().isoformat()), encoding="utf-8")


if __name__ == "__main__":
    write()
