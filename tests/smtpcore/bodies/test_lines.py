"""The splitter of a body into lines."""

import pytest

from smtpcore import BareNewlines, Config
from smtpcore._bodies._lines import LineSplitter

from ...helpers import bytewise

CONFIG = Config(hostname="s.example", max_text_line=1000)


@pytest.mark.parametrize("mode", BareNewlines, ids=lambda mode: mode.name)
def test_lines_are_returned_when_complete(mode: BareNewlines) -> None:
    splitter = LineSplitter(Config(hostname="s.example", bare_newlines=mode), binary=False)

    assert splitter.split(b"a\r\n\r\nb") == [b"a\r\n", b"\r\n"]
    assert splitter.split(b"c") == []
    assert splitter.split(b"\r\nd\r\n") == [b"bc\r\n", b"d\r\n"]
    assert splitter.split(b"", is_end=True) == []


def test_incomplete_last_line_is_returned_at_the_end() -> None:
    splitter = LineSplitter(CONFIG, binary=False)

    assert splitter.split(b"a\r\nb") == [b"a\r\n"]
    assert splitter.split(b"", is_end=True) == [b"b"]
    assert splitter.split(b"", is_end=True) == []


@pytest.mark.parametrize("is_binary", [False, True])
def test_accepted_bare_newlines_do_not_end_a_line(is_binary: bool) -> None:
    config = Config(hostname="s.example", bare_newlines=BareNewlines.REJECT if is_binary else BareNewlines.ACCEPT)
    splitter = LineSplitter(config, binary=is_binary)

    assert splitter.split(b"a\nb\rc\x0b\r\nd\n") == [b"a\nb\rc\x0b\r\n"]
    assert splitter.split(b"", is_end=True) == [b"d\n"]


@pytest.mark.parametrize("length", [999, 1000, 1001, 2000, 2001])
def test_long_line_of_a_binary_body_is_cut_into_pieces(length: int) -> None:
    line = b"x" * length + b"\r\n"
    expected = [line[start : start + 1000] for start in range(0, length, 1000)]
    expected[-1] = expected[-1].removesuffix(b"\r\n").removesuffix(b"\r") + b"\r\n"

    assert LineSplitter(CONFIG, binary=True).split(line) == expected
    splitter = LineSplitter(CONFIG, binary=True)
    pieces = [piece for octet in bytewise(line) for piece in splitter.split(octet)]
    assert b"".join(pieces) + b"".join(splitter.split(b"", is_end=True)) == line
    assert max(map(len, pieces)) <= 1002


def test_endless_binary_line_is_not_held_back() -> None:
    splitter = LineSplitter(CONFIG, binary=True)
    returned = sum(len(piece) for _ in range(100) for piece in splitter.split(b"x" * 100))

    assert returned >= 100 * 100 - 1100
