"""Each law is broken by a client with this fault, and not by a similar correct client."""

import re
from typing import Any

import pytest

from smtpcore_adapters.testing.fuzz.clients import (
    CLIENT_LAWS,
    Answer,
    Behaviour,
    ClientEvidence,
    Then,
    violations_of,
)
from smtpcore_adapters.testing.fuzz.clients import _laws as laws
from tests.adapters.check.clients import broken_clients as broken
from tests.adapters.check.clients.broken_clients import Correct
from tests.adapters.testing.fuzz.clients.helpers import ENVELOPE, MESSAGE, broken_laws, evidence_of, listener_for
from tests.adapters.testing.fuzz.clients.test_engine import (
    QUICK,
    SLOW,
    SLOW_WITH_TLS,
    WITH_TLS,
)

BODY = (b"DATA\r\n", b"x\r\n.\r\n")
REFUSED = b"550 5.7.1 No\r\n"
SURPLUS = b"250 OK\r\n354 Go\r\n"
SEND = Answer("DATA", b"354 Go\r\n")


WRONG_NAME = Behaviour(certificate="wrong name")
INJECTED = Behaviour(
    answers=(
        Answer("STARTTLS", b"220 Go\r\n250-injected.example\r\n250 SIZE\r\n"),
        Answer("EHLO", number=2, delay=0.5),
    )
)


def _with(*answers: Answer, **fields: Any) -> Behaviour:
    return Behaviour(answers=answers, **fields)


def test_each_law_has_a_broken_client() -> None:
    tables = QUICK | SLOW | WITH_TLS | SLOW_WITH_TLS

    assert set(tables.values()) == {law.name for law in CLIENT_LAWS}


def test_nothing_is_found_without_evidence_or_in_a_correct_session() -> None:
    assert violations_of(None) == []
    assert broken_laws(evidence_of(*MESSAGE, result=True)) == []


def test_faults_come_before_warnings_with_the_section_of_the_law() -> None:
    behaviour = _with(Answer("GREETING", b"554 No\r\n"))
    found = violations_of(evidence_of(*MESSAGE[:-1], behaviour=behaviour, result=True))

    assert [(each.law, each.section, each.is_warning) for each in found] == [
        ("quit", "RFC 5321 4.1.1.10", False),
        ("refusals", "RFC 5321 3.3", True),
    ]


def test_later_laws_are_not_judged_after_a_lost_session() -> None:
    lines = (*ENVELOPE, b"DATA\r\nx\r\n.\r\n")

    assert broken_laws(evidence_of(*lines)) == [("pipelining", "the message was sent before the reply to DATA")]


@pytest.mark.parametrize(
    ("name", "pieces", "behaviour"),
    [
        ("auth", (b"EHLO c\r\n", b"AUTH PLAIN x\r\n"), Behaviour()),
        ("auth", (b"EHLO c\r\n", b"AUTH X x\r\n"), Behaviour(mechanisms=("PLAIN",))),
        ("auth", (b"EHLO c\r\n", b"AUTH PLAIN x\r\n"), Behaviour(mechanisms=("PLAIN",), starttls="always")),
        ("offers", (b"EHLO c\r\n", b"MAIL FROM:<> BODY=7BIT\r\n"), Behaviour(offers=("SIZE",))),
        ("offers", (b"EHLO c\r\n", b"BDAT 0\r\n"), Behaviour()),
        ("pipelining", (b"EHLO c\r\nNOOP\r\n",), Behaviour(offers=("PIPELINING",))),
        ("pipelining", (b"EHLO c\r\n", b"MAIL FROM:<>\r\nRSET\r\n"), Behaviour()),
        ("refusals", (b"EHLO c\r\n",), _with(Answer("GREETING", b"554 No\r\n"))),
        ("refusals", (b"EHLO c\r\n",), _with(Answer("GREETING", b"421 No\r\n", then=Then.CLOSE))),
        ("refusals", (b"EHLO c\r\n", b"MAIL FROM:<>\r\n"), _with(Answer("EHLO", REFUSED))),
        ("refusals", (*ENVELOPE[:2], b"DATA\r\n"), _with(Answer("MAIL", REFUSED))),
        ("refusals", (*ENVELOPE, b"DATA\r\n"), _with(Answer("RCPT", b"421 No\r\n"))),
        ("refusals", (*ENVELOPE, b"DATA\r\n"), _with(Answer("RCPT", b"421 No\r\n", then=Then.CLOSE))),
        ("body", (*ENVELOPE, b"DATA\r\n", b"Subject: x\r\n.\r\n"), _with(Answer("DATA", REFUSED))),
        ("body", (*ENVELOPE, b"DATA\r\n", b"Subject: x\r\n.\r\n"), _with(Answer("DATA", REFUSED, then=Then.CLOSE))),
        ("body", (*ENVELOPE, *BODY), _with(Answer("RCPT", REFUSED), Answer("DATA", b"354 Go\r\n"))),
        ("once", (*MESSAGE[:-1], *MESSAGE[1:]), Behaviour()),
        ("quit", MESSAGE[:-1], Behaviour()),
    ],
)
def test_law_is_broken(name: str, pieces: tuple[bytes, ...], behaviour: Behaviour) -> None:
    assert name in [law for law, _ in broken_laws(evidence_of(*pieces, behaviour=behaviour))]


