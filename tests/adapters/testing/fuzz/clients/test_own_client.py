"""The client of this project has no finding on each adapter."""

import pytest

from smtpcore_adapters.testing.fuzz.clients import ClientSettings
from tests.adapters.harness import BACKENDS
from tests.adapters.testing.fuzz.clients.own_client import KINDS, fuzz_own_client
from tests.long import long


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_client_has_no_finding(backend: str) -> None:
    report = fuzz_own_client(backend, ClientSettings(examples=8), tls="none", lmtp=False)

    assert (report.findings, report.unstable, report.notes) == ([], [], [])


@long
@pytest.mark.parametrize(("tls", "lmtp"), KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_own_client_has_no_finding_in_a_long_run(backend: str, tls: str, lmtp: bool) -> None:
    report = fuzz_own_client(backend, ClientSettings(seconds=10), tls=tls, lmtp=lmtp)  # type: ignore[arg-type]

    assert (report.findings, report.unstable) == ([], [])
