"""The command line: one module for each subcommand."""

import sys
from collections.abc import Sequence

import click

from .._installation import SUMMARY, describe
from ._output import show_line
from ._standard_output import CLOSED_PIPE, OutputError, raising_output_errors
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
        with raising_output_errors():
            return _run(sys.argv[1:] if arguments is None else [*arguments])
    except OutputError as exc:
        if exc.is_closed_pipe:
            return CLOSED_PIPE

        show_line(f"smtpcore: cannot write the output: {exc.reason}")
        return 2


def _run(arguments: list[str]) -> int:
    try:
        return cli.main(arguments, prog_name="smtpcore", standalone_mode=False, obj=arguments) or 0
    except click.ClickException as exc:
        show_line(f"smtpcore: {exc.format_message()}")
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BaseExceptionGroup as exc:  # trio's nurseries make a group of each exception
        if exc.split(KeyboardInterrupt)[1]:
            raise
        return 130
