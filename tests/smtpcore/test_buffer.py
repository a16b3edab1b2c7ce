import re

import pytest

from smtpcore._buffer import LineError, LineFault, ReceiveBuffer

TOO_LONG, BARE_NEWLINE = LineFault.TOO_LONG, LineFault.BARE_NEWLINE

Taken = bytes | tuple[bytes, LineFault]


def buffered(data: bytes) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    buffer.octets += data
    return buffer


def take_all(buffer: ReceiveBuffer, limit: int, *, bare_lf: bool = False) -> list[Taken]:
    taken: list[Taken] = []
    while True:
        try:
            line = buffer.take_line(limit, bare_lf=bare_lf)
        except LineError as exc:
            taken.append((exc.line, exc.fault))
            continue
        if line is None:
            return taken
        taken.append(line)


def take_bytewise(data: bytes, limit: int, *, bare_lf: bool = False) -> tuple[list[Taken], bytes]:
    buffer = ReceiveBuffer()
    taken = []
    for at in range(len(data)):
        buffer.octets += data[at : at + 1]
        taken += take_all(buffer, limit, bare_lf=bare_lf)
    return taken, bytes(buffer.octets)


@pytest.mark.parametrize(
    ("data", "strict", "tolerant", "rest"),
    [
        (b"", [], [], b""),
        (b"a", [], [], b"a"),
        (b"a\r", [], [], b"a\r"),
        (b"a\r\n", [b"a"], [b"a"], b""),
        (b"\r\n", [b""], [b""], b""),
        (b"a\r\nb\r\nc", [b"a", b"b"], [b"a", b"b"], b"c"),
        (b"a\nb\r\nc\r\n", [(b"a", BARE_NEWLINE), b"b", b"c"], [b"a", b"b", b"c"], b""),
        (b"a\rb\r\nc\r\n", [(b"a", BARE_NEWLINE), b"c"], [b"a\rb", b"c"], b""),
        (b"\ra\r\nc\r\n", [(b"", BARE_NEWLINE), b"c"], [b"\ra", b"c"], b""),
        (b"a\r\r\nc\r\n", [(b"a", BARE_NEWLINE), b"c"], [b"a\r", b"c"], b""),
        (b"\nb\r\nc\r\n", [(b"", BARE_NEWLINE), b"b", b"c"], [b"", b"b", b"c"], b""),
        (b"\n\r\nc\r\n", [(b"", BARE_NEWLINE), b"", b"c"], [b"", b"", b"c"], b""),
        (b"1234567\n1\r\n", [(b"1234567", BARE_NEWLINE), b"1"], [b"1234567", b"1"], b""),
        (b"123456\r\n1\r\n", [b"123456", b"1"], [b"123456", b"1"], b""),
        (b"1234567\r\n1\r\n", [(b"1234567\r", TOO_LONG), b"1"], [(b"1234567\r", TOO_LONG), b"1"], b""),
        (b"1234567\rX\r\n1\r\n", [(b"1234567\r", TOO_LONG), b"1"], [(b"1234567\r", TOO_LONG), b"1"], b""),
        (b"12345678\n1\r\n", [(b"12345678", TOO_LONG), b"1"], [(b"12345678", TOO_LONG), b"1"], b""),
        (b"123456789012\r3\r\n1\r\n", [(b"12345678", TOO_LONG), b"1"], [(b"12345678", TOO_LONG), b"1"], b""),
        (b"123\r5678901\r\n1\r\n", [(b"123", BARE_NEWLINE), b"1"], [(b"123\r5678", TOO_LONG), b"1"], b""),
    ],
)
def test_take_line_gives_the_same_result_for_any_segmentation(
    data: bytes, strict: list[Taken], tolerant: list[Taken], rest: bytes
) -> None:
    for bare_lf, expected in ((False, strict), (True, tolerant)):
        buffer = buffered(data)
        assert take_all(buffer, 8, bare_lf=bare_lf) == expected
        assert bytes(buffer.octets) == rest
        assert take_bytewise(data, 8, bare_lf=bare_lf) == (expected, rest)


