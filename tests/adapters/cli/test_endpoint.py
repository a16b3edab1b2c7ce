"""The address of a server, and its default port."""

import click
import pytest

from smtpcore_adapters import TlsMode
from smtpcore_adapters.cli._endpoint import default_port, parse_server


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("host:25", ("host", 25, None)),
        ("host", ("host", 587, None)),
        ("[::1]:25", ("::1", 25, None)),
        ("[::1]", ("::1", 587, None)),
        ("::1", ("::1", 587, None)),
        ("fe80::1%eth0", ("fe80::1%eth0", 587, None)),
        ("/run/lmtp", ("", 0, "/run/lmtp")),
    ],
)
def test_server_option_parses_host_port_and_socket_path(text: str, parsed: tuple[str, int, str | None]) -> None:
    assert parse_server("--server", text, 587) == parsed


@pytest.mark.parametrize("text", ["", ":", ":25", "host:x", "host:0", "./socket", "http://host", "host:a:25", "[::1"])
def test_text_that_is_no_server_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="--server needs HOST:PORT"):
        parse_server("--server", text, 587)


@pytest.mark.parametrize(
    ("tls", "lmtp", "port"), [(TlsMode.NONE, False, 25), (TlsMode.IMPLICIT, False, 465), (TlsMode.IMPLICIT, True, 24)]
)
def test_default_port_follows_from_tls_and_lmtp(tls: TlsMode, lmtp: bool, port: int) -> None:
    assert default_port(tls, lmtp=lmtp) == port
