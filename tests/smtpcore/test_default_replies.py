"""The exact wording of each refusal: people read it in their bounces and logs."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import Auth, Challenge, Connection, Event, InvalidCommand, InvalidData, Reply

from ..helpers import DATA, GREETED, MAIL, RCPT, READY, accept, connect, drive, new_connection, replies, reply_texts

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
OFFER: dict[str, Any] = {
    "disabled": frozenset(),
    "plaintext_auth": True,
    "auth_mechanisms": ("LOGIN",),
    "burl": ("imap",),
}


def answer(conn: Connection, event: Event) -> Reply:
    """Accept mail; answer AUTH without an initial response with a challenge, and an empty response with 235."""
    if isinstance(event, Auth) and not event.initial_response:
        return Challenge(b"") if event.initial_response is None else Reply(235)

    return accept(conn, event)


CASES: list[tuple[str, bytes, bytes, dict[str, Any], str]] = [
    (
        "STARTTLS first",
        READY,
        b"MAIL FROM:<a@c.example>\r\n",
        {"tls": True, "require_tls": True},
        "530 5.7.0 STARTTLS has to come first",
    ),
    (
        "AUTH first",
        READY,
        b"MAIL FROM:<a@c.example>\r\n",
        {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True, "require_auth": True},
        "530 5.7.0 Authentication required",
    ),
    ("a URL of another kind", RCPT, b"BURL http://x/y\r\n", OFFER, "504 5.5.4 URLs of this kind are not fetched here"),
    (
        "DATA for a binary message",
        READY,
        b"MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<u@s.example>\r\nDATA\r\n",
        {},
        "503 5.5.1 A binary message is sent with BDAT",
    ),
    ("authenticated", READY, b"AUTH LOGIN =\r\nAUTH LOGIN =\r\n", OFFER, "503 5.5.1 You are authenticated already"),
    ("a mechanism that is not offered", READY, b"AUTH PLAIN\r\n", OFFER, "504 5.5.4 This mechanism is not offered"),
    (
        "AUTH without TLS",
        READY,
        b"AUTH LOGIN\r\n",
        {"auth_mechanisms": ("LOGIN",), "tls": True},
        "504 5.5.4 This mechanism needs TLS: say STARTTLS first",
    ),
    (
        "a sender in UTF-8",
        READY,
        b"MAIL FROM:<\xc3\xa9@c.example>\r\n",
        {},
        "550 5.6.7 A non-ASCII sender needs the parameter SMTPUTF8",
    ),
    (
        "a recipient in UTF-8",
        MAIL,
        b"RCPT TO:<\xc3\xa9@s.example>\r\n",
        {},
        "553 5.6.7 A non-ASCII recipient needs the parameter SMTPUTF8 of MAIL",
    ),
    (
        "a recipient too many",
        MAIL,
        b"RCPT TO:<u@s.example>\r\n" * 101,
        {"max_recipients": 100},
        "452 4.5.3 Too many recipients",
    ),
    (
        "a domain too many",
        MAIL,
        b"RCPT TO:<u@s.example>\r\nRCPT TO:<u@t.example>\r\n",
        {"max_recipient_domains": 1},
        "452 4.5.3 Too many domains of recipients",
    ),
    ("errors", READY, b"XFOO\r\nNOOP\r\n", {"max_errors": 1}, "421 4.7.0 s.example closing: too many errors"),
    (
        "failures to authenticate",
        READY,
        b"AUTH LOGIN AA==\r\nNOOP\r\n",
        OFFER | {"max_auth_failures": 1},
        "421 4.7.0 s.example closing: too many failures to authenticate",
    ),
    (
        "idle commands",
        READY,
        b"NOOP\r\n" * 3,
        {"max_idle_commands": 3},
        "421 4.7.0 s.example closing: too many commands without a message",
    ),
    (
        "STARTTLS in a group",
        READY,
        b"STARTTLS\r\nNOOP\r\n",
        {"tls": True},
        "421 4.7.0 s.example closing: STARTTLS has to be the last command of a group",
    ),
    (
        "messages",
        READY,
        b"MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n",
        {"max_messages": 1},
        "421 4.7.0 s.example closing: too many messages in one session",
    ),
    ("no size of a chunk", RCPT, b"BDAT x\r\n", {}, "521 5.5.4 Syntax: BDAT and a number of octets; closing"),
    (
        "a size of a chunk that is too long",
        RCPT,
        b"BDAT " + b"0" * 540 + b"\r\n",
        {},
        "521 5.5.4 Syntax: BDAT and a number of octets; closing",
    ),
    ("a long line", READY, b"NOOP " + b"x" * 600 + b"\r\n", {}, "500 5.5.2 Line too long"),
    ("a line that is long without parameters", READY, b"NOOP " + b"x" * 520 + b"\r\n", {}, "500 5.5.2 Line too long"),
    ("a bare LF", READY, b"NOOP\nNOOP\r\n", {}, "500 5.5.2 Lines end in CR LF: a bare CR or LF ends none"),
    ("no base64", READY, b"AUTH LOGIN !\r\n", OFFER, "501 5.5.2 This is not base64"),
    ("a response that is no base64", READY, b"AUTH LOGIN\r\n!\r\n", OFFER, "501 5.5.2 This is not base64"),
    (
        "a response that is too long",
        READY,
        b"AUTH LOGIN\r\n" + b"A" * 13000 + b"\r\n",
        OFFER,
        "500 5.5.6 Authentication line too long",
    ),
    ("a cancelled authentication", READY, b"AUTH LOGIN\r\n*\r\n", OFFER, "501 5.7.0 Authentication cancelled"),
    ("not implemented", READY, b"ETRN a.b\r\n", {}, "502 5.5.1 ETRN is not implemented"),
    ("no verb", READY, b"...\r\n", {}, "500 5.5.2 A command starts with a word of letters"),
    ("no UTF-8", READY, b"MAIL FROM:<\xff>\r\n", {}, "501 5.5.4 Syntax error in MAIL: this is not UTF-8"),
    ("a verb that is no UTF-8", READY, b"\xff\r\n", {}, "500 5.5.2 Syntax error: this is not UTF-8"),
    (
        "a control character",
        READY,
        b"NOOP \x07\r\n",
        {},
        "501 5.5.4 Syntax error in NOOP: control characters are not allowed",
    ),
    (
        "a control character in no command",
        READY,
        b"XFOO \x07\r\n",
        {},
        "500 5.5.2 Syntax error: control characters are not allowed",
    ),
    ("only ASCII", READY, b"NOOP \xc3\xa9\r\n", {}, "501 5.5.4 Syntax error in NOOP: only ASCII is allowed"),
    ("no domain", GREETED, b"EHLO\r\n", {}, "501 Syntax: EHLO and your domain, or your address in brackets"),
    ("no sender", READY, b"MAIL FROM:<a>\r\n", {}, "501 5.1.7 The sender is not a valid address"),
    ("no recipient", MAIL, b"RCPT TO:<a>\r\n", {}, "501 5.1.3 The recipient is not a valid address"),
    ("an argument of RSET", READY, b"RSET x\r\n", {}, "501 5.5.4 RSET takes no argument"),
    ("a value of SMTPUTF8", READY, b"VRFY u SMTPUTF8=1\r\n", {}, "501 5.5.4 SMTPUTF8 takes no value"),
    ("VRFY without a name", READY, b"VRFY\r\n", {}, "501 5.5.4 Syntax: VRFY and a name"),
    (
        "a word behind BDAT",
        RCPT,
        b"BDAT 0 FIRST\r\n",
        {},
        "501 5.5.4 Syntax: BDAT and a number of octets, then LAST or nothing",
    ),
    (
        "a word behind BURL",
        RCPT,
        b"BURL imap://x FIRST\r\n",
        OFFER,
        "501 5.5.4 Syntax: BURL and a URI, then LAST or nothing",
    ),
    ("ETRN without a name", READY, b"ETRN\r\n", OFFER, "500 5.5.2 Syntax: ETRN and a domain"),
    (
        "ETRN with something else",
        READY,
        b"ETRN a\r\n",
        OFFER,
        "501 5.5.4 This is neither a fully qualified domain nor a queue",
    ),
    (
        "XCLIENT with something else",
        READY,
        b"XCLIENT a\r\n",
        OFFER,
        "501 5.5.4 Syntax: XCLIENT and attributes as announced",
    ),
    ("AUTH without a mechanism", READY, b"AUTH\r\n", OFFER, "501 5.5.4 Syntax: AUTH and the name of a mechanism"),
    ("MAIL without FROM", READY, b"MAIL <>\r\n", {}, "501 5.5.4 Syntax: MAIL FROM:<address>"),
    ("a path without end", READY, b"MAIL FROM:<a@b\r\n", {}, "501 5.5.4 Syntax: MAIL FROM:<address>"),
    ("a quoted path without end", READY, b'MAIL FROM:<"a>\r\n', {}, "501 5.5.4 Syntax: MAIL FROM:<address>"),
    (
        "no space before a parameter",
        READY,
        b"MAIL FROM:<>SIZE=1\r\n",
        {},
        "501 5.5.4 Parameters are separated by single spaces",
    ),
    ("no parameter", READY, b"MAIL FROM:<> =\r\n", {}, "501 5.5.4 Malformed parameter"),
    ("an unknown parameter", READY, b"MAIL FROM:<> X=1\r\n", {}, "555 5.5.4 Parameter X is not recognized"),
    (
        "an unknown parameter with a long name",
        READY,
        b"MAIL FROM:<> " + b"X" * 50 + b"\r\n",
        {},
        f"555 5.5.4 Parameter {'X' * 40} is not recognized",
    ),
    ("a parameter twice", READY, b"MAIL FROM:<> SIZE=1 SIZE=1\r\n", {}, "501 5.5.4 Parameter SIZE is given twice"),
    (
        "a malformed parameter",
        READY,
        b"MAIL FROM:<> SIZE=x\r\n",
        {},
        "501 5.5.4 Malformed SIZE: the value has 1 to 20 digits",
    ),
    (
        "a message that is too large",
        READY,
        b"MAIL FROM:<> SIZE=65537\r\n",
        {"max_message_size": 65536},
        "552 5.3.4 The message exceeds the maximum size of 65536 octets",
    ),
    (
        "too little time",
        READY,
        b"MAIL FROM:<> BY=1;R\r\n",
        {"disabled": frozenset(), "min_by_time": 60},
        "555 5.5.4 BY has to allow for at least 60 seconds",
    ),
    (
        "two ways to hold",
        READY,
        b"MAIL FROM:<> HOLDFOR=1 HOLDUNTIL=2029-01-01T00:00:00Z\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDFOR and HOLDUNTIL exclude each other",
    ),
    (
        "held for too long",
        READY,
        b"MAIL FROM:<> HOLDFOR=61\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDFOR allows for at most 60 seconds",
    ),
    (
        "held until too late",
        READY,
        b"MAIL FROM:<> HOLDUNTIL=2031-01-01T00:00:00Z\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDUNTIL allows for 2030-01-01T00:00:00Z at the latest",
    ),
    (
        "held beyond the time of BY",
        READY,
        b"MAIL FROM:<> HOLDFOR=60 BY=59;N\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR, "disabled": frozenset()},
        "501 5.5.4 HOLDFOR ends behind the time of BY",
    ),
    (
        "a bare LF in a body",
        DATA,
        b"a\nb\r\n.\r\n",
        {},
        "550 5.6.0 A line of the message ends in a bare CR or LF instead of CR LF",
    ),
    (
        "a long line of a body",
        DATA,
        b"a" * 1000 + b"\r\n.\r\n",
        {"max_text_line": 1000},
        "554 5.6.0 A line of the message exceeds 1000 octets",
    ),
    (
        "a body that is too large",
        DATA,
        b"a\r\n" * 22_000 + b".\r\n",
        {"max_message_size": 65536},
        "552 5.3.4 The message exceeds the maximum size",
    ),
    ("MAIL before EHLO", GREETED, b"MAIL FROM:<>\r\n", {}, "503 5.5.1 EHLO has to come first"),
    ("RCPT before MAIL", READY, b"RCPT TO:<u@s.example>\r\n", {}, "503 5.5.1 MAIL has to come first"),
    ("DATA before MAIL", READY, b"DATA\r\n", {}, "503 5.5.1 MAIL has to come first"),
    ("DATA before RCPT", MAIL, b"DATA\r\n", {}, "554 5.5.1 No valid recipients"),
    ("MAIL in a transaction", MAIL, b"MAIL FROM:<>\r\n", {}, "503 5.5.1 A transaction is open already"),
    ("DATA behind BDAT", RCPT, b"BDAT 0\r\nDATA\r\n", {}, "503 5.5.1 A message that began with BDAT goes on with BDAT"),
    ("LHLO in SMTP", READY, b"LHLO c.example\r\n", {}, "500 This is SMTP: say EHLO"),
    ("EHLO in LMTP", GREETED, b"EHLO c.example\r\n", {"lmtp": True}, "500 This is LMTP: say LHLO"),
]


cases = pytest.mark.parametrize(
    ("before", "data", "changes", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


@cases
def test_wording_of_each_refusal(before: bytes, data: bytes, changes: dict[str, Any], expected: str) -> None:
    assert reply_texts(before, data, answer=answer, **changes)[-1] == expected


@cases
def test_reply_carried_by_an_event_is_sent_unchanged(
    before: bytes, data: bytes, changes: dict[str, Any], expected: str
) -> None:
    sent: list[tuple[Reply, Reply]] = []

    def compare(conn: Connection, event: Event) -> Reply | None:
        reply = answer(conn, event)
        if not isinstance(event, InvalidCommand | InvalidData):
            return reply

        sent.append((reply, conn.send(reply)))
        return None

    drive(connect(before, answer=answer, **changes), [data], compare)
    for carried, out in sent:
        # RFC 2034 section 3 (4): no enhanced status code goes out in a reply to EHLO.
        assert out in (carried, Reply(carried.code, *carried.lines))


def test_starttls_under_tls_is_refused() -> None:
    conn = new_connection(tls=True)
    conn.tls_established()
    events, output = drive(conn, [READY, b"STARTTLS\r\n"])

    assert events[-1] == InvalidCommand(b"STARTTLS", Reply(503, "TLS is active already", enhanced="5.5.1"))
    assert replies(output)[-1] == (503, "503 5.5.1 TLS is active already")
