"""Bare CR and LF, and the end of a message, in all three modes."""

from functools import partial

import pytest

from smtpcore import (
    BareNewlines,
    Bodies,
    ConnectionClosed,
    Data,
    DataEnd,
    InvalidCommand,
    InvalidData,
    Quit,
    Reply,
    Rset,
    State,
)
from smtpcore import _rules as rules

from ..helpers import body, bytewise, octets_id
from ..playbook import DATA, RCPT, READY, ServerPlaybook, answer_with, server

REJECT, NORMALIZE, ACCEPT = BareNewlines.REJECT, BareNewlines.NORMALIZE, BareNewlines.ACCEPT

modes = pytest.mark.parametrize("mode", BareNewlines, ids=lambda mode: mode.name)
forms = pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)

# Each row has octets between two lines of a message that look like its end marker, and the body in the modes NORMALIZE
# and ACCEPT; REJECT refuses the message. After the octets the client sends QUIT, which is text of the message and not a
# command.
FAKE_ENDS = [
    (b"\n.\n", b"\r\n.\r\n", b"\n.\n"),
    (b"\r\n.\n", b"\r\n\r\n", b"\r\n\n"),
    (b"\n.\r\n", b"\r\n.\r\n", b"\n.\r\n"),
    (b"\r.\r", b"\r\n.\r\n", b"\r.\r"),
    (b"\r\n.\r", b"\r\n\r\n", b"\r\n\r"),
    (b"\r.\r\n", b"\r\n.\r\n", b"\r.\r\n"),
    (b"\r.\n", b"\r\n.\r\n", b"\r.\n"),
    (b"\n.\r", b"\r\n.\r\n", b"\n.\r"),
    (b"\r\r\n.\r\r\n", b"\r\n\r\n", b"\r\r\n\r\r\n"),
    (b"\r\n.\r\r\n", b"\r\n\r\n", b"\r\n\r\r\n"),
    (b"\n\r.\r\n", b"\r\n\r\n.\r\n", b"\n\r.\r\n"),
    (b"\r\n.\n\r", b"\r\n\r\n\r\n", b"\r\n\n\r"),
    (b"\r\n\r.\r\n", b"\r\n\r\n.\r\n", b"\r\n\r.\r\n"),
    (b"\r\n\n.\r\n", b"\r\n\r\n.\r\n", b"\r\n\n.\r\n"),
    (b"\r\x00\n.\r\n", b"\r\n\x00\r\n.\r\n", b"\r\x00\n.\r\n"),
    (b"\r\n.\r\x00\n", b"\r\n\r\n\x00\r\n", b"\r\n\r\x00\n"),
    (b"\r\n.\x00\n", b"\r\n\x00\r\n", b"\r\n\x00\n"),
]

# Each row has octets without a bare newline, sent after 354, and the body, which is equal in every mode.
CLEAN = [
    pytest.param(b".\r\n", b"", id="R5321-4.1.1.4-04: only a dot"),
    pytest.param(b"x\r\n.\r\n", b"x\r\n", id="R5321-4.1.1.4-03: the CRLF before the dot belongs to the last line"),
    pytest.param(b"a\r\n.\r\n", b"a\r\n", id="R5321-4.5.2-02"),
    pytest.param(b"\r\n.\r\n", b"\r\n", id="an empty line"),
    pytest.param(b"\r\n\r\n.\r\n", b"\r\n\r\n", id="two empty lines"),
    pytest.param(b"..\r\n.\r\n", b".\r\n", id="stuffed dot first"),
    pytest.param(b".a\r\n.\r\n", b"a\r\n", id="dot followed by text"),
    pytest.param(b"..\r\n.a\r\n...b\r\n.\r\n", b".\r\na\r\n..b\r\n", id="R5321-4.5.2-03"),
    pytest.param(b"x\r\n..y\r\n.\r\n", b"x\r\n.y\r\n", id="R5321-4.5.2-05"),
    pytest.param(b"x\r\n..\r\n..\r\n.\r\n", b"x\r\n.\r\n.\r\n", id="stuffed dots in a row"),
    pytest.param(b"\xff\r\n..\xe9\r\n.\r\n", b"\xff\r\n.\xe9\r\n", id="R6152-3-03"),
    pytest.param(b"x.\r\n.\r\n", b"x.\r\n", id="a dot at the end of a line"),
    pytest.param(b" .\r\n. \r\n.\r\n", b" .\r\n \r\n", id="a dot beside a space"),
    pytest.param(b"\x00\r\n\x00.\r\n.\x00\r\n.\r\n", b"\x00\r\n\x00.\r\n\x00\r\n", id="NUL beside a dot"),
    pytest.param(
        b"\x0b.\x0b\x0c.\x0c\xc2\x85.\xc2\x85\r\n.\r\n", b"\x0b.\x0b\x0c.\x0c\xc2\x85.\xc2\x85\r\n", id="VT FF NEL"
    ),
    pytest.param(b"QUIT\r\nRSET\r\n.\r\n", b"QUIT\r\nRSET\r\n", id="R5321-3.3-09"),
    pytest.param(
        bytes(c for c in range(128) if c not in b"\r\n") + b"\r\n.\r\n",
        bytes(c for c in range(128) if c not in b"\r\n") + b"\r\n",
        id="R5321-4.1.1.4-02: all of ASCII",
    ),
    pytest.param(bytes(range(128, 256)) + b"\r\n.\r\n", bytes(range(128, 256)) + b"\r\n", id="R6152-3-02"),
]

