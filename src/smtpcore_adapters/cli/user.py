"""`smtpcore user`: manage the file of users for `smtpcore serve --users`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from smtpcore import LocalProtocolError

from ..users import hash_password
from ._password import ask
from ._user_file import change_user_file, prepare_name, read_user_file

T = TypeVar("T")

_file = click.option(
    "--users",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SMTPCORE_USERS",
    required=True,
    help="File of the users, as in smtpcore serve. SMTPCORE_USERS is its default.",
)
_name = click.argument("name")


@click.group()
def user() -> None:
    """Manage the users who may log in to smtpcore serve.

    The file has salted hashes, and no passwords. A running server reads it again at SIGHUP.
    """


@user.command()
@_name
@_file
@click.option("--replace", is_flag=True, help="Set a new password for a user who exists.")
def add(name: str, path: Path, *, replace: bool) -> None:
    """Add a user. The password is read from the terminal, or from the first line of standard input."""
    name = _prepared(name)
    known = path.exists() and name in _with_errors(path, lambda: read_user_file(path))
    if known and not replace:
        raise click.UsageError(f"the user {name} exists: set a new password with --replace")

    password = _new_password(name)
    if not password:
        raise click.UsageError("the password is empty: write it at the terminal, or to standard input")
    try:
        text = hash_password(password)
    except LocalProtocolError as exc:
        raise click.UsageError(str(exc)) from exc

    _with_errors(path, lambda: change_user_file(path, {name: text}))


@user.command()
@_name
@_file
def remove(name: str, path: Path) -> None:
    """Remove a user."""
    name = _prepared(name)
    if name not in _with_errors(path, lambda: read_user_file(path)):
        raise click.UsageError(f"there is no user {name} in {path}: see smtpcore user list")

    _with_errors(path, lambda: change_user_file(path, {name: None}))


@user.command("list")
@_file
def list_users(path: Path) -> None:
    """Print the name of each user."""
    for name in sorted(_with_errors(path, lambda: read_user_file(path))):
        click.echo(name)


def _prepared(name: str) -> str:
    try:
        return prepare_name(name)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None


def _new_password(name: str) -> str:
    asked = ask(name, is_new=True)
    return sys.stdin.readline().rstrip("\r\n") if asked is None else asked


def _with_errors(path: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except FileExistsError as exc:
        text = f"another process changes {path}; if there is none, remove {exc.filename}"
        raise click.UsageError(text) from exc
    except OSError as exc:
        raise _unusable(path, exc) from exc
    except ValueError as exc:
        raise click.UsageError(f"{path}: {exc}") from None


def _unusable(path: Path, error: OSError) -> click.UsageError:
    return click.UsageError(f"cannot use {path}: {error.strerror or error}")
