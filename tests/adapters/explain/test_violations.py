"""The RFC section for each breach of a client."""

import pytest

from tests.adapters.explain.dialogues import DATA, ENVELOPE, GREETING, HELLO, PLAIN_HELLO, QUIT, explained, found

CLIENT = [
    # Sequence and syntax
    ((*HELLO, "C: RCPT TO:<b@s.example>", "S: 503 no", *QUIT), "RFC 5321 4.1.4"),
    ((GREETING, "C: MAIL FROM:<>", "S: 503 no", *QUIT), "RFC 5321 4.1.4"),
    ((*HELLO, "C: MAIL FROM:a@c.example", "S: 501 no", *QUIT), "RFC 5321 4.1.1.2"),
    ((*HELLO, "C: MAIL FROM:<>", "S: 250 OK", "C: RCPT TO:<>", "S: 501 no", *QUIT), "RFC 5321 4.1.1.3"),
    ((GREETING, "C: EHLO", "S: 501 no", *QUIT), "RFC 5321 4.1.1.1"),
    ((*HELLO, "C: DATA now", "S: 501 no", *QUIT), "RFC 5321 4.1.4"),
    ((*HELLO, "C: RSET now", "S: 501 no", *QUIT), "RFC 5321 4.1.1"),
    ((*HELLO, f"C: NOOP {'x' * 600}", "S: 500 no", *QUIT), "RFC 5321 4.5.3.1.4"),
    ((*HELLO, *DATA, "C: x"), "RFC 5321 4.1.1.4"),
    # Extensions that are not offered
    ((*PLAIN_HELLO, "C: MAIL FROM:<> BODY=8BITMIME", "S: 555 no", *QUIT), "RFC 5321 4.1.1.11"),
    ((*PLAIN_HELLO, *ENVELOPE, "C: BDAT 0 LAST", "S: 500 no", *QUIT), "RFC 5321 2.2.1"),
    ((*PLAIN_HELLO, "C: STARTTLS", "S: 502 no", *QUIT), "RFC 5321 2.2.1"),
    ((GREETING, "C: HELO c.example", "S: 250 hi", "C: MAIL FROM:<> SIZE=1", "S: 555 no", *QUIT), "RFC 5321 4.1.1.11"),
    # Groups
    ((*PLAIN_HELLO, ENVELOPE[0], ENVELOPE[2], "S: 250 OK", "S: 250 OK", *QUIT), "RFC 2920 3.1"),
    ((*HELLO, "C: NOOP", "C: RSET", "S: 250 OK", "S: 250 OK", *QUIT), "RFC 2920 3.1"),
    ((*HELLO, *ENVELOPE, "C: DATA", "C: text", "S: 354 go", "C: .", "S: 250 OK", *QUIT), "RFC 2920 3.1"),
    ((*HELLO, "C: RSET", "C: NOOP", "C: RSET", "S: 250", "S: 250", "S: 250", *QUIT), "RFC 2920 3.1"),
    (("C: EHLO c.example", GREETING, "S: 250 s.example", *QUIT), "RFC 5321 3.1"),
    # Bodies
    ((*HELLO, *DATA, "C: .dot", "C: .", "S: 250 OK", *QUIT), "RFC 5321 4.5.2"),
    ((*HELLO, *DATA, "C: \u00e4", "C: \u00f6", "C: .", "S: 250 OK", *QUIT), "RFC 6152 3"),
    ((*HELLO, *DATA, f"C: {'x' * 999}", "C: .", "S: 250 OK", *QUIT), "RFC 5321 4.5.3.1.6"),
    ((*HELLO, *DATA, "C: a\rb", "C: .", "S: 550 no", *QUIT), "RFC 5321 2.3.8"),
    # AUTH, LMTP, others
    (
        (
            GREETING,
            "C: EHLO c",
            "S: 250-s",
            "S: 250-STARTTLS",
            "S: 250 AUTH LOGIN",
            "C: AUTH LOGIN",
            "S: 535 no",
            *QUIT,
        ),
        "RFC 4954 4",
    ),
    (
        (GREETING, "C: EHLO c", "S: 250-s", "S: 250 AUTH PLAIN", "C: AUTH PLAIN", "S: 334", "C: ?", "S: 501 no", *QUIT),
        "RFC 4954 4",
    ),
    ((GREETING, "C: LHLO c", "S: 250 s", "C: HELO c", "S: 500 no", *QUIT), "RFC 2033 4.1"),
    ((*HELLO, *ENVELOPE, "C: BDAT x", "S: 521 no"), "RFC 3030 2"),
    ((*HELLO, *ENVELOPE, "C: BDAT 3", "C: a", "S: 250 OK", "C: DATA", "S: 503 no", *QUIT), "RFC 3030 2"),
    ((*HELLO, "C: MAIL FROM:<\u00e4@c.example>", "S: 501 no", *QUIT), "RFC 5321 4.1.1.2"),
    (
        (GREETING, "C: EHLO c", "S: 250-s", "S: 250 SIZE 65536", "C: MAIL FROM:<> SIZE=65537", "S: 552 no", *QUIT),
        "RFC 1870 6.1",
    ),
]


@pytest.mark.parametrize(("texts", "section"), CLIENT)
def test_client_breach_is_reported_once(texts: tuple[str, ...], section: str) -> None:
    assert found(explained(*texts)) == [("client", section)]
