"""Steps: the octets of a client, the replies that they need, and the groups in which they may be sent."""

import pytest

from smtpcore_adapters.testing.steps import (
    AuthStep,
    BodyStep,
    ChunkStep,
    LineStep,
    RawStep,
    Step,
    TlsStep,
    groups_of,
)

STEPS: list[tuple[Step, str, tuple[bytes, ...], int, bool]] = [
    (LineStep(b"Rset\t x"), "RSET", (b"Rset\t x\r\n",), 0, False),
    (LineStep(b"mail FROM:<>"), "MAIL", (b"mail FROM:<>\r\n",), 0, False),
    (LineStep(b"\xff"), "", (b"\xff\r\n",), 0, True),
    (LineStep(b"NOOP x"), "NOOP", (b"NOOP x\r\n",), 0, True),
    (BodyStep(b".x\r\n"), "DATA", (b"DATA\r\n", b"..x\r\n.\r\n"), 354, True),
    (ChunkStep(b"abc"), "BDAT", (b"BDAT 3 LAST\r\nabc",), 0, False),
    (ChunkStep(b"abc", is_last=False), "BDAT", (b"BDAT 3\r\nabc",), 0, False),
    (AuthStep("PLAIN", b"="), "AUTH", (b"AUTH PLAIN =\r\n",), 0, True),
    (AuthStep("LOGIN", None, (b"dQ==", b"*")), "AUTH", (b"AUTH LOGIN\r\n", b"dQ==\r\n", b"*\r\n"), 334, True),
    (TlsStep(), "STARTTLS", (b"STARTTLS\r\n",), 220, True),
    (TlsStep(b"NOOP\r\n"), "STARTTLS", (b"STARTTLS\r\nNOOP\r\n",), 220, True),
    (RawStep(b"NOOP\n"), "NOOP", (b"NOOP\n",), 0, False),
]


@pytest.mark.parametrize(
    ("step", "verb", "pieces", "continues", "ends_group"), STEPS, ids=lambda value: str(value)[:30]
)
def test_step_has_its_wire_form(
    step: Step, verb: str, pieces: tuple[bytes, ...], continues: int, ends_group: bool
) -> None:
    assert (step.verb, step.pieces, step.continues, step.must_end_group) == (verb, pieces, continues, ends_group)


@pytest.mark.parametrize(
    ("step", "smtp", "lmtp", "without_recipients"),
    [
        (LineStep(b"NOOP"), 1, 1, 1),
        (BodyStep(b""), 1, 2, 0),
        (ChunkStep(b""), 1, 2, 0),
        (ChunkStep(b"", is_last=False), 1, 1, 1),
        (AuthStep("PLAIN"), 1, 1, 1),
        (RawStep(b"x"), 0, 0, 0),
    ],
    ids=str,
)
def test_end_of_a_message_gets_a_reply_for_each_recipient_in_lmtp(
    step: Step, smtp: int, lmtp: int, without_recipients: int
) -> None:
    assert step.final_replies(2) == smtp
    assert step.final_replies(2, lmtp=True) == lmtp
    assert step.final_replies(0, lmtp=True) == without_recipients


@pytest.mark.parametrize(
    ("body", "is_plain"),
    [
        (b"Subject: x\r\n\r\n..y\r\n", True),
        (b"", True),
        (b"x" * 998 + b"\r\n", True),
        (b"x" * 999 + b"\r\n", False),
        (b"x\ny\r\n", False),
        (b"x\ry\r\n", False),
        (b"x\0\r\n", False),
        (b"x", False),
    ],
)
def test_plain_body_has_only_lines_that_every_server_has_to_keep(body: bytes, is_plain: bool) -> None:
    assert BodyStep(body).is_plain is is_plain


def test_content_of_a_step_is_without_dot_stuffing() -> None:
    assert BodyStep(b".\r\n").content == b".\r\n"
    assert ChunkStep(b"x").content == b"x"
    assert LineStep(b"NOOP").content is None


SESSION: list[Step] = [
    LineStep(b"EHLO c"),
    LineStep(b"MAIL FROM:<>"),
    LineStep(b"RCPT TO:<u>"),
    BodyStep(b"x\r\n"),
    LineStep(b"RSET"),
    ChunkStep(b"abc"),
    LineStep(b"QUIT"),
]


def test_pipelined_groups_end_where_rfc_2920_requires_it() -> None:
    assert groups_of(SESSION, pipelined=True) == [
        b"EHLO c\r\n",
        b"MAIL FROM:<>\r\nRCPT TO:<u>\r\nDATA\r\n",
        b"x\r\n.\r\nRSET\r\nBDAT 3 LAST\r\nabcQUIT\r\n",
    ]


def test_groups_without_pipelining_are_the_pieces() -> None:
    assert groups_of(SESSION, pipelined=False) == [piece for step in SESSION for piece in step.pieces]


def test_step_without_a_reply_is_joined_with_the_next_step() -> None:
    assert groups_of([RawStep(b"NOOP x"), LineStep(b"y")], pipelined=False) == [b"NOOP xy\r\n"]


def test_last_chunk_in_lmtp_is_joined_with_the_next_step() -> None:
    steps = [ChunkStep(b"x"), LineStep(b"QUIT")]

    assert groups_of(steps, pipelined=False, lmtp=True) == [b"BDAT 1 LAST\r\nxQUIT\r\n"]


def test_line_like_data_or_bdat_is_completed() -> None:
    lines = [LineStep(b"DATA now"), LineStep(b"BDAT 3 FIRST"), LineStep(b"QUIT")]

    assert groups_of(lines, pipelined=False) == [b"DATA now\r\n.\r\n", b"BDAT 3 FIRST\r\nNOOP\r\n", b"QUIT\r\n"]
