"""Fuzz our own server and client on each adapter for a long time.

    python -m tests.adapters.testing.fuzz.soak [SECONDS [server|client|BACKEND...]]

Each run takes SECONDS, by default 600. The variants of the server are SMTP, LMTP, AUTH with XCLIENT, and AUTH with
PROXY; those of the client are SMTP, LMTP, STARTTLS and implicit TLS. `server`, `client` and names of adapters limit
the runs. As in `smtpcore fuzz`, warnings are no findings.
"""

import itertools
import sys
from collections.abc import Iterator, Sequence

from smtpcore_adapters.testing.fuzz import Finding, Settings, Violation
from smtpcore_adapters.testing.fuzz.clients import ClientFinding, ClientSettings
from tests.adapters.harness import BACKENDS
from tests.adapters.testing.fuzz.clients.own_client import KINDS, fuzz_own_client
from tests.adapters.testing.fuzz.test_laws import VARIANTS, fuzz_adapter

Run = tuple[str, int, Sequence[Finding | ClientFinding], Sequence[Violation]]
"""The name of a run, the number of sessions, the findings, and the unstable violations."""


def _servers(backends: Sequence[str], seconds: float) -> Iterator[Run]:
    for seed, (variant, backend) in enumerate(itertools.product(VARIANTS, backends)):
        report = fuzz_adapter(backend, Settings(seconds=seconds, seed=seed), **VARIANTS[variant])
        found = [*report.findings, *report.wrong_laws]
        yield f"server, {backend}, {variant}", report.sessions, found, report.unstable


def _clients(backends: Sequence[str], seconds: float) -> Iterator[Run]:
    for seed, (backend, (tls, lmtp)) in enumerate(itertools.product(backends, KINDS)):
        report = fuzz_own_client(backend, ClientSettings(seconds=seconds, seed=seed), tls=tls, lmtp=lmtp)
        name = f"client, {backend}, {'LMTP' if lmtp else 'SMTP'}, TLS: {tls}"
        yield name, report.sessions, report.findings, report.unstable


def main() -> None:
    """Fuzz, print a line for each run, and exit with an error if there is a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    backends = [word for word in sys.argv[2:] if word in BACKENDS] or list(BACKENDS)
    parts = {"server": _servers, "client": _clients}
    chosen = [parts[word] for word in sys.argv[2:] if word in parts] or parts.values()
    total = 0
    for name, sessions, found, unstable in itertools.chain.from_iterable(part(backends, seconds) for part in chosen):
        warnings = sum(each.violation.is_warning for each in found)
        faults = len(found) - warnings
        total += faults
        sys.stdout.write(
            f"{name}: {sessions} sessions, {faults} findings, {warnings} warnings, {len(unstable)} unstable\n"
        )
        for each in found:
            sys.stdout.write("\n".join([f"{each.violation}", *each.lines, "", ""]))
        for violation in unstable:
            sys.stdout.write(f"unstable: {violation}\n")
        sys.stdout.flush()
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
