"""Visits are printed as dialogues."""

from typing import Any

import pytest

from smtpcore_adapters.testing.fuzz.clients import Answer, Behaviour, dialogue_of
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.testing.fuzz.clients.helpers import MESSAGE, evidence_of, listener_for


def _lines(*pieces: bytes, behaviour: Behaviour | None = None, **options: Any) -> list[str]:
    return dialogue_of(evidence_of(*pieces, behaviour=behaviour).visits, **options)


def test_messages_are_shortened() -> None:
    assert _lines(*MESSAGE) == [
        "S: 220 check.example ESMTP",
        "C: EHLO c.example",
        "S: 250 check.example",
        "C: MAIL FROM:<a@c.example>",
        "S: 250 2.1.0 OK",
        "C: RCPT TO:<b@s.example>",
        "S: 250 2.1.5 OK",
        "C: DATA",
        "S: 354 Go ahead",
        "C: (a message of 3 octets)",
        "S: 250 2.0.0 Accepted",
        "C: QUIT",
        "S: 221 2.0.0 Bye",
        "-- the client sent QUIT",
    ]
    assert _lines(*MESSAGE, with_quit=False)[-1] == "S: 250 2.0.0 Accepted"


def test_secrets_are_masked() -> None:
    behaviour = Behaviour(mechanisms=("LOGIN", "PLAIN"))
    lines = _lines(b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n", b"AUTH PLAIN c2VjcmV0\r\n", behaviour=behaviour)

    assert [line for line in lines if line.startswith("C: ")] == [
        "C: AUTH LOGIN",
        "C: ***",
        "C: ***",
        "C: AUTH PLAIN ***",
    ]


def test_long_replies_and_incomplete_messages_are_marked() -> None:
    behaviour = Behaviour(answers=(Answer("RCPT", b"250-a\r\n250-b\r\n250 c\r\n"),), offers=("A", "B", "C"))
    lines = _lines(*MESSAGE[:4], b"x", behaviour=behaviour)

    assert lines[2] == "S: 250-check.example  (and 3 more lines)"
    assert lines[6] == "S: 250-a / 250-b / 250 c"
    assert lines[-2:] == ["C: (a message of 1 octets, without its end)", "-- the client closed the connection"]


def test_replies_for_which_the_client_did_not_wait_are_marked() -> None:
    assert _lines(b"NOOP\r\nNOOP\r\n")[2:5] == [
        "S: 250 2.0.0 OK  (the client did not wait)",
        "C: NOOP",
        "S: 250 2.0.0 OK",
    ]


def test_rest_of_the_octets_is_shown() -> None:
    assert _lines(b"NOOP\r\nQU")[-2:] == ["C: QU", "-- the client closed the connection"]


def test_start_of_tls_and_connections_are_marked() -> None:
    with_tls = listener_for("starttls").attempt(Correct("starttls"), Behaviour().script())
    lines = dialogue_of(with_tls.visits)
    assert lines[5:7] == ["-- TLS", "C: EHLO c.example"]
    assert dialogue_of([*with_tls.visits] * 2)[0] == "connection 1:"


# Brief dialogues


@pytest.mark.parametrize(
    ("needed", "reply", "verbs"),
    [
        ((), b"", "MAIL, RCPT and DATA"),
        (("DATA",), b"", "MAIL and RCPT"),
        ((), b"250 a\r\n250 b\r\n", "MAIL"),
        ((), b"550 no\r\n", "MAIL"),
    ],
)
def test_accepted_commands_are_one_line_of_a_brief_dialogue(needed: tuple[str, ...], reply: bytes, verbs: str) -> None:
    behaviour = Behaviour(answers=(Answer("RCPT", reply),) if reply else ())
    lines = _lines(*MESSAGE, behaviour=behaviour, is_brief=True, needed=needed)

    first = f"-- the usual replies to EHLO, {verbs}" if verbs != "MAIL" else "-- the usual replies to EHLO and MAIL"
    following = {"MAIL": "C: RCPT TO:<b@s.example>", "MAIL and RCPT": "C: DATA"}
    assert lines[:2] == [first, following.get(verbs, "C: (a message of 3 octets)")]
    assert lines[-1] == "-- the client sent QUIT"


def test_session_may_end_with_its_accepted_commands() -> None:
    assert _lines(*MESSAGE[:3], is_brief=True) == [
        "-- the usual replies to EHLO, MAIL and RCPT",
        "-- the client closed the connection",
    ]


@pytest.mark.parametrize("needed", ["GREETING", "EHLO", "MAIL"])
def test_fewer_than_two_accepted_commands_are_shown(needed: str) -> None:
    assert _lines(*MESSAGE, is_brief=True, needed=[needed]) == _lines(*MESSAGE)


def test_brief_dialogue_ends_its_first_line_at_the_start_of_tls() -> None:
    visits = listener_for("starttls").attempt(Correct("starttls"), Behaviour().script()).visits
    lines = dialogue_of(visits, is_brief=True)
    assert lines[:3] == ["-- the usual replies to EHLO and STARTTLS", "-- TLS", "C: EHLO c.example"]

    visits = listener_for("implicit").attempt(Correct("implicit"), Behaviour().script()).visits
    assert dialogue_of(visits, is_brief=True)[0] == "-- the usual replies to EHLO, MAIL, RCPT and DATA, under TLS"


def test_secrets_and_commands_without_a_reply_end_the_first_line() -> None:
    behaviour = Behaviour(mechanisms=("LOGIN",))
    lines = _lines(b"EHLO c\r\n", b"AUTH LOGIN\r\n", b"dGlt\r\n", b"c2VjcmV0\r\n", behaviour=behaviour, is_brief=True)

    assert lines[:2] == ["-- the usual replies to EHLO and AUTH", "C: ***"]


def test_connection_like_an_earlier_one_is_one_line() -> None:
    visits = evidence_of(*MESSAGE).visits
    lines = dialogue_of([*visits, *visits], is_brief=True)

    assert lines[:2] == ["connection 1:", "-- the usual replies to EHLO, MAIL, RCPT and DATA"]
    assert lines[-1] == "connection 2: like connection 1"
    assert len(dialogue_of([*visits, *visits])) == 30
