"""Fuzz our own server on each adapter for a long time.

    python -m tests.adapters.testing.fuzz.soak [SECONDS [BACKEND...]]

Each adapter is fuzzed for SECONDS, by default 600, with SMTP and as long with LMTP.
"""

import itertools
import sys

from smtpcore_adapters.testing.fuzz import Settings
from tests.adapters.harness import BACKENDS
from tests.adapters.testing.fuzz.test_laws import fuzz_adapter


def main() -> None:
    """Fuzz, print a line for each run, and exit with an error if there is a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    findings = 0
    for backend, lmtp in itertools.product(sys.argv[2:] or BACKENDS, (False, True)):
        report = fuzz_adapter(backend, Settings(seconds=seconds), lmtp=lmtp)
        found = [*report.findings, *report.wrong_laws]
        findings += len(found)
        name = f"{backend}, {'LMTP' if lmtp else 'SMTP'}"
        sys.stdout.write(f"{name}: {report.sessions} sessions, {len(found)} findings\n")
        for each in found:
            sys.stdout.write(f"{each}\n")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
