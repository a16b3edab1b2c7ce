"""Each refusal of the core: a situation in which it is made, its reply, and the rule that it names."""

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from smtpcore import EXTENSIONS, Auth, Challenge, Config, Connection, Event, InvalidCommand, InvalidData, Reply
from smtpcore import _rules as rules
from smtpcore._rules import Refusal

from ..paths import DOCS
from ..playbook import DATA, GREETED, MAIL, RCPT, READY, ServerPlaybook, accept, new_server, server

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
OFFER: dict[str, Any] = {
    "disabled": frozenset(),
    "plaintext_auth": True,
    "auth_mechanisms": ("LOGIN",),
    "burl": ("imap",),
}

LMTP_MAIL = MAIL.replace(b"EHLO", b"LHLO")

ROWS = {name: row for name, row in vars(rules).items() if isinstance(row, Refusal)}
WORDS = {"address", "sequence", "syntax", "verb"}
"""The names of rules that are neither a field of `Config` nor the keyword of an extension."""


def answer(conn: Connection, event: Event) -> Reply:
    """Accept mail; answer AUTH without an initial response with a challenge, and an empty response with 235."""
    if isinstance(event, Auth) and not event.initial_response:
        return Challenge(b"") if event.initial_response is None else Reply(235)

    return accept(conn, event)


