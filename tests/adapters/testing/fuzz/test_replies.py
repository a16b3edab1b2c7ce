"""Replies are read within limits of time and size, and breaches of their syntax are recorded."""

from collections.abc import Sequence

import pytest

from smtpcore_adapters.testing.fuzz._replies import MAX_RECEIVED, EndOfStream, Flood, ReplyReader, Silence


class FakePeer:
    """A peer that sends segments, and then an end or nothing."""

    def __init__(self, *segments: bytes, error: Exception | None = None) -> None:
        self.segments = list(segments)
        self.error = error

    def send(self, segments: Sequence[bytes], timeout: float) -> None:
        raise NotImplementedError

    def receive(self, timeout: float) -> bytes:
        if self.segments:
            return self.segments.pop(0)
        if self.error:
            raise self.error
        return b""

    def start_tls(self, timeout: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def reader(*segments: bytes, error: Exception | None = None, deadline: float = 5.0) -> ReplyReader:
    return ReplyReader(FakePeer(*segments, error=error), deadline)


def test_reply_may_arrive_in_any_segments() -> None:
    reply = reader(b"250", b"-a\r", b"\n250 b\r\n").read()

    assert (reply.code, reply.text, reply.faults) == (250, b"a\nb", ())


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"hello\r\n", "a line is not a reply"),
        (b"199 x\r\n", "a line is not a reply"),
        (b"250-a\r\n251 b\r\n", "the lines of a reply have different codes"),
        (b"250 a\n", "a line of a reply ends without CR LF"),
        (b"250 a\rb\r\n", "a line of a reply has a bare CR or NUL"),
        (b"250 \xff\r\n", "a reply has octets beyond ASCII, and SMTPUTF8 was not requested"),
    ],
)
def test_malformed_reply_has_a_fault(octets: bytes, fault: str) -> None:
    assert reader(octets).read().faults == (fault,)


def test_reply_may_have_octets_beyond_ascii_after_smtputf8() -> None:
    replies = reader(b"250 \xc3\xa4\r\n")
    replies.allows_utf8 = True

    assert replies.read().faults == ()


def test_code_of_a_line_that_is_not_a_reply_is_0() -> None:
    assert reader(b"hello\r\n").read().code == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [(None, EndOfStream), (ConnectionResetError(), EndOfStream), (TimeoutError(), Silence)],
)
def test_missing_reply_is_an_end_or_silence(error: Exception | None, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        reader(b"250 a", error=error).read()


def test_single_octets_do_not_extend_the_time() -> None:
    with pytest.raises(Silence):
        reader(*[b"2"] * 100, deadline=-1.0).read()


def test_long_line_and_endless_output_are_a_flood() -> None:
    with pytest.raises(Flood):
        reader(b"2" * 70_000, b"x").read()
    with pytest.raises(Flood):
        reader(*[b"250-x\r\n" * 10_000] * (MAX_RECEIVED // 70_000 + 1)).read()


def test_endless_output_after_a_reply_is_noticed() -> None:
    replies = reader(b"250 a\r\n", b"x" * (MAX_RECEIVED + 1))
    replies.read()

    assert replies.has_more()
    with pytest.raises(Flood):
        replies.read()


def test_octets_that_were_not_read_are_noticed() -> None:
    replies = reader(b"250 a\r\n250 b\r\n", error=TimeoutError())

    assert replies.has_more()
    replies.read()
    assert replies.has_more()
    replies.read()
    assert not replies.has_more()
