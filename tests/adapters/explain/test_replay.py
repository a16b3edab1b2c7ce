"""Explanations of recorded dialogues: no breach in legal dialogues, otherwise each breach with its RFC section."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpcore_adapters.explain import Side, Unreadable, explain, join, read
from smtpcore_adapters.testing import strategies
from tests.adapters.explain.dialogues import DATA, ENVELOPE, GREETING, HELLO, QUIT, explained, few_examples, found
from tests.adapters.explain.test_recording import SWAKS
from tests.paths import DIALOGS
from tests.playbook import new_server

RFC_DIALOGS = sorted(DIALOGS.glob("*.txt"))

# Dialogues that contain breaches, with the number of breaches.
BREACHES = {
    "rfc1870-6.1-size-too-big": 1,
    "rfc1985-7-etrn-first": 2,
    "rfc2033-4-lmtp-rules": 2,
    "rfc2645-6-atrn": 1,  # the explanation does not follow the change of roles
    "rfc2852-4-by-values": 2,
    "rfc3030-2-sequence-errors": 2,
    "rfc3030-3-binarymime-data": 1,
    "rfc3207-4-tls-required": 2,
    "rfc3461-5.1-parameter-errors": 6,
    "rfc4468-3.4-2-burl-pipelined": 0,
    "rfc4865-4.2-holdfor": 3,
    "rfc4954-4-cancel-and-errors": 5,
    "rfc5321-3.1-554-greeting": 2,
    "rfc6531-3.4-smtputf8": 3,
    "rfc6531-3.7.4.2-vrfy": 1,
}


@pytest.mark.parametrize("path", RFC_DIALOGS, ids=lambda path: path.stem)
def test_rfc_dialogue_has_the_expected_number_of_breaches(path: Path) -> None:
    lines = [line for recording in read(path.read_bytes()) for line in explain(recording)]

    assert len(found(lines)) == BREACHES.get(path.stem, 0), found(lines)
    assert len(lines) > 2


# The parts of a dialogue


def test_each_line_has_its_events_and_the_resulting_state() -> None:
    lines = explained(*HELLO, *DATA, "C: text", "C: .", "S: 250 taken", *QUIT)

    assert [(line.text, line.events, line.state) for line in lines if line.events] == [
        ("220 s.example ESMTP", ["answers ConnectionOpened"], "GREETED"),
        ("EHLO c.example", ["EHLO"], "GREETED"),
        ("250 CHUNKING", ["answers EHLO"], "READY"),
        ("MAIL FROM:<a@c.example>", ["MAIL"], "READY"),
        ("250 OK", ["answers MAIL"], "MAIL"),
        ("RCPT TO:<b@s.example>", ["RCPT"], "MAIL"),
        ("250 OK", ["answers RCPT"], "RCPT"),
        ("DATA", ["DATA"], "RCPT"),
        ("354 go", ["answers DATA"], "DATA"),
        (".", ["DataEnd"], "DATA"),
        ("250 taken", ["answers DataEnd"], "READY"),
        ("QUIT", ["QUIT"], "READY"),
        ("221 bye", ["answers QUIT"], "CLOSED"),
    ]
    assert [line.text for line in lines if line.is_body] == ["text", "."]
    assert not found(lines)
    assert not [note for line in lines for note in line.notes]


SERVER = [
    ((GREETING, "C: EHLO c.example", "S: 354 go", *QUIT), "RFC 5321 4.3.2"),
    ((*HELLO, *ENVELOPE, "C: DATA", "S: 250 taken", *QUIT), "RFC 5321 4.3.2"),
    ((*HELLO, "S: 250 surplus", *QUIT), "RFC 5321 4.2"),
    ((*HELLO, "C: NOOP"), "RFC 5321 4.2"),
    ((*HELLO, "C: NOOP", "S: hello", "S: 250 OK", *QUIT), "RFC 5321 4.2"),
    ((*HELLO, "C: NOOP", "S: 250-a", "S: 251 b", *QUIT), "RFC 5321 4.2.1"),
    ((*HELLO, "C: QUIT", "S: 221-bye"), "RFC 5321 4.2.1"),
    ((*HELLO, "C: NOOP", f"S: 250 {'x' * 520}", *QUIT), "RFC 5321 4.5.3.1.5"),
    ((*HELLO, "C: NOOP", "S: 250 \u00e4", *QUIT), "RFC 5321 4.3.2"),
    (
        ("C: EHLO c", "S: 250-s", "S: 250 ENHANCEDSTATUSCODES", "C: NOOP", "S: 250 OK", "C: QUIT", "S: 221 2.0.0 bye"),
        "RFC 2034 4",
    ),
    (
        (
            "C: EHLO c",
            "S: 250-s",
            "S: 250 ENHANCEDSTATUSCODES",
            "C: NOOP",
            "S: 250 4.0.0 OK",
            "C: QUIT",
            "S: 221 2.0.0 bye",
        ),
        "RFC 2034 4",
    ),
    (
        ("C: LHLO c", "S: 250 s", *ENVELOPE[:2], *ENVELOPE[2:] * 2, "C: DATA", "S: 354 go", "C: .", "S: 250 only one"),
        "RFC 5321 4.2",
    ),
    ((*HELLO, *DATA, "C: text", "S: 250 already", "C: .", "S: 250 taken", *QUIT), "RFC 5321 4.2"),
]


def test_server_is_not_accused_if_the_client_leaves_after_a_refusal_in_its_group() -> None:
    group = ("C: MAIL FROM:<a@c.example>", "C: RCPT TO:<b@s.example>", "C: DATA")
    lines = explained(*HELLO, *group, "S: 250 OK", "S: 550 no")
    assert found(lines) == []
    assert lines[-1].notes == ["the recording ends before the reply to DATA"]

    assert ("server", "RFC 5321 4.2") in found(explained(*HELLO, *group, "S: 250 OK", "S: 250 OK"))


@pytest.mark.parametrize(("texts", "section"), SERVER)
def test_server_breach_is_reported(texts: tuple[str, ...], section: str) -> None:
    assert ("server", section) in found(explained(*texts))
    assert {side for side, _ in found(explained(*texts))} == {"server"}


LEGAL = [
    (*HELLO, "S: 421 shutting down"),
    (*HELLO, *DATA, "C: text", "S: 421 shutting down"),
    (*HELLO, "C: NOOP", "S: 421 enough"),
    (*HELLO, *ENVELOPE, "C: BDAT 3", "C: a", "S: 250 OK", "C: RSET", "S: 250 OK", *QUIT),
    (*HELLO, "C: MAIL FROM:<a@c.example>", "C: RCPT TO:<x@s.example>", "C: DATA", "S: 250", "S: 550", "S: 554", *QUIT),
    (*HELLO, "C: MAIL FROM:<a@c.example>", "C: RCPT TO:<x@s.example>", "S: 550 no", "S: 503 no", *QUIT),
    ("C: EHLO c", "S: 250-s", "S: 250-XCHECK a", "S: 250 BURL imap", "C: XCHECK", "S: 250 fine", *QUIT),
    ("C: EHLO c", "S: 250-s", "S: 250-XCHECK", "S: 250 HELP", "C: MAIL FROM:<> XCHECK=1", "S: 250 fine", *QUIT),
    ("S: 521 no mail here", "C: QUIT", "S: 221 bye"),
    (*HELLO, "C: QUIT"),
    (
        "C: EHLO c",
        "S: 250-s",
        "S: 250 AUTH=PLAIN LOGIN ?",
        "C: AUTH LOGIN",
        "S: 334 VXNlcm5hbWU6",
        "C: *",
        "S: 501 no",
        *QUIT,
    ),
    (
        "C: EHLO c",
        "S: 250-s",
        "S: 250-PIPELINING",
        "S: 250 AUTH PLAIN",
        "C: AUTH PLAIN AGEAYg==",
        "C: NOOP",
        "S: 235",
        "S: 250",
        *QUIT,
    ),
]


@pytest.mark.parametrize("texts", LEGAL)
def test_legal_dialogue_has_no_breach(texts: tuple[str, ...]) -> None:
    assert found(explained(*texts)) == []


@pytest.mark.parametrize(
    "texts",
    [
        (
            *HELLO,
            "C: MAIL FROM: <a@c.example>",
            "S: 250 OK",
            *ENVELOPE[2:],
            "C: DATA",
            "S: 354 go",
            "C: .",
            "S: 250 OK",
        ),
        (*HELLO, *ENVELOPE[:2], "C: RCPT TO: <b@s.example>", "S: 250 OK", "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
        (*HELLO, "C: RCPT TO:<b@s.example>", "S: 250 OK", "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
        (*HELLO, *ENVELOPE, *ENVELOPE, "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
        (*HELLO, *ENVELOPE[:2], "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
        (*HELLO, "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
        (GREETING, "C: EHLO under_score", "S: 250 s.example", *DATA, "C: .", "S: 250 OK"),
        (GREETING, "C: LHLO under_score", "S: 250 s.example", *DATA, "C: .", "S: 250 OK"),
        (GREETING, "C: NOOP now\x00", "S: 250 OK", "C: EHLO c", "S: 250 s", *DATA, "C: .", "S: 250 OK"),
        (GREETING, *ENVELOPE, "C: DATA", "S: 354 go", "C: .", "S: 250 OK"),
    ],
)
def test_client_breach_tolerated_by_the_server_causes_no_further_breach(texts: tuple[str, ...]) -> None:
    lines = explained(*texts, *QUIT)

    assert [side for side, _ in found(lines)] == ["client"]
    assert "the server accepts the client's breach" in [note for line in lines for note in line.notes]


def test_bare_newline_accepted_as_line_end_is_one_breach() -> None:
    lines = explain(join(b"EHLO c\r\nNOOP\nQUIT\r\n", b"220 s\r\n250 s\r\n250 OK\r\n221 bye\r\n"))

    assert found(lines) == [("client", "RFC 5321 2.3.8")]
    assert lines[-1].state == "CLOSED"


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"HELP 0\n", 501), (b"HELP 0\rX\r\n", 501), (b"NOOP " + b"x" * 3000 + b"\r\n", 500), (b"NO\0OP\r\n", 500)],
)
def test_line_after_a_refused_line_is_a_command_again(line: bytes, code: int) -> None:
    client = b"EHLO c.example\r\n" + line + b"NOOP\r\nQUIT\r\n"
    lines = explain(join(client, f"220 s\r\n250 s\r\n{code} no\r\n250 OK\r\n221 bye\r\n".encode()))

    assert len(found(lines)) == 1
    assert [each.events for each in lines if each.side is Side.CLIENT][-2:] == [["NOOP"], ["QUIT"]]
    assert lines[-1].state == "CLOSED"


def test_bare_cr_in_the_last_line_of_a_recording_is_one_breach() -> None:
    lines = explain(join(b"EHLO c\r\nMAIL FROM:<a@b>\rX", b"220 s\r\n250 s\r\n250 OK\r\n"))

    assert found(lines) == [("client", "RFC 5321 2.3.8")]
    assert lines[-1].state == "MAIL"


# Secrets


SECRETS = [
    ("C: AUTH PLAIN c2VjcmV0", "S: 235 OK"),
    ("C: AUTH PLAIN", "S: 334 c2VjcmV0", "C: c2VjcmV0", "S: 235 OK"),
    ("C: AUTH LOGIN", "C: c2VjcmV0", "C: c2VjcmV0", "S: 504 no", "S: 500 no", "S: 500 no"),
    ("C: AUTH FOO", "S: 504 no", "C: c2VjcmV0", "S: 500 no"),
    ("C: auth plain c2VjcmV0 x", "S: 501 no"),
    ("C: QUIT", "S: 221 bye", "C: AUTH PLAIN c2VjcmV0"),
]


@pytest.mark.parametrize("texts", SECRETS)
@pytest.mark.parametrize("offered", ["S: 250 AUTH PLAIN LOGIN", "S: 250 HELP"])
def test_secrets_are_never_shown(texts: tuple[str, ...], offered: str) -> None:
    lines = explained(GREETING, "C: EHLO c.example", "S: 250-s.example", offered, *texts)

    assert "c2VjcmV0" not in repr(lines)


def test_transcript_with_masked_secrets_has_no_breach() -> None:
    hello = (GREETING, "C: EHLO c.example", "S: 250-s.example", "S: 250 AUTH PLAIN LOGIN")
    masked = (
        "C: AUTH PLAIN ***",
        "S: 535 no",
        "C: AUTH LOGIN",
        "S: 334 ***",
        "C: ***",
        "S: 334 ***",
        "C: ***",
        "S: 235 OK",
    )

    assert found(explained(*hello, *masked, *QUIT)) == []


# Recordings


def test_session_state_is_reset_by_tls() -> None:
    lines = explain(*read(SWAKS.encode()))

    assert [line.side for line in lines].count(Side.TLS) == 1
    assert [line.state for line in lines if line.text == "EHLO c.example"] == ["GREETED", "GREETED"]


def test_octets_of_one_side_are_explained() -> None:
    client = (
        b"EHLO c.example\r\nSTARTTLS\r\nEHLO c.example\r\nAUTH PLAIN\r\nAGEAYg==\r\nAUTH PLAIN AGEAYg==\r\n"
        b"MAIL FROM:<>\r\nRCPT TO:<b@s.example>\r\nBURL imap://s.example/x LAST\r\nQUIT\r\n"
    )
    lines = explain(*read(client))
    assert found(lines) == [("client", "RFC 4954 4")]
    assert [line.state for line in lines][-2:] == ["READY", "CLOSED"]

    lines = explain(*read(b"220 s.example\r\n250-a\r\n250 b\n999 c\r\n221 d\r\n"[:40].replace(b"999", b"250")))
    assert found(lines) == [("server", "RFC 5321 2.3.8"), ("server", "RFC 5321 2.3.8")]


def test_encrypted_octets_are_not_explained() -> None:
    client = b"EHLO c\r\nSTARTTLS\r\n\x16\x03\x01\x00\n\x05hello\r\n"
    server = b"220 s\r\n250-s\r\n250 STARTTLS\r\n220 go\r\n\x16\x03\x03\r\n200\r\n"
    lines = explain(join(client, server))

    assert [line.notes for line in lines if line.notes] == [["from here on the octets are encrypted"]]
    assert ("server", "RFC 5321 4.2") not in found(lines)


# Properties of every recording


@given(strategies.sessions())
@few_examples
def test_generated_valid_session_has_no_breach(groups: list[bytes]) -> None:
    replies = new_server(cut=False).send(*groups).output
    lines = explain(join(b"".join(groups), replies))

    assert found(lines) == []
    assert lines[-1].state == "CLOSED"


@given(st.one_of(st.binary(), strategies.sessions(valid=False).map(b"".join)), st.binary())
@few_examples
def test_arbitrary_octets_are_explained_or_unreadable(one: bytes, other: bytes) -> None:
    for make in (lambda: read(one), lambda: [join(one, other)], lambda: [join(other, one)]):
        try:
            recordings = make()
        except Unreadable:
            continue
        for recording in recordings:
            explain(recording)


WORDS = """220 x|250-x 250 PIPELINING|354 go|.|334 eA==|EHLO c|LHLO x|MAIL FROM:<>|RCPT TO:<a@b>|DATA|STARTTLS
AUTH LOGIN|BDAT 5|abc|XCLIENT NAME=x|BURL imap://x LAST|250 ok|521 no|DATA|DATA|250 ok|NOOP|BDAT 0 LAST"""
words = st.sampled_from(WORDS.replace("\n", "|").replace("250-x 250", "250-x\n250").split("|"))


