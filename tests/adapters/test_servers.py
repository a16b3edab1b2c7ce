"""The real servers that other tests deliver to work, whatever client it is that sends."""

import smtplib

import pytest

from tests.adapters import servers


@pytest.mark.parametrize("name", servers.NAMES)
def test_a_real_server_delivers_and_refuses(name: str) -> None:
    with servers.server(name) as server:
        client = smtplib.LMTP if server.lmtp else smtplib.SMTP
        with client("127.0.0.1", server.port, timeout=servers.TIMEOUT) as smtp:
            recipients = [servers.RECIPIENTS[0], "nobody@example.org"]
            refused = smtp.sendmail("s@client.example", recipients, b"Subject: parrot\r\n\r\nNorwegian Blue\r\n")

        assert set(refused) == {"nobody@example.org"}
        assert server.message("parrot").endswith(b"\nNorwegian Blue\n")