# Each row has octets with a bare newline in a rare place, sent after 354, and the body in NORMALIZE and ACCEPT.
EDGES = [
    pytest.param(b".\rY\r\n.\r\n", b"\r\nY\r\n", b"\rY\r\n", id="CR after the first dot"),
    pytest.param(b".\n\r\n.\r\n", b"\r\n\r\n", b"\n\r\n", id="LF after the first dot"),
    pytest.param(b".\r\r\n.\r\n", b"\r\n", b"\r\r\n", id="CR CR LF after the first dot"),
    pytest.param(b"\n.\r\n.\r\n", b"\r\n.\r\n", b"\n.\r\n", id="LF before the first dot"),
    pytest.param(b"\r.\r\n.\r\n", b"\r\n.\r\n", b"\r.\r\n", id="CR before the first dot"),
    pytest.param(b"\r\r\n.\r\n", b"\r\n", b"\r\r\n", id="CR first"),
    pytest.param(
        b"a\nb\r\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\nb\r\nc\r\n", id="R5321-4.1.1.4-08: LF in the first line"
    ),
    pytest.param(b"a\rb\r\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\rb\r\nc\r\n", id="CR in the first line"),
    pytest.param(b"a\r\nb\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\r\nb\nc\r\n", id="LF in the last line"),
    pytest.param(b"a\r\nb\rc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\r\nb\rc\r\n", id="CR in the last line"),
    pytest.param(b"a\r\r\n.\r\n", b"a\r\n", b"a\r\r\n", id="CR just before the end"),
    pytest.param(b"a\n\r\n.\r\n", b"a\r\n\r\n", b"a\n\r\n", id="LF just before the end"),
    pytest.param(b"a\r\r\r\r\n.\r\n", b"a\r\n", b"a\r\r\r\r\n", id="several CR"),
    pytest.param(b"a" + b"\r" * 10 + b"\n.\r\n", b"a" + b"\r\n" * 3, b"a" + b"\r" * 10 + b"\n", id="more than 8 CR"),
    pytest.param(b"a\r\r\rb\r\n.\r\n", b"a\r\n\r\n\r\nb\r\n", b"a\r\r\rb\r\n", id="several CR without LF"),
    pytest.param(b"a\n.b\r\nc\r.d\r\n.\r\n", b"a\r\n.b\r\nc\r\n.d\r\n", b"a\n.b\r\nc\r.d\r\n", id="R5321-4.5.2-04"),
]


def outcome(book: ServerPlaybook) -> bytes | int:
    """Return the body, or the code of its refusal."""
    ends = [event for event in book.events if isinstance(event, DataEnd | InvalidData)]
    assert len(ends) == 1
    end = ends[0]
    if isinstance(end, InvalidData):
        assert book.codes[0] == end.reply.code
        return end.reply.code

    assert book.codes[0] == 250
    return body(book.events)


