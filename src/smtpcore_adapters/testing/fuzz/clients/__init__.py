"""Property-based tests of any SMTP or LMTP client: a server with generated behaviour, and the laws of a client.

`fuzz_client(send)` starts a client once for each behaviour, and returns a `ClientReport` with each `ClientFinding`: a
law that the client breaks, and the simplest behaviour of the server that shows it. The packages hypothesis and trustme
are needed: `pip install 'smtpcore[testing]'`.
"""

from smtpcore import show_texts

from ....check.clients import Client, ClientFailed, ClientListener, ClientSetup, Run, command
from .._laws import Violation
from .._peers import CannotFuzz
from .._storage import Unreadable
from ._behaviour import Answer, Behaviour, Then
from ._dialogue import dialogue_of
from ._engine import ClientFinding, ClientFuzzer, ClientReport, ClientSettings, lines_of
from ._laws import CLIENT_LAWS, ClientEvidence, ClientLaw, violations_of
from ._storage import load_behaviour, save_behaviour

__all__ = [
    "CLIENT_LAWS",
    "Answer",
    "Behaviour",
    "CannotFuzz",
    "Client",
    "ClientEvidence",
    "ClientFailed",
    "ClientFinding",
    "ClientFuzzer",
    "ClientLaw",
    "ClientListener",
    "ClientReport",
    "ClientSettings",
    "ClientSetup",
    "Run",
    "Then",
    "Unreadable",
    "Violation",
    "command",
    "dialogue_of",
    "fuzz_client",
    "lines_of",
    "load_behaviour",
    "save_behaviour",
    "violations_of",
]


def fuzz_client(
    client: Client, settings: ClientSettings | None = None, *, setup: ClientSetup | None = None
) -> ClientReport:
    """Run a client with generated behaviours of a server until the time is over, and return the report.

    Args:
        client: Sends one message to the given address, and returns the result.
        settings: The duration and the seed; by default 60 seconds.
        setup: The TLS that the client requires, and the address of the server; by default SMTP without TLS.

    Raises:
        CannotFuzz: the client does not connect.
        OSError: the server cannot listen.
    """
    with ClientListener(setup or ClientSetup(pause=0)) as listener:
        return ClientFuzzer(listener, client, settings).run()


show_texts(globals())
