"""`smtpcore send`: send a message to a server."""

import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import localtime, make_msgid
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from smtpcore import ClientBudgets, DataChunk, Notify, ProtocolError

from .._printable import printable
from ..client._envelope import SendOptions
from ..client._options import CONNECT_TIMEOUT, ConnectOptions, TlsMode, default_tls
from ..client._results import SendResult
from ..client._sources import Body
from ..socket import connect
from ..streams._stream import Address
from ..transcript import transcript_lines
from ._endpoint import default_port, parse_server
from ._failures import explain, status_of_error, status_of_result
from ._files import check_regular
from ._header import complete_envelope
from ._numbers import NumberRange
from ._password import HELP, read_password
from ._standard_output import OutputError

_LONG = 1_000_000
"""Minimum octets of a file that is sent with a progress bar."""


@click.command()
@click.option(
    "--server",
    required=True,
    metavar="HOST[:PORT]",
    help="Server, or the path of a Unix socket.  [default port: 25; 465 for implicit TLS, 24 for LMTP]",
)
@click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    help='Sender, who gets failure reports; "" for no reports.  [default: Sender or From in the header]',
)
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="ADDRESS",
    help="Recipient. Repeatable.  [default: To, Cc and Bcc in the header, and Bcc is removed]",
)
@click.option(
    "--tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    help="Use of TLS. The server's certificate is verified, except with --insecure.  "
    "[default: opportunistic; implicit at port 465, none for a Unix socket]",
)
@click.option(
    "--tls-ca",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CA certificates to trust, PEM.  [default: the system's certificates]",
)
@click.option("--insecure", is_flag=True, help="Accept any certificate of the server.")
@click.option("--auth", metavar="USER", help=f"User to log in as. {HELP}")
@click.option("--allow-plaintext-auth", is_flag=True, help="Log in also without TLS, which exposes the password.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option("--hostname", help="Name of this client for EHLO.  [default: the name of this machine]")
@click.option(
    "--timeout",
    type=NumberRange(0, min_open=True),
    metavar="SECONDS",
    help="Timeout for connecting and for each reply.  [default: the timeouts of RFC 5321]",
)
@click.option(
    "--dsn",
    multiple=True,
    type=click.Choice([each.value.lower() for each in Notify]),
    help="Event to notify the sender of. Repeatable.  [default: the server decides]",
)
@click.option("--requiretls", is_flag=True, help="Let servers relay the message only over verified TLS.")
@click.option("--data-from-template", is_flag=True, help="Send a short test message instead of a file.")
@click.option("-v", "--verbose", is_flag=True, help="Show the dialogue on standard error, with secrets masked.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
def send(**options: Any) -> int:
    """Send a message, header and body, from FILE or standard input.

    Without --from and --to, the header shows the sender and the recipients, as for `sendmail -t`.

    Exit status: 0 if the message was accepted for all recipients, 1 for some of them, 75 for none if another attempt
    may succeed, 69 for none if it will fail again, 2 for arguments that cannot be used.
    """
    _check_options(options)
    given = TlsMode(options["tls"]) if options["tls"] else None
    host, port, path = parse_server("--server", options["server"], default_port(given, lmtp=options["lmtp"]))
    tls = given or default_tls(port, path)
    arguments: ConnectOptions = {
        "path": path,
        "tls": tls,
        "context": _context(options["tls_ca"], is_insecure=options["insecure"]),
        "auth": (options["auth"], read_password(options["auth"])) if options["auth"] else None,
        "plaintext_auth": options["allow_plaintext_auth"],
        "lmtp": options["lmtp"],
        "hostname": options["hostname"],
        "budgets": _budgets(options["timeout"]),
        "connect_timeout": options["timeout"] or CONNECT_TIMEOUT,
        "observer": _Dialogue().show if options["verbose"] else None,
    }
    parameters: SendOptions = {
        "notify": [Notify(event.upper()) for event in options["dsn"]],
        "requiretls": options["requiretls"],
    }
    with _message(options) as (sender, recipients, body):
        try:
            with connect(host, port, **arguments) as client:
                result = client.send(sender, recipients, body, **parameters)
        except (OSError, ProtocolError) as exc:
            _show(f"smtpcore: {explain(exc, path or str(Address(host, port)), tls)}", err=True)
            return status_of_error(exc)

    _report(result)
    return status_of_result(result)


def _report(result: SendResult) -> None:
    for path, reply in result.refused.items():
        _show(printable(f"{path}: {reply}".replace("\n", " ")), err=True)

    if result.accepted:
        accepted = f"accepted for {len(result.accepted)} of {len(result)}: {result.final}"
        _show(printable(accepted.replace("\n", " ")))


def _show(line: str, *, err: bool = False) -> None:
    """Print a line. After a failure, for example because a pipe is closed, nothing more is printed.

    A failure changes neither the delivery nor the exit status: after another status, an MTA sends the message again.
    """
    try:
        click.echo(line, err=err)
    except (OSError, OutputError):
        setattr(sys, "stderr" if err else "stdout", None)  # Python writes the rest of the buffer again at its end


class _Dialogue:
    """Shows the dialogue on standard error, without bodies."""

    def __init__(self) -> None:
        self._octets = 0

    def show(self, item: object) -> None:
        """Show a command, a reply, or the size of a body."""
        if isinstance(item, DataChunk):
            self._octets += len(item.data)
            return
        if self._octets:
            _show(f"C: ({self._octets} octets of the message)", err=True)
            self._octets = 0
        for line in transcript_lines(item):
            _show(line, err=True)


# Options


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that have no effect together."""
    if options["allow_plaintext_auth"] and not options["auth"]:
        raise click.UsageError("--allow-plaintext-auth has no effect without --auth: give both")
    if options["insecure"] and options["tls_ca"]:
        raise click.UsageError("--insecure accepts any certificate, so --tls-ca has no effect: give one of them")
    if (options["insecure"] or options["tls_ca"]) and options["tls"] == TlsMode.NONE.value:
        raise click.UsageError("--insecure and --tls-ca have no effect with --tls none")
    if options["data_from_template"] and options["file"]:
        raise click.UsageError("--data-from-template replaces FILE: give one of them")
    if options["data_from_template"] and not (options["sender"] is not None and options["recipients"]):
        raise click.UsageError("--data-from-template needs --from and --to")
    reads_input = options["file"] in (None, Path("-")) and not options["data_from_template"]
    if reads_input and sys.stdin is None:
        raise click.UsageError("there is no message: standard input is closed, so give FILE")
    if not options["recipients"] and options["file"] is None and os.isatty(sys.stdin.fileno()):
        raise click.UsageError("there is no message: give FILE, or the message on standard input, or --to to type it")


def _context(authorities: Path | None, *, is_insecure: bool) -> ssl.SSLContext | None:
    if is_insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if authorities is None:
        return None

    try:
        check_regular(authorities)
        return ssl.create_default_context(cafile=authorities)
    except OSError as exc:
        raise click.UsageError(f"cannot use the CA certificates {authorities}: {exc.strerror or exc}") from exc


def _budgets(seconds: float | None) -> ClientBudgets:
    if seconds is None:
        return ClientBudgets()

    names = set(ClientBudgets.__slots__) - {"quit", "session"}
    return ClientBudgets(**dict.fromkeys(names, seconds))


@contextmanager
def _message(options: dict[str, Any]) -> Iterator[tuple[str, Sequence[str], Body]]:
    """Yield the sender, the recipients and the message."""
    sender, recipients = options["sender"], options["recipients"]
    if options["data_from_template"]:
        yield sender, recipients, _template(sender, recipients)
        return

    with _opened(options["file"]) as file, _progress(file) as message:
        yield complete_envelope(message, sender, recipients)


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None or str(path) == "-":
        yield sys.stdin.buffer
        return

    try:
        file = path.open("rb")
    except OSError as exc:
        raise click.UsageError(f"cannot read {path}: {exc.strerror}") from exc
    with file:
        yield file


def _template(sender: str, recipients: Sequence[str]) -> EmailMessage:
    message = EmailMessage(policy=SMTPUTF8)
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain="smtpcore.invalid")
    message["Subject"] = "Test message"
    # Not every address of an envelope can be written in a field; the test is about the envelope.
    for name, addresses in (("From", [sender or "postmaster@smtpcore.invalid"]), ("To", recipients)):
        with suppress(HeaderParseError, ValueError, IndexError):
            message[name] = ", ".join(addresses)
    message.set_content("This is a test message, sent by the command `smtpcore send --data-from-template`.\n")
    return message


@contextmanager
def _progress(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the file; if it is large and standard error is a terminal, reading the file shows a progress bar."""
    console = Console(stderr=True)
    size = _size_of(file) if file.seekable() else 0
    if size < _LONG or not console.is_terminal:
        yield file
        return

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("sending"), *columns, console=console, transient=True) as progress:
        yield progress.wrap_file(file, total=size)


def _size_of(file: BinaryIO) -> int:
    start = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(start)
    return size
