"""The password of a client. It is no option, because the process list shows options."""

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
    if not sys.stdin.isatty():
        raise click.UsageError(f"--auth needs a password: set {PASSWORD}, or use a terminal")

    prompted: str = click.prompt(f"Password of {user}", hide_input=True, err=True)
    return prompted
