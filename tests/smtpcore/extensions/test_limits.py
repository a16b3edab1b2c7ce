"""The limits that LIMITS announces are enforced (RFC 9422)."""

from typing import Any

from smtpcore import OFF_BY_DEFAULT

from ...playbook import READY, ServerPlaybook, server

FROM = b"MAIL FROM:<a@c.example>\r\n"


def limited(**changes: Any) -> ServerPlaybook:
    """Return a server that announces its limits, in the state after EHLO."""
    return server(READY, disabled=OFF_BY_DEFAULT - {"LIMITS"}, **changes)


def rcpt(*domains: str) -> bytes:
    return b"".join(f"RCPT TO:<u@{domain}>\r\n".encode() for domain in domains)


def test_limits_are_announced() -> None:
    book = limited(max_messages=2, max_recipient_domains=3).send(READY)
    book.expect("250-...LIMITS MAILMAX=2 RCPTMAX=1000 RCPTDOMAINMAX=3...")


def test_one_message_too_many_closes_the_connection() -> None:
    limited(max_messages=2).send(3 * (FROM + b"RSET\r\n")).expect(250, 250, 250, 250, 421)


def test_refused_mail_does_not_count_as_a_message() -> None:
    limited(max_messages=1).send(2 * b"MAIL FROM:<a@>\r\n" + FROM).expect(501, 501, 250)


def test_recipient_of_one_domain_too_many_is_refused_and_other_recipients_are_kept() -> None:
    group = rcpt("a.example", "B.example", "A.EXAMPLE", "c.example", "b.example")
    limited(max_recipient_domains=2).send(b"MAIL FROM:<>\r\n" + group).expect(250, 250, 250, 250, 452, 250)


def test_recipient_domains_are_counted_per_session() -> None:
    session = 2 * (b"MAIL FROM:<>\r\n" + rcpt("a.example", "b.example") + b"RSET\r\n")
    limited(max_recipient_domains=1).send(session).expect(250, 250, 452, 250, 250, 250, 452, 250)