def outcomes(wire: bytes, mode: BareNewlines, form: Bodies) -> set[bytes | int]:
    """Return the outcomes of `wire` after 354: whole, byte by byte, cut at each place, and followed by a command."""
    start = partial(server, DATA, bare_newlines=mode, bodies=form)
    books = [start().send(wire), *(start(cut=False).send(wire[:at], wire[at:]) for at in range(1, len(wire)))]
    for book in books:
        assert book.state is State.READY
        assert book.connection.trailing_data == b""

    followed = start().send(wire + b"RSET\r\n")
    assert followed.events[-1] == Rset()
    assert len(followed.codes) == 2
    return {outcome(book) for book in (*books, followed)}


@forms
@modes
@pytest.mark.parametrize(("wire", "expected"), CLEAN)
def test_crlf_dot_crlf_ends_a_body_and_other_dots_are_unstuffed(
    wire: bytes, expected: bytes, mode: BareNewlines, form: Bodies
) -> None:
    assert outcomes(wire, mode, form) == {expected}


@forms
@pytest.mark.parametrize(("fake", "normalized", "accepted"), FAKE_ENDS, ids=octets_id)
def test_fake_end_marker_does_not_end_a_body(fake: bytes, normalized: bytes, accepted: bytes, form: Bodies) -> None:
    """R5321-4.1.1.4-09"""
    wire = b"a" + fake + b"QUIT\r\n.\r\n"

    assert outcomes(wire, REJECT, form) == {550}
    assert outcomes(wire, NORMALIZE, form) == {b"a" + normalized + b"QUIT\r\n"}
    assert outcomes(wire, ACCEPT, form) == {b"a" + accepted + b"QUIT\r\n"}


@forms
@modes
@pytest.mark.parametrize("fake", [fake for fake, _, _ in FAKE_ENDS], ids=octets_id)
def test_body_continues_after_a_fake_end_marker(fake: bytes, mode: BareNewlines, form: Bodies) -> None:
    book = server(DATA, bare_newlines=mode, bodies=form).send(b"a" + fake + b"b")

    assert not any(isinstance(event, DataEnd | InvalidData) for event in book.events)
    assert book.output == b""
    assert book.state is State.DATA


@forms
@pytest.mark.parametrize(("wire", "normalized", "accepted"), EDGES)
def test_bare_newline_is_rejected_normalized_or_accepted(
    wire: bytes, normalized: bytes, accepted: bytes, form: Bodies
) -> None:
    assert outcomes(wire, REJECT, form) == {550}
    assert outcomes(wire, NORMALIZE, form) == {normalized}
    assert outcomes(wire, ACCEPT, form) == {accepted}


@pytest.mark.parametrize(("form", "expected"), [(Bodies.LINES, b"a\r\n.\r\n"), (Bodies.CHUNKS, b"a\r\n.\r\nb")])
def test_only_the_body_before_a_bare_newline_is_returned(form: Bodies, expected: bytes) -> None:
    events = server(DATA, bodies=form).send(b"a\r\n..\r\nb\nc\r\n.\r\n").events

    assert body(events) == expected
    assert isinstance(events[-1], InvalidData)


def test_body_with_a_bare_newline_gets_a_negative_reply() -> None:
    server(DATA).send(b"a\nb\r\n.\r\n").expect(str(rules.BODY_BARE_NEWLINE.reply))
    server(DATA, answer=answer_with(InvalidData, Reply(451))).send(b"a\nb\r\n.\r\n").expect(451)


# Bare newlines in commands

