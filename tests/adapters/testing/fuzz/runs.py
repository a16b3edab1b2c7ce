"""Short runs of the fuzzer against the servers of `servers.py`."""

from contextlib import suppress
from typing import Any

from smtpcore_adapters.testing.fuzz import (
    Credentials,
    Evidence,
    Experiment,
    Finding,
    Fuzzer,
    Kind,
    Plan,
    Progress,
    Report,
    Settings,
)
from smtpcore_adapters.testing.steps import BodyStep, LineStep, Step

from .servers import Inbox, SmallAuthServer, SmallServer

CREDENTIALS = Credentials("user", "password")
RECIPIENTS = ("u@s.example", "v@s.example")
HELLO = LineStep(b"EHLO c.example")
MAIL = LineStep(b"MAIL FROM:<a@c.example>")
RCPT = LineStep(b"RCPT TO:<u@s.example>")
RSET = LineStep(b"RSET")
NOOP = LineStep(b"NOOP")
BODY = BodyStep(b"Subject: x\r\n\r\ny\r\n")


def fuzzer_for(server: type[SmallServer], *, progress: Progress | None = None, **settings: Any) -> Fuzzer:
    """Return a fuzzer whose server is in memory, and which sees what is delivered."""
    seen = Inbox()
    kind: Any = type(server.__name__, (server,), {"delivered": seen.messages})
    values: dict[str, Any] = {"examples": 300, "recipients": RECIPIENTS, "lmtp": server.lmtp, **settings}
    values |= {"credentials": CREDENTIALS} if issubclass(server, SmallAuthServer) else {}
    values |= {"proxy": 1} if server.proxied else {}
    connect_with = kind.connect if server.proxied else None
    return Fuzzer(kind.connect, Settings(**values), sink=seen, progress=progress, connect_with=connect_with)


def run(server: type[SmallServer], **settings: Any) -> Report:
    """Fuzz a server in memory, and return the report."""
    return fuzzer_for(server, **settings).run()


class _Found(Exception):
    pass


def find(server: type[SmallServer], law: str, **settings: Any) -> tuple[Finding, Report]:
    """Fuzz a server in memory until a violation of `law` is found."""

    def stop(report: Report) -> None:
        if any(finding.violation.law == law for finding in report.findings):
            raise _Found

    fuzzer = fuzzer_for(server, progress=stop, **settings)
    with suppress(_Found):
        fuzzer.run()
    return next(finding for finding in fuzzer.report.findings if finding.violation.law == law), fuzzer.report


def play_at(server: type[SmallServer], *steps: Step, kind: Kind = Kind.SINGLE, pipelined: bool = False) -> Evidence:
    """Play one experiment at a server in memory."""
    fuzzer = fuzzer_for(server)
    fuzzer.probe()
    return fuzzer.gather(Experiment(Plan(steps, pipelined), kind))
