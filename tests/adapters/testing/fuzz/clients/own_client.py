"""The client of this project, fuzzed on each adapter."""

import ssl
from collections.abc import Callable, Collection

from smtpcore import ProtocolError
from smtpcore_adapters import TlsMode
from smtpcore_adapters.check.clients import Run, Tls
from smtpcore_adapters.testing.fuzz.clients import (
    ClientFuzzer,
    ClientListener,
    ClientReport,
    ClientSettings,
    ClientSetup,
)
from tests.adapters.harness import connect_of, run_in

_MESSAGE = b"From: <a@c.example>\r\nSubject: x\r\n\r\n.hidden\r\n.\r\n\xc3\xa9\r\n" + b"line\r\n" * 2000
_RECIPIENTS = ["b@s.example", "c@s.example"]
KINDS: tuple[tuple[Tls, bool], ...] = (("none", False), ("none", True), ("starttls", False), ("implicit", False))
"""The use of TLS, and whether the protocol is LMTP."""


def own_client(backend: str, tls: Tls, *, lmtp: bool) -> Callable[[Run], bool | Collection[str]]:
    """Return a function that sends a message with the client of an adapter, and returns the accepted recipients."""

    async def send(run: Run) -> Collection[str]:
        context = ssl.create_default_context(cafile=run.authority)
        login = {} if tls == "none" else {"auth": ("tim", "secret")}
        connect = connect_of(backend)(
            run.host, run.port, hostname="c.example", tls=TlsMode(tls), context=context, lmtp=lmtp, **login
        )
        async with connect as client:
            result = await client.send("a@c.example", _RECIPIENTS, _MESSAGE)
        return [str(path.mailbox) for path in result.accepted]

    def client(run: Run) -> bool | Collection[str]:
        try:
            return run_in(backend, send, run)
        except (OSError, ProtocolError):
            return False

    return client


def fuzz_own_client(backend: str, settings: ClientSettings, *, tls: Tls, lmtp: bool) -> ClientReport:
    """Fuzz the client of an adapter, and return the report."""
    setup = ClientSetup(tls=tls, lmtp=lmtp, pause=0)
    with ClientListener(setup) as listener:
        return ClientFuzzer(listener, own_client(backend, tls, lmtp=lmtp), settings).run()
