"""Finding the end of a header."""

from collections.abc import Iterable

import pytest

from smtpcore._bodies._header import HeaderCollector

from ...helpers import bytewise

LIMIT = 20


def collected(runs: Iterable[bytes]) -> tuple[bytes, bool, bool]:
    """Return the collected octets, whether the header is complete, and whether it is too large."""
    collector = HeaderCollector(LIMIT)
    complete = False
    for run in runs:
        octets, complete = collector.take(run)
        assert complete or octets == len(run) or collector.is_too_large
        if complete or collector.is_too_large:
            break
    return collector.octets, complete, collector.is_too_large


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b"A: b\r\n\r\nbody\r\n\r\n", b"A: b\r\n\r\n"),
        (b"A: b\r\nC: d\r\n\r\n", b"A: b\r\nC: d\r\n\r\n"),
        pytest.param(b"\r\nA: b\r\n\r\n", b"\r\n", id="no fields"),
        pytest.param(b"A: b\r\n\r\n\r\n", b"A: b\r\n\r\n", id="body begins with an empty line"),
        pytest.param(b"A: " + b"b" * 13 + b"\r\n\r\n" + b"c" * 30, b"A: " + b"b" * 13 + b"\r\n\r\n", id="at the limit"),
    ],
)
def test_header_ends_at_the_first_empty_line(body: bytes, header: bytes) -> None:
    for runs in ([body], bytewise(body), [body[:5], body[5:]]):
        assert collected(runs) == (header, True, False)


@pytest.mark.parametrize("body", [b"", b"A: b\r\n", b"A: b\n\nbody", b"A: b\r\n\r", b"A: b\r\n \r\n"])
def test_header_without_an_empty_line_is_incomplete(body: bytes) -> None:
    for runs in ([body], bytewise(body)):
        assert collected(runs) == (body, False, False)


@pytest.mark.parametrize("body", [b"A: " + b"b" * 14 + b"\r\n\r\n", b"x" * 21, b"x" * 1000])
def test_one_octet_beyond_the_limit_is_collected(body: bytes) -> None:
    for runs in ([body], bytewise(body), [body[:LIMIT], body[LIMIT:]]):
        assert collected(runs) == (body[: LIMIT + 1], False, True)
