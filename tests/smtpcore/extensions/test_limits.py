"""The limits that LIMITS announces are enforced (RFC 9422)."""

from smtpcore import OFF_BY_DEFAULT, Config, Connection

from ...helpers import drive

DISABLED = OFF_BY_DEFAULT - {"LIMITS"}
EHLO = b"EHLO c.example\r\n"


def codes(config: Config, session: bytes) -> list[int]:
    _, output = drive(Connection(config), [session])
    return [int(line[:3]) for line in output.splitlines() if line[3:4] == b" "]


def rcpt(*domains: str) -> bytes:
    return b"".join(f"RCPT TO:<u@{domain}>\r\n".encode() for domain in domains)


def test_limits_are_announced() -> None:
    config = Config(hostname="s.example", disabled=DISABLED, max_messages=2, max_recipient_domains=3)
    _, output = drive(Connection(config), [EHLO])
    assert b"LIMITS MAILMAX=2 RCPTMAX=1000 RCPTDOMAINMAX=3\r\n" in output


def test_one_message_too_many_closes_the_connection() -> None:
    config = Config(hostname="s.example", disabled=DISABLED, max_messages=2)
    mail = b"MAIL FROM:<a@c.example>\r\nRSET\r\n"
    assert codes(config, EHLO + 3 * mail) == [220, 250, 250, 250, 250, 250, 421]


def test_refused_mail_does_not_count_as_a_message() -> None:
    config = Config(hostname="s.example", disabled=DISABLED, max_messages=1)
    refused = b"MAIL FROM:<a@>\r\n"
    assert codes(config, EHLO + 2 * refused + b"MAIL FROM:<a@c.example>\r\n") == [220, 250, 501, 501, 250]


def test_recipient_of_one_domain_too_many_is_refused_and_the_others_kept() -> None:
    config = Config(hostname="s.example", disabled=DISABLED, max_recipient_domains=2)
    session = EHLO + b"MAIL FROM:<>\r\n" + rcpt("a.example", "B.example", "A.EXAMPLE", "c.example", "b.example")
    assert codes(config, session) == [220, 250, 250, 250, 250, 250, 452, 250]


def test_recipient_domains_are_counted_per_session() -> None:
    config = Config(hostname="s.example", disabled=DISABLED, max_recipient_domains=1)
    session = EHLO + 2 * (b"MAIL FROM:<>\r\n" + rcpt("a.example", "b.example") + b"RSET\r\n")
    assert codes(config, session) == [220, 250, 250, 250, 452, 250, 250, 250, 452, 250]
