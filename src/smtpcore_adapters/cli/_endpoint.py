"""Parse the address of a server on the command line."""

import click

from ..client._options import IMPLICIT_PORT, TlsMode, check_connect_options

_PORT = 25
_LMTP_PORT = 24


def default_port(tls: TlsMode | None, *, lmtp: bool) -> int:
    """Return the port of a server whose address has no port."""
    if lmtp:
        return _LMTP_PORT

    return IMPLICIT_PORT if tls is TlsMode.IMPLICIT else _PORT


def parse_server(option: str, text: str, default_port: int | None = None) -> tuple[str, int, str | None]:
    """Return a host, a port and a path. For a Unix socket the host is empty and the port 0; otherwise the path is None.

    A text that begins with a slash is the path of a Unix socket. An IPv6 address needs brackets if a port follows.

    Raises:
        click.UsageError: the text has neither form; the error names `option`.
    """
    if text.startswith("/"):
        return "", 0, text

    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port or "")

    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise click.UsageError(f"{option} needs HOST:PORT, or the absolute path of a Unix socket")
    try:
        check_connect_options(host, int(port), {})
    except ValueError as exc:
        raise click.UsageError(f"{option} needs HOST:PORT, or the absolute path of a Unix socket: {exc}") from exc

    return host, int(port), None