@pytest.mark.parametrize(
    ("pieces", "behaviour"),
    [
        ((b"EHLO c\r\n", b"AUTH PLAIN x\r\n", b"QUIT\r\n"), Behaviour(mechanisms=("PLAIN",))),
        ((b"EHLO c\r\n", b"MAIL FROM:<>\r\nRSET\r\n", b"QUIT\r\n"), Behaviour(offers=("pipelining",))),
        ((b"QUIT\r\n",), _with(Answer("GREETING", b"554 No\r\n"))),
        ((b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<>\r\n"), _with(Answer("EHLO", REFUSED))),
        ((*ENVELOPE[:2], b"RSET\r\n"), _with(Answer("MAIL", REFUSED))),
        ((*ENVELOPE[:2], b"RCPT TO:<b@s.example>\r\nDATA\r\n"), _with(Answer("MAIL", REFUSED), offers=("PIPELINING",))),
        ((*ENVELOPE, b"QUIT\r\n"), _with(Answer("RCPT", b"421 No\r\n"))),
        ((*ENVELOPE, b"DATA\r\n"), _with(Answer("RCPT", b"421 No\r\n"), offers=("PIPELINING",))),
        ((*ENVELOPE, b"DATA\r\n", b"QUIT\r\n"), _with(Answer("DATA", REFUSED))),
        ((*ENVELOPE, b"DATA\r\n"), _with(Answer("DATA", REFUSED, then=Then.CLOSE))),
        ((*ENVELOPE, b"DATA\r\n", b".\r\n"), _with(Answer("RCPT", REFUSED), SEND, Answer("END", REFUSED))),
        ((*ENVELOPE, b"DATA\r\n", b"x: y\r\n.\r\n"), _with(Answer("RCPT", SURPLUS), Answer("DATA", REFUSED))),
        ((*ENVELOPE, *BODY, b"QUIT\r\n"), _with(Answer("RCPT", REFUSED, 2))),
        ((*ENVELOPE, b"BDAT 1 LAST\r\nx", b"QUIT\r\n"), Behaviour(offers=("CHUNKING",))),
        (MESSAGE[:-1], _with(Answer("END", b"250 a\r\n550 b\r\n"))),
        (MESSAGE[:-1], _with(Answer("END", b"250 OK\r\n", then=Then.CLOSE))),
        ((*MESSAGE[:-1], b"NOOP\r\n"), _with(Answer("NOOP", b"421 Bye\r\n"))),
    ],
)
def test_correct_reaction_is_no_finding(pieces: tuple[bytes, ...], behaviour: Behaviour) -> None:
    assert broken_laws(evidence_of(*pieces, behaviour=behaviour)) == []


# Bodies and addresses


@pytest.mark.parametrize(
    ("mail", "body", "offers", "text"),
    [
        ("<é@c.example>", b"", (), "an address beyond ASCII without an offer of SMTPUTF8"),
        ("<>", b"X: \xc3\xa9\r\n\r\n", (), "a header beyond ASCII without an offer of SMTPUTF8"),
        ("<>", b"X: y\r\n\r\n\xc3\xa9\r\n", (), "a message beyond ASCII without an offer of 8BITMIME"),
        ("<>", b"X: y\r\n\r\n\xc3\xa9\r\n", ("8BITMIME",), ""),
        ("<é@c.example>", b"X: \xc3\xa9\r\n\r\n", ("SMTPUTF8", "8BITMIME"), ""),
    ],
)
def test_octets_beyond_ascii_need_an_offer(mail: str, body: bytes, offers: tuple[str, ...], text: str) -> None:
    lines = (ENVELOPE[0], f"MAIL FROM:{mail}\r\n".encode(), ENVELOPE[2], b"DATA\r\n", body + b".\r\n", b"QUIT\r\n")
    found = broken_laws(evidence_of(*lines, behaviour=Behaviour(offers=offers)))

    assert found == ([("offers", text)] if text else [])


@pytest.mark.parametrize("offer", ["SIZE", "SIZE 0", "SIZE x", "SIZE 99"])
def test_size_without_a_limit_is_no_limit(offer: str) -> None:
    assert broken_laws(evidence_of(*MESSAGE, behaviour=Behaviour(offers=(offer,)))) == []


# Results


@pytest.mark.parametrize(
    ("result", "answers", "text"),
    [
        (None, (), ""),
        (True, (), ""),
        (True, (Answer("END", REFUSED),), "the client reported success, but no message was accepted"),
        (False, (), "the client reported a failure, but its message was accepted"),
        (False, (Answer("END", b"250 a\r\n550 b\r\n"),), ""),
        (["b@s.example"], (), ""),
        (["b@s.example"], (Answer("END", REFUSED),), "the client reported success, but no message was accepted"),
        (["b@s.example", "x@s.example"], (), "success for a recipient for whom no message was accepted"),
        ([], (), "a failure for a recipient for whom the message was accepted"),
        ([], (Answer("END", b"250 a\r\n550 b\r\n"),), ""),
    ],
)
def test_result_agrees_with_the_replies(result: Any, answers: tuple[Answer, ...], text: str) -> None:
    found = broken_laws(evidence_of(*MESSAGE, behaviour=_with(*answers), result=result))

    assert [law for law, _ in found] == (["report"] if text else [])
    assert not text or text in found[0][1]


TWO_RECIPIENTS = (*ENVELOPE, b"RCPT TO:<c@s.example>\r\n", *MESSAGE[3:])


def test_failure_may_be_reported_if_a_recipient_was_refused() -> None:
    assert broken_laws(evidence_of(*TWO_RECIPIENTS, behaviour=_with(Answer("RCPT", REFUSED, 2)), result=False)) == []


@pytest.mark.parametrize(("key", "lmtp"), [("RCPT", False), ("RCPT", True), ("END", True)])
def test_success_although_a_recipient_was_refused_is_a_warning(key: str, lmtp: bool) -> None:
    # The client reads one reply after each line, so without QUIT in LMTP, which has two replies to a message.
    lines = [b"LHLO c.example\r\n", *TWO_RECIPIENTS[1:-1]] if lmtp else TWO_RECIPIENTS
    found = violations_of(evidence_of(*lines, behaviour=_with(Answer(key, REFUSED, 2)), lmtp=lmtp, result=True))

    (report,) = [each for each in found if each.law == "report"]
    assert (report.verb, report.is_warning) == ("RCPT", True)
    assert report.text == "the client reported success, but a recipient was refused"


def test_success_may_be_reported_if_a_refused_recipient_was_tried_again() -> None:
    lines = (*TWO_RECIPIENTS[:-1], *ENVELOPE[1:2], TWO_RECIPIENTS[3], *MESSAGE[3:])

    assert broken_laws(evidence_of(*lines, behaviour=_with(Answer("RCPT", REFUSED, 2)), result=True)) == []


def test_success_of_the_accepted_recipients_may_be_reported() -> None:
    answer = _with(Answer("RCPT", REFUSED, 2))

    assert broken_laws(evidence_of(*TWO_RECIPIENTS, behaviour=answer, result=["b@s.example"])) == []


def test_success_because_of_an_early_reply_is_a_warning() -> None:
    answers = Answer("DATA", b"354 Go\r\n250 Early\r\n"), Answer("END", REFUSED)
    found = violations_of(evidence_of(*MESSAGE, behaviour=_with(*answers), result=True))

    assert [(each.law, each.is_warning) for each in found] == [("report", True)]


def test_success_because_of_a_malformed_reply_is_a_fault() -> None:
    found = violations_of(evidence_of(*MESSAGE[:-1], behaviour=_with(Answer("END", b"hello\r\n")), result=True))

    assert [(each.law, each.is_warning) for each in found] == [("report", False)]


# Delivery


@pytest.mark.parametrize(
    ("uses", "behaviour", "is_broken"),
    [
        (None, Behaviour(), False),
        (frozenset(), Behaviour(), True),
        (frozenset(), _with(Answer("MAIL", REFUSED)), False),
        ({"BODY"}, Behaviour(), False),
        ({"BODY"}, Behaviour(offers=("8BITMIME",)), True),
        ({"AUTH"}, Behaviour(mechanisms=("PLAIN",)), False),
        ({"AUTH"}, Behaviour(mechanisms=("PLAIN", "LOGIN")), True),
        (frozenset(), Behaviour(offers=("SIZE 16",)), False),
        (frozenset(), Behaviour(offers=("SIZE 16000000",)), True),
        (frozenset(), Behaviour(starttls="always"), False),
    ],
)
def test_message_has_to_be_delivered_if_nothing_prevents_it(uses: Any, behaviour: Behaviour, is_broken: bool) -> None:
    found = violations_of(evidence_of(b"EHLO c\r\n", b"QUIT\r\n", behaviour=behaviour, uses=uses))

    assert [(each.law, each.verb) for each in found] == ([("delivery", "EHLO")] if is_broken else [])


def test_delivery_that_fails_because_of_a_bare_code_is_a_warning() -> None:
    behaviour = _with(Answer("EHLO"), Answer("MAIL", b"250\r\n"))
    found = violations_of(evidence_of(*ENVELOPE[:2], b"QUIT\r\n", behaviour=behaviour, uses=frozenset()))

    assert [(each.law, each.verb, each.is_warning) for each in found] == [("delivery", "MAIL", True)]


def test_message_that_must_be_sent_under_tls_needs_an_offer() -> None:
    behaviour = Behaviour(starttls="never")
    found = broken_laws(evidence_of(b"EHLO c\r\n", behaviour=behaviour, uses=frozenset(), tls="starttls"))

    assert found == []


# The fallback to HELO

EHLO_ONLY = (b"EHLO c\r\n", b"QUIT\r\n")


@pytest.mark.parametrize(
    ("lines", "reply", "fields", "is_broken"),
    [
        (EHLO_ONLY, b"502 No\r\n", {}, True),
        (EHLO_ONLY, b"500 No\r\n", {}, True),
        (EHLO_ONLY, b"500 No\r\n", {"uses": {"SIZE", "BDAT"}}, True),
        (EHLO_ONLY, b"500 No\r\n", {"tls": "implicit"}, True),
        (EHLO_ONLY, b"550 No\r\n", {}, False),
        (EHLO_ONLY, b"421 No\r\n", {}, False),
        (EHLO_ONLY, b"500 No\r\n", {"uses": None}, False),
        (EHLO_ONLY, b"500 No\r\n", {"uses": {"AUTH"}}, False),
        (EHLO_ONLY, b"500 No\r\n", {"uses": {"SMTPUTF8", "SIZE"}}, False),
        (EHLO_ONLY, b"500 No\r\n", {"tls": "starttls"}, False),
        ((b"EHLO c\r\n", b"HELO c\r\n", b"QUIT\r\n"), b"500 No\r\n", {}, False),
        ((b"EHLO c\r\n", b"EHLO c\r\n", b"QUIT\r\n"), None, {}, False),
    ],
)
def test_helo_follows_if_ehlo_is_not_known(
    lines: tuple[bytes, ...], reply: bytes | None, fields: dict[str, Any], is_broken: bool
) -> None:
    evidence = evidence_of(*lines, behaviour=_with(Answer("EHLO", reply)), **{"uses": frozenset(), **fields})

    found = [(each.verb, each.is_warning) for each in violations_of(evidence) if each.law == "fallback"]
    assert found == [("EHLO", True)] * is_broken


@pytest.mark.parametrize("lmtp", [False, True])
def test_helo_cannot_follow_in_lmtp_or_after_the_end_of_the_connection(*, lmtp: bool) -> None:
    answer = Answer("EHLO", b"500 No\r\n", then=Then.CONTINUE if lmtp else Then.CLOSE)
    lines = (b"LHLO c\r\n" if lmtp else b"EHLO c\r\n", b"QUIT\r\n")
    evidence = evidence_of(*lines, behaviour=_with(answer), lmtp=lmtp, uses=frozenset())

    assert "fallback" not in [law for law, _ in broken_laws(evidence)]


# Bounds


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"has_ended": False}, "the client did not end after its last connection was closed"),
        ({"error": "KeyError"}, "the client raised KeyError"),
    ],
)
def test_client_has_to_end_with_a_result(fields: dict[str, Any], text: str) -> None:
    assert broken_laws(evidence_of(*MESSAGE, **fields)) == [("bounds", text)]


