"""Functions that run checks on clients."""

from collections.abc import Iterable
from functools import cache

from smtpcore_adapters.check import Finding, Outcome
from smtpcore_adapters.check.clients import (
    CLIENT_CHECKS,
    Client,
    ClientCheck,
    ClientChecks,
    ClientSetup,
    Tls,
    choose_client_checks,
)


@cache
def server_for(tls: Tls, timeout: float, pause: float, *, lmtp: bool = False) -> ClientChecks:
    """Return a server that listens until the end of the tests: making its certificates takes longer than a check."""
    return ClientChecks(ClientSetup(tls=tls, timeout=timeout, pause=pause, lmtp=lmtp)).__enter__()


def run_on(
    client: Client,
    checks: Iterable[ClientCheck] = CLIENT_CHECKS,
    *,
    tls: Tls = "none",
    timeout: float = 5.0,
    pause: float = 0.0,
    lmtp: bool = False,
) -> list[Finding]:
    return list(server_for(tls, timeout, pause, lmtp=lmtp).run(client, checks))


def failed(findings: Iterable[Finding]) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is Outcome.FAIL}


def finding_of(name: str, client: Client, *, tls: Tls = "none", timeout: float = 5.0, pause: float = 0.0) -> Finding:
    (finding,) = run_on(client, choose_client_checks([name]), tls=tls, timeout=timeout, pause=pause)
    return finding