@pytest.mark.parametrize("bare_lf", [False, True])
def test_endless_line_does_not_grow_the_buffer(bare_lf: bool) -> None:
    buffer = ReceiveBuffer()
    taken = []
    for _ in range(1000):
        buffer.octets += b"x\r" * 50
        taken += take_all(buffer, 100, bare_lf=bare_lf)
        assert len(buffer.octets) <= 100

    assert len(taken) == 1
    buffer.octets += b"\nnext\r\n"
    assert buffer.take_line(100, bare_lf=bare_lf) == b"next"


@pytest.mark.parametrize("bare_lf", [False, True])
def test_line_is_too_long_as_soon_as_its_end_would_exceed_the_limit(bare_lf: bool) -> None:
    buffer = buffered(b"1234567")
    assert buffer.take_line(8, bare_lf=bare_lf) is None

    buffer.octets += b"8"
    with pytest.raises(LineError):
        buffer.take_line(8, bare_lf=bare_lf)


@pytest.mark.parametrize("bare_lf", [False, True])
def test_skipping_a_long_line_stops_at_the_next_lf(bare_lf: bool) -> None:
    buffer = buffered(b"too long\nb\r\n")
    with pytest.raises(LineError):
        buffer.take_line(8, bare_lf=bare_lf)

    assert buffer.take_line(8, bare_lf=bare_lf) == b"b"


def test_skipping_a_line_with_a_bare_cr_ends_after_a_cr_lf_in_two_segments() -> None:
    buffer = buffered(b"a\rb\r")
    with pytest.raises(LineError):
        buffer.take_line(8)

    assert buffer.take_line(8) is None
    assert bytes(buffer.octets) == b""
    buffer.octets += b"\nc\r\n"
    assert buffer.take_line(8) == b"c"


def test_buffer_reports_whether_a_bare_lf_ended_the_last_line() -> None:
    buffer = buffered(b"a\nb\r\n\n\r\n")

    ends = [(buffer.take_line(8, bare_lf=True), buffer.ended_bare) for _ in range(4)]
    assert ends == [(b"a", True), (b"b", False), (b"", True), (b"", False)]


def test_searched_octets_are_not_searched_again() -> None:
    buffer = buffered(b"abc")
    assert buffer.take_line(100) is None

    # The search position is internal, but has a visible effect here: a line end inserted before this position is not
    # found.
    buffer.octets[0:1] = b"\n"
    assert buffer.take_line(100) is None


def test_take_at_most_restarts_the_search() -> None:
    buffer = buffered(b"abcdef")
    assert buffer.take_line(100) is None
    assert buffer.take_at_most(4) == b"abcd"
    buffer.octets += b"\r\n\r\n"
    assert buffer.take_line(100) == b"ef"
    assert buffer.take_line(100) == b""

    buffer.octets += b"abc\r"
    assert buffer.take_line(100) is None
    assert buffer.take_at_most(3) == b"abc"
    buffer.octets += b"\n"
    assert buffer.take_line(100) == b""


@pytest.mark.parametrize(("size", "run", "rest"), [(0, b"", b"abc"), (2, b"ab", b"c"), (9, b"abc", b"")])
def test_take_at_most_respects_the_given_size(size: int, run: bytes, rest: bytes) -> None:
    buffer = buffered(b"abc")

    assert buffer.take_at_most(size) == run
    assert bytes(buffer.octets) == rest
    assert len(buffer.octets) == len(rest)


def test_search_returns_the_first_position_from_the_start_on() -> None:
    buffer = buffered(b"abcb")
    search = re.compile(b"[bx]").search

    assert (buffer.search(search), buffer.search(search, 2), buffer.search(search, 4)) == (1, 3, -1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_append_accepts_any_bytes_like_object(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    buffer = ReceiveBuffer()
    buffer.octets += kind(b"a\r\n")

    assert buffer.take_line(8) == b"a"


def test_line_end_directly_after_a_skipped_line_is_found() -> None:
    buffer = ReceiveBuffer()
    buffer.octets += b"NOOP\nRSET\r\n\r\nNOOP\r\n"

    with pytest.raises(LineError):
        buffer.take_line(512)
    assert buffer.take_line(512) == b"RSET"
    assert buffer.take_line(512) == b""
    assert buffer.take_line(512) == b"NOOP"