def test_connections_of_a_run_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "MAX_VISITS", 1)

    assert broken_laws(evidence_of(*MESSAGE)) == [("bounds", "the client connected 1 times")]


def test_flood_of_a_client_is_found() -> None:
    evidence = evidence_of(*MESSAGE)
    evidence.visits[0].ended = "the client sent more than 2000 commands"

    assert broken_laws(evidence) == [("bounds", "the client sent more than 2000 commands")]


def test_endless_reply_that_is_read_is_a_warning() -> None:
    evidence = evidence_of(*MESSAGE)
    evidence.visits[0].was_read_without_end = True

    (violation,) = violations_of(evidence)
    assert violation.is_warning
    assert re.match("the client read more than [0-9]+ octets of one reply", violation.text)


# TLS


@pytest.mark.parametrize(
    ("client", "behaviour", "text"),
    [
        (broken.AcceptsAnyName, WRONG_NAME, "the client accepted the certificate, and sent EHLO"),
        (broken.FallsBackToPlaintext, Behaviour(starttls="never"), "the client sent MAIL in plaintext"),
        (broken.UsesInjectedReplies, INJECTED, "a reply that arrived before TLS was used under TLS"),
        (Correct, INJECTED, ""),
        (Correct, WRONG_NAME, ""),
    ],
)
def test_plaintext_and_certificates_are_not_trusted(client: type[Correct], behaviour: Behaviour, text: str) -> None:
    visits = listener_for("starttls").attempt(client("starttls"), behaviour.script()).visits
    found = broken_laws(ClientEvidence(behaviour, visits, "starttls"))

    assert found[:1] == ([("tls", text)] if text else [])


def test_address_without_brackets_is_no_parameter() -> None:
    evidence = evidence_of(b"EHLO c.example\r\n", b"MAIL FROM: a@c.example\r\n", result=False)

    assert [violation.law for violation in violations_of(evidence)] == ["form"]


def test_used_words_are_verbs_of_extensions_and_parameters() -> None:
    behaviour = Behaviour(mechanisms=("PLAIN",))
    lines = (b"EHLO c\r\n", b"AUTH PLAIN x\r\n", b"MAIL FROM:<> SIZE=1 BODY=7BIT\r\n", b"NOOP\r\n")

    assert laws.used_by(evidence_of(*lines, behaviour=behaviour).visits) == {"AUTH", "SIZE", "BODY"}
