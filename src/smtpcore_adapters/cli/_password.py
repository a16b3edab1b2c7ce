"""Passwords of all commands. A password is never an option, because the process list shows options."""

import os
import sys

import click

PASSWORD = "SMTPCORE_PASSWORD"  # noqa: S105 - the name of an environment variable
HELP = f"The password is read from {PASSWORD}, or from the terminal."


def read_password(user: str) -> str:
    """Return the password of `user`, from the variable or from the terminal.

    Raises:
        click.UsageError: There is neither, or `user` has a colon, which is a password that others can see.
    """
    if ":" in user:
        raise click.UsageError(f"--auth takes the USER only, as the process list shows options. {HELP}")
    password = os.environ.get(PASSWORD)
    if password:
        return password
    asked = ask(user)
    if asked is None:
        raise click.UsageError(f"--auth needs a password: set {PASSWORD}, or use a terminal")

    return asked


def ask(user: str, *, is_new: bool = False) -> str | None:
    """Return the password of `user` from the terminal, which asks twice for a new one; None without a terminal."""
    if not sys.stdin.isatty():
        return None

    password: str = click.prompt(f"Password of {user}", hide_input=True, confirmation_prompt=is_new, err=True)
    return password
