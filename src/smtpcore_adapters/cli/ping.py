"""`smtpcore ping`: a health check of a server."""

import ssl

import click

from smtpcore import ClientBudgets, ProtocolError

from ..client._options import TlsMode
from ..socket import connect
from ..streams._stream import Address
from ._endpoint import default_port, parse_server
from ._failures import explain
from ._numbers import NumberRange


@click.command()
@click.argument("server", metavar="HOST[:PORT]")
@click.option(
    "--tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    default=TlsMode.NONE.value,
    show_default=True,
    help="Use of TLS. The server's certificate is verified.",
)
@click.option("--insecure", is_flag=True, help="Accept every certificate, such as a self-signed one.")
@click.option("--lmtp", is_flag=True, help="Speak LMTP instead of SMTP.")
@click.option(
    "--timeout",
    type=NumberRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Timeout for connecting, and for the session.",
)
def ping(server: str, tls: str, insecure: bool, lmtp: bool, timeout: float) -> int:
    """Check the health of a server: connect, wait for its greeting, send EHLO and QUIT.

    The server may also be the path of a Unix socket. Without PORT the port is 25, 465 for implicit TLS, or 24 for LMTP.

    Exit status: 0 if the server is ready, 1 with one line on standard error if not, 2 for a wrong option.
    """
    mode = TlsMode(tls)
    if insecure and mode is TlsMode.NONE:
        raise click.UsageError("--insecure has no effect without --tls: give both")

    host, port, path = parse_server("SERVER", server, default_port(mode, lmtp=lmtp))
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    budgets = ClientBudgets(**dict.fromkeys(ClientBudgets.__slots__, timeout))
    try:
        with connect(
            host, port, path=path, tls=mode, context=context, lmtp=lmtp, budgets=budgets, connect_timeout=timeout
        ):
            return 0
    except (OSError, ProtocolError) as exc:
        click.echo(f"smtpcore: {explain(exc, path or str(Address(host, port)), mode)}", err=True)
        return 1
