"""The parser of replies. `test_mischievous_server` tests malformed replies through a client's connection."""

import pytest

from smtpcore import ClientConfig, RemoteProtocolError
from smtpcore._buffer import ReceiveBuffer
from smtpcore._reply_reader import ReplyReader

from ..helpers import bytewise, octets_id

CONFIG = ClientConfig(hostname="c.example", max_reply_line=512, max_reply_lines=3)


def read(segments: list[bytes]) -> tuple[list[tuple[int, list[str]]], ReplyReader, bytes]:
    """Return the replies in `segments`, the reader, and the octets that are left."""
    reader, buffer = ReplyReader(CONFIG), ReceiveBuffer()
    found = []
    for segment in segments:
        buffer.octets += segment
        while taken := reader.take(buffer):
            code, texts = taken
            found.append((code, list(texts)))
    return found, reader, bytes(buffer.octets)


@pytest.mark.parametrize(
    ("octets", "expected", "is_amid", "rest"),
    [
        (b"", [], False, b""),
        (b"250 OK\r\n", [(250, ["OK"])], False, b""),
        (b"250\r\n", [(250, [""])], False, b""),
        (b"250 \r\n", [(250, [""])], False, b""),
        (b"250-a\r\n250-b\r\n250 c\r\n", [(250, ["a", "b", "c"])], False, b""),
        (b"250-a\r\n250\r\n", [(250, ["a", ""])], False, b""),
        (b"250 a\r\n550 b\r\n", [(250, ["a"]), (550, ["b"])], False, b""),
        (b"250-a\r\n250", [], True, b"250"),
        (b"250 a\tb\x07\r\n", [(250, ["a\tb?"])], False, b""),
        (b"250 \xff\r\n", [(250, ["\ufffd"])], False, b""),
        (b"599 a\r\n", [(599, ["a"])], False, b""),
    ],
    ids=lambda value: octets_id(value)[:40] if isinstance(value, bytes) else None,
)
def test_replies_are_taken_line_by_line(
    octets: bytes, expected: list[tuple[int, list[str]]], is_amid: bool, rest: bytes
) -> None:
    for segments in ([octets], bytewise(octets)):
        found, reader, left = read(segments)
        assert found == expected
        assert reader.is_amid is is_amid
        assert left == rest


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (b"HTTP/1.1 400\r\n", "this is not SMTP"),
        (b"199 a\r\n", "this is not SMTP"),
        (b"600 a\r\n", "this is not SMTP"),
        (b"250_a\r\n", "this is not SMTP"),
        (b"250-a\r\n251 b\r\n", "a reply changes its code from 250 to 251"),
        (b"250-a\r\n" * 4, "a reply has more than 3 lines"),
        (b"250 a\n", "a line of a reply has a bare CR or LF"),
        (b"250 " + b"a" * 600, "a line of a reply is too long"),
    ],
    ids=lambda value: octets_id(value)[:40] if isinstance(value, bytes) else None,
)
def test_octets_that_are_not_a_reply_are_a_remote_error(octets: bytes, error: str) -> None:
    for segments in ([octets], bytewise(octets)):
        with pytest.raises(RemoteProtocolError, match=error):
            read(segments)


def test_caller_of_the_reply_reader_may_allow_longer_lines() -> None:
    buffer = ReceiveBuffer()
    buffer.octets += b"334 " + b"A" * 600 + b"\r\n"

    assert ReplyReader(CONFIG).take(buffer, least_limit=1000) == (334, ["A" * 600])
