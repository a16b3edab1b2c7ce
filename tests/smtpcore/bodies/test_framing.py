from collections.abc import Iterable
from typing import Any

import pytest

from smtpcore import BareNewlines, Bodies, Config
from smtpcore._bodies._checks import BodyCheck
from smtpcore._bodies._framing import DotFraming
from smtpcore._bodies._incoming import Body
from smtpcore._buffer import ReceiveBuffer

from ...helpers import bytewise

MAX_LINE = 1000
MAX_SIZE = 65_536
LINE = b"x" * (MAX_LINE - 2) + b"\r\n"
MESSAGE = (b"y" * 62 + b"\r\n") * (MAX_SIZE // 64)
ROOM_FOR_A_LINE = MESSAGE[-(MAX_SIZE - MAX_LINE) :]

forms = pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)


def unframe(segments: Iterable[bytes]) -> tuple[bytes, bytes, bool]:
    """Return the body in `segments`, the octets after it, and whether the body has ended."""
    framing = DotFraming()
    buffer = ReceiveBuffer()
    runs = []
    for segment in segments:
        buffer.append(segment)
        while not framing.ended and (run := framing.take(buffer)):
            runs.append(run)
    return b"".join(runs), bytes(buffer), framing.ended


@pytest.mark.parametrize(
    ("wire", "expected", "rest", "ended"),
    [
        (b"", b"", b"", False),
        (b".", b"", b".", False),
        (b".\r", b"", b".\r", False),
        (b".\r\n", b"", b"", True),
        (b".\r\n.\r\n", b"", b".\r\n", True),
        (b"..", b".", b"", False),
        (b".\rx", b"\rx", b"", False),
        (b"a\r", b"a", b"\r", False),
        (b"a\r\n", b"a", b"\r\n", False),
        (b"a\r\n.", b"a", b"\r\n.", False),
        (b"a\r\n.\r", b"a", b"\r\n.\r", False),
        (b"a\r\n.\r\n", b"a\r\n", b"", True),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n", True),
        (b"a\r\n.b", b"a\r\nb", b"", False),
        (b"a\r\r", b"a\r", b"\r", False),
        (b"a\r\r\n.\r\n", b"a\r\r\n", b"", True),
        (b"\r\n.\r\n", b"\r\n", b"", True),
        (b"..\r\n.\r\n", b".\r\n", b"", True),
    ],
)
def test_only_octets_that_may_start_the_end_marker_are_held_back(
    wire: bytes, expected: bytes, rest: bytes, ended: bool
) -> None:
    """R5321-4.1.1.4-05, R5321-4.5.2-05"""
    assert unframe([wire]) == (expected, rest, ended)
    for at in range(1, len(wire)):
        assert unframe([wire[:at], wire[at:]]) == (expected, rest, ended)

    assert b"".join(unframe(bytewise(wire))[:2]) == expected + rest


def checked(runs: Iterable[bytes], **limits: Any) -> tuple[bytes, int | None]:
    check = BodyCheck(Config(hostname="s.example", **limits))
    passed = b"".join([check.pass_on(run) for run in runs])
    return passed, check.fault.reply.code if check.fault else None


LINES = [
    pytest.param(LINE * 3, LINE * 3, None, id="R5321-4.5.3.1.6-01"),
    (b"\r\n" + LINE + b"\r\n", b"\r\n" + LINE + b"\r\n", None),
    (b"x" * MAX_LINE, b"x" * MAX_LINE, None),
    (b"a\r\n" * 300 + LINE, b"a\r\n" * 300 + LINE, None),
    (b"x" + LINE, b"x" * (MAX_LINE - 1) + b"\r", 554),
    (b"a\r\n" + b"x" * 3000, b"a\r\n" + b"x" * MAX_LINE, 554),
    (LINE + b"x" + LINE + b"\r\n", LINE + b"x" * (MAX_LINE - 1) + b"\r", 554),
]


@pytest.mark.parametrize(("wire", "expected", "fault"), LINES)
def test_body_line_over_the_limit_is_cut_at_the_limit(wire: bytes, expected: bytes, fault: int | None) -> None:
    """R5321-2.3.8-04"""
    for size in (len(wire), 1000, 999, 7, 3):
        passed, found = checked(runs_of(wire, size), max_text_line=MAX_LINE)
        assert found == fault
        assert passed == expected


def runs_of(wire: bytes, size: int) -> list[bytes]:
    """Cut `wire` into runs of about `size` octets; no run ends between CR and LF."""
    runs = []
    while wire:
        end = size + (wire[size - 1 : size + 1] == b"\r\n")
        runs.append(wire[:end])
        wire = wire[end:]
    return runs


@pytest.mark.parametrize(
    ("wire", "expected", "fault"),
    [
        pytest.param(MESSAGE, MESSAGE, None, id="R5321-4.5.3.1.7-01"),
        pytest.param(MESSAGE + b"x", MESSAGE, 552, id="R1870-4-01"),
        pytest.param(MESSAGE * 2, MESSAGE, 552, id="twice the size"),
    ],
)
@pytest.mark.parametrize("size", [64, 999, 1_000_000])
def test_body_over_the_size_limit_is_cut_at_the_limit(
    wire: bytes, expected: bytes, fault: int | None, size: int
) -> None:
    assert checked(runs_of(wire, size), max_message_size=MAX_SIZE) == (expected, fault)