CASES: list[tuple[str, bytes, bytes, dict[str, Any], str, Refusal]] = [
    (
        "STARTTLS first",
        READY,
        b"MAIL FROM:<a@c.example>\r\n",
        {"starttls": True, "require_tls": True},
        "530 5.7.0",
        rules.NEEDS_TLS,
    ),
    (
        "AUTH first",
        READY,
        b"MAIL FROM:<a@c.example>\r\n",
        {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True, "require_auth": True},
        "530 5.7.0",
        rules.NEEDS_AUTH,
    ),
    (
        "DATA for a binary message",
        READY,
        b"MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<u@s.example>\r\nDATA\r\n",
        {},
        "503 5.5.1",
        rules.NEEDS_BDAT,
    ),
    ("authenticated", READY, b"AUTH LOGIN =\r\nAUTH LOGIN =\r\n", OFFER, "503 5.5.1", rules.AUTHENTICATED),
    ("a mechanism that is not offered", READY, b"AUTH PLAIN\r\n", OFFER, "504 5.5.4", rules.MECHANISM_NOT_OFFERED),
    (
        "AUTH without TLS",
        READY,
        b"AUTH LOGIN\r\n",
        {"auth_mechanisms": ("LOGIN",), "starttls": True},
        "504 5.5.4",
        rules.MECHANISM_NEEDS_TLS,
    ),
    ("a sender in UTF-8", READY, b"MAIL FROM:<\xc3\xa9@c.example>\r\n", {}, "550 5.6.7", rules.SENDER_NOT_ASCII),
    ("a recipient in UTF-8", MAIL, b"RCPT TO:<\xc3\xa9@s.example>\r\n", {}, "553 5.6.7", rules.RECIPIENT_NOT_ASCII),
    (
        "a recipient too many",
        MAIL,
        b"RCPT TO:<u@s.example>\r\n" * 101,
        {"max_recipients": 100},
        "452 4.5.3",
        rules.TOO_MANY_RECIPIENTS,
    ),
    (
        "a recipient too many in a session",
        MAIL,
        b"RCPT TO:<u@s.example>\r\nRSET\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<u@s.example>\r\n" * 2,
        {"max_recipients_per_session": 2},
        "452 4.5.3",
        rules.TOO_MANY_IN_SESSION,
    ),
    (
        "a domain too many",
        MAIL,
        b"RCPT TO:<u@s.example>\r\nRCPT TO:<u@t.example>\r\n",
        {"max_recipient_domains": 1},
        "452 4.5.3",
        rules.TOO_MANY_DOMAINS,
    ),
    (
        "errors",
        READY,
        b"XFOO\r\nNOOP\r\n",
        {"max_errors": 1},
        "421 4.7.0",
        rules.TOO_MANY_ERRORS.fill(host="s.example"),
    ),
    (
        "refusals",
        MAIL,
        b"RCPT TO:<u@s.example>\r\nRCPT TO:<u@s.example>\r\nNOOP\r\n",
        {"max_recipients_per_session": 1, "max_refusals": 1},
        "421 4.7.0",
        rules.TOO_MANY_REFUSALS.fill(host="s.example"),
    ),
    (
        "failures to authenticate",
        READY,
        b"AUTH LOGIN AA==\r\nNOOP\r\n",
        OFFER | {"max_auth_failures": 1},
        "421 4.7.0",
        rules.TOO_MANY_FAILURES.fill(host="s.example"),
    ),
    (
        "idle commands",
        READY,
        b"NOOP\r\n" * 3,
        {"max_idle_commands": 3},
        "421 4.7.0",
        rules.TOO_MANY_COMMANDS.fill(host="s.example"),
    ),
    (
        "STARTTLS in a group",
        READY,
        b"STARTTLS\r\nNOOP\r\n",
        {"starttls": True, "cut": False},
        "421 4.7.0",
        rules.STARTTLS_NOT_LAST.fill(host="s.example"),
    ),
    (
        "messages",
        READY,
        b"MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n",
        {"max_messages": 1},
        "421 4.7.0",
        rules.TOO_MANY_MESSAGES.fill(host="s.example"),
    ),
    ("no size of a chunk", RCPT, b"BDAT x\r\n", {}, "521 5.5.4", rules.BAD_CHUNK_SIZE),
    (
        "a size of a chunk that is too long",
        RCPT,
        b"BDAT " + b"0" * 540 + b"\r\n",
        {},
        "521 5.5.4",
        rules.BAD_CHUNK_SIZE,
    ),
    ("a long line", READY, b"NOOP " + b"x" * 600 + b"\r\n", {}, "500 5.5.2", rules.LINE_TOO_LONG),
    (
        "a line that is long without parameters",
        READY,
        b"NOOP " + b"x" * 520 + b"\r\n",
        {},
        "500 5.5.2",
        rules.LINE_TOO_LONG,
    ),
    ("a bare LF", READY, b"NOOP\n", {}, "500 5.5.2", rules.BARE_NEWLINE),
    ("no base64", READY, b"AUTH LOGIN !\r\n", OFFER, "501 5.5.2", rules.BAD_BASE64),
    ("a response that is no base64", READY, b"AUTH LOGIN\r\n!\r\n", OFFER, "501 5.5.2", rules.BAD_BASE64),
    (
        "a response that is too long",
        READY,
        b"AUTH LOGIN\r\n" + b"A" * 13000 + b"\r\n",
        OFFER,
        "500 5.5.6",
        rules.RESPONSE_TOO_LONG,
    ),
    ("not implemented", READY, b"ETRN a.b\r\n", {}, "502 5.5.1", rules.NOT_IMPLEMENTED.fill(verb="ETRN")),
    ("no verb", READY, b"...\r\n", {}, "500 5.5.2", rules.NO_VERB),
    (
        "no UTF-8",
        READY,
        b"MAIL FROM:<\xff>\r\n",
        {},
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="MAIL", why="this is not UTF-8"),
    ),
    ("a verb that is no UTF-8", READY, b"\xff\r\n", {}, "500 5.5.2", rules.BAD_LINE.fill(why="this is not UTF-8")),
    (
        "a control character",
        READY,
        b"NOOP \x07\r\n",
        {},
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="NOOP", why="control characters are not allowed"),
    ),
    (
        "a control character in no command",
        READY,
        b"XFOO \x07\r\n",
        {},
        "500 5.5.2",
        rules.BAD_LINE.fill(why="control characters are not allowed"),
    ),
    (
        "only ASCII",
        READY,
        b"NOOP \xc3\xa9\r\n",
        {},
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="NOOP", why="only ASCII is allowed"),
    ),
    ("no domain", GREETED, b"EHLO\r\n", {}, "501 5.5.4", rules.BAD_HELLO.fill(verb="EHLO")),
    ("no sender", READY, b"MAIL FROM:<a>\r\n", {}, "501 5.1.7", rules.BAD_SENDER),
    ("no recipient", MAIL, b"RCPT TO:<a>\r\n", {}, "501 5.1.3", rules.BAD_RECIPIENT),
    ("an argument of RSET", READY, b"RSET x\r\n", {}, "501 5.5.4", rules.NO_ARGUMENT.fill(verb="RSET")),
    ("a value of SMTPUTF8", READY, b"VRFY u SMTPUTF8=1\r\n", {}, "501 5.5.4", rules.NO_VALUE),
    ("VRFY without a name", READY, b"VRFY\r\n", {}, "501 5.5.4", rules.BAD_LOOKUP.fill(verb="VRFY")),
    ("a word after BDAT", RCPT, b"BDAT 0 FIRST\r\n", {}, "501 5.5.4", rules.BAD_BDAT),
    (
        "a word after BURL",
        RCPT,
        b"BURL imap://x FIRST\r\n",
        OFFER,
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="BURL", why="a URI may be followed by LAST only"),
    ),
    (
        "ETRN with something else",
        READY,
        b"ETRN a\r\n",
        OFFER,
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="ETRN", why="'a' is neither a fully qualified domain, nor # and a queue"),
    ),
    (
        "XCLIENT with something else",
        READY,
        b"XCLIENT a\r\n",
        OFFER,
        "501 5.5.4",
        rules.BAD_COMMAND.fill(verb="XCLIENT", why="attributes have the form NAME=value"),
    ),
    ("AUTH without a mechanism", READY, b"AUTH\r\n", OFFER, "501 5.5.4", rules.BAD_AUTH),
    ("MAIL without FROM", READY, b"MAIL <>\r\n", {}, "501 5.5.4", rules.BAD_PATH.fill(verb="MAIL", keyword="FROM:")),
    (
        "a path without end",
        READY,
        b"MAIL FROM:<a@b\r\n",
        {},
        "501 5.5.4",
        rules.BAD_PATH.fill(verb="MAIL", keyword="FROM:"),
    ),
    (
        "a quoted path without end",
        READY,
        b'MAIL FROM:<"a>\r\n',
        {},
        "501 5.5.4",
        rules.BAD_PATH.fill(verb="MAIL", keyword="FROM:"),
    ),
    ("no space before a parameter", READY, b"MAIL FROM:<>SIZE=1\r\n", {}, "501 5.5.4", rules.BAD_SPACES),
    ("no parameter", READY, b"MAIL FROM:<> =\r\n", {}, "501 5.5.4", rules.BAD_PARAMETER),
    (
        "an unknown parameter",
        READY,
        b"MAIL FROM:<> X=1\r\n",
        {},
        "555 5.5.4",
        rules.UNKNOWN_PARAMETER.fill(keyword="X"),
    ),
    (
        "an unknown parameter with a long name",
        READY,
        b"MAIL FROM:<> " + b"X" * 50 + b"\r\n",
        {},
        "555 5.5.4",
        rules.UNKNOWN_PARAMETER.fill(keyword="X" * 40),
    ),
    (
        "a parameter twice",
        READY,
        b"MAIL FROM:<> SIZE=1 SIZE=1\r\n",
        {},
        "501 5.5.4",
        rules.PARAMETER_TWICE.fill(keyword="SIZE"),
    ),
    (
        "a malformed parameter",
        READY,
        b"MAIL FROM:<> SIZE=x\r\n",
        {},
        "501 5.5.4",
        rules.BAD_VALUE.fill(keyword="SIZE", why="the value is a number of 1 to 20 digits"),
    ),
    ("a bare LF in a body", DATA, b"a\nb\r\n.\r\n", {}, "550 5.6.0", rules.BODY_BARE_NEWLINE),
    (
        "a long line of a body",
        DATA,
        b"a" * 1000 + b"\r\n.\r\n",
        {"max_text_line": 1000},
        "554 5.6.0",
        rules.BODY_LINE_TOO_LONG.fill(octets="1000"),
    ),
    (
        "a header that is too large",
        DATA,
        b"a: b\r\n" * 20 + b"\r\n.\r\n",
        {"max_header": 100},
        "552 5.3.4",
        rules.HEADER_TOO_LARGE,
    ),
    (
        "a body that is too large",
        DATA,
        b"a\r\n" * 22_000 + b".\r\n",
        {"max_message_size": 65536},
        "552 5.3.4",
        rules.BODY_TOO_LARGE,
    ),
    ("MAIL before EHLO", GREETED, b"MAIL FROM:<>\r\n", {}, "503 5.5.1", rules.HELLO_FIRST.fill(hello="EHLO")),
    ("RCPT before MAIL", READY, b"RCPT TO:<u@s.example>\r\n", {}, "503 5.5.1", rules.MAIL_FIRST),
    ("DATA before MAIL", READY, b"DATA\r\n", {}, "503 5.5.1", rules.MAIL_FIRST),
    ("DATA before RCPT", MAIL, b"DATA\r\n", {}, "554 5.5.1", rules.NO_RECIPIENTS),
    ("MAIL in a transaction", MAIL, b"MAIL FROM:<>\r\n", {}, "503 5.5.1", rules.TRANSACTION_OPEN),
    ("DATA after BDAT", RCPT, b"BDAT 0\r\nDATA\r\n", {}, "503 5.5.1", rules.BDAT_ONLY),
    ("LHLO in SMTP", READY, b"LHLO c.example\r\n", {}, "500", rules.SPEAKS_SMTP),
    ("EHLO in LMTP", GREETED, b"EHLO c.example\r\n", {"lmtp": True}, "500", rules.SPEAKS_LMTP),
    ("BDAT after a refused chunk", RCPT, b"BDAT 2\r\na\nBDAT 0\r\n", {}, "503 5.5.1", rules.CHUNK_REFUSED),
    ("AUTH in a transaction", MAIL, b"AUTH LOGIN\r\n", OFFER, "503 5.5.1", rules.OUT_OF_SEQUENCE),
    ("DATA before RCPT in LMTP", LMTP_MAIL, b"DATA\r\n", {"lmtp": True}, "503 5.5.1", rules.OUT_OF_SEQUENCE),
    (
        "MAIL before LHLO",
        GREETED,
        b"MAIL FROM:<>\r\n",
        {"lmtp": True},
        "503 5.5.1",
        rules.HELLO_FIRST.fill(hello="LHLO"),
    ),
]

