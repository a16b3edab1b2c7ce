"""Check whether an SMTP client complies with the RFCs and is safe.

    with ClientChecks(ClientSetup()) as checks:
        for finding in checks.run(command("swaks --server {host}:{port} --to b@example.org"), CLIENT_CHECKS):
            ...

`ClientChecks` listens for connections. Each of `CLIENT_CHECKS` is one behaviour of a server, which may be hostile, and
a judgement of the client's reaction. `ClientChecks.run` starts the client once for each check, and also judges whether
the client reported the right result. `ClientChecks.wait` waits for clients that connect by themselves.
"""

from collections.abc import Iterable

from smtpcore import show_texts

from .._choice import chosen
from ._client_checks import Case, ClientCheck, Tls
from ._connections import CONNECTIONS
from ._listener import (
    Attempt,
    Client,
    ClientChecks,
    ClientFailed,
    ClientListener,
    ClientNotEnded,
    ClientSetup,
    Run,
    command,
)
from ._security import SECURITY
from ._transactions import TRANSACTIONS
from ._visit import Body, Line, Script, Secret, Sent, Visit

__all__ = [
    "CLIENT_CHECKS",
    "Attempt",
    "Body",
    "Case",
    "Client",
    "ClientCheck",
    "ClientChecks",
    "ClientFailed",
    "ClientListener",
    "ClientNotEnded",
    "ClientSetup",
    "Line",
    "Run",
    "Script",
    "Secret",
    "Sent",
    "Tls",
    "Visit",
    "choose_client_checks",
    "command",
]

CLIENT_CHECKS: tuple[ClientCheck, ...] = (*CONNECTIONS, *TRANSACTIONS, *SECURITY)
"""All checks of clients, in the order in which they run."""


def choose_client_checks(names: Iterable[str]) -> tuple[ClientCheck, ...]:
    """Return the checks with these ids or id prefixes; all checks if `names` is empty.

    Raises:
        ValueError: a name selects no check.
    """
    return chosen(CLIENT_CHECKS, names)


show_texts(globals())