@given(st.lists(st.tuples(st.sampled_from(["C: ", "S: ", "-- TLSv1"]), words), max_size=20))
@few_examples
def test_lines_in_any_order_are_explained(drawn: list[tuple[str, str]]) -> None:
    text = "".join(f"{letter}{line}\n" for letter, words in drawn for line in words.split("\n"))
    try:
        recordings = read(text.encode())
    except Unreadable:
        return
    for recording in recordings:
        assert len(explain(recording)) == len(recording.items)


@pytest.mark.parametrize("bdat", ["BDAT", "BDAT x", "bdat 5x LAST", "BDAT 999999999999999999999", "BDAT -1", "BDAT  5"])
@pytest.mark.parametrize("code", [501, 250, 354, 521])
def test_dialogue_continues_after_a_chunk_without_a_size(bdat: str, code: int) -> None:
    following = QUIT if code == 521 else ("C: NOOP", "S: 250 OK", *QUIT)
    lines = explained(*HELLO, *ENVELOPE, f"C: {bdat}", f"S: {code} x", *following)

    assert found(lines)[:1] == [("client", "RFC 3030 2")]
    assert ("server", "RFC 5321 4.2") not in found(lines)
    assert lines[-1].state == "CLOSED"


@pytest.mark.parametrize("invalid", ["EHLO", "EHLO a b", "MAIL FROM:<", "RCPT TO:<", "DATA x"])
def test_server_may_accept_an_invalid_command_between_chunks(invalid: str) -> None:
    chunk = ("C: BDAT 3", "C: x", "S: 250 OK")
    lines = explained(*HELLO, *ENVELOPE, *chunk, f"C: {invalid}", "S: 250 OK", *QUIT)

    assert "the server accepts the client's breach" in [note for line in lines for note in line.notes]
    assert lines[-1].state == "CLOSED"


def test_dialogue_may_have_many_refusals() -> None:
    lines = explained(*HELLO, *("C: MAIL FROM:<a@c.example>", "S: 451 x") * 1100, *QUIT)

    assert found(lines) == []
    assert lines[-1].state == "CLOSED"
