"""`SocketStream` in a small event loop whose sessions are generators."""

import selectors
import socket
import time
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

import pytest

from smtpcore_adapters import Interrupted
from smtpcore_adapters.embedding import Cancelled, SocketStream, complete
from tests.adapters.harness import TIMEOUT

Wish = tuple[Sequence[Any], Sequence[Any], float]


class Stream(SocketStream):
    @staticmethod
    @types.coroutine
    def select(readers: Sequence[Any], writers: Sequence[Any], timeout: float) -> Generator[Wish, None, None]:
        yield readers, writers, timeout


def run(coroutine: Coroutine[Any, Any, Any], seen: Callable[[Wish], object] = lambda wish: None) -> Any:
    """Run a coroutine to its end; `seen` is called before each wait."""
    try:
        while True:
            wish = coroutine.send(None)
            seen(wish)
            readers, writers, timeout = wish
            with selectors.DefaultSelector() as selector:
                for each in readers:
                    selector.register(each, selectors.EVENT_READ)
                for each in writers:
                    selector.register(each, selectors.EVENT_WRITE)
                selector.select(min(timeout, TIMEOUT))
    except StopIteration as stop:
        return stop.value


def test_receive_waits_in_the_event_loop() -> None:
    one, other = socket.socketpair()
    stream = Stream(one)
    with other:
        received = run(stream.receive(TIMEOUT), lambda wish: other.sendall(b"hello"))
        assert received == b"hello"
        with pytest.raises(TimeoutError):
            run(stream.receive(0.01))
        run(stream.aclose(0))


def test_interrupt_and_cancel_end_a_wait() -> None:
    one, other = socket.socketpair()
    stream = Stream(one)
    with other:
        with pytest.raises(Interrupted):
            run(stream.receive(TIMEOUT), lambda wish: stream.interrupt())
        with pytest.raises(Cancelled):
            run(stream.receive(TIMEOUT), lambda wish: stream.cancel())
        with pytest.raises(Cancelled):
            run(stream.sleep(TIMEOUT))
        run(stream.aclose(0))


def test_stream_that_never_waits_lets_other_sessions_continue() -> None:
    one, other = socket.socketpair()
    stream = Stream(one)
    waits: list[Wish] = []
    with other:
        other.sendall(b"x")
        run(stream.receive(TIMEOUT))
        run(stream.receive(TIMEOUT), lambda wish: other.sendall(b"y"))
        end = time.monotonic() + TIMEOUT
        while not waits and time.monotonic() < end:
            other.sendall(b"z")
            run(stream.receive(TIMEOUT), waits.append)
        assert [timeout < 0.1 for _, _, timeout in waits] == [True]
        run(stream.aclose(0))


def test_blocking_function_is_called_in_the_same_thread_by_default() -> None:
    assert run(Stream.run_blocking(max, 1, 2)) == 2


def test_open_returns_a_stream_of_the_same_class() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = run(Stream.open("127.0.0.1", listener.getsockname()[1], TIMEOUT))
        assert type(stream) is Stream
        run(stream.aclose(0))


def test_lost_connection_is_an_os_error() -> None:
    with socket.socket() as unconnected, pytest.raises(OSError):  # noqa: PT011 - the number depends on the system
        Stream(unconnected)


def test_coroutine_that_waits_for_an_event_loop_is_an_error_in_complete() -> None:
    one, other = socket.socketpair()
    stream = Stream(one)
    with other, pytest.raises(RuntimeError, match="awaits an event loop"):
        complete(stream.receive(TIMEOUT))
    run(stream.aclose(0))
