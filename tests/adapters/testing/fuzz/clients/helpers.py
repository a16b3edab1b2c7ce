"""Visits and runs of clients for the tests of the fuzzer."""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from smtpcore_adapters.check.clients import ClientListener, ClientSetup, Tls
from smtpcore_adapters.testing.fuzz.clients import (
    Behaviour,
    Client,
    ClientEvidence,
    ClientFuzzer,
    ClientReport,
    ClientSettings,
    Violation,
    violations_of,
)
from tests.adapters.check.clients.test_visit import visit_of

ENVELOPE = (b"EHLO c.example\r\n", b"MAIL FROM:<a@c.example>\r\n", b"RCPT TO:<b@s.example>\r\n")
MESSAGE = (*ENVELOPE, b"DATA\r\n", b"x\r\n.\r\n", b"QUIT\r\n")


@cache
def listener_for(tls: Tls = "none", *, lmtp: bool = False, timeout: float = 2.0) -> ClientListener:
    """Return a listener that is used until the end of the tests: making its certificates takes longer than a run."""
    return ClientListener(ClientSetup(tls=tls, lmtp=lmtp, timeout=timeout, pause=0)).__enter__()


def talking(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Return a client that sends each piece after a reply, and reads until the server closes the connection."""

    def client(connection: socket.socket) -> None:
        received = b""
        with suppress(OSError):
            for piece in pieces:
                while not received.endswith(b"\n") or received.splitlines()[-1][3:4] == b"-":
                    data = connection.recv(65_536)
                    if not data:
                        return
                    received += data
                received = b""
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    return client


def evidence_of(
    *pieces: bytes, behaviour: Behaviour | None = None, lmtp: bool = False, **fields: Any
) -> ClientEvidence:
    """Return the evidence of a client that sends each piece after a reply."""
    played = behaviour or Behaviour()
    visits = [visit_of(talking(*pieces), played.script(), lmtp=lmtp)]
    return ClientEvidence(played, visits, lmtp=lmtp, **fields)


def broken_laws(evidence: ClientEvidence) -> list[tuple[str, str]]:
    """Return the law and the text of each violation."""
    return [(violation.law, violation.text) for violation in violations_of(evidence)]


class _Found(Exception):
    pass


def fuzz(
    client: Client, tls: Tls = "none", *, law: str = "", lmtp: bool = False, examples: int = 300, seconds: float = 60.0
) -> ClientReport:
    """Fuzz a client until a violation of `law` is found; without a law until the end."""

    def stop(report: ClientReport) -> None:
        if law and any(finding.violation.law == law for finding in report.findings):
            raise _Found

    settings = ClientSettings(examples=examples, seconds=seconds)
    fuzzer = ClientFuzzer(listener_for(tls, lmtp=lmtp), client, settings, progress=stop)
    with suppress(_Found):
        fuzzer.run()
    return fuzzer.report


VIOLATION = Violation("report", "RFC 5321 4.2.1", "END", "the client reported success")
