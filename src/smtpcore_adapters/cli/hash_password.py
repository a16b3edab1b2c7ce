"""`smtpcore hash-password`: print a hash of a password, for `smtpcore serve --auth-file`."""

import sys

import click

from smtpcore import LocalProtocolError

from ..users import hash_password


@click.command("hash-password")
def hash_password_command() -> None:
    """Print a salted hash of a password.

    The password is read from the terminal without echo, or from the first line of standard input. A line USER:HASH can
    stand in the file of `smtpcore serve --auth-file` in place of USER:PASSWORD.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")

    try:
        click.echo(hash_password(password))
    except LocalProtocolError as exc:
        raise click.UsageError(str(exc)) from exc