def test_body_size_can_be_unlimited() -> None:
    assert checked([MESSAGE] * 900, max_message_size=None) == (MESSAGE * 900, None)


@pytest.mark.parametrize(
    ("wire", "expected", "fault"),
    [
        pytest.param(b"a\nb" + b"x" * 1000, b"a", 550, id="a newline before a long line"),
        pytest.param(b"x" * 1000 + b"y\n", b"x" * 1000, 554, id="a long line before a newline"),
        pytest.param(b"x" * 1000 + b"\ny", b"x" * 1000, 550, id="both at the same octet"),
        pytest.param(MESSAGE + b"a\n" + b"x" * 1000, MESSAGE, 552, id="the size before both"),
        pytest.param(MESSAGE + b"\n", MESSAGE, 550, id="size and newline at the same octet"),
        pytest.param(
            ROOM_FOR_A_LINE + b"x" * 1001,
            ROOM_FOR_A_LINE + b"x" * 1000,
            554,
            id="size and line length at the same octet",
        ),
    ],
)
def test_earliest_fault_wins_for_any_segmentation(wire: bytes, expected: bytes, fault: int) -> None:
    for size in (len(wire), 1000, 64, 3, 1):
        assert checked(runs_of(wire, size), max_text_line=1000, max_message_size=MAX_SIZE) == (expected, fault)


def test_no_octet_is_passed_on_after_a_fault() -> None:
    assert checked([b"a\n", b"b\r\n", b"\n"]) == (b"a", 550)


@pytest.mark.parametrize("limits", [{"max_text_line": 1000}, {"max_message_size": MAX_SIZE}])
def test_limits_count_the_normalized_octets(limits: dict[str, int]) -> None:
    wire = b"\n" * MAX_SIZE
    passed, fault = checked([wire], bare_newlines=BareNewlines.NORMALIZE, **limits)

    assert passed == (b"\r\n" * MAX_SIZE)[: limits.get("max_message_size")]
    assert fault == (552 if "max_message_size" in limits else None)


# Framing, checks and line splitting together


def taken(form: Bodies, segments: Iterable[bytes], **changes: Any) -> tuple[list[bytes], int | None]:
    body = Body(Config(hostname="s.example", bodies=form, **changes))
    buffer = ReceiveBuffer()
    parts = []
    for segment in segments:
        buffer.append(segment)
        while taken := body.take(buffer):
            parts += taken

    assert body.ended
    assert body.take(buffer) == []
    assert len(buffer) == 0
    return parts, body.fault.reply.code if body.fault else None


def test_body_is_returned_as_lines() -> None:
    wire = b"a\r\n\r\n..b\r\n.\r\n"

    assert taken(Bodies.LINES, [wire]) == ([b"a\r\n", b"\r\n", b".b\r\n"], None)
    assert taken(Bodies.LINES, bytewise(wire)) == taken(Bodies.LINES, [wire])


def test_body_is_returned_in_runs_as_long_as_the_input() -> None:
    wire = b"a\r\n\r\n..b\r\n.\r\n"

    assert taken(Bodies.CHUNKS, [wire]) == ([b"a\r\n\r\n.b\r\n"], None)
    assert taken(Bodies.CHUNKS, [wire[:4], wire[4:]]) == ([b"a\r\n", b"\r\n.b\r\n"], None)


@forms
def test_empty_body_returns_no_parts(form: Bodies) -> None:
    assert taken(form, [b".\r\n"]) == ([], None)
    assert taken(form, bytewise(b".\r\n")) == ([], None)


def test_only_complete_lines_before_a_fault_are_returned() -> None:
    wire = b"a\r\nb\nc\r\nd\r\n.\r\n"

    for segments in ([wire], bytewise(wire)):
        assert taken(Bodies.LINES, segments) == ([b"a\r\n"], 550)


@forms
def test_refused_body_is_read_to_its_end(form: Bodies) -> None:
    wire = b"\n" + MESSAGE * 3 + b".\r\n"

    assert taken(form, [wire]) == ([], 550)
    assert taken(form, bytewise(wire[:500] + wire[-5:])) == ([], 550)


@forms
def test_size_excludes_stuffed_dots_and_the_end_marker(form: Bodies) -> None:
    """R1870-5-01"""
    line = b"." * 62 + b"\r\n"
    wire = (b"." + line) * (MAX_SIZE // len(line))

    parts, fault = taken(form, [wire + b".\r\n"], max_message_size=MAX_SIZE)
    assert len(b"".join(parts)) == MAX_SIZE
    assert fault is None
    assert taken(form, [wire + b"\r\n.\r\n"], max_message_size=MAX_SIZE)[1] == 552


@forms
def test_stuffed_dot_does_not_count_in_the_line_length(form: Bodies) -> None:
    line = b"." + LINE[1:]

    assert taken(form, [b"." + line + b"." + line + b".\r\n"], max_text_line=1000) in (
        ([line, line], None),
        ([line + line], None),
    )