# Each row has octets with a bare newline, the codes of the replies with NORMALIZE and ACCEPT, and the number of octets
# after which REJECT sends its first reply. In each mode the number of replies is the same, because each LF ends a line.
# With REJECT, a line that ends in a bare LF gets a 500, and a line that ends in CR LF gets the same reply as in other
# modes.
COMMANDS = [
    pytest.param(b"NOOP\nRSET\r\n", [250, 250], 5, id="R5321-2.3.8-01: LF"),
    pytest.param(b"NOOP\rRSET\r\n", [500], 6, id="CR"),
    pytest.param(b"NOOP\n\r\n", [250, 500], 5, id="LF CR LF"),
    pytest.param(b"NOOP\r\r\n", [500], 6, id="CR CR LF"),
    pytest.param(b"NOOP x\r\r\n", [501], 8, id="an argument CR CR LF"),
    pytest.param(b"NOOP\n\n\n\r\n", [250, 500, 500, 500], 5, id="several LF"),
    pytest.param(b"\nNOOP\r\n", [500, 250], 1, id="LF first"),
    pytest.param(b"\rNOOP\r\n", [500], 2, id="CR first"),
    pytest.param(b"\n\r\n", [500, 500], 1, id="LF alone"),
    pytest.param(b"\r\r\n", [500], 2, id="CR alone"),
    pytest.param(b"NO\nOP\rQUIT\n\r\r\n", [500, 500, 500], 3, id="several bare newlines"),
    pytest.param(b"VRFY a\rQUIT\r\n", [501], 8, id="CR before QUIT"),
    pytest.param(b"RSET\nVRFY x\nQUIT\r\n", [250, 252, 221], 5, id="a whole session with LF"),
]


@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_line_that_ends_in_a_bare_lf_is_rejected_with_one_reply(line: bytes, tolerant: list[int], needed: int) -> None:
    lines = line.split(b"\n")[:-1]
    last = 500 if b"\r" in lines[-1][:-1] else tolerant[-1]
    book = server(READY).send(line)

    assert book.codes == [*[500] * (len(lines) - 1), last]
    assert book.replies[:-1] == [str(rules.BARE_NEWLINE.reply)] * (len(lines) - 1)
    if last != 221:
        assert server(READY).send(line + b"RSET\r\n").events[-1] == Rset()


@pytest.mark.parametrize("mode", [NORMALIZE, ACCEPT])
@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_tolerant_modes_let_a_bare_lf_end_a_command_but_never_a_bare_cr(
    line: bytes, tolerant: list[int], needed: int, mode: BareNewlines
) -> None:
    assert server(READY, bare_newlines=mode).send(line).codes == tolerant


@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_bare_newline_is_answered_as_soon_as_it_is_certain(line: bytes, tolerant: list[int], needed: int) -> None:
    book = server(READY).send(*bytewise(line[: needed - 1])).expect()

    book.send(line[needed - 1 : needed]).expect(InvalidCommand, "500 5.5.2 ...")

    book.send(*bytewise(line[needed:])).send(b"QUIT\r\n")
    assert book.events[-2:] == [Quit(), ConnectionClosed()]


def test_invalid_command_keeps_the_line_before_the_bare_newline() -> None:
    event = server(READY).send(b"MAIL FROM:<a@c.example>\nRCPT TO:<u@s.example>\nDATA\nx\n.\n").events[0]

    assert isinstance(event, InvalidCommand)
    assert event.line == b"MAIL FROM:<a@c.example>"


def test_bare_lf_after_data_starts_no_body() -> None:
    book = server(RCPT).send(b"DATA\n").expect(InvalidCommand)

    assert book.state is State.RCPT


@pytest.mark.parametrize("mode", [NORMALIZE, ACCEPT])
def test_tolerant_modes_let_a_bare_lf_end_data_but_not_the_body(mode: BareNewlines) -> None:
    book = server(RCPT, bare_newlines=mode).send(b"DATA\nx\n.\nRSET\n.\n")

    assert book.events[0] == Data()
    assert book.expect(354).state is State.DATA


def test_replies_contain_no_bare_newline() -> None:
    """R5321-2.3.8-02"""
    book = server().send(DATA, b"x\r\n.\r\n", b"HELP\r\nVRFY\r\nBAD\nQUIT\r\nQUIT\r\n")

    assert book.output.count(b"\r") == book.output.count(b"\n") == book.output.count(b"\r\n") == 19


@forms
def test_equal_counts_of_cr_and_lf_do_not_hide_bare_newlines(form: Bodies) -> None:
    for wire in (b"a\r\n.\r\r\n\nb\r\n.\r\n", b"\r\r\n\n\r\n.\r\n", b"\n\r\n\r\r\n.\r\n"):
        assert outcomes(wire, REJECT, form) == {550}
