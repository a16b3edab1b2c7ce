"""Each server of the interoperability tests accepts mail from smtplib, so it is set up correctly."""

import smtplib
from pathlib import Path

import pytest

from tests.interop import servers


@pytest.mark.parametrize("name", servers.NAMES)
def test_real_server_delivers_and_refuses(name: str) -> None:
    with servers.server(name) as server:
        client = smtplib.LMTP if server.lmtp else smtplib.SMTP
        with client("127.0.0.1", server.port, timeout=servers.TIMEOUT) as smtp:
            recipients = [servers.RECIPIENTS[0], "nobody@example.org"]
            refused = smtp.sendmail("s@client.example", recipients, b"Subject: parrot\r\n\r\nNorwegian Blue\r\n")

        assert set(refused) == {"nobody@example.org"}
        assert server.message("parrot").endswith(b"\nNorwegian Blue\n")

    assert not server.directory.exists()
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(server.directory) in _read(path)] == []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # the process has ended in the meantime
