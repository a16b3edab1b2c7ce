"""`smtpcore send`: send a message to a server."""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gaierror
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from smtpcore import ClientBudgets, ProtocolError

from ..client._options import CONNECT_TIMEOUT, ConnectOptions, TlsMode
from ..client._results import SendResult
from ..socket import connect
from ..transcript import printable
from ._endpoint import parse_server

_LONG = 1_000_000
"""Minimum octets of a file that is sent with a progress bar."""

_PASSWORD = "SMTPCORE_PASSWORD"  # noqa: S105 - the name of an environment variable

_PORTS = {TlsMode.IMPLICIT: 465}  # RFC 8314 section 3.3
_PORT = 25
_LMTP_PORT = 24


@click.command()
@click.option(
    "--server",
    required=True,
    metavar="HOST[:PORT]",
    help="Server, or the path of a Unix socket.  [default port: 25; 465 for implicit TLS, 24 for LMTP]",
)
@click.option(
    "--from", "sender", required=True, metavar="ADDRESS", help='Sender, who gets failure reports; "" for no reports.'
)
@click.option("--to", "recipients", required=True, multiple=True, metavar="ADDRESS", help="Recipient. Repeatable.")
@click.option(
    "--tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    default=TlsMode.OPPORTUNISTIC.value,
    show_default=True,
    help="Use of TLS. The server's certificate is always verified.",
)
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CA certificates to trust, PEM.  [default: the system's certificates]",
)
@click.option(
    "--auth", metavar="USER", help=f"User to log in as. The password is read from {_PASSWORD}, or from the terminal."
)
@click.option("--allow-plaintext-auth", is_flag=True, help="Log in also without TLS, which exposes the password.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option("--hostname", help="Name of this client for EHLO.  [default: the name of this machine]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Timeout for connecting and for each reply.  [default: the timeouts of RFC 5321]",
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
def send(**options: Any) -> int:
    """Send a message, header and body, from FILE or standard input.

    Exit status: 0 if the message was accepted for all recipients, 1 for some, 2 for none or after an error.
    """
    if options["allow_plaintext_auth"] and not options["auth"]:
        raise click.UsageError("--allow-plaintext-auth has no effect without --auth: give both")

    host, port, path = parse_server("--server", options["server"], _default_port(options))
    arguments: ConnectOptions = {
        "path": path,
        "tls": TlsMode(options["tls"]),
        "context": _context(options["tls_ca"]),
        "auth": (options["auth"], _password()) if options["auth"] else None,
        "plaintext_auth": options["allow_plaintext_auth"],
        "lmtp": options["lmtp"],
        "hostname": options["hostname"],
        "budgets": _budgets(options["timeout"]),
        "connect_timeout": options["timeout"] or CONNECT_TIMEOUT,
    }
    with _opened(options["file"]) as file, _progress(file) as body:
        try:
            with connect(host, port, **arguments) as client:
                result = client.send(options["sender"], options["recipients"], body)
        except (OSError, ProtocolError) as exc:
            raise click.UsageError(f"{options['server']}: {_explain(exc)}") from exc

    return _report(result)


def _report(result: SendResult) -> int:
    for path, reply in result.refused.items():
        click.echo(printable(f"{path}: {reply}".replace("\n", " ")), err=True)

    if not result.accepted:
        return 2

    click.echo(printable(f"accepted for {len(result.accepted)} of {len(result)}: {result.final}".replace("\n", " ")))
    return 1 if result.refused else 0


# Options


def _default_port(options: dict[str, Any]) -> int:
    return _LMTP_PORT if options["lmtp"] else _PORTS.get(TlsMode(options["tls"]), _PORT)


def _context(authorities: Path | None) -> ssl.SSLContext | None:
    if authorities is None:
        return None

    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as exc:
        raise click.UsageError(f"cannot use the CA certificates {authorities}: {exc.strerror or exc}") from exc


def _password() -> str:
    password = os.environ.get(_PASSWORD)
    if password:
        return password
    if not sys.stdin.isatty():
        raise click.UsageError(f"--auth needs a password: set {_PASSWORD}, or use a terminal")

    prompted: str = click.prompt("Password", hide_input=True, err=True)
    return prompted


def _budgets(seconds: float | None) -> ClientBudgets:
    if seconds is None:
        return ClientBudgets()

    names = set(ClientBudgets.__slots__) - {"quit", "session"}
    return ClientBudgets(**dict.fromkeys(names, seconds))


def _explain(exc: OSError | ProtocolError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {exc.verify_message}"

    if isinstance(exc, TimeoutError) and not exc.errno:
        return "the server did not answer in time; --timeout sets the limit"
    if isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError | gaierror) and exc.errno:
        return os.strerror(exc.errno)

    text = (exc.strerror if isinstance(exc, gaierror) else None) or str(exc)
    return printable(text.replace("\n", " "))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return

    try:
        file = path.open("rb")
    except OSError as exc:
        raise click.UsageError(f"cannot read {path}: {exc.strerror}") from exc
    with file:
        yield file


@contextmanager
def _progress(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the file; if it is large and standard error is a terminal, reading the file shows a progress bar."""
    console = Console(stderr=True)
    size = os.fstat(file.fileno()).st_size if file.seekable() else 0
    if size < _LONG or not console.is_terminal:
        yield file
        return

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("sending"), *columns, console=console, transient=True) as progress:
        yield progress.wrap_file(file, total=size)
