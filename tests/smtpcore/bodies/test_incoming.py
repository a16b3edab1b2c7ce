"""An incoming body: framing, checks and line splitting together."""

from collections.abc import Iterable
from typing import Any

import pytest

from smtpcore import Bodies, Config
from smtpcore._bodies._incoming import Body
from smtpcore._buffer import ReceiveBuffer

from ...helpers import bytewise

MAX_SIZE = 65_536
LINE = b"x" * 998 + b"\r\n"
MESSAGE = (b"y" * 62 + b"\r\n") * (MAX_SIZE // 64)

forms = pytest.mark.parametrize("form", Bodies, ids=lambda form: form.name)


def taken(form: Bodies, segments: Iterable[bytes], **changes: Any) -> tuple[list[bytes], int | None]:
    body = Body(Config(hostname="s.example", bodies=form, **changes))
    buffer = ReceiveBuffer()
    parts = []
    for segment in segments:
        buffer.octets += segment
        while taken := body.take(buffer):
            parts += taken

    assert body.ended
    assert body.take(buffer) == []
    assert len(buffer.octets) == 0
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


def take(body: Body, data: bytes) -> list[bytes]:
    """Return all pieces of `body` after `data` has arrived."""
    buffer = ReceiveBuffer()
    buffer.octets += data
    pieces = []
    while taken := body.take(buffer):
        pieces += taken
    return pieces


def test_chunks_continue_one_body() -> None:
    body = Body(Config(hostname="s.example"))
    body.begin_chunk(4, last=False)
    assert (take(body, b"a\r\nb"), body.ended) == ([b"a\r\n"], True)

    body.begin_chunk(2, last=True)
    assert not body.ended
    assert (take(body, b"cd"), body.ended) == ([b"bcd"], True)


def test_part_for_burl_ends_when_the_caller_ends_it() -> None:
    body = Body(Config(hostname="s.example", bodies=Bodies.CHUNKS))
    wanted = [body.takes_part]
    body.begin_chunk(None, last=True)
    wanted.append(body.takes_part)
    assert (take(body, b"a\r\n"), body.ended) == ([b"a\r\n"], False)
    body.end_part(0)
    wanted.append(body.takes_part)

    assert wanted == [False, True, False]
    assert (take(body, b""), body.ended) == ([], True)
