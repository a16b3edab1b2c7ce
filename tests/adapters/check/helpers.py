"""Functions that run checks against servers."""

from collections.abc import Callable, Sequence
from typing import Any

from smtpcore_adapters import Address
from smtpcore_adapters.check import CHECKS, Check, Finding, Outcome, Target, choose, run_checks
from tests.adapters.peers import Peer, serving


def target_of(address: Address, **options: Any) -> Target:
    given = {
        "sender": "a@c.example",
        "recipient": "b@s.example",
        "insecure": True,
        "timeout": 10.0,
        "helo": "c.example",
        **options,
    }
    return Target(host=address.host, port=address.port, **given)


def failed(findings: list[Finding]) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is Outcome.FAIL}


def with_outcome(findings: list[Finding], outcome: Outcome) -> set[str]:
    return {finding.id for finding in findings if finding.outcome is outcome}


def run_on(serve: Callable[[Peer], None], checks: Sequence[Check] = CHECKS, **options: Any) -> list[Finding]:
    with serving(serve) as address:
        return list(run_checks(target_of(address, **options), checks))


def outcome_of(name: str, serve: Callable[[Peer], None], **options: Any) -> tuple[Outcome, str]:
    (finding,) = [finding for finding in run_on(serve, choose([name]), **options) if finding.id == name]
    return finding.outcome, finding.note
