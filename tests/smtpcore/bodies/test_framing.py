"""The framings of a body: DATA with dot-stuffing, BDAT chunks, and parts for BURL."""

from collections.abc import Iterable

import pytest

from smtpcore._bodies._framing import ChunkFraming, DotFraming
from smtpcore._buffer import ReceiveBuffer

from ...helpers import bytewise


def buffer_of(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.octets += data
    return buffer


def unframe(segments: Iterable[bytes]) -> tuple[bytes, bytes, bool]:
    """Return the body in `segments`, the octets after it, and whether the body has ended."""
    framing = DotFraming()
    buffer = ReceiveBuffer()
    runs = []
    for segment in segments:
        buffer.octets += segment
        while not framing.ended and (run := framing.take(buffer)):
            runs.append(run)
    return b"".join(runs), bytes(buffer.octets), framing.ended


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


@pytest.mark.parametrize(
    ("data", "is_paired"),
    [
        (b"a\r\nb\r\nc", True),
        (b"a\r\n.\r\n", True),
        (b"\r\n.b\r\nc", True),
        (b"a\rb", False),
        (b"a\r\n.b\rc", False),
        (b"a\r\n..b\r\n.\r\n", True),
    ],
)
def test_framing_reports_paired_line_ends_only_if_no_cr_is_bare(data: bytes, is_paired: bool) -> None:
    framing = DotFraming()
    framing.take(buffer_of(data))

    assert framing.is_paired is is_paired


def test_chunk_framing_takes_exactly_the_octets_of_the_chunk() -> None:
    framing = ChunkFraming(5)
    buffer = buffer_of(b".\r\n")
    assert (framing.take(buffer), framing.ended) == (b".\r\n", False)
    assert framing.take(buffer) == b""

    buffer.octets += b".\rQUIT"
    assert (framing.take(buffer), framing.ended) == (b".\r", True)
    assert framing.take(buffer) == b""
    assert bytes(buffer.octets) == b"QUIT"


def test_empty_chunk_has_ended_from_the_start() -> None:
    assert ChunkFraming(0).ended


def test_chunk_of_unknown_size_takes_all_octets_until_its_end_is_known() -> None:
    framing = ChunkFraming(None)
    buffer = buffer_of(b"a\r\n.\r\n")
    assert (framing.take(buffer), framing.ended) == (b"a\r\n.\r\n", False)

    framing.left = 1
    buffer.octets += b"b"
    assert (framing.take(buffer), framing.ended) == (b"b", True)
