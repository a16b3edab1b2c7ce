"""Explanations of short dialogues."""

from collections.abc import Iterable

from hypothesis import HealthCheck, settings

from smtpcore_adapters.explain import Explained, explain, read

few_examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def explained(*texts: str) -> list[Explained]:
    """Explain the lines of one session, each with the prefix `C:` or `S:`."""
    (recording,) = read("\n".join(texts).encode())
    return explain(recording)


def found(lines: Iterable[Explained]) -> list[tuple[str, str]]:
    """Return the side and the RFC section of each breach."""
    return [(breach.side.value, breach.section) for line in lines for breach in line.breaches]


GREETING = "S: 220 s.example ESMTP"
HELLO = (GREETING, "C: EHLO c.example", "S: 250-s.example", "S: 250-PIPELINING", "S: 250-8BITMIME", "S: 250 CHUNKING")
PLAIN_HELLO = (GREETING, "C: EHLO c.example", "S: 250 s.example")
ENVELOPE = ("C: MAIL FROM:<a@c.example>", "S: 250 OK", "C: RCPT TO:<b@s.example>", "S: 250 OK")
DATA = (*ENVELOPE, "C: DATA", "S: 354 go")
QUIT = ("C: QUIT", "S: 221 bye")
