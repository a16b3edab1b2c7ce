"""The order of the rules: if a command breaks two rules, the earlier rule decides the reply."""

from typing import Any

import pytest

from smtpcore import DataEnd, InvalidCommand, Reply

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
