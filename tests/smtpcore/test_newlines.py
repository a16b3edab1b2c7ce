"""What bare CR and LF do, and what ends a message: one table."""

import pytest

from smtpcore import BareNewlines, Bodies, Data, DataEnd, Event, InvalidCommand, InvalidData, Quit, Reply, Rset, State

from ..helpers import DATA, RCPT, READY, answering, body, bytewise, codes, connect, drive, heard, named, texts

REJECT, NORMALIZE, ACCEPT = BareNewlines.REJECT, BareNewlines.NORMALIZE, BareNewlines.ACCEPT

modes = pytest.mark.parametrize("mode", BareNewlines, ids=lambda mode: mode.name)
forms = pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)

# What stands between two lines of a message and looks like the end of it. Behind it the client sends QUIT, which is
# text and not a command. Then follows what NORMALIZE and what ACCEPT make of it; REJECT refuses the message.
FAKE_ENDS = [
    (b"\n.\n", b"\r\n.\r\n", b"\n.\n"),
    (b"\r\n.\n", b"\r\n\r\n", b"\r\n\n"),
    (b"\n.\r\n", b"\r\n.\r\n", b"\n.\r\n"),
    (b"\r.\r", b"\r\n.\r\n", b"\r.\r"),
    (b"\r\n.\r", b"\r\n\r\n", b"\r\n\r"),
    (b"\r.\r\n", b"\r\n.\r\n", b"\r.\r\n"),
    (b"\r.\n", b"\r\n.\r\n", b"\r.\n"),
    (b"\n.\r", b"\r\n.\r\n", b"\n.\r"),
    (b"\r\r\n.\r\r\n", b"\r\n\r\n\r\n\r\n", b"\r\r\n\r\r\n"),
    (b"\r\n.\r\r\n", b"\r\n\r\n\r\n", b"\r\n\r\r\n"),
    (b"\n\r.\r\n", b"\r\n\r\n.\r\n", b"\n\r.\r\n"),
    (b"\r\n.\n\r", b"\r\n\r\n\r\n", b"\r\n\n\r"),
    (b"\r\n\r.\r\n", b"\r\n\r\n.\r\n", b"\r\n\r.\r\n"),
    (b"\r\n\n.\r\n", b"\r\n\r\n.\r\n", b"\r\n\n.\r\n"),
    (b"\r\x00\n.\r\n", b"\r\n\x00\r\n.\r\n", b"\r\x00\n.\r\n"),
    (b"\r\n.\r\x00\n", b"\r\n\r\n\x00\r\n", b"\r\n\r\x00\n"),
    (b"\r\n.\x00\n", b"\r\n\x00\r\n", b"\r\n\x00\n"),
]

