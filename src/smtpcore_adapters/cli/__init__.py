"""The command line: one module for each subcommand."""

import sys
from collections.abc import Sequence

import click

from .._installation import SUMMARY, describe
from .check import check
from .config import config
from .drain import drain
from .explain import explain_file
from .fuzz import fuzz
from .ping import ping
from .send import send
from .serve import serve
from .user import user


def _show_version(context: click.Context, option: click.Parameter, is_given: bool) -> None:
    if is_given:
        click.echo(describe())
        context.exit()


@click.group(help=SUMMARY, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions of smtpcore, Python and the packages of each extra.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Show the help if there is no command."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.add_command(serve)
cli.add_command(config)
cli.add_command(drain)
cli.add_command(send)
cli.add_command(ping)
cli.add_command(check)
cli.add_command(fuzz)
cli.add_command(explain_file)
cli.add_command(user)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status. An error prints one line and gives status 2."""
    try:
        given = sys.argv[1:] if arguments is None else [*arguments]
        return cli.main(given, prog_name="smtpcore", standalone_mode=False, obj=given) or 0
    except click.ClickException as exc:
        click.echo(f"smtpcore: {exc.format_message()}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BaseExceptionGroup as exc:  # trio's nurseries make a group of each exception
        if exc.split(KeyboardInterrupt)[1]:
            raise
        return 130
