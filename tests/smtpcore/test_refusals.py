"""The order of the rules: if a command breaks two rules, the earlier rule decides the reply."""

from typing import Any

import pytest

from smtpcore import Auth, Challenge, Connection, DataEnd, Event, InvalidCommand, Rcpt, Reply

from ..playbook import GREETED, MAIL, READY, answer_with, server

AUTH: dict[str, Any] = {"auth_mechanisms": ("PLAIN",), "plaintext_auth": True}


def rule_of(before: bytes, line: bytes, **changes: Any) -> str:
    """Return the rule that refuses `line` after `before`."""
    book = server(before, **changes).send(line)
    assert isinstance(book.events[0], InvalidCommand)
    return book.events[0].rule


@pytest.mark.parametrize(
    ("before", "line", "changes", "rule"),
    [
        pytest.param(READY + b"X\r\n", b"LHLO c.example\r\n", {"max_errors": 1}, "max_errors", id="limit, protocol"),
        pytest.param(
            GREETED,
            b"HELO c.example\r\n",
            {"lmtp": True, "starttls": True, "require_tls": True},
            "lmtp",
            id="protocol, TLS",
        ),
        pytest.param(
            READY,
            b"MAIL FROM:<>\r\n",
            {"starttls": True, "require_tls": True, "require_auth": True, **AUTH},
            "require_tls",
            id="TLS, authentication",
        ),
        pytest.param(READY, b"DATA\r\n", {"require_auth": True, **AUTH}, "require_auth", id="authentication, sequence"),
        pytest.param(GREETED, b"MAIL FROM:<\r\n", {}, "sequence", id="sequence, syntax"),
        pytest.param(READY, b"MAIL FROM:<\xc3\xa9@c> SIZE=x\r\n", {}, "syntax", id="syntax, value"),
        pytest.param(READY, b"MAIL FROM:<\xc3\xa9@c> SIZE=99999999\r\n", {}, "SIZE", id="extension, value"),
        pytest.param(
            MAIL + b"RCPT TO:<u@s.example>\r\n" * 100,
            b"RCPT TO:<\xc3\xa9@s.example>\r\n",
            {"max_recipients": 100},
            "max_recipients",
            id="recipients, address",
        ),
    ],
)
def test_earlier_rule_decides(before: bytes, line: bytes, changes: dict[str, Any], rule: str) -> None:
    assert rule_of(before, line, **changes) == rule


def test_quit_is_exempt_from_the_limits_of_a_session() -> None:
    server(READY + b"X\r\n", max_errors=1).send(b"QUIT\r\n").expect(221)


def test_chunk_of_unknown_size_is_refused_by_its_syntax_before_any_other_rule() -> None:
    assert rule_of(GREETED, b"BDAT x\r\n", starttls=True, require_tls=True) == "syntax"


def test_reply_of_the_application_counts_for_the_limits() -> None:
    book = server(READY, max_errors=2).send(b"X\r\nX\r\nNOOP\r\n")

    assert isinstance(book.events[-2], InvalidCommand)
    assert book.events[-2].rule == "max_errors"
    book.expect(500, 500, 421)


TWO_ERRORS = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<u@s.example>\r\nX\r\nX\r\nDATA\r\nx\r\n.\r\n"


def test_accepted_message_resets_the_count_of_errors() -> None:
    server(READY, max_errors=3).send(TWO_ERRORS * 4).expect(*[250, 250, 500, 500, 354, 250] * 4)


def test_refused_message_does_not_reset_the_count_of_errors() -> None:
    book = server(READY, answer=answer_with(DataEnd, Reply(554)), max_errors=3).send(TWO_ERRORS + TWO_ERRORS)
    book.expect(250, 250, 500, 500, 354, 554, 250, 250, 500, 421)


def challenge(conn: Connection, event: Event) -> Reply:
    """Answer AUTH with a challenge, and all else with the default reply."""
    return Challenge(b"") if isinstance(event, Auth) else conn.default_reply(event)


@pytest.mark.parametrize(
    ("data", "rule"), [(b"AA\n==\r\n", "bare_newlines"), (b"A" * 12_287 + b"\r\n", "AUTH"), (b"*\r\n", None)]
)
def test_line_of_a_sasl_response_has_its_own_limit(data: bytes, rule: str | None) -> None:
    before = READY + b"AUTH PLAIN\r\n"
    book = server(before, max_command_line=20_000, answer=challenge, **AUTH).send(data)
    assert getattr(book.events[0], "rule", None) == rule


def test_temporary_refusals_and_refused_messages_count_as_refusals() -> None:
    rcpt = b"RCPT TO:<u@s.example>\r\n"
    for code in (450, 451):
        book = server(MAIL, answer=answer_with(Rcpt, Reply(code)), max_refusals=3)
        book.send(rcpt * 3 + b"NOOP\r\n").expect(code, code, code, 421)

    message = MAIL[len(READY) :] + rcpt + b"DATA\r\nx\r\n.\r\n"
    book = server(READY, answer=answer_with(DataEnd, Reply(554)), max_refusals=3)
    book.send(message * 3 + b"NOOP\r\n").expect(*[250, 250, 354, 554] * 3, 421)


@pytest.mark.parametrize("text", ["No", "No\nthanks"])
def test_permanent_refusals_of_another_server_count_as_refusals_and_not_as_errors(text: str) -> None:
    rcpt = b"RCPT TO:<u@s.example>\r\n"
    refusal = Reply(550, text, is_relayed=True).fitting()
    book = server(MAIL, answer=answer_with(Rcpt, refusal), max_refusals=3, max_errors=2)
    book.send(rcpt * 3 + b"NOOP\r\n")
    assert getattr(book.events[-2], "rule", None) == "max_refusals"
    book.expect(550, 550, 550, 421)


def test_permanent_refusals_and_accepted_messages_do_not_count_for_max_refusals() -> None:
    rcpt = b"RCPT TO:<u@s.example>\r\n"
    book = server(MAIL, answer=answer_with(Rcpt, Reply(550)), max_refusals=2)
    book.send(rcpt * 3 + b"NOOP\r\n").expect(550, 550, 550, 250)

    message = MAIL[len(READY) :] + rcpt + b"DATA\r\nx\r\n.\r\n"
    server(READY, max_refusals=2).send(message * 3 + b"NOOP\r\n").expect(*[250, 250, 354, 250] * 3, 250)


def test_accepted_recipients_count_over_the_whole_session() -> None:
    rcpt = b"RCPT TO:<u@s.example>\r\n"
    book = server(MAIL, max_recipients_per_session=3).send(rcpt * 2).expect(250, 250)
    book.send(b"RSET\r\n" + MAIL[len(READY) :] + rcpt * 2).expect(250, 250, 250, 452)