OF_EXTENSIONS: list[tuple[str, bytes, dict[str, Any], str, str]] = [
    ("ETRN without a name", b"ETRN\r\n", OFFER, "500 5.5.2 Syntax: ETRN and a domain", "ETRN"),
    (
        "a URL of another kind",
        RCPT[len(READY) :] + b"BURL http://x/y\r\n",
        OFFER,
        "504 5.5.4 URLs of this scheme are not fetched here",
        "BURL",
    ),
    (
        "a message that is too large",
        b"MAIL FROM:<> SIZE=65537\r\n",
        {"max_message_size": 65536},
        "552 5.3.4 The message exceeds the maximum size of 65536 octets",
        "SIZE",
    ),
    (
        "too little time",
        b"MAIL FROM:<> BY=1;R\r\n",
        {"disabled": frozenset(), "min_by_time": 60},
        "555 5.5.4 BY needs at least 60 seconds",
        "DELIVERBY",
    ),
    (
        "two ways to hold",
        b"MAIL FROM:<> HOLDFOR=1 HOLDUNTIL=2029-01-01T00:00:00Z\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDFOR and HOLDUNTIL exclude each other",
        "FUTURERELEASE",
    ),
    (
        "held for too long",
        b"MAIL FROM:<> HOLDFOR=61\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDFOR may be at most 60 seconds",
        "FUTURERELEASE",
    ),
    (
        "held until too late",
        b"MAIL FROM:<> HOLDUNTIL=2031-01-01T00:00:00Z\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR},
        "501 5.5.4 HOLDUNTIL may be 2030-01-01T00:00:00Z at the latest",
        "FUTURERELEASE",
    ),
    (
        "held beyond the time of BY",
        b"MAIL FROM:<> HOLDFOR=60 BY=59;N\r\n",
        {"max_hold_for": 60, "max_hold_until": NEW_YEAR, "disabled": frozenset()},
        "501 5.5.4 HOLDFOR ends after the time of BY",
        "FUTURERELEASE",
    ),
]


