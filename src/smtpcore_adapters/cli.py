"""The command line."""

import logging
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

from smtpcore import BareNewlines, Bodies, Config, LocalProtocolError, __version__

from ._app import App
from ._display import Arrivals, JsonLog, Terminal, log_arrival, log_dialogue
from ._limits import Timeouts
from ._lobby import default_config
from ._stream import Address
from .maildir import Maildir
from .recipients import AnyRecipient, Recipients
from .tls import self_signed_context, server_context

_BARE_NEWLINES = [choice.name.lower() for choice in BareNewlines]


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smtpcore")
@click.pass_context
def cli(context: click.Context) -> None:
    """SMTP from the command line."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65_535), default=2525, show_default=True, help="0 picks a free one.")
@click.option("--hostname", help="Name of this server in its replies.  [default: the name of this machine]")
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
@click.option(
    "--maildir", type=click.Path(path_type=Path), default="Maildir", show_default=True, help="Where to store."
)
@click.option("--accept", multiple=True, metavar="ADDRESS-or-DOMAIN", help="Take mail for it only. Repeatable.")
@click.option("--max-size", type=int, metavar="OCTETS", default=52_428_800, show_default=True, help="Of a message.")
@click.option("--max-recipients", type=int, metavar="N", default=1000, show_default=True, help="Of a message.")
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key, PEM.")
@click.option("--self-signed", is_flag=True, help="Make a certificate up, for tests.")
@click.option("--implicit-tls", is_flag=True, help="Start with TLS instead of offering STARTTLS.")
@click.option("--require-tls", is_flag=True, help="Take no mail without TLS.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Of a silent client.")
@click.option(
    "--bare-newlines", type=click.Choice(["reject", "normalize", "accept"]), default="reject", show_default=True
)
@click.option("--log-json", is_flag=True, help="Log to standard error, one JSON object a line.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogue.")
def serve(**options: Any) -> None:
    """Receive mail into a Maildir.

    Without --accept every recipient is accepted, which is possible on a loopback address only.
    """
    app = App()
    app.include(_recipients(options["host"], options["accept"]))
    app.include(_maildir(options["maildir"]))
    _show(app, json=options["log_json"], verbose=options["verbose"])

    tls = _tls(options)
    arguments: dict[str, Any] = {
        "host": options["host"],
        "config": _config(options, tls),
        "tls": tls,
        "implicit_tls": options["implicit_tls"],
        "timeouts": _timeouts(options["timeout"]),
        "on_ready": _announce,
    }
    try:
        _runner(options["backend"])(app, options["port"], **arguments)
    except OSError as exc:
        raise click.UsageError(
            f"cannot listen at {options['host']} port {options['port']}: {exc.strerror or exc}"
        ) from exc


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status: 2 with one line of explanation for what cannot be done."""
    try:
        return cli.main(arguments, prog_name="smtpcore", standalone_mode=False) or 0
    except click.ClickException as exc:
        click.echo(f"smtpcore: {exc.format_message()}", err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130


# What the options mean


def _recipients(host: str, accept: Sequence[str]) -> AnyRecipient | Recipients:
    if not accept and not _is_loopback(host):
        raise click.UsageError(
            f"at {host} strangers can reach this server, so say for whom it takes mail: --accept ADDRESS-or-DOMAIN"
        )

    try:
        return Recipients(accept) if accept else AnyRecipient()
    except ValueError as exc:
        raise click.UsageError(f"--accept: {exc}") from exc


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _maildir(path: Path) -> Maildir:
    try:
        return Maildir(path)
    except OSError as exc:
        raise click.UsageError(f"cannot write to the Maildir {path}: {exc.strerror or exc}") from exc


def _config(options: dict[str, Any], tls: ssl.SSLContext | None) -> Config:
    if options["require_tls"] and tls is None:
        raise click.UsageError("--require-tls needs --tls-cert and --tls-key, or --self-signed")

    try:
        return Config(
            hostname=options["hostname"] or default_config().hostname,
            bodies=Bodies.CHUNKS,
            bare_newlines=BareNewlines[options["bare_newlines"].upper()],
            tls=tls is not None,
            require_tls=options["require_tls"],
            max_message_size=options["max_size"],
            max_recipients=options["max_recipients"],
        )
    except LocalProtocolError as exc:
        raise click.UsageError(str(exc)) from exc


def _tls(options: dict[str, Any]) -> ssl.SSLContext | None:
    certificate, key = options["tls_cert"], options["tls_key"]
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if certificate and options["self_signed"]:
        raise click.UsageError("--self-signed and --tls-cert exclude each other")

    if certificate:
        try:
            return server_context(certificate, key)
        except OSError as exc:
            raise click.UsageError(
                f"cannot use the certificate {certificate} with {key}: {exc.strerror or exc}"
            ) from exc
    if options["self_signed"]:
        return self_signed_context({options["hostname"] or default_config().hostname, "localhost", "127.0.0.1", "::1"})
    if options["implicit_tls"]:
        raise click.UsageError("--implicit-tls needs --tls-cert and --tls-key, or --self-signed")

    return None


def _timeouts(seconds: float | None) -> Timeouts:
    return Timeouts(greeting=seconds, command=seconds, body=seconds) if seconds else Timeouts()


def _runner(backend: str) -> Callable[..., None]:
    if backend == "asyncio":
        from .asyncio import run

        return run

    if not (find_spec("anyio") and find_spec("trio")):
        raise click.UsageError("--backend trio needs more packages: pip install 'smtpcore[trio]'")

    from .anyio import run as run_anyio

    return partial(run_anyio, backend="trio")


# What is shown


def _announce(address: Address) -> None:
    click.echo(f"listening on {address}", err=True)


def _show(app: App, *, json: bool, verbose: bool) -> None:
    logger = logging.getLogger("smtpcore")
    if json:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLog())
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        if verbose:
            app.observe(log_dialogue)
        app.observe(Arrivals(log_arrival))
        return

    logger.addHandler(RichHandler(console=Console(stderr=True), show_path=False, markup=False))
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    terminal = Terminal()
    if verbose:
        app.observe(terminal.show_dialogue)
    app.observe(Arrivals(terminal.show_arrival))
