"""A request is sent in blocks, and everything that a server may do meanwhile has a bounded end."""

from collections.abc import Callable

import pytest

from smtpcore_adapters.stores import StoreUnavailable
from smtpcore_adapters.stores._http import MAX_ANSWER, Answer, Exchange
from tests.adapters.fakes import SILENCE, Early, FakeStream, Step, step

HEADERS = [("Host", "s.example"), ("Transfer-Encoding", "chunked")]
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
REFUSED = (
    b"HTTP/1.1 422 Unprocessable\r\nContent-Type: Text/Plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nno spam\r\n"
)


def begun(*script: Step) -> tuple[Exchange, FakeStream]:
    """Return an exchange after the header of its request, with a server that follows a script."""
    stream = FakeStream(*script)
    exchange = Exchange(stream, 30.0, stream.clock)
    step(exchange.begin("/mail", HEADERS))
    return exchange, stream


def test_request_is_sent_in_chunks_with_trailers() -> None:
    exchange, stream = begun(DONE)
    assert step(exchange.send(b"one")) is None
    assert step(exchange.finish([("X-Check", "1")])) == Answer(204, "")
    assert stream.sent == [
        b"POST /mail HTTP/1.1\r\nHost: s.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\none\r\n",
        b"0\r\nX-Check: 1\r\n\r\n",
    ]
    step(exchange.aclose())
    assert stream.close_timeouts == [0]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_answer_is_read_for_segments_of_any_size(size: int) -> None:
    octets = b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSED
    exchange, _ = begun(*(octets[start : start + size] for start in range(0, len(octets), size)))
    assert step(exchange.finish()) == Answer(422, "text/plain")
    assert step(exchange.read_line()) == b"no spam\r"


def test_body_of_an_answer_may_end_with_the_connection() -> None:
    exchange, _ = begun(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{", b"}", b"")
    assert step(exchange.finish()) == Answer(200, "application/json")
    assert step(exchange.read()) == b"{}"


def test_answer_before_the_end_of_the_body_is_returned() -> None:
    exchange, stream = begun(Early(REFUSED))
    assert step(exchange.send(b"one")) == Answer(422, "text/plain")
    assert step(exchange.read_line()) == b"no spam\r"
    assert len(stream.sent) == 1


def test_text_of_an_early_answer_may_arrive_later() -> None:
    exchange, _ = begun(Early(REFUSED[:-9]), REFUSED[-9:-5], REFUSED[-5:])
    assert step(exchange.send(b"one")) == Answer(422, "text/plain")
    assert step(exchange.read_line()) == b"no spam\r"


def test_early_input_without_an_answer_does_not_stop_the_body() -> None:
    exchange, stream = begun(Early(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"), b"04 x\r\n\r\n")
    assert step(exchange.send(b"one")) is None
    assert step(exchange.finish()) == Answer(204, "")
    assert len(stream.sent) == 3


@pytest.mark.parametrize("call", [lambda exchange: exchange.send(b"one"), lambda exchange: exchange.finish()])
def test_answer_explains_a_failure_to_send(call: Callable[..., object]) -> None:
    exchange, stream = begun(REFUSED)
    stream.send_errors.append(BrokenPipeError("the server reads no more"))
    assert step(call(exchange)) == Answer(422, "text/plain")  # type: ignore[arg-type]


@pytest.mark.parametrize("script", [(SILENCE,), (b"",), (ConnectionResetError("gone"),)])
def test_failure_to_send_without_an_answer_is_raised(script: tuple[Step, ...]) -> None:
    exchange, stream = begun(*script)
    stream.send_errors.append(BrokenPipeError("the server reads no more"))
    with pytest.raises(BrokenPipeError, match="reads no more"):
        step(exchange.send(b"one"))


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ((b"",), "closed the connection without an answer"),
        ((b"HTTP/1.1 200 OK\r\nConte", b""), "without an answer"),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), "the answer is not HTTP"),
        ((b"HTTP/1.1 101 Switching Protocols\r\n\r\n",), "the answer is not HTTP"),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * MAX_ANSWER,), "the answer is too long"),
        ((b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3000, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3000), "too long"),
    ],
)
def test_bad_answer_is_an_error(script: tuple[Step, ...], error: str) -> None:
    exchange, _ = begun(*script)
    with pytest.raises(StoreUnavailable, match=error):
        step(exchange.finish())


def test_end_of_the_connection_before_the_end_of_the_request_is_an_error() -> None:
    exchange, _ = begun(Early(b""))
    with pytest.raises(StoreUnavailable, match="closed the connection without an answer"):
        step(exchange.send(b"one"))


def test_input_after_the_end_of_the_connection_is_an_error() -> None:
    exchange, _ = begun(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", b"")
    step(exchange.finish())
    with pytest.raises(StoreUnavailable, match="the answer is not HTTP"):
        step(exchange.read())


HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def test_answer_in_one_block_with_too_long_a_body_is_returned() -> None:
    exchange, _ = begun(HEADER + b"x" * MAX_ANSWER)
    assert step(exchange.finish()) == Answer(200, "application/json")


def test_endless_answer_is_an_error() -> None:
    exchange, _ = begun(HEADER, *[b"x" * 10_000] * 20)
    step(exchange.finish())
    with pytest.raises(StoreUnavailable, match="too long"):
        step(exchange.read())


def test_endless_line_is_cut() -> None:
    exchange, _ = begun(HEADER, *[b"x" * 10_000] * 20)
    step(exchange.finish())
    assert 100_000 < len(step(exchange.read_line())) <= MAX_ANSWER


def test_answer_in_many_small_pieces_has_a_deadline() -> None:
    exchange, stream = begun()
    for octet in HEADER * 2:
        stream.script.extend([stream.advance(1.0), bytes([octet])])
    with pytest.raises(TimeoutError, match="the answer took too long"):
        step(exchange.finish())
    assert stream.receive_timeouts[:2] == [30.0, 29.0]


def test_silent_server_is_an_error() -> None:
    exchange, _ = begun(SILENCE)
    with pytest.raises(TimeoutError):
        step(exchange.finish())
