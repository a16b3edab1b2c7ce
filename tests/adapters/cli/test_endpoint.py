"""Parsing the address of a server."""

import pytest

from smtpcore_adapters.cli._endpoint import parse_server


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("host:25", ("host", 25, None)),
        ("host", ("host", 587, None)),
        ("[::1]:25", ("::1", 25, None)),
        ("[::1]", ("::1", 587, None)),
        ("/run/lmtp", ("", 0, "/run/lmtp")),
    ],
)
def test_server_option_parses_host_port_and_socket_path(text: str, parsed: tuple[str, int, str | None]) -> None:
    assert parse_server("--server", text, 587) == parsed
