"""The client of this project has no finding."""

import asyncio
import ssl

import pytest

from smtpcore import ProtocolError
from smtpcore_adapters import TlsMode
from smtpcore_adapters.asyncio import send
from smtpcore_adapters.check.clients import Run, Tls
from tests.adapters.check.clients.helpers import failed, run_on


@pytest.mark.parametrize(("tls", "lmtp"), [("none", False), ("starttls", False), ("implicit", False), ("none", True)])
def test_own_client_has_no_finding(tls: Tls, lmtp: bool) -> None:
    def client(run: Run) -> bool:
        sending = send(
            b"Subject: x\r\n\r\n.hidden\r\n.\r\nend\r\n",
            host=run.host,
            port=run.port,
            sender="a@c.example",
            recipients=["b@s.example"],
            tls=TlsMode(tls),
            lmtp=lmtp,
            context=ssl.create_default_context(cafile=run.authority),
        )
        try:
            return bool(asyncio.run(sending).accepted)
        except (OSError, ProtocolError):
            return False

    assert failed(run_on(client, tls=tls, lmtp=lmtp)) == set()