# What is sent behind 354 with no bare newline in it, and the body that it means in every mode.
CLEAN = [
    pytest.param(b".\r\n", b"", id="R5321-4.1.1.4-04: a dot at once"),
    pytest.param(b"x\r\n.\r\n", b"x\r\n", id="R5321-4.1.1.4-03: its CRLF belongs to the last line"),
    pytest.param(b"a\r\n.\r\n", b"a\r\n", id="R5321-4.5.2-02"),
    pytest.param(b"\r\n.\r\n", b"\r\n", id="an empty line"),
    pytest.param(b"\r\n\r\n.\r\n", b"\r\n\r\n", id="two empty lines"),
    pytest.param(b"..\r\n.\r\n", b".\r\n", id="a stuffed dot first"),
    pytest.param(b".a\r\n.\r\n", b"a\r\n", id="a dot with more behind it"),
    pytest.param(b"..\r\n.a\r\n...b\r\n.\r\n", b".\r\na\r\n..b\r\n", id="R5321-4.5.2-03"),
    pytest.param(b"x\r\n..y\r\n.\r\n", b"x\r\n.y\r\n", id="R5321-4.5.2-05"),
    pytest.param(b"x\r\n..\r\n..\r\n.\r\n", b"x\r\n.\r\n.\r\n", id="stuffed dots in a row"),
    pytest.param(b"\xff\r\n..\xe9\r\n.\r\n", b"\xff\r\n.\xe9\r\n", id="R6152-3-03"),
    pytest.param(b"x.\r\n.\r\n", b"x.\r\n", id="a dot at the end of a line"),
    pytest.param(b" .\r\n. \r\n.\r\n", b" .\r\n \r\n", id="a dot beside a space"),
    pytest.param(b"\x00\r\n\x00.\r\n.\x00\r\n.\r\n", b"\x00\r\n\x00.\r\n\x00\r\n", id="NUL ends nothing"),
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

# What is sent behind 354 with a bare newline at the edge of something, and what NORMALIZE and ACCEPT make of it.
EDGES = [
    pytest.param(b".\rY\r\n.\r\n", b"\r\nY\r\n", b"\rY\r\n", id="CR behind the first dot"),
    pytest.param(b".\n\r\n.\r\n", b"\r\n\r\n", b"\n\r\n", id="LF behind the first dot"),
    pytest.param(b".\r\r\n.\r\n", b"\r\n\r\n", b"\r\r\n", id="CR CR LF behind the first dot"),
    pytest.param(b"\n.\r\n.\r\n", b"\r\n.\r\n", b"\n.\r\n", id="LF before the first dot"),
    pytest.param(b"\r.\r\n.\r\n", b"\r\n.\r\n", b"\r.\r\n", id="CR before the first dot"),
    pytest.param(b"\r\r\n.\r\n", b"\r\n\r\n", b"\r\r\n", id="CR first"),
    pytest.param(
        b"a\nb\r\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\nb\r\nc\r\n", id="R5321-4.1.1.4-08: LF in the first line"
    ),
    pytest.param(b"a\rb\r\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\rb\r\nc\r\n", id="CR in the first line"),
    pytest.param(b"a\r\nb\nc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\r\nb\nc\r\n", id="LF in the last line"),
    pytest.param(b"a\r\nb\rc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b"a\r\nb\rc\r\n", id="CR in the last line"),
    pytest.param(b"a\r\r\n.\r\n", b"a\r\n\r\n", b"a\r\r\n", id="CR just before the end"),
    pytest.param(b"a\n\r\n.\r\n", b"a\r\n\r\n", b"a\n\r\n", id="LF just before the end"),
    pytest.param(b"a\r\r\r\r\n.\r\n", b"a" + 4 * b"\r\n", b"a\r\r\r\r\n", id="several CR"),
    pytest.param(b"a\n.b\r\nc\r.d\r\n.\r\n", b"a\r\n.b\r\nc\r\n.d\r\n", b"a\n.b\r\nc\r.d\r\n", id="R5321-4.5.2-04"),
]


def outcome(events: list[Event], output: bytes) -> bytes | int:
    """The body, or the code that refuses it."""
    ends = [event for event in events if isinstance(event, DataEnd | InvalidData)]
    assert len(ends) == 1
    end = ends[0]
    if isinstance(end, InvalidData):
        assert output.startswith(b"%d " % end.reply.code)
        return end.reply.code

    assert output.startswith(b"250 ")
    return body(events)


def outcomes(wire: bytes, mode: BareNewlines, form: Bodies) -> set[bytes | int]:
    """What is made of `wire` behind 354: whole, byte by byte, cut at each place, and with something behind it."""
    found = set()
    cuts = [[wire[:at], wire[at:]] for at in range(1, len(wire))]
    for segments in ([wire], bytewise(wire), *cuts):
        conn = connect(DATA, bare_newlines=mode, bodies=form)
        found.add(outcome(*drive(conn, segments)))
        assert conn.state is State.READY
        assert conn.trailing_data == b""

    for behind in ([wire + b"RSET\r\n"], bytewise(wire + b"RSET\r\n")):
        conn = connect(DATA, bare_newlines=mode, bodies=form)
        events, output = drive(conn, behind)
        assert events.pop() == Rset()
        assert output.count(b"\r\n") == 2
        found.add(outcome(events, output))
    return found


@forms
@modes
@pytest.mark.parametrize(("wire", "meant"), CLEAN)
def test_CRLF_dot_CRLF_ends_a_body_and_other_dots_are_unstuffed(
    wire: bytes, meant: bytes, mode: BareNewlines, form: Bodies
) -> None:
    assert outcomes(wire, mode, form) == {meant}


@forms
@pytest.mark.parametrize(("fake", "normalized", "accepted"), FAKE_ENDS, ids=named)
def test_nothing_else_ends_a_body(fake: bytes, normalized: bytes, accepted: bytes, form: Bodies) -> None:
    """R5321-4.1.1.4-09"""
    wire = b"a" + fake + b"QUIT\r\n.\r\n"

    assert outcomes(wire, REJECT, form) == {550}
    assert outcomes(wire, NORMALIZE, form) == {b"a" + normalized + b"QUIT\r\n"}
    assert outcomes(wire, ACCEPT, form) == {b"a" + accepted + b"QUIT\r\n"}


@forms
@modes
@pytest.mark.parametrize("fake", [fake for fake, _, _ in FAKE_ENDS], ids=named)
def test_behind_what_is_no_end_the_body_goes_on(fake: bytes, mode: BareNewlines, form: Bodies) -> None:
    conn = connect(DATA, bare_newlines=mode, bodies=form)

    events, output = drive(conn, bytewise(b"a" + fake + b"b"))

    assert not any(isinstance(event, DataEnd | InvalidData) for event in events)
    assert output == b""
    assert conn.state is State.DATA


@forms
@pytest.mark.parametrize(("wire", "normalized", "accepted"), EDGES)
def test_a_bare_newline_refuses_the_body_or_is_normalized_or_passes(
    wire: bytes, normalized: bytes, accepted: bytes, form: Bodies
) -> None:
    assert outcomes(wire, REJECT, form) == {550}
    assert outcomes(wire, NORMALIZE, form) == {normalized}
    assert outcomes(wire, ACCEPT, form) == {accepted}


@pytest.mark.parametrize(("form", "meant"), [(Bodies.LINES, b"a\r\n.\r\n"), (Bodies.CHUNKS, b"a\r\n.\r\nb")])
def test_what_precedes_a_bare_newline_is_handed_out_and_nothing_else(form: Bodies, meant: bytes) -> None:
    events = heard(DATA, b"a\r\n..\r\nb\nc\r\n.\r\n", bodies=form)

    assert body(events) == meant
    assert isinstance(events[-1], InvalidData)


def test_a_body_refused_for_a_bare_newline_can_have_no_positive_reply() -> None:
    assert texts(DATA, b"a\nb\r\n.\r\n") == [
        "550 5.6.0 A line of the message ends in a bare CR or LF instead of CR LF",
    ]
    assert codes(DATA, b"a\nb\r\n.\r\n", answer=answering(InvalidData, Reply(451))) == [451]


# Among commands

# A line with a bare newline, what NORMALIZE and ACCEPT answer to it, and how much of it has to be there for REJECT to
# answer it.
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
    pytest.param(b"NO\nOP\rQUIT\n\r\r\n", [500, 500, 500], 3, id="many"),
    pytest.param(b"VRFY a\rQUIT\r\n", [501], 8, id="CR before QUIT"),
    pytest.param(b"RSET\nVRFY x\nQUIT\r\n", [250, 252, 221], 5, id="a whole session with LF"),
]


@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_a_bare_newline_among_commands_costs_everything_up_to_the_next_CRLF(
    line: bytes, tolerant: list[int], needed: int
) -> None:
    assert codes(READY, line) == [500]
    [answer] = texts(READY, line)
    assert answer.startswith("500 5.5.2 ")
    assert "CR LF" in answer
    assert heard(READY, line + b"RSET\r\n")[1:] == [Rset()]


@pytest.mark.parametrize("mode", [NORMALIZE, ACCEPT])
@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_a_bare_LF_ends_a_command_where_it_is_permitted_and_a_bare_CR_never_does(
    line: bytes, tolerant: list[int], needed: int, mode: BareNewlines
) -> None:
    assert codes(READY, line, bare_newlines=mode) == tolerant


@pytest.mark.parametrize(("line", "tolerant", "needed"), COMMANDS)
def test_a_bare_newline_is_answered_as_soon_as_it_is_proven(line: bytes, tolerant: list[int], needed: int) -> None:
    conn = connect(READY)

    assert drive(conn, bytewise(line[: needed - 1])) == ([], b"")

    events, output = drive(conn, [line[needed - 1 : needed]])
    assert [event.reply.code for event in events if isinstance(event, InvalidCommand)] == [500]
    assert output.startswith(b"500 5.5.2 ")

    assert drive(conn, bytewise(line[needed:])) == ([], b"")
    assert drive(conn, [b"QUIT\r\n"])[0][0] == Quit()


def test_what_stands_before_a_bare_newline_is_reported() -> None:
    [event] = heard(READY, b"MAIL FROM:<a@c.example>\nRCPT TO:<u@s.example>\nDATA\nx\n.\nQUIT\r\n")

    assert isinstance(event, InvalidCommand)
    assert event.line == b"MAIL FROM:<a@c.example>"


def test_a_bare_LF_behind_DATA_starts_no_body() -> None:
    conn = connect(RCPT)

    events, _ = drive(conn, [b"DATA\nx\r\n"])

    assert not any(isinstance(event, Data) for event in events)
    assert conn.state is State.RCPT


@pytest.mark.parametrize("mode", [NORMALIZE, ACCEPT])
def test_a_bare_LF_may_end_DATA_and_yet_ends_no_body(mode: BareNewlines) -> None:
    conn = connect(RCPT, bare_newlines=mode)

    events, output = drive(conn, [b"DATA\nx\n.\nRSET\n.\n"])

    assert events[0] == Data()
    assert output.startswith(b"354 ")
    assert output.count(b"\n") == 1
    assert conn.state is State.DATA


def test_no_reply_has_a_bare_newline() -> None:
    """R5321-2.3.8-02"""
    _, output = drive(connect(), [DATA, b"x\r\n.\r\n", b"HELP\r\nVRFY\r\nBAD\nQUIT\r\nQUIT\r\n"])

    assert output.count(b"\r") == output.count(b"\n") == output.count(b"\r\n") == 19


@forms
def test_as_many_CRs_as_LFs_are_no_line_ends_if_one_of_each_is_bare(form: Bodies) -> None:
    for wire in (b"a\r\n.\r\r\n\nb\r\n.\r\n", b"\r\r\n\n\r\n.\r\n", b"\n\r\n\r\r\n.\r\n"):
        assert outcomes(wire, REJECT, form) == {550}
