"""Any octets as the file of `smtpcore serve` give settings, or an error that names the file and the line.

The settings that `smtpcore config` shows are read as the same settings.
"""

import re
import shutil
import tempfile
from atexit import register
from contextlib import suppress
from pathlib import Path

import click

from smtpcore_adapters.cli._application import make_plan
from smtpcore_adapters.cli._settings import SETTINGS
from smtpcore_adapters.cli._sources import Settings, read_settings
from smtpcore_adapters.cli.config import settings_lines

from .harness import Draw, check_time

DIRECTORY = Path(tempfile.mkdtemp())
register(shutil.rmtree, DIRECTORY, ignore_errors=True)
FILE = DIRECTORY / "smtpcore.toml"
LINE = re.compile(
    r", line (\d+): .+|: .+ \(at (?:line (\d+), column \d+|end of document)\)|: Exceeds the limit .+|: .+ too deeply",
    re.DOTALL,
)
OUTSIDE = ("app", "fd", "self_signed", "systemd", "tls_cert", "tls_names", "users")
"""Settings that a plan uses to import modules, to read files, to use descriptors, or to make keys."""
FILES = (b"password_file", b"tls_ca")
"""Parameters of a destination that name files."""


def read_or_none(content: bytes) -> Settings | None:
    """Return the settings in a file with this content, None if the file is refused."""
    FILE.write_bytes(content)
    try:
        return read_settings({"config": str(FILE)}, {})
    except click.UsageError as exc:
        check_error(exc.message, content.count(b"\n") + 1)
        return None


def check_error(text: str, lines: int) -> None:
    """Check that the text of an error names the file, and a line of the file."""
    assert text.startswith(str(FILE))
    place = LINE.fullmatch(text.removeprefix(str(FILE)))
    assert place, text
    assert 1 <= int(place[1] or place[2] or 1) <= lines


def check_shown(settings: Settings) -> None:
    """Check that the settings are shown as a file with the same settings."""
    shown = "\n".join(settings_lines(settings))
    again = read_or_none(shown.encode())
    assert again, shown
    for one, other in zip((settings, *settings.listeners), (again, *again.listeners), strict=True):
        for name, setting in SETTINGS.items():
            # The logins and passwords of destinations are masked too.
            if not setting.is_secret and not (name == "deliver" and "***" in shown):
                assert other[name] == one[name], name

    is_default = settings.listeners[0].place == again.listeners[0].place == ""
    assert is_default or len(again.listeners) == len(settings.listeners)


def check_plan(settings: Settings) -> None:
    """Check that the settings make a plan for a server, or an error."""
    with suppress(click.UsageError):
        make_plan(settings, is_check=True)


def test_one_input(data: bytes) -> None:
    """Use the input as the content of a file, and repeat a part of it."""
    draw = Draw(data)
    choice = draw.byte()
    content = draw.rest()
    settings = read_or_none(content)
    if settings:
        check_shown(settings)
        is_inside = not any(each.is_set(name) for each in (settings, *settings.listeners) for name in OUTSIDE)
        if is_inside and not any(name in content for name in FILES):
            check_plan(settings)

    middle = len(content) // 2
    check_time(lambda times: read_or_none(content[:middle] + content[middle : middle + 32] * times), choice)
