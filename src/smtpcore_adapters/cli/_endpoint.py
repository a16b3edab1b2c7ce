"""How a server is named on the command line."""

import click


def parse_server(option: str, text: str, default_port: int | None = None) -> tuple[str, int, str | None]:
    """The host and the port of `HOST:PORT`, or the path of a Unix socket, which begins with a slash.

    An IPv6 address stands in brackets. Raises `click.UsageError`, which names `option`.
    """
    if text.startswith("/"):
        return "", 0, text

    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port or "")

    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise click.UsageError(f"{option} takes HOST:PORT, or the path of a Unix socket")

    return host, int(port), None
