"""Fuzz our own server on each adapter for a long time.

    python -m tests.adapters.testing.fuzz.soak [SECONDS [BACKEND...]]

Each adapter is fuzzed for SECONDS, by default 600, in each variant: SMTP, LMTP, AUTH with XCLIENT, and AUTH with PROXY.
"""

import itertools
import sys

from smtpcore_adapters.testing.fuzz import Settings, dialogues
from tests.adapters.harness import BACKENDS
from tests.adapters.testing.fuzz.test_laws import VARIANTS, fuzz_adapter


def main() -> None:
    """Fuzz, print a line for each run, and exit with an error if there is a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    findings = 0
    for seed, (variant, backend) in enumerate(itertools.product(VARIANTS, sys.argv[2:] or BACKENDS)):
        report = fuzz_adapter(backend, Settings(seconds=seconds, seed=seed), **VARIANTS[variant])
        found = [*report.findings, *report.wrong_laws]
        findings += len(found)
        unstable = f", {len(report.unstable)} unstable" if report.unstable else ""
        sys.stdout.write(f"{backend}, {variant}: {report.sessions} sessions, {len(found)} findings{unstable}\n")
        for each in found:
            sys.stdout.write("\n".join([f"{each.violation}", *dialogues(each.recordings), "", ""]))
        for violation in report.unstable:
            sys.stdout.write(f"unstable: {violation}\n")
        sys.stdout.flush()
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