def last_refusal(book: ServerPlaybook) -> InvalidCommand | InvalidData:
    """Return the event of the last refusal."""
    return [event for event in book.events if isinstance(event, InvalidCommand | InvalidData)][-1]


@pytest.mark.parametrize(
    ("before", "data", "changes", "code", "refusal"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_refusal_has_its_reply_and_names_its_rule(
    before: bytes, data: bytes, changes: dict[str, Any], code: str, refusal: Refusal
) -> None:
    book = server(before, answer=answer, **changes).send(data)
    found = last_refusal(book)

    assert (found.reply, found.rule) == (refusal.reply, refusal.rule)
    assert str(refusal.reply).startswith(code)
    assert (refusal.reply.enhanced or "") == code[4:]
    # RFC 2034 section 3 (4): replies to EHLO have no enhanced status code.
    assert book.replies[-1] in (str(refusal.reply), str(Reply(refusal.reply.code, *refusal.reply.lines)))


@pytest.mark.parametrize(
    ("data", "changes", "reply", "rule"), [case[1:] for case in OF_EXTENSIONS], ids=[case[0] for case in OF_EXTENSIONS]
)
def test_refusal_by_an_extension_has_its_reply_and_names_the_extension(
    data: bytes, changes: dict[str, Any], reply: str, rule: str
) -> None:
    book = server(READY, answer=answer, **changes).send(data)
    found = last_refusal(book)

    assert found.rule == rule
    assert book.replies[-1] == str(found.reply) == reply


def test_starttls_under_tls_is_refused() -> None:
    book = new_server(starttls=True, implicit_tls=True).start_tls().send(READY).expect(220, 250).send(b"STARTTLS\r\n")

    book.expect(InvalidCommand(b"STARTTLS", rules.TLS_ACTIVE.reply, rules.TLS_ACTIVE.rule))


def test_each_refusal_of_the_table_is_tested() -> None:
    tried = {re.sub(r"\{.*", "", row.reply.lines[0]) for row in ROWS.values() if row is not rules.TLS_ACTIVE}
    made = [case[-1].reply.lines[0] for case in CASES]
    assert [start for start in tried if not any(text.startswith(start) for text in made)] == []


def test_each_rule_is_of_a_known_kind_and_is_documented() -> None:
    used = {row.rule for row in ROWS.values()} | {case[-1] for case in OF_EXTENSIONS}
    options = {field.name for field in fields(Config)}
    keywords = {extension.keyword for extension in EXTENSIONS}

    table = (DOCS / "server.md").read_text().partition("The rules of the core:")[2].partition("\n\n#")[0]

    assert used <= options | keywords | WORDS
    assert {extension.keyword for extension in EXTENSIONS if extension.objection} <= used
    assert set(re.findall(r"^\| `([\w-]+)` \| .+ \|$", table, re.MULTILINE)) == used | {"rule"}


def test_each_refusal_has_a_wording_of_its_own() -> None:
    wordings = [(row.reply.code, row.reply.lines) for row in ROWS.values()]
    assert len(set(wordings)) == len(wordings)
