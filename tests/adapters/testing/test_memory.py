"""Sessions in memory: the stream, the clock, and the error of handlers that need an event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial

import anyio
import pytest
import trio

from smtpcore import Config, Noop, Reply, StartTls
from smtpcore_adapters import App, Session
from smtpcore_adapters.testing import Clock, SmtpPair
from smtpcore_adapters.testing._memory import MemoryServer, MemorySession, MemoryStream, complete


class Never:
    """An awaitable that needs an event loop to finish."""

    def __await__(self) -> Generator[str, None, None]:
        yield "not yet"


async def future() -> None:
    await Never()


def app_that_waits_for(wait: Callable[[], Awaitable[object]]) -> App:
    app = App()

    @app.on("NOOP")
    async def handle(session: Session, noop: Noop) -> Reply:
        await wait()
        return Reply(250)

    return app


@pytest.mark.parametrize(
    "wait",
    [
        future,
        partial(asyncio.sleep, 1),
        partial(trio.sleep, 1),
        partial(anyio.sleep, 1),
    ],
    ids=["future", "asyncio", "trio", "anyio"],
)
def test_handler_that_needs_an_event_loop_is_a_clear_error(wait: Callable[[], Awaitable[object]]) -> None:
    pair = SmtpPair(app_that_waits_for(wait))

    with pytest.raises(
        RuntimeError, match=r"use session.sleep\(\) and session.run_blocking\(\), or test .* with sockets"
    ):
        pair.ask(Noop())


def test_other_errors_of_a_handler_give_451_and_reach_the_error_handlers() -> None:
    async def fail() -> None:
        raise RuntimeError("no space left")

    app = app_that_waits_for(fail)
    errors: list[str] = []
    app.on("error")(lambda session, exc: errors.append(str(exc)))

    assert SmtpPair(app).ask(Noop()).code == 451
    assert errors == ["no space left"]


def test_handler_that_is_registered_later_is_called() -> None:
    app = App()
    pair = SmtpPair(app)
    app.on("NOOP")(lambda session, noop: Reply(252))

    assert pair.ask(Noop()).code == 252


def test_clock_moves_only_forward() -> None:
    clock = Clock(100)
    clock.advance(20.5)

    assert clock() == 120.5
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)


def test_stream_returns_only_what_has_arrived() -> None:
    stream = MemoryStream(Clock())
    assert not stream.has_input()
    stream.input += [b"one", b"two"]

    assert [complete(stream.receive_arrived()) for _ in range(3)] == [b"one", b"two", None]


def test_stream_runs_coroutines_that_wait_for_nothing() -> None:
    async def double(number: int) -> int:
        return 2 * number

    stream = MemoryStream(Clock())

    assert stream.run_async(double, 21) == 42
    with pytest.raises(RuntimeError, match="event loop"):
        stream.run_async(future)


def session_of(config: Config, *, proxied: bool = False) -> MemorySession:
    clock = Clock()
    server = MemoryServer(App(), config, clock, proxied=proxied)
    return MemorySession(server, MemoryStream(clock))


def test_plaintext_in_place_of_a_handshake_ends_the_session() -> None:
    memory = session_of(Config(hostname="s.example", starttls=True))
    memory.send(b"EHLO c.example\r\n")
    output = memory.send(StartTls().encode(), Noop().encode())

    assert output.startswith(b"220 ")
    assert output.count(b"\r\n") == 1
    assert memory.is_over


def test_proxy_header_names_the_client() -> None:
    memory = session_of(Config(hostname="s.example"), proxied=True)

    assert memory.resume() == b""
    assert memory.send(b"PROXY TCP4 203.0.113.9 192.0.2.25 1000 25\r\n").startswith(b"220 ")
    assert str(memory.session.peer) == "203.0.113.9:1000"
